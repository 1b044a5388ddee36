"""What is logged, in which form, and that no key is."""

from __future__ import annotations

import base64
import io
import json
import logging
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from pipeline.config import Config
from pipeline.config.endpoints import EndpointSettings, RequestsSection
from pipeline.config.operations import OperationsSection
from pipeline.errors import RetryableEndpointError
from pipeline.inference.endpoint import Endpoint
from pipeline.inference.telemetry import request_fields
from pipeline.observability import logs
from pipeline.observability.secrets import secrets_of
from pipeline.runtime.redaction import redact

KEY = "canary-7f3a91c0d2"
AWKWARD = [
    KEY,
    'quo"te-12345',
    "back\\slash-1",
    "per%cent/slash+1",
    "ümläut-schlüssel",
    'it\'s "both"-1',
    "two words",
    "0000",
]


pytestmark = pytest.mark.usefixtures("logging_as_before")


def settings(**values: Any) -> OperationsSection:
    return OperationsSection.model_validate(values)


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


# Redaction


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Authorization: Bearer abc.def-1", "Authorization: Bearer ***"),
        ("{'Authorization': 'Bearer abc'}", "{'Authorization': 'Bearer ***'}"),
        ('{"h": "bearer abc", "n": 1}', '{"h": "bearer ***", "n": 1}'),
        ("curl -H Authorization:Bearer%20abc", "curl -H Authorization:Bearer%20***"),
        ("key sk-proj-abcDEF123_4.", "key ***."),
        ("token hf_abcdefGHIJ0123456789", "token ***"),
    ],
)
def test_what_is_shaped_like_a_key_is_masked(text: str, expected: str) -> None:
    assert redact(text) == expected


@pytest.mark.parametrize(
    "text", ["hf_transfer", "task-123456789", "risk-adjusted", "l0-s000012", "Bearer", "disk-space-low"]
)
def test_what_only_resembles_a_key_stays(text: str) -> None:
    assert redact(text) == text


@pytest.mark.parametrize("key", AWKWARD)
def test_a_key_is_found_in_every_notation(key: str) -> None:
    for text in (
        key,
        f"x{key}y" if len(key) >= 8 else f"x {key} y",
        json.dumps(key),
        json.dumps([repr(key)]),
        f"{[key]}",
    ):
        found = redact(text, (key,))
        assert key not in found
        assert "***" in found


def test_a_key_that_begins_with_another_leaves_nothing_behind() -> None:
    assert redact("abcdefghij abcdefgh", ("abcdefgh", "abcdefghij")) == "*** ***"


def test_short_keys_do_not_blank_out_other_text() -> None:
    assert redact('{"server.port": 8000, "n": 12, "s": "EMPTY"}', ("1", "80", "EMPTY")) == (
        '{"server.port": 8000, "n": 12, "s": "***"}'
    )
    assert redact("EMPTYING", ("EMPTY",)) == "EMPTYING"


def test_the_keys_of_a_configuration_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_KEY", "first-key")
    monkeypatch.setenv("B_KEY", "second-key")
    monkeypatch.delenv("UNSET_KEY", raising=False)
    config = Config.model_validate(
        {
            "endpoints": [
                {"url": "http://a:1", "api_key_env": "A_KEY"},
                {"url": "http://user:pass%20word@b:1", "api_key_env": "UNSET_KEY"},
            ],
            "abstraction": {"endpoint": {"url": "http://c:1", "api_key_env": "B_KEY"}},
        }
    )
    assert secrets_of(config) == ("first-key", "pass word", "second-key")
    assert secrets_of(Config()) == ()


# Levels


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        ("debug", ["ours debug", "ours info", "ours warning", "theirs debug", "theirs info", "theirs warning"]),
        ("info", ["ours info", "ours warning", "theirs warning"]),
        ("warning", ["ours warning", "theirs warning"]),
        ("error", []),
    ],
)
def test_the_level_is_ours_and_others_are_quiet_unless_debugging(
    tmp_path: Path, level: str, expected: list[str]
) -> None:
    logs.configure(tmp_path / "log", settings(log_level=level, log_format="json"), ())
    for name, logger in (("ours", logging.getLogger("pipeline.x")), ("theirs", logging.getLogger("aiohttp.client"))):
        for at in ("debug", "info", "warning"):
            getattr(logger, at)("%s %s", name, at)
    assert [line["message"] for line in lines(tmp_path / "log")] == expected


def test_without_a_file_only_warnings_reach_the_screen(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(None, settings(), (KEY,))
    logging.getLogger("pipeline.observability.live_view").info("the view has said this")
    logging.getLogger("pipeline.x").warning("look: %s", KEY)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.endswith("WARNING pipeline.x: look: ***\n")
    assert "view" not in err


def test_configuring_again_moves_on_to_the_new_file(tmp_path: Path) -> None:
    for name in ("first", "second"):
        logs.configure(tmp_path / name, settings(), ())
        logging.getLogger("pipeline.x").info("to the %s", name)
    assert "to the second" not in (tmp_path / "first").read_text()
    assert (tmp_path / "second").read_text().endswith("INFO pipeline.x: to the second\n")


# Form


def test_a_json_line_has_the_fields_and_names_that_are_expected(tmp_path: Path) -> None:
    logs.configure(tmp_path / "log", settings(log_format="json"), ())
    endpoint = Endpoint(EndpointSettings(url="http://somewhere:8000/v1"), "policy", RequestsSection())
    error = RetryableEndpointError("http_503", "busy")
    logging.getLogger("pipeline.x").warning(
        "failed: %s", error, extra=request_fields(endpoint, "rollout", "ab12-0", error)
    )
    (line,) = lines(tmp_path / "log")
    time = datetime.fromisoformat(line.pop("time"))
    assert time.tzinfo == UTC
    assert abs((datetime.now(UTC) - time).total_seconds()) < 60
    assert line == {
        "level": "WARNING",
        "logger": "pipeline.x",
        "message": "failed: busy",
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "policy",
        "server.address": "somewhere",
        "server.port": 8000,
        "error.type": "http_503",
        "http.response.status_code": 503,
        "lanpo.stage": "rollout",
        "lanpo.request.id": "ab12-0",
    }


def test_the_names_are_those_of_the_conventions() -> None:
    gen_ai = pytest.importorskip("opentelemetry.semconv._incubating.attributes.gen_ai_attributes")
    stable = [
        pytest.importorskip(f"opentelemetry.semconv.attributes.{name}_attributes")
        for name in ("server", "http", "error", "exception")
    ]
    known = {value for module in (gen_ai, *stable) for value in vars(module).values() if isinstance(value, str)}
    endpoint = Endpoint(EndpointSettings(url="https://somewhere"), "policy", RequestsSection())
    fields = request_fields(endpoint, "eval", "a-0", RetryableEndpointError("http_500", ""))
    assert fields["server.port"] == 443
    assert {name for name in fields if not name.startswith("lanpo.")} | {"exception.stacktrace"} <= known
    assert gen_ai.GenAiOperationNameValues(fields["gen_ai.operation.name"]) is gen_ai.GenAiOperationNameValues.CHAT


# Nothing of a key gets out


class Opaque:
    """What JSON has no notation for is logged as its text."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __str__(self) -> str:
        return repr({"Authorization": self._text})


def log_everywhere(key: str) -> None:
    """A record for every way into a log."""
    for logger in map(logging.getLogger, ("pipeline.x", "aiohttp.client", "httpx", "openai._base_client", "asyncio")):
        logger.warning(f"in the message {key}")
        logger.debug("in the arguments %s %r %s", key, {"k": [key]}, Opaque(key))
        logger.error("in the extras", extra={"text": key, "nested": {"deep": [key, {key: key}]}, "opaque": Opaque(key)})
        try:
            try:
                raise ValueError(key)
            except ValueError as error:
                raise RuntimeError(f"because of {key}") from error
        except RuntimeError:
            logger.exception("in the traceback")
        logger.warning("in a stack", stack_info=True, extra={"why": key.encode()})


@pytest.mark.parametrize("log_format", ["text", "json"])
@pytest.mark.parametrize("key", AWKWARD)
def test_no_way_into_the_log_lets_a_key_through(tmp_path: Path, key: str, log_format: str) -> None:
    logs.configure(tmp_path / "log", settings(log_format=log_format, log_level="debug"), (key,))
    log_everywhere(key)
    text = (tmp_path / "log").read_text(encoding="utf-8")
    assert text.count("in the traceback") == 5
    assert text.count("because of ***") == 5
    assert key not in text
    if log_format == "json":
        for line in lines(tmp_path / "log"):
            assert key not in f"{line}"
            assert key not in "".join(map(str, line.values()))
            assert base64.b64encode(key.encode()).decode() not in f"{line}"


def test_without_redaction_the_same_records_hold_the_key(tmp_path: Path) -> None:
    """The test above can fail."""
    logs.configure(tmp_path / "log", settings(log_format="json", log_level="debug"), ())
    log_everywhere(KEY)
    assert (tmp_path / "log").read_text(encoding="utf-8").count(KEY) >= 5 * 10


def test_a_handler_that_was_there_before_is_redacted_too(tmp_path: Path) -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(name)s said %(message)s"))
    logging.getLogger().addHandler(handler)
    for _ in range(2):
        logs.configure(tmp_path / "log", settings(), (KEY,))
    logging.getLogger("openai").error("key %s", KEY)
    assert stream.getvalue() == "openai said key ***\n"


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_a_record_that_cannot_be_written_shows_nothing_of_itself(
    tmp_path: Path, log_format: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python prints message and arguments of such a record to standard error."""
    monkeypatch.setattr(logging, "raiseExceptions", True)
    logs.configure(tmp_path / "log", settings(log_format=log_format), (KEY,))
    root = logging.getLogger()
    for other in [handler for handler in root.handlers if not isinstance(handler, logs._Ours)]:
        monkeypatch.setattr(other, "handleError", lambda record: None)
    for _ in range(3):
        root.error("%d of them", KEY)
    assert capsys.readouterr().err == "a log record could not be written: TypeError\n"
