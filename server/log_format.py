"""Log lines for people, and for programs."""

import json
import logging
from datetime import UTC, datetime

# Of a log record: what it says beside its message, by name.
FIELDS = "fields"


class TextFormat(logging.Formatter):
    """Fields follow the message as name=value."""

    def __init__(self, who: str = "") -> None:
        """`who` writes, of several; with a space behind it."""
        super().__init__(f"%(asctime)s %(levelname)s {who}%(name)s %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 (the library's name)
        """The line without a traceback."""
        line = super().formatMessage(record)
        fields = getattr(record, FIELDS, {})
        return " ".join([line, *(f"{name}={value}" for name, value in fields.items())])


class JsonFormat(logging.Formatter):
    """One JSON object a line."""

    def __init__(self, worker: int | None = None) -> None:
        super().__init__()
        self._worker = {} if worker is None else {"worker": worker}

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        said: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **self._worker,
            **getattr(record, FIELDS, {}),
        }
        if record.exc_info:
            said["exception"] = self.formatException(record.exc_info)
        return json.dumps(said, ensure_ascii=False, default=str)
