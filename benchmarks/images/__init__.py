"""Images built and run as a cluster would run them: what they hold to, their size and their start.

storage    buildah and podman on a folder of their own
checks     what must hold, for each image
__main__   builds, checks, measures, writes the table
"""
