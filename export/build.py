"""From a run to a published artifact: lower, gate, publish."""

import contextlib
import json
import platform
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as library_version
from pathlib import Path

import msgspec
import numpy as np
import onnx
import safetensors.torch

from export import gate
from export.artifact import folder, golden, plan
from export.artifact.errors import ArtifactError
from export.artifact.folder import GOLDEN, REPORT, REPORT_PICTURE, SERIES, WEIGHTS
from export.artifact.golden import Inputs
from export.artifact.limits import Deviation, Tolerance
from export.artifact.manifest import (
    CARRY,
    MAX_INTEGER,
    ROLLOUTS,
    SLIDING,
    STEP,
    WINDOW,
    Calendar,
    Gate,
    Graph,
    Intervals,
    Manifest,
    PlanEntry,
    Precision,
    Scaling,
    Transform,
    is_model_name,
)
from export.errors import ExportError
from export.graph import IR_VERSION, OPSET
from export.lowering.chunked import SHORTEST_CHUNKED, chunked
from export.lowering.columns import NAME as COLUMNS
from export.lowering.columns import columns, leaves_lanes_empty
from export.lowering.fused import fusable, fused, primable, primed
from export.lowering.half import NAME as HALF
from export.lowering.half import half
from export.lowering.rollout.carry import carry, why_not_carry
from export.lowering.rollout.sliding import sliding, why_not_sliding
from export.lowering.source import Source, source_of
from export.lowering.step import step
from export.lowering.unrolled import LONGEST_UNROLLED, unrolled
from training.model import RecurrentModel
from training.run import BACKTEST_PICTURE, Run

NUM_GOLDEN = 64
# Values in one run: a day of hours. Each takes a copy of the weights as its node packs them.
ROLLOUT = 24
LONGEST_ROLLOUT = 1024
# onnxruntime is one of two packages, by platform; the manifest names the one there is.
LIBRARIES = ("torch", "onnx", "onnxruntime-gpu", "onnxruntime", "numpy", "safetensors")


@dataclass(frozen=True, kw_only=True)
class Published:
    """What came out: the version's folder, and the worst deviation the gate saw."""

    folder: Path
    name: str
    version: int
    worst: Deviation
    num_nodes: dict[str, int]
    plan: list[PlanEntry]
    rollout: int
    # By graph, why there is no such rollout.
    not_rolled: dict[str, str]


def lower(source: Source, precision: Precision = "float32") -> dict[str, tuple[Graph, onnx.ModelProto]]:
    """Every graph of the artifact by name. The first is what runs where nothing was timed.

    With `precision` float16 there is one beside them that computes in it. Raises ExportError if windows are too long.
    """
    window = source.config.window
    graphs = {WINDOW: chunked(source) if window > LONGEST_UNROLLED else unrolled(source)}
    if SHORTEST_CHUNKED <= window <= LONGEST_UNROLLED:
        graphs["chunked"] = chunked(source)
    if leaves_lanes_empty(source):
        graphs[COLUMNS] = columns(source)
    if fusable(source):
        graphs["fused"] = fused(source)
    if primable(source):
        graphs["primed"] = primed(source)
    if precision == "float16":
        if window > LONGEST_UNROLLED:
            raise ExportError(
                f"precision is 'float16', which writes every step out; window is {window}, "
                f"it must be at most {LONGEST_UNROLLED}"
            )
        graphs[HALF] = half(source)
    if source.steppable:
        graphs[STEP] = step(source)
    return graphs


def roll(source: Source, length: int) -> tuple[dict[str, tuple[Graph, onnx.ModelProto]], dict[str, str]]:
    """Graphs of `length` values by name, and why others are not there."""
    kinds = {SLIDING: (why_not_sliding, sliding), CARRY: (why_not_carry, carry)}
    reasons = {name: why_not(source, length) for name, (why_not, _) in kinds.items()}
    graphs = {name: lowering(source, length) for name, (_, lowering) in kinds.items() if not reasons[name]}
    return graphs, {name: reason for name, reason in reasons.items() if reason}


def _tuned(manifest: Manifest, graphs: Mapping[str, bytes], inputs: Inputs) -> Manifest:
    """The manifest with the plan that is fastest here, on one thread of the CPU; rows of `inputs` are repeated."""
    session = gate.Session(graphs)
    batches: dict[int, Inputs] = {}

    def run(graph: str, batch: int) -> None:
        if batch not in batches:
            batches[batch] = {name: np.resize(array, (batch, *array.shape[1:])) for name, array in inputs.items()}
        session.run(graph, batches[batch])

    entries = plan.fastest(run, manifest.candidates(on_cpu=True), clock=time.perf_counter)
    return msgspec.structs.replace(manifest, plan=entries, plan_provider=gate.PROVIDER)


def next_version(models: Path, name: str) -> int:
    """One more than the newest version there is."""
    model_folder = models / name
    return max(folder.versions(model_folder), default=0) + 1 if model_folder.is_dir() else 1


def export(
    run: Run,
    *,
    models: Path,
    name: str,
    version: int | None = None,
    seed: int = 0,
    tune: bool = True,
    rollout: int = ROLLOUT,
    precision: Precision = "float32",
) -> Published:
    """Publish `run` as `models/name/version/`. Raises ExportError or ArtifactError; then nothing is published.

    With `tune` the graphs are timed here, and each batch size gets the fastest; without, all get the unrolled one.
    `rollout`: so many values ahead in one run, where a graph can give them; 0 for none.
    With `precision` float16 there is a graph for GPUs that computes in it, held to its own row of the tolerances.
    """
    if not is_model_name(name):
        raise ExportError(f"name is {name!r}; use letters, digits, '.', '_' and '-', starting with a letter or digit")
    if version is not None and not 1 <= version <= MAX_INTEGER:
        raise ExportError(f"version is {version}; it must be from 1 to {MAX_INTEGER}")
    if (models / name / str(version)).exists():
        raise ArtifactError(f"{models / name / str(version)}: exists; a published version is never changed")
    try:
        picture = (run.path / BACKTEST_PICTURE).read_bytes()
    except OSError as error:
        raise ExportError(f"{run.path / BACKTEST_PICTURE}: {error.strerror}; is the run finished?") from None
    model = run.model
    source = source_of(model)
    if rollout and not 2 <= rollout <= LONGEST_ROLLOUT:
        raise ExportError(f"rollout is {rollout}; it must be 0, or from 2 to {LONGEST_ROLLOUT}")
    rolled, not_rolled = roll(source, rollout) if rollout else ({}, {})
    lowered = lower(source, precision) | rolled
    graphs = {graph_name: proto.SerializeToString() for graph_name, (_, proto) in lowered.items()}

    generator = np.random.default_rng(seed)
    samples = run.samples
    chosen = np.linspace(0, len(samples["window"]) - 1, NUM_GOLDEN).round().astype(int)
    described = {graph_name: graph for graph_name, (graph, _) in lowered.items()}
    manifest = _manifest(run, source, described, name, rollout=rollout if rolled else 0)
    golden_inputs = {tensor: array[chosen] for tensor, array in samples.items()}
    random_inputs = gate.random_inputs(model, samples, generator, NUM_GOLDEN)
    cases, random = (
        gate.golden_cases(model, inputs, list(graphs), rollout=rollout) for inputs in (golden_inputs, random_inputs)
    )
    checked = [graph_name for graph_name in graphs if graph_name not in rolled]
    worst = gate.check(model, manifest, graphs, [cases, random], only=checked)
    for graph_name in rolled:
        try:
            worst = worst.worst(gate.check(model, manifest, graphs, [cases, random], only=[graph_name]))
        except ExportError as error:
            # What is fed back may grow without bound where one value does not; the model still serves value by value.
            not_rolled[graph_name] = str(error)
            del lowered[graph_name], graphs[graph_name], cases[graph_name], manifest.graphs[graph_name]
    if not set(ROLLOUTS) & set(graphs):
        manifest = msgspec.structs.replace(manifest, rollout=0)
    if tune:
        manifest = _tuned(manifest, graphs, cases[WINDOW].inputs)

    files = {lowered[graph_name][0].file: data for graph_name, data in graphs.items()} | {
        GOLDEN: golden.encode(cases),
        WEIGHTS: safetensors.torch.save(model.state_dict()),
        REPORT: (json.dumps(run.backtest, indent=2) + "\n").encode(),
        REPORT_PICTURE: picture,
    }
    if run.series_ids:
        files[SERIES] = (json.dumps(run.series_ids) + "\n").encode()
    number = version or next_version(models, name)
    final = _seal(manifest, number, worst)
    return Published(
        folder=folder.publish(models, final, files),
        name=name,
        version=number,
        worst=worst,
        num_nodes={graph_name: len(proto.graph.node) for graph_name, (_, proto) in lowered.items()},
        plan=manifest.plan,
        rollout=manifest.rollout,
        not_rolled=not_rolled,
    )


def describe(
    model: RecurrentModel, source: Source, graphs: dict[str, Graph], name: str, features: list[str]
) -> Manifest:
    """The manifest of a model as far as its shape and graphs say; what it was fitted on is left empty."""
    config = model.config
    kind = config.transform
    return Manifest(
        schema_version=1,
        name=name,
        version=1,
        cell=config.cell,
        window=config.window,
        hidden_size=config.hidden_size,
        num_layers=config.num_layers,
        features=features,
        transform=Transform(kind=kind, scale=source.target_scale),
        transition_depth=config.transition_depth,
        residual=config.residual,
        output_depth=config.output_depth,
        linear_skip=config.linear_skip,
        calendar=msgspec.convert(config.calendar, Calendar),
        scaling=msgspec.convert({"kind": config.scaling, "num_series": config.num_series}, Scaling),
        intervals=msgspec.convert({"kind": config.intervals, "levels": config.levels}, Intervals)
        if config.levels
        else None,
        direct_horizon=config.horizon,
        opset=OPSET,
        ir_version=IR_VERSION,
        graphs=graphs,
        plan=plan.fixed(WINDOW),
        not_steppable=source.not_steppable,
        tolerance=Tolerance(),
        gate=Gate(worst_abs_error=0.0, worst_share_of_limit=0.0, batches=list(golden.BATCHES)),
        fitted_on={},
        backtest={},
        libraries=_library_versions(),
        files={},
    )


def _manifest(run: Run, source: Source, graphs: dict[str, Graph], name: str, *, rollout: int) -> Manifest:
    return msgspec.structs.replace(
        describe(run.model, source, graphs, name, list(run.config.features)),
        rollout=rollout,
        fitted_on=msgspec.to_builtins(run.config),
        backtest=run.backtest,
    )


def _library_versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for library in LIBRARIES:
        with contextlib.suppress(PackageNotFoundError):
            versions[library] = library_version(library)
    return versions


def _seal(manifest: Manifest, version: int, worst: Deviation) -> Manifest:
    measured = msgspec.structs.replace(
        manifest.gate, worst_abs_error=worst.abs_error, worst_share_of_limit=worst.share_of_limit
    )
    return msgspec.structs.replace(manifest, version=version, gate=measured)
