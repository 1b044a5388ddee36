"""What a run remembers from session to session: its evaluations, its totals, where it was forked from (`state.json`).

Invariants: the file is replaced as a whole; a run that was made under former names is read under today's."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.run.folder import RunFolder
from pipeline.runtime.files import write_atomic

BASE_MODEL, AFTER_SFT, AFTER_RL = "base model", "after SFT", "after RL"
"""The run's own evaluations; those beside training are called `step <number>`."""
FORMER_KEYS = {"sittings": "sessions"}
FORMER_EVALS = {"untouched": BASE_MODEL}


class RunState:
    """`values` is what `state.json` holds, `evals` in it the report of each evaluation by its name."""

    def __init__(self, run: RunFolder) -> None:
        self._file = run.state_file
        stored = json.loads(self._file.read_text(encoding="utf-8")) if self._file.exists() else {}
        self.values: dict[str, Any] = {"evals": {}, "sessions": 0, **under_todays_names(stored)}

    @property
    def evals(self) -> dict[str, dict[str, Any]]:
        evals: dict[str, dict[str, Any]] = self.values["evals"]
        return evals

    @property
    def skills(self) -> dict[str, dict[str, Any]]:
        """The report of each probe, by the name of the evaluation beside it."""
        skills: dict[str, dict[str, Any]] = self.values.setdefault("skills", {})
        return skills

    def add_to_totals(self, **numbers: Any) -> None:
        """Add to the sums over all sessions: numbers, or tables of them."""
        totals = self.values.setdefault("totals", {})
        for name, value in numbers.items():
            totals[name] = _sum(totals.get(name), value)

    def set_total(self, name: str, value: Any) -> None:
        """Note the newest value of what is no sum."""
        self.values.setdefault("totals", {})[name] = value

    def save(self) -> None:
        """Raises DiskError; the former file is then still there."""
        write_atomic(self._file, json.dumps(self.values, indent=1))


def under_todays_names(stored: dict[str, Any]) -> dict[str, Any]:
    """The content of a `state.json` with former names replaced. Pure."""
    # What has both names was touched by older code since: today's counts.
    values = {today: stored[former] for former, today in FORMER_KEYS.items() if former in stored}
    values |= {key: value for key, value in stored.items() if key not in FORMER_KEYS}
    if evals := values.get("evals"):
        former = {today: {**evals[name], "name": today} for name, today in FORMER_EVALS.items() if name in evals}
        values["evals"] = former | {name: report for name, report in evals.items() if name not in FORMER_EVALS}
    return values


def of_problems(report: Mapping[str, Any]) -> str:
    """How many problems the accuracy of an evaluation's report is of, and how many had no answer: '512 held-out
    problems', or '341 answered of 512 held-out problems (171 without an answer are not counted: timeout 171)'."""
    problems, unanswered = f"{report['num_problems']} held-out problems", report.get("unanswered")
    if not unanswered:  # nor has a report of an older run any: there they count as wrong
        return problems
    num, kinds = sum(unanswered.values()), ", ".join(f"{kind} {num}" for kind, num in sorted(unanswered.items()))
    return f"{report['num_problems'] - num} answered of {problems} ({num} without an answer are not counted: {kinds})"


def shown_reward(mean_reward: float | None, accuracy: float) -> str:
    """'mean reward 0.412, ' for a line on an evaluation; empty where accuracy says the same, or an older run kept
    none."""
    return "" if mean_reward is None or abs(mean_reward - accuracy) < 5e-4 else f"mean reward {mean_reward:.3f}, "


def answers_file(evals: Path, name: str) -> Path:
    """The file in the folder `evals` of a run that has, or is to have, the answers of the evaluation `name`."""
    for former, today in FORMER_EVALS.items():
        if today == name and (file := _file_of(evals, former)).exists() and not _file_of(evals, today).exists():
            return file
    return _file_of(evals, name)


def skills_file(evals: Path, name: str) -> Path:
    """The file that is to have the answers of the probe beside the evaluation `name`."""
    return evals / f"{name.replace(' ', '_')}_skills.jsonl"


def _file_of(evals: Path, name: str) -> Path:
    return evals / f"{name.replace(' ', '_')}.jsonl"


def _sum(old: Any, new: Any) -> Any:
    """Sum of two numbers or nested tables of numbers; either may be missing."""
    if isinstance(new, dict):
        old = old or {}
        return {key: _sum(old.get(key), new.get(key, 0)) for key in {**old, **new}} if old else new
    if isinstance(old, dict):
        return old
    return (old or 0) + (new or 0)
