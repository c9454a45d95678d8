"""The one error of the artifact format."""


class ArtifactError(ValueError):
    """An artifact is broken or cannot be written. The message names the file and says what is wrong."""
