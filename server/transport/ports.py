"""Either transport, with its limits, its ports and its locks."""

from typing import Any

import grpc

from server.config import Config
from server.doors.access import Access
from server.doors.certificates import Certificates
from server.doors.files import Kept
from server.doors.locks import Tls
from server.http2.limits import Lifetime, Limits
from server.http2.listener import Http2Server
from server.transport.calls import Calls
from server.transport.guard import Door, Guard

NEVER_MS = 2**31 - 1
# A probe names a service.
MAX_PROBE_BYTES = 4096
# It is open to everybody, and shares its process with callers who showed who they are.
MAX_PROBE_CONNECTIONS = 64
PROBE_LIMITS = Limits(max_streams=16)
PROBE_LIFETIME = Lifetime(max_age_seconds=600, grace_seconds=5, keepalive_seconds=30)


def open_port(server: Any, address: str, tls: Kept[Certificates, Tls] | None) -> int:
    """The port that was bound. Raises RuntimeError if it cannot be had."""
    port: int
    if tls is None:
        port = server.add_insecure_port(address)
    elif isinstance(server, Http2Server):
        port = server.add_tls_port(address, tls.value.context)
    else:
        port = server.add_secure_port(address, _credentials(tls))
    return port


async def renew(server: Any, tls: Tls) -> None:
    """Accept with new certificates from now on; grpcio asks for them with every handshake."""
    if isinstance(server, Http2Server):
        await server.renew(tls.context)


def _credentials(tls: Kept[Certificates, Tls]) -> grpc.ServerCredentials:
    def configuration() -> grpc.ServerCertificateConfiguration:
        certificates = tls.value.certificates
        return grpc.ssl_server_certificate_configuration(
            [(certificates.key, certificates.chain)], root_certificates=certificates.client_ca or None
        )

    needs_certificate = bool(tls.value.certificates.client_ca)
    return grpc.dynamic_ssl_server_credentials(
        configuration(), configuration, require_client_authentication=needs_certificate
    )


def transport_of(config: Config, *, shared: bool) -> Any:
    """Who speaks gRPC, as `--transport` says; `shared`: other processes of ours listen on the same port."""
    lifetime = Lifetime(
        max_age_seconds=config.max_connection_age_seconds,
        grace_seconds=config.drain_seconds,
        keepalive_seconds=config.keepalive_seconds,
    )
    max_message_bytes = config.max_message_mib << 20
    if config.transport == "http2":
        return Http2Server(
            max_message_bytes=max_message_bytes,
            reuse_port=shared,
            limits=Limits(max_streams=config.max_streams),
            lifetime=lifetime,
            max_connections_per_peer=config.max_connections_per_peer,
            handshake_seconds=config.tls_handshake_seconds,
            busy_poll_seconds=config.busy_poll_us / 1e6,
        )
    # It spreads the ends of connections by a tenth, as we do.
    return grpc.aio.server(
        options=[
            # Otherwise a second server on the port would silently take half of the calls.
            ("grpc.so_reuseport", int(shared)),
            ("grpc.max_receive_message_length", max_message_bytes),
            ("grpc.max_send_message_length", max_message_bytes),
            ("grpc.max_concurrent_streams", config.max_streams),
            ("grpc.server_handshake_timeout_ms", _milliseconds(config.tls_handshake_seconds)),
            ("grpc.max_connection_age_ms", _milliseconds(lifetime.max_age_seconds)),
            ("grpc.max_connection_age_grace_ms", max(1, round(lifetime.grace_seconds * 1000))),
            ("grpc.keepalive_time_ms", _milliseconds(lifetime.keepalive_seconds)),
            ("grpc.keepalive_timeout_ms", _milliseconds(lifetime.keepalive_timeout_seconds)),
        ]
    )


def probe_transport(*, shared: bool) -> Http2Server:
    """Who speaks gRPC to probes, whatever `--transport` says."""
    return Http2Server(
        max_message_bytes=MAX_PROBE_BYTES,
        reuse_port=shared,
        limits=PROBE_LIMITS,
        max_connections_per_peer=MAX_PROBE_CONNECTIONS,
        lifetime=PROBE_LIFETIME,
    )


def _milliseconds(seconds: float) -> int:
    """As grpcio has it; 0 is never, for which it has the largest number."""
    return min(round(seconds * 1000) or NEVER_MS, NEVER_MS)


def guarded_by(server: Any, access: Kept[bytes, Access] | None, calls: Calls) -> Any:
    """What services are added to: the server itself, or the guard of one that has an access file."""
    if access is None:
        return server
    door = Door(lambda: access.value)
    if isinstance(server, Http2Server):
        server.admits = door.admits
    return Guard(server, door, calls)
