"""The shape that measuring scripts share: small forms, peers, tables, goals and exit statuses."""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.script import NOT_COUNTED, Benchmark, Goal, Peer, Row, headroom

ROWS: list[Row] = [{"a": 1.5, "b": "x"}, {"a": 2, "b": None}, {"c": 12345.6}]


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10, 20])


def script(**more: Any) -> Benchmark:
    return Benchmark("/somewhere/benchmarks/thing.py", "Measures.", add_options, lambda options: ROWS, **more)


def test_the_small_form_sets_sizes_where_the_command_line_does_not() -> None:
    thing = script(small={"rounds": 1, "sizes": [2]})
    assert (thing.options([]).rounds, thing.options([]).sizes) == (5, [10, 20])
    options = thing.options(["--rounds", "3", "--small"])
    assert (options.rounds, options.sizes) == (3, [2])


def test_unknown_options_are_refused_unless_they_are_for_another_command() -> None:
    with pytest.raises(SystemExit):
        script(small={}).options(["--learner.lr", "1"])
    assert script(small={}, passes_on=True).options(["--learner.lr", "1"]).more == ["--learner.lr", "1"]


def test_rows_of_the_same_columns_share_a_table(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out = tmp_path / "rows.json"
    assert script(small={}).main(["--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(f"`python -m benchmarks.thing --out {out}` · ")
    assert "\n| a | b |\n|---|---|\n| 1.5 | x |\n| 2 | - |\n\n| c |\n|---|\n| 12,346 |\n" in printed
    assert json.loads(out.read_text()) == ROWS


def test_a_goal_is_for_the_worst_row_and_none_is_missed_where_nothing_was_measured() -> None:
    assert str(Goal.of(ROWS, "a", least=2)) == "goal: a ≥ 2: 1.5 MISSED"
    assert str(Goal.of(ROWS, "a", most=2)) == "goal: a ≤ 2: 2 reached"
    assert str(Goal.of(ROWS, "other", most=2)) == "goal: other ≤ 2: - not measured"
    assert [Goal.of(ROWS, name, least=3).is_missed for name in ("a", "c", "other")] == [True, False, False]


@pytest.mark.parametrize(
    ("goals", "status"),
    [
        ([Goal.of(ROWS, "a", most=2)], 0),
        ([Goal.of(ROWS, "a", most=2), Goal.of(ROWS, "a", least=3)], 1),
        ([Goal.of(ROWS, "a", most=1), headroom(ROWS, "a")], NOT_COUNTED),
    ],
)
def test_the_exit_status_judges_all_but_the_small_form(goals: list[Goal], status: int) -> None:
    thing = script(small={}, goals=lambda rows: goals)
    assert thing.main([]) == status
    assert thing.main(["--small"]) == 0


def test_a_missing_peer_is_an_error_but_for_the_small_form(capsys: pytest.CaptureFixture[str]) -> None:
    peer = Peer("stopwatch", lambda: False, "buy one")
    thing = script(small={}, peers=[peer])
    assert thing.main([]) == 2
    assert capsys.readouterr().err == "error: stopwatch is not installed; buy one\n"
    optional = dataclasses.replace(thing, peers=[peer._replace(is_optional=True)])
    for each, arguments in ((thing, ["--small"]), (optional, [])):
        assert each.main(arguments) == 0
        assert "skipped: stopwatch is not installed (buy one)" in capsys.readouterr().out
    assert thing.options([]).missing == {"stopwatch"}
    there = dataclasses.replace(thing, peers=[peer._replace(is_installed=lambda: True)])
    assert there.main([]) == 0 and not there.options([]).missing
