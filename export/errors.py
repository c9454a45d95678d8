"""Errors a user of the export command can meet."""


class ExportError(ValueError):
    """The run cannot be exported; nothing was published. The message says which gate refused, with its figures."""
