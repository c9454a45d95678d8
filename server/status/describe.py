"""From the repository to what is told of it. Read on another thread than the loop's: it copies before it looks."""

from server.repository import Repository
from server.status.facts import Facts, ModelFacts, VersionFacts
from server.versions import Model, State, Version

# A page of more is read by nobody, and workers send it in one message.
MOST_VERSIONS = 500
MOST_REASON_CHARACTERS = 300
MOST_LABELS = 10

# A version that is on its way out is one that stands by, as in ListModels.
_STATES = {State.UNLOADING: State.STANDBY}


def describe(repository: Repository, *, most_versions: int = MOST_VERSIONS) -> Facts:
    """Every model and version, up to `most_versions`."""
    models: list[ModelFacts] = []
    room, num_left_out = most_versions, 0
    for model in list(repository.models()):
        versions = list(model.versions)
        shown = versions[:room]
        room -= len(shown)
        num_left_out += len(versions) - len(shown)
        if shown or not versions:
            models.append(_described(model, shown))
    return Facts(models=models, num_left_out=num_left_out)


def _described(model: Model, versions: list[Version]) -> ModelFacts:
    default = model.default()
    return ModelFacts(
        name=model.name,
        default=default.number if default else 0,
        versions=[_described_version(version, model.labels_of(version)) for version in versions],
    )


def _described_version(version: Version, labels: list[str]) -> VersionFacts:
    engine, manifest = version.engine, version.manifest
    reason = version.reason
    if len(reason) > MOST_REASON_CHARACTERS:
        reason = reason[: MOST_REASON_CHARACTERS - 1] + "…"
    state = _STATES.get(version.state, version.state)
    is_serving = state is State.SERVING and engine is not None
    return VersionFacts(
        number=version.number,
        state=state.value,
        reason="" if is_serving else reason,
        labels=labels[:MOST_LABELS],
        cell=manifest.cell if manifest else "",
        provider=engine.provider.name if is_serving and engine else "",
        nodes=dict(engine.nodes_by_provider()) if is_serving and engine else {},
    )
