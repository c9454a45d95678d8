"""Which callers may make which call: the one table, by service and method."""

from typing import Any, NamedTuple

from server.doors.access import Grant


class Rule(NamedTuple):
    """What a caller needs beside being known.

    `model`: the field of the request that names a model, which must be among his. `lists`: the field of the response
    that has a row for each model, of which he is shown his own, and the field of a row that names the model.
    """

    model: str = ""
    admin: bool = False
    lists: tuple[str, str] | None = None

    def model_of(self, request: Any) -> str:
        """The model that a request is about; empty if it is about none."""
        return str(getattr(request, self.model)) if self.model else ""

    def check(self, rpc: str, grant: Grant, request: Any) -> None:
        """Raises NotAllowed."""
        if self.admin:
            grant.check_admin(rpc)
        if self.model:
            model = self.model_of(request)
            if model or self.lists is None:  # a call that lists all where none is named
                grant.check_model(model)

    def hide(self, grant: Grant, response: Any) -> None:
        """Take the rows of other models out of a response."""
        if self.lists is None or grant.models is None:
            return
        field, name = self.lists
        rows = getattr(response, field)
        for k in reversed(range(len(rows))):
            if not grant.allows(getattr(rows[k], name)):
                del rows[k]


# Who is known may.
KNOWN = Rule()
# What the table does not name is an operator's, so that a method that is added is not open by oversight.
OPERATOR = Rule(admin=True)

RULES: dict[str, dict[str, Rule]] = {
    "nextvalue.v1.NextValue": {
        "Predict": Rule("model"),
        "GetModel": Rule("model"),
        "ListModels": Rule(lists=("models", "name")),
    },
    "inference.GRPCInferenceService": {
        "ServerLive": KNOWN,
        "ServerReady": KNOWN,
        "ServerMetadata": KNOWN,
        "ModelReady": Rule("name"),
        "ModelMetadata": Rule("name"),
        "ModelConfig": Rule("name"),
        "ModelStatistics": Rule("name", lists=("model_stats", "name")),
        "ModelInfer": Rule("model_name"),
        "ModelStreamInfer": Rule("model_name"),
        "RepositoryIndex": Rule(admin=True, lists=("models", "name")),
        "RepositoryModelLoad": Rule("model_name", admin=True),
        "RepositoryModelUnload": Rule("model_name", admin=True),
    },
    "grpc.health.v1.Health": {"Check": KNOWN, "List": KNOWN, "Watch": KNOWN},
    "grpc.reflection.v1alpha.ServerReflection": {"ServerReflectionInfo": KNOWN},
}


def rule_of(service: str, method: str) -> Rule:
    """The rule of a method; an operator's where the table has none."""
    return RULES.get(service, {}).get(method, OPERATOR)
