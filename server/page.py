"""Series of the metrics page that come and go with versions."""

from collections import Counter

from prometheus_client.metrics import MetricWrapperBase

from server.metrics import UNKNOWN_MODEL, Metrics
from server.repository import Repository
from server.versions import State

# A version that is on its way out is one that stands by, as in ListModels.
_STATES = {
    State.LOADING: "loading",
    State.SERVING: "serving",
    State.FAILED: "failed",
    State.STANDBY: "standby",
    State.UNLOADING: "standby",
}


def show_versions(metrics: Metrics, repository: Repository) -> None:
    """How many versions of each model are in which state."""
    for model in repository.models():
        counts = Counter(_STATES[version.state] for version in model.versions)
        for state in dict.fromkeys(_STATES.values()):
            metrics.versions.labels(model.name, state).set(counts[state])


def has_left(repository: Repository, model: str, version: str) -> bool:
    """Whether what is labelled so belongs to a model or version that the repository no longer has.

    `version` is empty where a series has none.
    """
    if model in {"", UNKNOWN_MODEL}:
        return False
    return not (repository.lists(model, int(version)) if version else repository.knows(model))


def tidy(metrics: Metrics, repository: Repository) -> None:
    """Take off the page what has left the repository; it would grow with every version that was ever published."""
    for family in vars(metrics).values():
        if isinstance(family, MetricWrapperBase):
            samples = [sample.labels for metric in family.collect() for sample in metric.samples]
            # One child of a histogram has many samples.
            for model, version in {(labels.get("model", ""), labels.get("version", "")) for labels in samples}:
                if has_left(repository, model, version):
                    family.remove_by_labels({"model": model} | ({"version": version} if version else {}))
    metrics.forget_queues(repository.knows)
