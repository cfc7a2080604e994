"""Structured logs: one JSON object a line on stdout, which the supervisor writes to var/log and rotates.

At a terminal the same events are shown for people. Uncaught exceptions and other libraries' records come out in
the same form.
"""

from __future__ import annotations

import logging
import logging.config
import sys
from typing import Any

import structlog
from structlog.typing import EventDict

_SHARED: list[Any] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.stdlib.ExtraAdder(),
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.StackInfoRenderer(),
]
# These say each request, frame or query at INFO.
_QUIET = ("twisted", "daphne.http_protocol", "daphne.ws_protocol", "asyncio", "axes", "urllib3", "kombu", "amqp")


class ClientsFaults(logging.Filter):
    """What a request did wrong is a warning, and shows no traceback: there is no error of ours to look for.

    Django logs some refusals, say of another host's name, as errors with all their frames. Whoever can reach the port
    could fill the log with them, and hide a real one.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        is_refusal = record.name == "django.request" and getattr(record, "status_code", 500) < 500
        if is_refusal or record.name.startswith("django.security."):
            record.levelno, record.levelname = logging.WARNING, "WARNING"
            record.exc_info = record.exc_text = None
        return True


def configure(options: dict[str, Any]) -> None:
    """Set up logging for this process; `options` is settings.LOGGING (level, process)."""
    renderer: list[Any]
    if sys.stderr.isatty():
        renderer = [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
    else:
        # Without the frames' local variables, among which are passwords and connection strings.
        tracebacks = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
        renderer = [structlog.processors.ExceptionRenderer(tracebacks), structlog.processors.JSONRenderer()]
    process = options["process"]

    def add_process(_logger: Any, _method: str, event: EventDict) -> EventDict:
        event["process"] = process
        return event

    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=_SHARED,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, add_process, *renderer],
    )
    # stderr, because a command's stdout belongs to its answer (`--json` prints one document and nothing else).
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    handler.addFilter(ClientsFaults())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(options["level"])
    for name in _QUIET:
        logging.getLogger(name).setLevel("WARNING")
    logging.captureWarnings(True)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_SHARED,
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
