"""How a client's channel is set up."""

import json
from typing import Any

DEFAULT_MAX_MESSAGE_BYTES = 64 * 1024 * 1024

# A default gRPC server tolerates a ping every 5 minutes and closes the connection of a client that pings faster.
# What finds a dead peer sooner is the second number: with keep-alive on, gRPC also gives TCP that long to see sent
# bytes acknowledged (TCP_USER_TIMEOUT), so a vanished server fails the calls that follow instead of hanging them.
KEEPALIVE_TIME_MS = 6 * 60 * 1000
KEEPALIVE_TIMEOUT_MS = 10_000

# gRPC waits 1 s before it connects again, which is longer than most of our retries.
INITIAL_RECONNECT_BACKOFF_MS = 100
MAX_RECONNECT_BACKOFF_MS = 5_000

# All addresses behind a name share the calls: `dns:///host:port` of a headless Service reaches every pod.
SERVICE_CONFIG: dict[str, Any] = {"loadBalancingConfig": [{"round_robin": {}}]}


def channel_options(*, max_message_bytes: int = DEFAULT_MAX_MESSAGE_BYTES) -> list[tuple[str, str | int]]:
    """Options of the sync and the asyncio channel alike.

    Args:
        max_message_bytes: largest message sent or received; beyond it a call fails with RESOURCE_EXHAUSTED.
    """
    return [
        ("grpc.service_config", json.dumps(SERVICE_CONFIG)),
        ("grpc.enable_retries", 0),  # gRPC's own would multiply with ours
        ("grpc.max_send_message_length", max_message_bytes),
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.keepalive_time_ms", KEEPALIVE_TIME_MS),
        ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_MS),
        ("grpc.keepalive_permit_without_calls", 0),
        ("grpc.initial_reconnect_backoff_ms", INITIAL_RECONNECT_BACKOFF_MS),
        ("grpc.max_reconnect_backoff_ms", MAX_RECONNECT_BACKOFF_MS),
    ]
