"""The load gate: a version is served only if, on the provider in use, it gives what its reference gave."""

from export.artifact import golden
from export.artifact.folder import GOLDEN, Artifact
from export.artifact.golden import Inputs
from export.artifact.limits import Deviation
from server.engine import Engine, load_session, plan_for
from server.provider import Provider
from server.tensors import Tensors


def load_engine(
    artifact: Artifact, provider: Provider, *, largest: int = 64, tune: bool = False
) -> tuple[Engine, Deviation]:
    """Verify every digest, load the planned graphs, replay golden.npz. Raises ArtifactError naming the file at fault.

    The engine is warm for batches of up to `largest` windows. With `tune` every graph is loaded, replayed and timed,
    and the fastest are kept. The step graph is replayed too, then let go: nothing calls it yet.
    """
    artifact.verify()
    manifest = artifact.manifest
    names = manifest.window_graphs() if tune else [entry.graph for entry in plan_for(manifest, provider)]
    graphs = {name: artifact.read(manifest.graphs[name].file) for name in dict.fromkeys(names)}
    engine = Engine(manifest, graphs, provider)
    sessions = dict(engine.sessions)
    if "step" in manifest.graphs:
        sessions["step"] = load_session(manifest, "step", artifact.read(manifest.graphs["step"].file), provider)

    def run(graph: str, inputs: Inputs) -> Tensors:
        return sessions[graph].run(inputs)

    cases = golden.decode(artifact.read(GOLDEN), manifest)
    worst = golden.replay(manifest, {name: case for name, case in cases.items() if name in sessions}, run)
    if tune:
        engine.tune(largest)
    engine.warm(largest)
    return engine, worst
