"""What a probe says of reward functions that are broken, and of sound ones. In this process: those that would end or
stall it are in tests/integration/test_own_reward.py."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from pipeline.config.rollout import RewardSection
from pipeline.errors import ConfigError
from pipeline.rewards.probe import LONG, ProbeReport, answers_to, probed
from pipeline.rewards.scoring import Scoring
from pipeline.rewards.verifier import Verifier
from pipeline.types import Task, Verdict
from tests.builders import task_with
from tests.documents import ROOT, Document
from tests.own_rewards import BROKEN, SOUND, own

TASKS = [task_with(str(n), f"p{n}", f"What is {n} + 0?", {"question": "?", "answer": str(n)}) for n in (7, 12, 40)]


class InProcess:
    """The scorers of `settings` without processes."""

    def __init__(self, settings: RewardSection) -> None:
        self._scoring = Scoring(settings)
        self.hint = self._scoring.hint

        self._turn = asyncio.Lock()
        self.num_calls = 0

    async def verify_group(self, texts: list[str], task: Task) -> list[Verdict]:
        async with self._turn:
            self.num_calls += 1
            return await asyncio.to_thread(lambda: list(self._scoring.verdicts([(text, task) for text in texts])))


async def report_on(source: str, monkeypatch: pytest.MonkeyPatch, **section: Any) -> ProbeReport:
    own(source, monkeypatch)
    settings = RewardSection.model_validate({"scorer": "own_reward:f", "timeout_s": 0.05, **section})
    return await probed(cast(Verifier, InProcess(settings)), TASKS, settings)


@pytest.mark.parametrize("name", BROKEN)
async def test_a_broken_scorer_is_refused_with_what_is_wrong(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    source, words = BROKEN[name]
    try:
        found = (await report_on(source, monkeypatch)).error
    except ConfigError as error:
        found = str(error)
    assert words in found


@pytest.mark.parametrize("name", SOUND)
async def test_a_sound_scorer_passes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    report = await report_on(SOUND[name], monkeypatch, timeout_s=5.0, threshold=-100)
    assert (report.error, report.doubts) == ("", [])
    assert [one.task for one in report.probed] == TASKS
    assert set(report.probed[0].verdicts) >= {"gold", "wrong", "empty", "long", "unformatted"}


async def test_the_example_of_the_readme_is_sound(monkeypatch: pytest.MonkeyPatch) -> None:
    (source,) = (block for language, block in Document.read(ROOT / "README.md").blocks if language == "python")
    report = await report_on(source, monkeypatch, scorer="own_reward:reward", threshold=0.5)
    assert (report.error, report.doubts) == ("", [])
    assert "wrong -0.1 'wrong', empty -0.1 'wrong'" in str(report.probed[0])


async def test_what_it_returned_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    report = await report_on(SOUND["with words"], monkeypatch)
    assert str(report.probed[0]) == (
        "p7 (What is 7 + 0?): gold 1 'right', wrong 0 'wrong', empty 0 'wrong', long 0 'wrong', unformatted 1 'right'"
    )


async def test_a_constant_component_and_a_threshold_out_of_reach_are_doubts(monkeypatch: pytest.MonkeyPatch) -> None:
    scorers = ["own_reward:f", {"scorer": "own_reward:constant", "weight": 0.5}]
    source = f"{SOUND['a lambda']}\ndef constant(response): return 2"
    assert (await report_on(source, monkeypatch, scorers=scorers)).doubts == [
        "the component constant was 2 for every answer"
    ]
    (doubt,) = (await report_on(SOUND["graded"], monkeypatch)).doubts
    assert "less than reward.threshold = 0.999, so accuracy will read 0" in doubt


def test_the_answers_are_of_their_kinds() -> None:
    answers = answers_to(TASKS[0])
    assert "\\boxed{7}" in answers["gold"] and "\\boxed{8}" in answers["wrong"]
    assert answers["empty"] == "" and answers["long"] == LONG and "boxed" not in answers["unformatted"]
    assert "\\boxed{London}" in answers_to(task_with("Paris"), "London")["wrong"]
    assert "gold" not in answers_to(task_with("", tests="assert f()", entry_point="f"))


async def test_without_a_gold_answer_the_same_for_all_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    own("def f(response, task): return 0.0", monkeypatch)
    settings = RewardSection(scorer="own_reward:f")
    report = await probed(cast(Verifier, InProcess(settings)), [task_with("", tests="assert f()")], settings)
    assert report.error == ""


@pytest.mark.parametrize(
    "source",
    [
        "def f(response, task): return float(len(task.question + task.answer))",
        "def f(completions, answer, **kw): return [float(a) for a in answer]",
        "async def f(response, answer): return -float(answer)",
    ],
)
async def test_a_scorer_of_the_problem_alone_is_refused(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    error = (await report_on(source, monkeypatch)).error
    assert "it gave every answer to a problem the same, right, wrong, empty and long alike" in error
    assert "it looks at the problem alone" in error
    assert error.count("to those of p") == 3


async def test_differences_that_the_learner_does_not_get_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    error = (await report_on("def f(response, answer): return 0.5 + 1e-12 * len(response)", monkeypatch)).error
    assert "it gave 0.5 to every answer" in error


@pytest.mark.parametrize(
    ("source", "doubt"),
    [
        ("def f(response, answer): return 0.5", "the component f was 0.5 for every answer"),
        ("def f(response, answer): return float(answer)", "the component f was the same for all answers to a problem"),
        ("def f(response, answer): return float(f'<answer>{answer}<' in response)", ""),
    ],
)
async def test_a_constant_component_is_a_doubt_with_one_scorer_too(
    source: str, doubt: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = await report_on(source, monkeypatch, format_weight=0.25, threshold=-1)
    assert report.error == ""
    assert [one[: len(doubt)] for one in report.doubts] == ([doubt] if doubt else [])


@pytest.mark.parametrize("name", ["messages as a text", "messages as texts"])
async def test_the_hint_is_given_once(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (await report_on(BROKEN[name][0], monkeypatch)).error.count("to be given texts") == 1


async def test_answers_to_a_problem_are_asked_together_and_a_late_scorer_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, num_calls in (("graded", 4), ("over lists", 4), ("raises, with its line", 4), ("async and late", 1)):
        own({**SOUND, **{name: source for name, (source, _) in BROKEN.items()}}[name], monkeypatch)
        settings = RewardSection(scorer="own_reward:f", timeout_s=0.05 if num_calls == 1 else 5.0)
        verifier = InProcess(settings)
        report = await probed(cast(Verifier, verifier), TASKS, settings)
        assert verifier.num_calls <= num_calls
        if "raises" in name:
            assert "(and for 4 of 4 other answers)" in report.error
