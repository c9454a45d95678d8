"""Options and environment, parsed once at the edge into a frozen dataclass.

Every option --some-name is also NEXTVALUE_SOME_NAME; the command line wins. A misspelt or unparsable name or
value stops start-up and is named. Variables that Kubernetes makes for Services (NEXTVALUE_SERVICE_HOST,
NEXTVALUE_PORT_50051_TCP, …) are ignored; no option is called like one.
"""

import argparse
import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from server.errors import StartupError
from server.provider import Choice

N = TypeVar("N", int, float)

PREFIX = "NEXTVALUE_"
# What our clients read, in whose shell a server may be started.
OF_CLIENTS = ("TOKEN",)
SERVICE_LINK = re.compile(r"(^|_)(SERVICE_HOST|SERVICE_PORT(_.*)?|PORT|PORT_\d+_.*)$")


@dataclass(frozen=True, kw_only=True)
class Config:
    """What the server was told."""

    models: Path
    grpc: str
    metrics: str
    health_listen: str
    provider: Choice
    reference: str
    parity_share: float
    reference_timeout_seconds: float
    tune: str
    batch_invariant: str
    cuda_graphs: str
    max_batch_windows: int
    max_queue_windows: int
    max_queue_ms: int
    max_horizon: int
    max_message_mib: int
    drain_seconds: float
    workers: int
    log_level: str
    log_format: str
    log_requests: str
    log_requests_share: float
    otlp_endpoint: str
    trace_share: float
    admin: str
    transport: str
    busy_poll_us: int
    poll_seconds: float
    tls_certificate: str
    tls_key: str
    tls_client_ca: str
    tls_handshake_seconds: float
    access: str
    plaintext_tokens: str
    reload_seconds: float
    max_streams: int
    max_connections_per_peer: int
    max_connection_age_seconds: float
    keepalive_seconds: float


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise StartupError(message)


def parse(argv: Sequence[str], environ: Mapping[str, str]) -> Config:
    """Command line over environment over defaults. Raises StartupError naming the option or variable at fault."""
    parser = _Parser(prog="python -m server", description="Serve next-value predictions over gRPC.", allow_abbrev=False)
    from_environment: dict[str, str] = {}

    def option(name: str, parse_value: Callable[[str], object], default: str | None, help_text: str) -> None:
        variable = PREFIX + name.upper().replace("-", "_")
        value = default
        if variable in environ:
            value = from_environment[variable] = environ[variable]
            try:
                parse_value(value)
            except argparse.ArgumentTypeError as error:
                raise StartupError(f"environment variable {variable}: {error}") from None
        shown = f"{help_text} [{variable}{'' if default is None else f'; default {default}'}]".replace("%", "%%")
        # What nobody gave is not parsed: an empty value that somebody gave may be a mistake.
        parser.add_argument(f"--{name}", type=parse_value, default=value or None, required=value is None, help=shown)

    option("models", _folder, None, "the model repository, a folder")
    option("grpc", _address, "127.0.0.1:50051", "HOST:PORT of the gRPC services; port 0 takes a free one")
    option("metrics", _address, "127.0.0.1:9464", "HOST:PORT of the Prometheus page")
    option("health-listen", _address_or_none, "", "HOST:PORT of grpc.health.v1 alone, always plaintext, for probes")
    option("provider", _one_of("auto", "cpu", "cuda"), "auto", "auto, cpu, or cuda (start-up fails without it)")
    option("reference", _reference, "auto", "live parity: auto (if torch is installed), off, or unix:PATH to join one")
    option("parity-share", _number(0, 1), "0.01", "share of runs that the reference recomputes, from 0 to 1")
    option("reference-timeout-seconds", _number(0.1, 600), "10", "a reference silent for so long is restarted")
    option("tune", _one_of("off", "load"), "off", "load: time every graph here and run the fastest for each batch size")
    option("batch-invariant", _one_of("off", "on"), "off", "on: a window's answer has the same bytes in any batch")
    option("cuda-graphs", _one_of("on", "off"), "on", "on: on CUDA, each run is launched as one captured graph")
    option("max-batch-windows", _integer(1, 65536), "512", "most windows in one run; larger calls are split")
    option("max-queue-windows", _integer(1, 10**9), "65536", "windows that may wait per model; more are refused")
    option("max-queue-ms", _integer(0, 600_000), "0", "calls are refused while others wait for about longer; 0: never")
    option("max-horizon", _integer(1, 100_000), "1024", "largest horizon of a call")
    option("max-message-mib", _integer(1, 2047), "64", "largest gRPC message, MiB")
    option("drain-seconds", _number(0, 3600), "30", "at SIGTERM, how long admitted work may take to finish")
    option(
        "transport",
        _one_of("http2", "grpcio"),
        "http2",
        "who speaks gRPC: http2, our own on asyncio, or grpcio, which takes several times the processor",
    )
    option("busy-poll-us", _integer(0, 10_000), "0", "http2: microseconds after an answer without sleep; 0: none")
    option("poll-seconds", _number(0, 86400), "10", "how often one process looks for new versions and labels; 0: never")
    option("workers", _integer(1, 256), "1", "serving processes, which share the port; more than 1 are supervised")
    option("admin", _one_of("off", "on"), "off", "on: operators may load and unload models while the server runs")
    _doors(option)
    option("log-level", _one_of("debug", "info", "warning", "error"), "info", "debug, info, warning or error")
    option("log-format", _one_of("text", "json"), "text", "text, or json: one object a line")
    option("log-requests", _one_of("off", "sampled", "all"), "off", "a line for each call: off, sampled (a share), all")
    option("log-requests-share", _number(0, 1), "0.01", "share of the calls that sampled writes down, from 0 to 1")
    option("otlp-endpoint", _url_or_none, "", "http(s)://HOST:PORT of an OTLP collector over gRPC, which gets traces")
    option("trace-share", _number(0, 1), "0.01", "share of the calls traced whose caller does not say, from 0 to 1")

    known = {field.name.upper() for field in fields(Config)}
    for variable in sorted(environ):
        name = variable.removeprefix(PREFIX)
        if variable.startswith(PREFIX) and name not in {*known, *OF_CLIENTS} and not SERVICE_LINK.search(variable):
            close = difflib.get_close_matches(name, known, 1)
            hint = f"; did you mean {PREFIX}{close[0]}?" if close else ""
            raise StartupError(f"environment variable {variable} names no option{hint}")
    return Config(**_with_empty(vars(parser.parse_args(argv))))


def _doors(option: Callable[[str, Callable[[str], object], str, str], None]) -> None:
    """Who comes in, and how much of him."""
    option("tls-certificate", _file, "", "FILE of the certificate and its chain, PEM; without it nothing is encrypted")
    option("tls-key", _file, "", "FILE of the certificate's key, PEM, without a password")
    option("tls-client-ca", _file, "", "FILE of the authorities, PEM; callers must show a certificate of theirs")
    option("tls-handshake-seconds", _number(0.1, 600), "10", "TLS that is not agreed upon by then is given up")
    option(
        "access",
        _file,
        "",
        "FILE, JSON, of tokens and certificates that may call, and what; without it nobody is asked",
    )
    option("plaintext-tokens", _one_of("off", "on"), "off", "on: tokens are taken without TLS; something else encrypts")
    option("reload-seconds", _number(0, 86400), "10", "how often those files are looked at again; 0: never")
    option("max-streams", _integer(1, 100_000), "1000", "most calls that one connection may have under way")
    option("max-connections-per-peer", _integer(0, 10**6), "16384", "http2: most connections of an address; 0: any")
    option(
        "max-connection-age-seconds", _number(0, 10**6), "0", "connections are asked to go by then, +-10 %; 0: never"
    )
    option("keepalive-seconds", _number(0, 86400), "120", "how often each peer is asked whether it is there; 0: never")


def _with_empty(given: dict[str, Any]) -> dict[str, Any]:
    """What nobody gave and has no default is empty."""
    return {name: "" if value is None else value for name, value in given.items()}


def _folder(text: str) -> Path:
    if not text:
        # Path("") would be the working directory.
        raise argparse.ArgumentTypeError("'' is not a folder")
    return Path(text)


def _file(text: str) -> str:
    """Of a lock: a server that was to have it must not start without, because a variable was empty."""
    if not text.strip():
        raise argparse.ArgumentTypeError("is empty; leave it out where there is no such file")
    return text


def _address(text: str) -> str:
    host, separator, port = text.rpartition(":")
    if not separator or not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST:PORT with a port from 0 to 65535")
    return text


def _address_or_none(text: str) -> str:
    return text and _address(text)


def _url_or_none(text: str) -> str:
    if "@" in text:
        # Not repeated: it may hold a secret.
        raise argparse.ArgumentTypeError("is not http://HOST:PORT or https://HOST:PORT; it has an @")
    if text and not re.fullmatch(r"https?://[^/\s]+:\d{1,5}/?", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not http://HOST:PORT or https://HOST:PORT")
    return text


def _reference(text: str) -> str:
    if text in ("auto", "off") or (text.startswith("unix:") and len(text) > len("unix:")):
        return text
    raise argparse.ArgumentTypeError(f"{text!r} is not auto, off or unix:PATH")


def _one_of(*choices: str) -> Callable[[str], str]:
    def parse_value(text: str) -> str:
        if text not in choices:
            raise argparse.ArgumentTypeError(f"{text!r} is not one of {', '.join(choices)}")
        return text

    return parse_value


def _number(low: float, high: float) -> Callable[[str], float]:
    return _within(float, "a number", low, high)


def _integer(low: int, high: int) -> Callable[[str], int]:
    return _within(int, "an integer", low, high)


def _within(kind: Callable[[str], N], noun: str, low: N, high: N) -> Callable[[str], N]:
    """A number of a kind, from `low` to `high`; NaN is not."""

    def parse_value(text: str) -> N:
        try:
            value = kind(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not {noun}") from None
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{text} is not {low if low == high else f'from {low} to {high}'}")
        return value

    return parse_value


def split_address(address: str) -> tuple[str, int]:
    """Host and port of HOST:PORT; brackets of an IPv6 host are taken off."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)
