"""The repository extension: what there is, and the operator's calls to load and unload."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol

from server.errors import InvalidRequest, NotReady, SwitchedOff, shown
from server.pb import open_inference_pb2 as pb
from server.repository import Repository
from server.versions import State

_STATES = {
    State.LOADING: "LOADING",
    State.SERVING: "READY",
    State.FAILED: "UNAVAILABLE",
    State.STANDBY: "UNAVAILABLE",
    State.UNLOADING: "UNLOADING",
}
# Every client sends it; no model has dependents.
_UNLOAD_PARAMETERS = ("unload_dependents",)

Parameters = Mapping[str, pb.ModelRepositoryParameter]


class Loads(Protocol):
    """Changes what is served: a Loader, or what asks those of all workers."""

    async def load(self, name: str) -> None:
        """As Loader.load."""

    async def unload(self, name: str) -> None:
        """As Loader.unload."""


class ModelRepository:
    """Reading is free to all; changing is an operator's, behind the option --admin."""

    def __init__(self, repository: Repository, loader: Loads, *, admin: bool) -> None:
        self._repository = repository
        self._loader = loader
        self.admin = admin

    async def index(self, request: pb.RepositoryIndexRequest) -> pb.RepositoryIndexResponse:
        """Every version of every model. Raises InvalidRequest, or NotReady before the names are known."""
        _check_repository(request.repository_name)
        if not self._repository.listed:
            raise NotReady("the repository is still being read")
        rows = self._rows()
        return pb.RepositoryIndexResponse(models=[row for row in rows if row.state == "READY" or not request.ready])

    def _rows(self) -> Iterator[pb.RepositoryIndexResponse.ModelIndex]:
        row = pb.RepositoryIndexResponse.ModelIndex
        for model in self._repository.models():
            if not model.versions:
                yield row(name=model.name, state="UNAVAILABLE", reason="no versions")
            for version in model.versions:
                yield row(
                    name=model.name, version=str(version.number), state=_STATES[version.state], reason=version.reason
                )

    async def load(self, request: pb.RepositoryModelLoadRequest) -> pb.RepositoryModelLoadResponse:
        """Raises SwitchedOff, InvalidRequest, or what Loader.load raises."""
        self._check("RepositoryModelLoad", request.repository_name, request.parameters)
        await self._loader.load(request.model_name)
        return pb.RepositoryModelLoadResponse()

    async def unload(self, request: pb.RepositoryModelUnloadRequest) -> pb.RepositoryModelUnloadResponse:
        """Raises SwitchedOff, InvalidRequest, or what Loader.unload raises."""
        self._check("RepositoryModelUnload", request.repository_name, request.parameters, known=_UNLOAD_PARAMETERS)
        await self._loader.unload(request.model_name)
        return pb.RepositoryModelUnloadResponse()

    def _check(self, rpc: str, repository: str, parameters: Parameters, known: Iterable[str] = ()) -> None:
        if not self.admin:
            raise SwitchedOff(f"{rpc} is switched off; the server's option --admin on offers it")
        _check_repository(repository)
        for name in parameters:
            if name not in known:
                # A configuration or a file of the caller's own: ignored, another model would serve than was sent.
                raise InvalidRequest(f"parameters[{shown(name)}]", "given", "an artifact is served as it was exported")


def _check_repository(name: str) -> None:
    if name:
        raise InvalidRequest("repository_name", shown(name), "there is one repository; it must be empty")
