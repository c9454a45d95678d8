"""Options and environment: what is taken, what stops start-up, what is ignored."""

from dataclasses import fields
from pathlib import Path

import pytest

from server.config import PREFIX, SERVICE_LINK, Config, parse, split_address
from server.errors import StartupError

# Option: what is written, what it is read as, and a second spelling with another value.
OPTIONS: dict[str, tuple[str, object, str, object]] = {
    "models": ("/a/b", Path("/a/b"), "c", Path("c")),
    "grpc": ("0.0.0.0:1", "0.0.0.0:1", "[::1]:65535", "[::1]:65535"),
    "metrics": ("127.0.0.1:0", "127.0.0.1:0", "host:2", "host:2"),
    "health-listen": ("0.0.0.0:3", "0.0.0.0:3", "", ""),
    "provider": ("cuda", "cuda", "cpu", "cpu"),
    "tune": ("load", "load", "off", "off"),
    "batch-invariant": ("on", "on", "off", "off"),
    "cuda-graphs": ("off", "off", "on", "on"),
    "reference": ("unix:/run/reference.sock", "unix:/run/reference.sock", "off", "off"),
    "parity-share": ("0.25", 0.25, "1", 1.0),
    "reference-timeout-seconds": ("2.5", 2.5, "3", 3.0),
    "max-batch-windows": ("64", 64, "65", 65),
    "max-queue-windows": ("128", 128, "129", 129),
    "max-queue-ms": ("100", 100, "0", 0),
    "max-horizon": ("10", 10, "11", 11),
    "max-message-mib": ("8", 8, "9", 9),
    "drain-seconds": ("1.5", 1.5, "0", 0.0),
    "log-level": ("debug", "debug", "error", "error"),
    "log-format": ("json", "json", "text", "text"),
    "log-requests": ("all", "all", "sampled", "sampled"),
    "log-requests-share": ("0.5", 0.5, "1", 1.0),
    "otlp-endpoint": ("http://127.0.0.1:4317", "http://127.0.0.1:4317", "https://otel:4317/", "https://otel:4317/"),
    "trace-share": ("0.5", 0.5, "0", 0.0),
    "poll-seconds": ("0.5", 0.5, "0", 0.0),
    "admin": ("on", "on", "off", "off"),
    "transport": ("grpcio", "grpcio", "http2", "http2"),
    "busy-poll-us": ("200", 200, "0", 0),
    "workers": ("2", 2, "256", 256),
    "tls-certificate": ("/run/tls/tls.crt", "/run/tls/tls.crt", "other", "other"),
    "tls-key": ("/run/tls/tls.key", "/run/tls/tls.key", "other", "other"),
    "tls-client-ca": ("/run/tls/ca.crt", "/run/tls/ca.crt", "other", "other"),
    "tls-handshake-seconds": ("2.5", 2.5, "10", 10.0),
    "access": ("/run/access.json", "/run/access.json", "other", "other"),
    "plaintext-tokens": ("on", "on", "off", "off"),
    "reload-seconds": ("0", 0.0, "1.5", 1.5),
    "max-streams": ("1", 1, "100", 100),
    "max-connections-per-peer": ("0", 0, "7", 7),
    "max-connection-age-seconds": ("600", 600.0, "0", 0.0),
    "keepalive-seconds": ("0", 0.0, "30", 30.0),
}
NO_MODELS = ["--models", "m"]


def variable(option: str) -> str:
    return PREFIX + option.upper().replace("-", "_")


def value(config: Config, option: str) -> object:
    return getattr(config, option.replace("-", "_"))


def base(option: str) -> list[str]:
    return [] if option == "models" else NO_MODELS


def test_every_option_is_in_the_table() -> None:
    assert {option.replace("-", "_") for option in OPTIONS} == {field.name for field in fields(Config)}


@pytest.mark.parametrize("option", OPTIONS)
def test_by_flag(option: str) -> None:
    text, expected, _, _ = OPTIONS[option]
    assert value(parse([*base(option), f"--{option}", text], {}), option) == expected
    assert value(parse([*base(option), f"--{option}={text}"], {}), option) == expected


@pytest.mark.parametrize("option", OPTIONS)
def test_by_variable(option: str) -> None:
    text, expected, _, _ = OPTIONS[option]
    assert value(parse(base(option), {variable(option): text}), option) == expected


@pytest.mark.parametrize("option", OPTIONS)
def test_the_flag_wins(option: str) -> None:
    text, _, other_text, other = OPTIONS[option]
    assert value(parse([*base(option), f"--{option}", other_text], {variable(option): text}), option) == other


def test_defaults() -> None:
    config = parse(NO_MODELS, {})
    assert (config.grpc, config.metrics) == ("127.0.0.1:50051", "127.0.0.1:9464")
    assert (config.provider, config.reference, config.parity_share) == ("auto", "auto", 0.01)
    assert (config.tune, config.batch_invariant, config.cuda_graphs) == ("off", "off", "on")


def test_models_are_required() -> None:
    with pytest.raises(StartupError, match="--models"):
        parse([], {})


@pytest.mark.parametrize(
    ("misspelt", "meant"),
    [
        ("NEXTVALUE_MODEL", "NEXTVALUE_MODELS"),
        ("NEXTVALUE_PARITY_SHARES", "NEXTVALUE_PARITY_SHARE"),
        ("NEXTVALUE_MAX_QUEUE_WINDOW", "NEXTVALUE_MAX_QUEUE_WINDOWS"),
        ("NEXTVALUE_REFERENCE_TIMEOUT", "NEXTVALUE_REFERENCE_TIMEOUT_SECONDS"),
    ],
)
def test_a_misspelt_variable_stops_start_up(misspelt: str, meant: str) -> None:
    with pytest.raises(StartupError) as caught:
        parse(NO_MODELS, {misspelt: "1"})
    assert misspelt in str(caught.value)
    assert f"did you mean {meant}?" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_variable_like_none_is_named() -> None:
    with pytest.raises(StartupError, match=r"NEXTVALUE_XYZZY names no option$"):
        parse(NO_MODELS, {"NEXTVALUE_XYZZY": "1"})


BAD_VALUES = [
    ("grpc", "50051"),
    ("grpc", ":50051"),
    ("grpc", "host:"),
    ("grpc", "host:65536"),
    ("grpc", "host:-1"),
    ("metrics", "host:http"),
    ("metrics", "host:²"),
    ("provider", "gpu"),
    ("provider", "CPU"),
    ("tune", "on"),
    ("batch-invariant", "true"),
    ("cuda-graphs", "1"),
    ("admin", "true"),
    ("reference", "on"),
    ("reference", "unix:"),
    ("reference", "/run/reference.sock"),
    ("poll-seconds", "-1"),
    ("poll-seconds", "off"),
    ("parity-share", "1.01"),
    ("parity-share", "-0.1"),
    ("parity-share", "nan"),
    ("parity-share", "1%"),
    ("reference-timeout-seconds", "0"),
    ("reference-timeout-seconds", "inf"),
    ("max-batch-windows", "0"),
    ("max-batch-windows", "1.5"),
    ("max-batch-windows", ""),
    ("max-queue-windows", "many"),
    ("max-queue-ms", "-1"),
    ("max-horizon", "0"),
    ("max-message-mib", "2048"),
    ("drain-seconds", "-1"),
    ("log-level", "verbose"),
    ("log-format", "xml"),
    ("log-requests", "on"),
    ("log-requests-share", "2"),
    ("otlp-endpoint", "127.0.0.1:4317"),
    ("trace-share", "-1"),
    ("models", ""),
    ("workers", "0"),
    ("workers", "257"),
]


@pytest.mark.parametrize(("option", "text"), BAD_VALUES)
def test_an_unparsable_variable_names_itself_and_its_value(option: str, text: str) -> None:
    with pytest.raises(StartupError) as caught:
        parse(base(option), {variable(option): text})
    assert variable(option) in str(caught.value)
    assert (text or repr(text)) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("option", "text"), BAD_VALUES)
def test_an_unparsable_flag_names_itself_and_its_value(option: str, text: str) -> None:
    with pytest.raises(StartupError) as caught:
        parse([*base(option), f"--{option}={text}"], {})
    assert f"--{option}" in str(caught.value)
    assert (text or repr(text)) in str(caught.value)


def test_a_secret_in_an_address_is_not_repeated() -> None:
    with pytest.raises(StartupError) as caught:
        parse([*NO_MODELS, "--otlp-endpoint=http://user:s3cret@otel:4317"], {})
    assert "--otlp-endpoint" in str(caught.value)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("option", ["tls-certificate", "tls-key", "tls-client-ca", "access"])
def test_a_lock_that_is_given_empty_is_not_left_open(option: str) -> None:
    """A variable that a script forgot to set, say."""
    with pytest.raises(StartupError, match=f"--{option}: is empty; leave it out where there is no such file"):
        parse(["--models", "m", f"--{option}", ""], {})
    with pytest.raises(StartupError, match=f"{variable(option)}: is empty"):
        parse(["--models", "m"], {variable(option): " "})


def test_an_unparsable_variable_stops_start_up_even_below_a_flag() -> None:
    """It is wrong all the same, and would come into force when the flag goes."""
    with pytest.raises(StartupError, match="NEXTVALUE_PARITY_SHARE"):
        parse([*NO_MODELS, "--parity-share", "1"], {"NEXTVALUE_PARITY_SHARE": "all"})


@pytest.mark.parametrize(
    "name",
    [
        "NEXTVALUE_SERVICE_HOST",
        "NEXTVALUE_SERVICE_PORT",
        "NEXTVALUE_SERVICE_PORT_GRPC",
        "NEXTVALUE_SERVICE_PORT_HTTP_METRICS",
        "NEXTVALUE_PORT",
        "NEXTVALUE_PORT_50051_TCP",
        "NEXTVALUE_PORT_50051_TCP_ADDR",
        "NEXTVALUE_PORT_50051_TCP_PORT",
        "NEXTVALUE_PORT_50051_TCP_PROTO",
        "NEXTVALUE_METRICS_SERVICE_HOST",
        "NEXTVALUE_METRICS_SERVICE_PORT_HTTP",
        "NEXTVALUE_METRICS_PORT_9464_TCP",
        "NEXTVALUE_METRICS_PORT",
        "NEXTVALUE_FOO_SERVICE_HOST",
    ],
)
def test_service_links_are_ignored(name: str) -> None:
    assert parse(NO_MODELS, {name: "tcp://10.0.0.1:50051"}) == parse(NO_MODELS, {})


def test_no_option_is_called_like_a_service_link() -> None:
    assert not [option for option in OPTIONS if SERVICE_LINK.search(variable(option))]


def test_a_clients_token_in_the_shell_is_no_option() -> None:
    assert parse(NO_MODELS, {"NEXTVALUE_TOKEN": "x"}) == parse(NO_MODELS, {})


def test_by_default_nothing_listens_beyond_this_machine_and_no_operator_is_let_in() -> None:
    config = parse(NO_MODELS, {})
    assert [split_address(each)[0] for each in (config.grpc, config.metrics)] == ["127.0.0.1"] * 2
    assert (config.admin, config.plaintext_tokens, config.health_listen) == ("off", "off", "")


def test_variables_of_others_are_ignored() -> None:
    assert parse(NO_MODELS, {"PATH": "x", "MY_NEXTVALUE_MODEL": "y", "NEXTVALUES": "z"}) == parse(NO_MODELS, {})


@pytest.mark.parametrize("argument", ["--modles", "--parity", "--grp", "--max-batch", "-m", "stray"])
def test_unknown_and_abbreviated_flags_are_refused(argument: str) -> None:
    with pytest.raises(StartupError, match=argument.lstrip("-")) as caught:
        parse([*NO_MODELS, argument], {})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("address", "parts"),
    [("127.0.0.1:0", ("127.0.0.1", 0)), ("[::1]:9464", ("::1", 9464)), ("a.b:65535", ("a.b", 65535))],
)
def test_addresses(address: str, parts: tuple[str, int]) -> None:
    assert split_address(address) == parts
