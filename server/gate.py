"""The load gate: a version is served only if, on the provider in use, it gives what its reference gave."""

import itertools
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from export.artifact import golden, plan
from export.artifact.errors import ArtifactError
from export.artifact.folder import GOLDEN, Artifact
from export.artifact.golden import Inputs
from export.artifact.limits import Deviation
from export.artifact.manifest import ROLLOUTS, SLIDING, STEP, Manifest
from server.engine import Engine, Filling, plan_for
from server.placement import shown
from server.provider import CPU, Provider
from server.session import Session, load_session
from server.tensors import WINDOW, Tensors

logger = logging.getLogger("nextvalue.gate")

# A product with one row has kernels of its own, which add up in another order.
FEWEST_WINDOWS = 2
# Sines and logarithms are computed so many numbers at a time, at most, and the rest in another way.
WIDEST_PACKET = 16


@dataclass(frozen=True, kw_only=True)
class LoadOptions:
    """How a version is made ready: for batches of up to `largest_batch` windows.

    `tune`: load and replay every graph, time them here, keep the fastest. `batch_invariant`: run one graph whatever the
    batch, and prove that a window's answer has the same bytes beside any others. `cuda_graphs`: on CUDA, capture
    the runs of every graph that can be.
    """

    largest_batch: int = 64
    tune: bool = False
    batch_invariant: bool = False
    cuda_graphs: bool = True


def load_engine(artifact: Artifact, provider: Provider, options: LoadOptions | None = None) -> tuple[Engine, Deviation]:
    """Verify every digest, load the graphs, replay golden.npz. Raises ArtifactError naming the file at fault.

    The step graph is replayed too, then let go: nothing calls it yet. On CUDA all belongs to the thread that calls.
    """
    options = options or LoadOptions()
    artifact.verify()
    manifest = artifact.manifest
    entries = plan_for(manifest, provider)
    if options.batch_invariant:
        # The one for small batches: calls with few windows are those that wait for the engine most.
        entries = plan.fixed(entries[0].graph)
    sessions = {entry.graph: _loaded(artifact, entry.graph, provider, options) for entry in entries}
    if options.tune:
        sessions |= _candidates(artifact, provider, options)
    replayed = dict(sessions)
    rollouts = _rollouts(artifact, provider, options)
    replayed |= rollouts
    if STEP in manifest.graphs:
        replayed[STEP] = _loaded(artifact, STEP, provider, options)

    def run(graph: str, inputs: Inputs) -> Tensors:
        return replayed[graph].run(inputs)

    cases = golden.decode(artifact.read(GOLDEN), manifest)
    worst = golden.replay(manifest, {name: case for name, case in cases.items() if name in replayed}, run)
    engine = Engine(
        manifest,
        sessions,
        provider,
        entries,
        filling=invariant_filling(manifest) if options.batch_invariant else Filling(),
        rollouts=rollouts,
    )
    if options.tune:
        engine.tune(options.largest_batch)
    if options.batch_invariant:
        engine.plan = plan.fixed(engine.plan[0].graph)
        check_batch_invariance(engine, cases[WINDOW].inputs)
    for name, session in (*engine.sessions.items(), *engine.rollouts.items()):
        elsewhere = session.nodes_elsewhere()
        if elsewhere:
            message = f"{manifest.graphs[name].file}: not all of it runs on {provider.name}: {shown(elsewhere)}"
            if provider.exclusive:
                raise ArtifactError(message)
            logger.warning("%s", message)
    engine.warm(options.largest_batch)
    return engine, worst


def _loaded(artifact: Artifact, name: str, provider: Provider, options: LoadOptions) -> Session:
    return load_session(
        artifact.manifest,
        name,
        artifact.read(artifact.manifest.graphs[name].file),
        provider,
        largest_batch=options.largest_batch,
        cuda_graphs=options.cuda_graphs,
    )


def _candidates(artifact: Artifact, provider: Provider, options: LoadOptions) -> dict[str, Session]:
    """Every window graph that runs on the provider whole, but float16's on the CPU."""
    names = artifact.manifest.candidates(on_cpu=provider.name == CPU)
    return _whole(artifact, names, provider, options, "not timed")


def _rollouts(artifact: Artifact, provider: Provider, options: LoadOptions) -> dict[str, Session]:
    """Graphs of several values that run on the provider whole.

    Whether a call slides within one depends on how many windows it has.
    """
    names = [name for name in ROLLOUTS if name in artifact.manifest.graphs]
    if options.batch_invariant:
        names = [name for name in names if name != SLIDING]
    return _whole(artifact, names, provider, options, "not served")


def _whole(
    artifact: Artifact, names: Sequence[str], provider: Provider, options: LoadOptions, otherwise: str
) -> dict[str, Session]:
    """The graphs of those names that run on the provider whole; what happens to others is logged."""
    found = {}
    for name in names:
        try:
            session = _loaded(artifact, name, provider, options)
        except ArtifactError as error:
            logger.info("%s: %s", otherwise, error)
            continue
        elsewhere = session.nodes_elsewhere()
        if elsewhere:
            logger.info("%s: %s: %s", otherwise, artifact.manifest.graphs[name].file, shown(elsewhere))
        else:
            found[name] = session
    return found


def invariant_filling(manifest: Manifest) -> Filling:
    """How batches are filled up where neighbours shall not matter; a calendar has sines, quantiles have logarithms."""
    in_packets = manifest.calendar or (manifest.intervals and manifest.intervals.kind == "quantile")
    return Filling(fewest=FEWEST_WINDOWS, multiple=WIDEST_PACKET if in_packets else 1)


def check_batch_invariance(engine: Engine, inputs: Inputs) -> None:
    """Run windows in batches of every size up to all of them, in and out of order.

    Raises ArtifactError if the answer to one changes by a bit.
    """
    runs = {engine.plan[0].graph: engine.run} | {graph: partial(engine.roll, graph) for graph in engine.rollouts}
    count = len(inputs[WINDOW])
    for graph, run in runs.items():
        together = run(inputs)
        orders = np.random.default_rng(0)
        for batch, mixes in itertools.product(range(1, count), (False, True)):
            rows = orders.permutation(count)[:batch] if mixes else np.arange(batch) + (count - batch) // 2
            part = run({name: array[rows] for name, array in inputs.items()})
            for name, array in part.items():
                if array.tobytes() != together[name][rows].tobytes():
                    raise ArtifactError(
                        f"{engine.manifest.graphs[graph].file}: output {name!r} is not batch-invariant on "
                        f"{engine.provider.name}: a batch of {batch} windows gives other bytes than one of {count}"
                    )
