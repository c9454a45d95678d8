"""The load gate: a version is served only if, on the provider in use, it gives what its reference gave."""

from dataclasses import dataclass

from export.artifact import golden, plan
from export.artifact.errors import ArtifactError
from export.artifact.folder import GOLDEN, Artifact
from export.artifact.golden import Inputs
from export.artifact.limits import Deviation
from server.engine import Engine, load_session, plan_for
from server.provider import Provider
from server.tensors import WINDOW, Tensors

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
    names = manifest.window_graphs() if options.tune else [entry.graph for entry in entries]
    graphs = {name: artifact.read(manifest.graphs[name].file) for name in dict.fromkeys(names)}
    engine = Engine(
        manifest, graphs, provider, entries, fewest_windows=FEWEST_WINDOWS if options.batch_invariant else 1
    )
    sessions = dict(engine.sessions)
    if "step" in manifest.graphs:
        sessions["step"] = load_session(manifest, "step", artifact.read(manifest.graphs["step"].file), provider)

    def run(graph: str, inputs: Inputs) -> Tensors:
        return sessions[graph].run(inputs)

    cases = golden.decode(artifact.read(GOLDEN), manifest)
    worst = golden.replay(manifest, {name: case for name, case in cases.items() if name in sessions}, run)
    if options.tune:
        engine.tune(options.largest_batch)
    if options.batch_invariant:
        engine.plan = plan.fixed(engine.plan[0].graph)
        check_batch_invariance(engine, cases[WINDOW].inputs)
    engine.warm(options.largest_batch)
    return engine, worst


def check_batch_invariance(engine: Engine, inputs: Inputs) -> None:
    """Run windows in batches of every size up to all of them. Raises ArtifactError if one's answer changes by a bit."""
    together = engine.run(inputs)
    count = len(inputs[WINDOW])
    for batch in range(1, count):
        start = (count - batch) // 2
        part = engine.run({name: array[start : start + batch] for name, array in inputs.items()})
        for name, array in part.items():
            if array.tobytes() != together[name][start : start + batch].tobytes():
                raise ArtifactError(
                    f"{engine.manifest.graphs[engine.plan[0].graph].file}: output {name!r} is not batch-invariant on "
                    f"{engine.provider.name}: a batch of {batch} windows gives other bytes than one of {count}"
                )
