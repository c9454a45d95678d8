"""A rolling restart, as a Deployment does it: the next only when the one before serves again."""

from collections.abc import Sequence
from contextlib import ExitStack

from tests.e2e.envoy import Envoy
from tests.e2e.replicas import Replica
from tests.server.harness import eventually_sync

# More calls that each server answers before the next restart and after the last.
CALLS_BETWEEN = 50


def answered(each: Replica, rpc: str) -> float:
    return each.counted("nextvalue_requests_total", rpc=rpc, code="OK")


def await_calls(found: Sequence[Replica], rpc: str) -> None:
    """Until each server has answered some more."""
    goals = [answered(each, rpc) + CALLS_BETWEEN for each in found]
    for each, goal in zip(found, goals, strict=True):
        eventually_sync(lambda each=each, goal=goal: answered(each, rpc) >= goal, f"{goal} calls at {each.target}")  # type: ignore[misc]  # bound now


def restart_all(found: Sequence[Replica], front: Envoy, stack: ExitStack, rpc: str) -> None:
    """One after another, each only when all serve."""
    for each in found:
        await_calls(found, rpc)
        pid = each.process.process.pid
        each.stop()
        each.start_again(stack)
        assert each.process.process.pid != pid
        front.await_healthy(found)
    await_calls(found, rpc)
