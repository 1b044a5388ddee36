"""Configures logging: where records go, in which form, with keys masked.

One handler, at the root, so that what libraries log on the loop of a run is kept and redacted too: from them warnings
and up, or everything at the level 'debug'. Fields of JSON lines: `time` (ISO 8601, UTC), `level`, `logger`, `message`,
and the `extra` of a record under its own names (`pipeline.inference.telemetry.request_fields`)."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

from pipeline.config.operations import OperationsSection
from pipeline.runtime.redaction import redact

PACKAGES = ("pipeline", "prompts", "servers")
TEXT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class Redacting(logging.Formatter):
    """What `inner` makes of a record, its traceback included, redacted."""

    def __init__(self, inner: logging.Formatter, secrets: tuple[str, ...]) -> None:
        super().__init__()
        self.inner = inner
        self.secrets = secrets

    def format(self, record: logging.LogRecord) -> str:
        return redact(self.inner.format(record), self.secrets)


class _Ours(logging.StreamHandler):
    """A handler that `configure` put there."""

    _failed = False

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Say once that nothing can be written. Python's own way prints the record as well, keys included."""
        if not self._failed:
            self._failed = True
            print(f"a log record could not be written: {type(sys.exc_info()[1]).__name__}", file=sys.stderr)


class _OursToFile(_Ours, logging.FileHandler):
    """The same, to a file."""


def configure(file: Path | None, settings: OperationsSection, secrets: Iterable[str]) -> None:
    """Log to `file` from now on, at the level and in the format of `settings`, without any of `secrets`.

    Without a file: to standard error, and there warnings and up unless the level is 'debug', because what the view says
    is on the screen already. May be called again. Raises OSError when the file cannot be opened."""
    hidden = tuple(secrets)
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    of_others = level if level == logging.DEBUG else max(level, logging.WARNING)
    handler = _OursToFile(file, encoding="utf-8") if file else _Ours(sys.stderr)
    handler.setLevel(logging.NOTSET if file else of_others)
    handler.setFormatter(Redacting(_json() if settings.log_format == "json" else logging.Formatter(TEXT), hidden))
    root = logging.getLogger()
    for other in list(root.handlers):
        if isinstance(other, _Ours):
            root.removeHandler(other)
            other.close()
        else:
            inner = other.formatter.inner if isinstance(other.formatter, Redacting) else other.formatter
            other.setFormatter(Redacting(inner or logging.Formatter(), hidden))
    root.addHandler(handler)
    root.setLevel(of_others)
    for package in PACKAGES:
        logging.getLogger(package).setLevel(level)


def _json() -> logging.Formatter:
    from pythonjsonlogger.json import JsonFormatter

    return JsonFormatter(
        ("levelname", "name", "message"),
        timestamp="time",
        rename_fields={"levelname": "level", "name": "logger", "exc_info": "exception.stacktrace"},
        json_ensure_ascii=False,
        json_default=_plain,
    )


def _plain(value: object) -> str:
    """What JSON has no notation for, as text that a key can be found in: the library's own way makes base64 of
    bytes."""
    return value.isoformat() if isinstance(value, datetime) else str(value)
