"""labels.json of a model's folder: names for versions, which callers use in place of a number."""

import re
from pathlib import Path

import msgspec

FILE = "labels.json"
# The label of the version that answers where a call names none.
DEFAULT = "default"
# Nothing that could be taken for a number.
_NAME = re.compile(r"[a-z][a-z0-9._-]{0,63}")


class LabelsError(ValueError):
    """The file is not what it should be; the message says why."""


def read_labels(model_folder: Path) -> dict[str, int]:
    """Version by label; none where there is no such file. Raises LabelsError."""
    try:
        data = (model_folder / FILE).read_bytes()
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise LabelsError(f"{FILE}: {error.strerror}") from None
    try:
        labels = msgspec.json.decode(data, type=dict[str, int])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise LabelsError(f"{FILE}: {error}") from None
    for name, version in labels.items():
        if not _NAME.fullmatch(name):
            raise LabelsError(f"{FILE}: {name!r} is no label: a lower-case letter, then up to 63 of a-z 0-9 . _ -")
        if version < 1:
            raise LabelsError(f"{FILE}: {name!r} is {version}; versions are positive")
    return labels
