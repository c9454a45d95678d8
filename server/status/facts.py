"""What there is to say of models and versions beside their numbers; a worker tells its supervisor so."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

# Workers found a version in different states.
MIXED = "mixed"


@dataclass(frozen=True, kw_only=True)
class VersionFacts:
    """One version. `reason`: why it is not served; `nodes` of its graphs by execution provider, where it is."""

    number: int
    state: str
    reason: str = ""
    labels: list[str] = field(default_factory=list)
    cell: str = ""
    provider: str = ""
    nodes: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """A model and its versions, newest first. `default` answers where no version is named; 0 for none."""

    name: str
    default: int = 0
    versions: list[VersionFacts] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Of a server. `num_left_out` versions are there and not told of."""

    models: list[ModelFacts] = field(default_factory=list)
    num_left_out: int = 0


@dataclass(frozen=True, kw_only=True)
class WorkerFacts:
    """One of several processes; `uptime_seconds` is None until it serves."""

    worker: int
    pid: int
    uptime_seconds: float | None = None


def merged(of_workers: Sequence[Facts]) -> Facts:
    """One for all workers, who see the same folder; a version that they found in different states says so."""
    models: dict[str, list[ModelFacts]] = {}
    for facts in of_workers:
        for model in facts.models:
            models.setdefault(model.name, []).append(model)
    return Facts(
        models=[_merged_model(found) for _, found in sorted(models.items())],
        num_left_out=max((facts.num_left_out for facts in of_workers), default=0),
    )


def _merged_model(found: Sequence[ModelFacts]) -> ModelFacts:
    versions: dict[int, list[VersionFacts]] = {}
    for model in found:
        for version in model.versions:
            versions.setdefault(version.number, []).append(version)
    numbers = sorted(versions, reverse=True)
    return replace(found[0], versions=[_merged_version(versions[number], len(found)) for number in numbers])


def _merged_version(found: Sequence[VersionFacts], num_workers: int) -> VersionFacts:
    states = [version.state for version in found]
    if len(set(states)) == 1 and len(found) == num_workers:
        return found[0]
    counts = [f"{states.count(state)} of {num_workers} workers: {state}" for state in dict.fromkeys(states)]
    reasons = dict.fromkeys(version.reason for version in found if version.reason)
    return replace(found[0], state=MIXED, reason="; ".join([*counts, *reasons]))
