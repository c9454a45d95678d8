"""The load gate: a version is served only if, on the provider in use, it gives what its reference gave."""

from export.artifact import golden
from export.artifact.folder import GOLDEN, Artifact
from export.artifact.golden import Inputs
from export.artifact.limits import Deviation
from server.engine import Engine, load_session
from server.provider import Provider
from server.tensors import Tensors


def load_engine(artifact: Artifact, provider: Provider) -> tuple[Engine, Deviation]:
    """Verify every digest, load the planned graphs, replay golden.npz. Raises ArtifactError naming the file at fault.

    The step graph is replayed too, then let go: nothing calls it yet.
    """
    artifact.verify()
    manifest = artifact.manifest
    graphs = {name: artifact.read(manifest.graphs[name].file) for name in manifest.planned_graphs()}
    engine = Engine(manifest, graphs, provider)
    sessions = dict(engine.sessions)
    if "step" in manifest.graphs:
        sessions["step"] = load_session(manifest, "step", artifact.read(manifest.graphs["step"].file), provider)

    def run(graph: str, inputs: Inputs) -> Tensors:
        return sessions[graph].run(inputs)

    worst = golden.replay(manifest, golden.decode(artifact.read(GOLDEN), manifest), run)
    engine.warm()
    return engine, worst
