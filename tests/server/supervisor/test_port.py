"""An address held for others of ours, and for nobody else."""

import socket
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from server.errors import StartupError
from server.supervisor.port import HeldPort


def listening(port: int, *, reuse_port: bool) -> socket.socket:
    """As gRPC opens it."""
    found = socket.socket()
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, int(reuse_port))
    try:
        found.bind(("127.0.0.1", port))
    except OSError:
        found.close()
        raise
    found.listen()
    return found


def test_a_free_port_is_taken_and_named() -> None:
    with HeldPort("127.0.0.1:0") as held:
        assert held.port > 0
        assert held.address == f"127.0.0.1:{held.port}"


def test_a_host_keeps_its_brackets() -> None:
    if not _has_ipv6():
        pytest.skip("no IPv6 here")
    with HeldPort("[::1]:0") as held:
        assert held.address == f"[::1]:{held.port}"


def test_nobody_listens_before_a_worker_does() -> None:
    with HeldPort("127.0.0.1:0") as held, socket.socket() as caller:
        assert caller.connect_ex(("127.0.0.1", held.port)) != 0


def test_workers_share_it_and_others_do_not() -> None:
    with HeldPort("127.0.0.1:0") as held:
        with pytest.raises(OSError, match="Address already in use"):
            listening(held.port, reuse_port=False)
        with listening(held.port, reuse_port=True), listening(held.port, reuse_port=True) as worker:
            caller = socket.create_connection(("127.0.0.1", held.port))
            caller.close()
            with pytest.raises(OSError, match="Address already in use"):
                listening(held.port, reuse_port=False)
            worker.close()


@pytest.mark.parametrize("workers", [0, 1])
def test_two_groups_never_share_a_port(workers: int) -> None:
    """Each would take half of the other's calls; before its workers listen, too."""
    with HeldPort("127.0.0.1:0") as held:
        listen = [listening(held.port, reuse_port=True) for _ in range(workers)]
        with pytest.raises(StartupError, match=rf"^grpc is '{held.address}'; cannot listen there: Address already"):
            HeldPort(held.address)
        for each in listen:
            each.close()


@pytest.mark.parametrize("reuse_port", [False, True])
def test_connections_that_have_ended_are_no_hindrance(reuse_port: bool) -> None:
    """A server that is started again at once, with workers where there was one, or as before."""
    with listening(0, reuse_port=reuse_port) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            server.accept()[0].close()  # who hangs up first keeps the connection for a minute
    with HeldPort(f"127.0.0.1:{port}") as held:
        assert held.port == port
        listening(port, reuse_port=True).close()


def test_an_address_that_is_not_ours() -> None:
    with pytest.raises(StartupError, match=r"^grpc is '192\.0\.2\.1:50051'; cannot listen there: "):
        HeldPort("192.0.2.1:50051")


@pytest.mark.parametrize(("host", "caller"), [("0.0.0.0", "127.0.0.1"), ("localhost", "127.0.0.1"), ("[::]", "::1")])  # noqa: S104
def test_grpc_takes_it_for_every_spelling(host: str, caller: str) -> None:
    """It listens on both families where one is named, and has them from us."""
    if ":" in host and not _has_ipv6():
        pytest.skip("no IPv6 here")
    with HeldPort(f"{host}:0") as held:
        servers = [grpc.server(ThreadPoolExecutor(1), options=[("grpc.so_reuseport", 1)]) for _ in range(2)]
        for server in servers:
            assert server.add_insecure_port(held.address) == held.port
            server.start()
        socket.create_connection((caller, held.port)).close()
        with pytest.raises(StartupError):
            HeldPort(held.address)
        for server in servers:
            server.stop(None).wait()


def _has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False
