"""The load gate: a version is served only if, on the provider in use, it gives what its reference gave."""

import logging
from dataclasses import dataclass
from functools import partial

from export.artifact import golden, plan
from export.artifact.errors import ArtifactError
from export.artifact.folder import GOLDEN, Artifact
from export.artifact.golden import Inputs
from export.artifact.limits import Deviation
from export.artifact.manifest import ROLLOUTS, SLIDING, STEP
from server.engine import Engine, Session, load_session, plan_for
from server.provider import Provider
from server.tensors import WINDOW, Tensors

logger = logging.getLogger("nextvalue.gate")

# A product with one row has kernels of its own, which add up in another order.
FEWEST_WINDOWS = 2


@dataclass(frozen=True, kw_only=True)
class LoadOptions:
    """How a version is made ready: for batches of up to `largest_batch` windows.

    `tune`: load and replay every graph, time them here, keep the fastest. `batch_invariant`: run one graph whatever the
    batch, and prove that a window's answer has the same bytes beside any others.
    """

    largest_batch: int = 64
    tune: bool = False
    batch_invariant: bool = False


def load_engine(artifact: Artifact, provider: Provider, options: LoadOptions | None = None) -> tuple[Engine, Deviation]:
    """Verify every digest, load the graphs, replay golden.npz. Raises ArtifactError naming the file at fault.

    The step graph is replayed too, then let go: nothing calls it yet.
    """
    options = options or LoadOptions()
    artifact.verify()
    manifest = artifact.manifest
    entries = plan_for(manifest, provider)
    if options.batch_invariant:
        # The one for small batches: calls with few windows are those that wait for the engine most.
        entries = plan.fixed(entries[0].graph)
    sessions = {entry.graph: _loaded(artifact, entry.graph, provider) for entry in entries}
    if options.tune:
        sessions |= _candidates(artifact, provider)
    replayed = dict(sessions)
    rollouts = _rollouts(artifact, provider, batch_invariant=options.batch_invariant)
    replayed |= rollouts
    if STEP in manifest.graphs:
        replayed[STEP] = _loaded(artifact, STEP, provider)

    def run(graph: str, inputs: Inputs) -> Tensors:
        return replayed[graph].run(inputs)

    cases = golden.decode(artifact.read(GOLDEN), manifest)
    worst = golden.replay(manifest, {name: case for name, case in cases.items() if name in replayed}, run)
    engine = Engine(
        manifest,
        sessions,
        provider,
        entries,
        fewest_windows=FEWEST_WINDOWS if options.batch_invariant else 1,
        rollouts=rollouts,
    )
    if options.tune:
        engine.tune(options.largest_batch)
    if options.batch_invariant:
        engine.plan = plan.fixed(engine.plan[0].graph)
        check_batch_invariance(engine, cases[WINDOW].inputs)
    for name, session in (*engine.sessions.items(), *engine.rollouts.items()):
        elsewhere = _elsewhere(session, provider)
        if elsewhere:
            logger.warning("%s: not all of it runs on %s: %s", manifest.graphs[name].file, provider.name, elsewhere)
    engine.warm(options.largest_batch)
    return engine, worst


def _loaded(artifact: Artifact, name: str, provider: Provider) -> Session:
    return load_session(artifact.manifest, name, artifact.read(artifact.manifest.graphs[name].file), provider)


def _candidates(artifact: Artifact, provider: Provider) -> dict[str, Session]:
    """Every window graph that runs on the provider whole."""
    found = {}
    for name in artifact.manifest.window_graphs():
        try:
            session = _loaded(artifact, name, provider)
        except ArtifactError as error:
            logger.info("not timed: %s", error)
            continue
        elsewhere = _elsewhere(session, provider)
        if elsewhere:
            logger.info("not timed: %s: %s", artifact.manifest.graphs[name].file, elsewhere)
        else:
            found[name] = session
    return found


def _rollouts(artifact: Artifact, provider: Provider, *, batch_invariant: bool) -> dict[str, Session]:
    """Graphs of several values. Whether a call slides within one depends on how many windows it has."""
    names = [name for name in ROLLOUTS if name in artifact.manifest.graphs]
    if batch_invariant:
        names = [name for name in names if name != SLIDING]
    return {name: _loaded(artifact, name, provider) for name in names}


def _elsewhere(session: Session, provider: Provider) -> str:
    """How many nodes run on other providers; empty where none do."""
    counts = session.nodes_by_provider()
    return ", ".join(f"{count} nodes on {name}" for name, count in sorted(counts.items()) if name != provider.name)


def check_batch_invariance(engine: Engine, inputs: Inputs) -> None:
    """Run windows in batches of every size up to all of them. Raises ArtifactError if one's answer changes by a bit."""
    runs = {engine.plan[0].graph: engine.run} | {graph: partial(engine.roll, graph) for graph in engine.rollouts}
    count = len(inputs[WINDOW])
    for graph, run in runs.items():
        together = run(inputs)
        for batch in range(1, count):
            start = (count - batch) // 2
            part = run({name: array[start : start + batch] for name, array in inputs.items()})
            for name, array in part.items():
                if array.tobytes() != together[name][start : start + batch].tobytes():
                    raise ArtifactError(
                        f"{engine.manifest.graphs[graph].file}: output {name!r} is not batch-invariant on "
                        f"{engine.provider.name}: a batch of {batch} windows gives other bytes than one of {count}"
                    )
