"""Who watches, as the options say."""

from importlib.util import find_spec

from server.config import Config
from server.errors import StartupError
from server.watch.lines import RequestLines
from server.watch.watch import Watch, Watcher


def chosen_watch(config: Config) -> Watch | None:
    """None where nobody watches. Raises StartupError if traces are asked for and the extra `otel` is not installed."""
    watchers: list[Watcher] = []
    if config.otlp_endpoint:
        if find_spec("opentelemetry") is None:
            raise StartupError(
                f"otlp-endpoint is {config.otlp_endpoint!r}; opentelemetry is not installed (nextvalue[otel])"
            )
        from server.watch.traces import Traces, otlp  # noqa: PLC0415 (an extra, and a tenth of a second)

        # First: a line has the number of its trace.
        watchers.append(Traces(otlp(config.otlp_endpoint), share=config.trace_share))
    if config.log_requests != "off":
        watchers.append(RequestLines(1 if config.log_requests == "all" else config.log_requests_share))
    return Watch(watchers) if watchers else None
