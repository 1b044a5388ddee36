"""What of a failed server's log is shown."""

from __future__ import annotations

from pathlib import Path

from servers.supervisor import error_lines


def test_the_cause_is_shown_and_not_the_lines_that_point_at_it(tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    log.write_text("ValueError: of an earlier life\n")
    offset = log.stat().st_size
    noise = "".join(f"(Worker pid=7) INFO 11-23 07:49:01 [a.py:9] line {number}\n" for number in range(50))
    cause = "(EngineCore pid=7) ERROR 11-23 07:49:03 [core.py:54] torch.OutOfMemoryError: no memory\n"
    with log.open("a") as file:
        file.write("=== command\n" + noise + 2 * cause + noise + "RuntimeError: Engine core initialization failed.\n")
    assert error_lines(log, offset).splitlines() == [
        "torch.OutOfMemoryError: no memory",
        "RuntimeError: Engine core initialization failed.",
    ]


def test_without_an_error_the_last_lines_are_shown(tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    log.write_text("=== command\n" + "".join(f"line {number}\n" for number in range(20)))
    assert error_lines(log, 0).splitlines() == [f"line {number}" for number in range(12, 20)]


def test_a_refused_argument_is_an_error_line(tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    log.write_text("=== command\nusage: …\napi_server.py: error: unrecognized arguments: --nonsense\n")
    assert error_lines(log, 0) == "api_server.py: error: unrecognized arguments: --nonsense"
