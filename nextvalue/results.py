"""What calls return."""

from dataclasses import dataclass
from enum import StrEnum

from nextvalue.arrays import Float32Array


@dataclass(frozen=True, eq=False, kw_only=True)
class Prediction:
    """The values that come next.

    Attributes:
        model: name of the model that answered.
        version: version that answered.
        values: [N, horizon], in the units of the series; [horizon] where one window [T] was asked about.
        queue_seconds: how long the call's windows waited for the engine.
        run_seconds: how long the engine ran for the call; a run is shared by its whole batch.
        lower: lower ends of the intervals [N, horizon, L], or [horizon, L]; None where none were asked for.
        upper: their upper ends.
        levels: the share of values that each of the L intervals shall hold; None likewise.
        num_unknown_series: how many of the windows are of a series that the model does not know, and so were answered
            with its default scale.
    """

    model: str
    version: int
    values: Float32Array
    queue_seconds: float
    run_seconds: float
    lower: Float32Array | None = None
    upper: Float32Array | None = None
    levels: tuple[float, ...] | None = None
    num_unknown_series: int = 0


class ModelState(StrEnum):
    """Where a version stands."""

    UNSPECIFIED = "unspecified"
    LOADING = "loading"
    SERVING = "serving"
    FAILED = "failed"
    STANDBY = "standby"


@dataclass(frozen=True, kw_only=True)
class ModelDescription:
    """What a version's manifest says, and where it runs.

    Attributes:
        cell: rnn, lstm, gru, gru-reset-after, nn.lstm or nn.gru.
        hidden_size: H.
        num_layers: layers of cells.
        window: T, values per window.
        features: names of the F features; the first is the target.
        transform: standardize, difference or last-value.
        max_horizon: largest horizon the server accepts.
        stateful: whether the model can carry state.
        provider: execution provider that runs it; empty when it is not served.
        direct_horizon: how many values ahead one run gives; beyond it predictions are fed back, without intervals.
        calendar: cycles of which the model takes the phase from times: day, week, year.
        scaling: fit, window or series, which takes the id of each window's series.
        num_series: how many series the model knows by id.
        intervals: conformal, normalized or quantile; empty where the model has no intervals.
        levels: their levels.
        transition_depth: cells per step of a layer.
        residual: whether a layer's input is added to its output.
        output_depth: layers behind the last cell.
        linear_skip: whether what is linear in the window is added to what the cells say.
        carry_horizon: how many values ahead the cell's state goes on; 0 where the model has no graph for it.
    """

    cell: str
    hidden_size: int
    num_layers: int
    window: int
    features: tuple[str, ...]
    transform: str
    max_horizon: int
    stateful: bool
    provider: str
    direct_horizon: int
    calendar: tuple[str, ...]
    scaling: str
    num_series: int
    intervals: str
    levels: tuple[float, ...]
    transition_depth: int
    residual: bool
    output_depth: int
    linear_skip: bool
    carry_horizon: int


@dataclass(frozen=True, kw_only=True)
class ModelVersion:
    """One version of a model.

    Attributes:
        version: its number.
        state: whether it answers calls.
        reason: why it is not served; empty otherwise.
        description: None where the manifest could not be read.
        labels: names that calls may give in place of the number, in alphabetical order.
    """

    version: int
    state: ModelState
    reason: str
    description: ModelDescription | None
    labels: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Model:
    """A model of the server's repository.

    Attributes:
        name: what calls name it by.
        versions: newest first.
        default_version: the version a call gets that names none; None when none is served.
    """

    name: str
    versions: tuple[ModelVersion, ...]
    default_version: int | None
