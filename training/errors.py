"""What can be wrong with a command's options, its data or a run's folder.

    TrainingError(ValueError)
    ├── OptionError     an option that cannot be used
    ├── DataError       a series that cannot be read or learnt from
    ├── FitError        a fit that went wrong
    ├── LeakError       a forecaster that looked at what it was to predict
    └── RunError        a run's folder that is missing, broken or in the way

Every message is one line and names the field, its value and the limit.
"""


class TrainingError(ValueError):
    """Anything a user can put right; the commands print it as one line."""


class OptionError(TrainingError):
    """An option that cannot be used."""


class DataError(TrainingError):
    """A series that cannot be read or learnt from."""


class FitError(TrainingError):
    """A fit that went wrong."""


class LeakError(TrainingError):
    """A forecaster that looked at what it was to predict."""


class RunError(TrainingError):
    """A run's folder that is missing, broken or in the way."""
