"""The artifact format: what export writes and the server reads. Knows neither torch nor onnxruntime.

errors     ArtifactError, always naming the file
manifest   the typed manifest.json
folder     an artifact on disk: verified reads, atomic publication
golden     inputs and reference outputs, per graph
limits     how far an output may be from the reference
frames     messages between a server and a reference process
__main__   verifies a repository
"""
