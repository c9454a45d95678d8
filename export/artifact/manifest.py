"""manifest.json: everything a server must know about one exported version."""

import hashlib
import json
import re
from typing import Annotated, Any, Literal

import msgspec

from export.artifact.errors import ArtifactError
from export.artifact.limits import HALF, Tolerance

MANIFEST = "manifest.json"

# \Z and not $, which would let a line break follow.
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}\Z"
# A file in the artifact's folder or one folder below it; no way out of it.
FILE_PATTERN = r"^(?:[A-Za-z0-9][A-Za-z0-9._-]*/)?[A-Za-z0-9][A-Za-z0-9._-]*\Z"
SHA256_PATTERN = r"^[0-9a-f]{64}\Z"

# The graph of one step, and the window graph that every artifact has and every provider runs.
STEP, WINDOW = "step", "window"
# Graphs of several values ahead, by what a window's predecessors leave behind: nothing, or the state.
SLIDING, CARRY = "sliding", "carry"
ROLLOUTS = (SLIDING, CARRY)

# int64 on the wire.
MAX_INTEGER = 2**63 - 1
Positive = Annotated[int, msgspec.Meta(ge=1, le=MAX_INTEGER)]
Name = Annotated[str, msgspec.Meta(pattern=NAME_PATTERN)]
FileName = Annotated[str, msgspec.Meta(pattern=FILE_PATTERN)]
Sha256 = Annotated[str, msgspec.Meta(pattern=SHA256_PATTERN)]


Calendar = list[Literal["day", "week", "year"]]


class _Struct(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Strict: an unknown or mistyped field is an error."""


class Tensor(_Struct, frozen=True, kw_only=True):
    """An input or output of a graph. A dimension is a size, or the name of one that varies ("batch")."""

    name: Annotated[str, msgspec.Meta(min_length=1)]
    dtype: Literal["float32", "int64"] = "float32"
    shape: list[Positive | Literal["batch"]]
    # Of an output: the unit of its limit. The transform's scale for a prediction, 1 for a state.
    scale: Annotated[float, msgspec.Meta(gt=0)] = 1.0
    # Of an output whose unit differs from row to row: the output [B, 1] that `scale` is to be multiplied by.
    unit: str = ""


# What a graph computes in; inputs and outputs are float32 all the same.
Precision = Literal["float32", "float16"]


# Defaults are left out of the JSON, so that manifests from before there was a choice keep their bytes.
class Graph(_Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One ONNX file: which lowering wrote it, and what goes in and out."""

    file: FileName
    lowering: str
    inputs: list[Tensor]
    outputs: list[Tensor]
    precision: Precision = "float32"


class PlanEntry(_Struct, frozen=True, kw_only=True):
    """Up to `max_batch` windows per run (null: any number), `graph` runs."""

    max_batch: Positive | None
    graph: str


class Transform(_Struct, frozen=True, kw_only=True):
    """The transform inside the graph; `scale` is the target's, in raw units."""

    kind: str
    scale: Annotated[float, msgspec.Meta(gt=0)]


class Intervals(_Struct, frozen=True, kw_only=True):
    """How the ends of intervals are found, and the share of values that each of them shall hold."""

    kind: Literal["conformal", "normalized", "quantile"]
    levels: Annotated[list[Annotated[float, msgspec.Meta(gt=0, lt=1)]], msgspec.Meta(min_length=1)]


class Scaling(_Struct, frozen=True, kw_only=True):
    """Where the unit of a series comes from: the fit, the window, or a table of `num_series` in the graph.

    The numbers of the series are their places in series.json; any other number takes the table's default.
    """

    kind: Literal["fit", "window", "series"] = "fit"
    num_series: Annotated[int, msgspec.Meta(ge=0, le=MAX_INTEGER)] = 0


class Gate(_Struct, frozen=True, kw_only=True):
    """What the export gate measured before it let the artifact through."""

    worst_abs_error: float
    worst_share_of_limit: float
    batches: list[Positive]


class File(_Struct, frozen=True, kw_only=True):
    """Digest and size in bytes of another file of the artifact."""

    sha256: Sha256
    size: Annotated[int, msgspec.Meta(ge=0)]


class Manifest(_Struct, frozen=True, kw_only=True):
    """The whole of manifest.json. `sha256` is that of its own canonical JSON without that field."""

    schema_version: Literal[1]
    name: Name
    version: Positive
    cell: str
    window: Positive
    hidden_size: Positive
    num_layers: Positive
    # Names of the F features; the first is the target.
    features: Annotated[list[str], msgspec.Meta(min_length=1)]
    transform: Transform
    # Cells per step of a layer, whether a layer's input is added to its output, and layers behind the last cell.
    transition_depth: Positive = 1
    residual: bool = False
    output_depth: Positive = 1
    # Whether what is linear in the window is added to what the cells say.
    linear_skip: bool = False
    # Cycles whose phase the graph takes from the input `time_seconds`.
    calendar: Calendar = []
    scaling: Scaling = Scaling()
    # None: the model does not say how sure it is.
    intervals: Intervals | None = None
    # How many values ahead one run of the window graph gives; the server slides on from there.
    direct_horizon: Positive
    # How many values ahead the graphs "sliding" and "carry" give, each read as if it had been seen.
    rollout: Annotated[int, msgspec.Meta(ge=0, le=MAX_INTEGER)] = 0
    opset: Positive
    ir_version: Positive
    # By name: "window" and every further lowering of it, "step" where the model can be stepped, and rollouts.
    graphs: dict[str, Graph]
    plan: Annotated[list[PlanEntry], msgspec.Meta(min_length=1)]
    # The execution provider whose times made the plan; empty where none were taken.
    plan_provider: str = ""
    # Why there is no step graph; empty where there is one.
    not_steppable: str
    tolerance: Tolerance
    gate: Gate
    # What it was fitted on, and how well it did: the run's data description and backtest.
    fitted_on: dict[str, Any]
    backtest: dict[str, Any]
    libraries: dict[str, str]
    files: dict[FileName, File]
    sha256: Sha256 | Literal[""] = ""

    def window_graphs(self) -> list[str]:
        """Every graph that a plan could choose: all that give what the window graph gives."""
        return [name for name in self.graphs if name not in (STEP, *ROLLOUTS)]

    def candidates(self, *, on_cpu: bool) -> list[str]:
        """Those of them that are worth timing: the CPU has no float16 units, and converts back and forth."""
        return [name for name in self.window_graphs() if not on_cpu or self.graphs[name].precision == "float32"]

    def tolerance_of(self, graph: str) -> Tolerance:
        """The row of the table that a graph is held to: the artifact's own, or float16's."""
        return HALF if self.graphs[graph].precision == "float16" else self.tolerance


def digest(manifest: Manifest) -> str:
    """SHA-256 of the canonical JSON (sorted keys, no white space) without the field `sha256`."""
    return _digest(msgspec.to_builtins(manifest))


def _digest(fields: dict[str, Any]) -> str:
    others = {name: value for name, value in fields.items() if name != "sha256"}
    canonical = json.dumps(others, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def with_files(manifest: Manifest, files: dict[str, File]) -> Manifest:
    """The same manifest, listing `files`."""
    return msgspec.structs.replace(manifest, files=files)


def encode(manifest: Manifest) -> bytes:
    """The one spelling of manifest.json: sealed with its digest, keys sorted, indented for people.

    Raises ValueError if a number is not finite.
    """
    return _sealed(msgspec.to_builtins(manifest))


def _sealed(fields: dict[str, Any]) -> bytes:
    """Of a manifest of any age: one that was written before a field came to be lacks it."""
    sealed = fields | {"sha256": _digest(fields)}
    return (json.dumps(sealed, sort_keys=True, indent=2, allow_nan=False) + "\n").encode()


def decode(data: bytes) -> Manifest:
    """Parse manifest.json. Raises ArtifactError naming the field, or saying that the bytes were altered."""
    try:
        manifest = msgspec.json.decode(data, type=Manifest)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ArtifactError(f"{MANIFEST}: {error}") from None
    try:
        altered = _sealed(json.loads(data)) != data
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"{MANIFEST}: {error}") from None
    if altered:
        # Not only the digest: a file that was reformatted has other bytes than the ones that were published.
        raise ArtifactError(f"{MANIFEST}: does not have the sha256 it states ({manifest.sha256[:12]}…); it was altered")
    _check_references(manifest)
    return manifest


def _check_references(manifest: Manifest) -> None:
    """Names inside the manifest must lead somewhere, and the graph that all fall back on must be there."""
    if WINDOW not in manifest.graphs:
        raise ArtifactError(f"{MANIFEST}: graphs has no {WINDOW!r}")
    for entry in manifest.plan:
        if entry.graph not in manifest.graphs:
            raise ArtifactError(f"{MANIFEST}: plan names graph {entry.graph!r}, which is not in graphs")
        if entry.graph not in manifest.window_graphs():
            raise ArtifactError(f"{MANIFEST}: plan names the {entry.graph} graph, which is no window graph")
    bounds = [entry.max_batch for entry in manifest.plan[:-1]]
    if any(bound is None for bound in bounds) or sorted({bound or 0 for bound in bounds}) != bounds:
        raise ArtifactError(f"{MANIFEST}: plan has max_batch {bounds}; they must grow, and only the last may be null")
    if manifest.plan[-1].max_batch is not None:
        raise ArtifactError(f"{MANIFEST}: the last entry of plan must have max_batch null")
    if ("step" in manifest.graphs) == bool(manifest.not_steppable):
        raise ArtifactError(f"{MANIFEST}: either graphs has a step graph or not_steppable says why not")
    _check_rollouts(manifest)
    for name, graph in manifest.graphs.items():
        if graph.file not in manifest.files:
            raise ArtifactError(f"{MANIFEST}: graph {name!r} names file {graph.file!r}, which is not in files")
        outputs = {tensor.name for tensor in graph.outputs}
        for tensor in graph.outputs:
            if tensor.unit and tensor.unit not in outputs:
                raise ArtifactError(
                    f"{MANIFEST}: graph {name!r} has no output {tensor.unit!r}, the unit of {tensor.name!r}"
                )
    if MANIFEST in manifest.files:
        raise ArtifactError(f"{MANIFEST}: lists itself in files")


def _check_rollouts(manifest: Manifest) -> None:
    """Who has rollouts says how long they are, and gives one value at a time otherwise."""
    length, direct = manifest.rollout, manifest.direct_horizon
    for name in ROLLOUTS:
        if name in manifest.graphs and (length < 2 or direct > 1):
            raise ArtifactError(f"{MANIFEST}: graphs has {name!r}, but rollout is {length} and direct_horizon {direct}")


def is_model_name(name: str) -> bool:
    """Whether `name` may name a model (and so a folder of the repository)."""
    return re.fullmatch(NAME_PATTERN, name) is not None
