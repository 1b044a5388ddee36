from typing import Any

import pytest

from pipeline.config.problems import FamilySettings, ProblemsSection
from pipeline.config.rollout import RewardSection
from pipeline.errors import ConfigError, IsolationError
from pipeline.problems.dataset import load_problems
from pipeline.rewards import scorers
from pipeline.rewards.scorers import make_scorer, math_score
from pipeline.rewards.scoring import Scoring, judged
from pipeline.rewards.verifier import last_lines, rewards_of
from pipeline.types import Label, Verdict


def label(answer: str, **entry: Any) -> Label:
    return Label(problem_id="p", answer=answer, entry=entry)


AUTO = make_scorer("auto", RewardSection())


@pytest.mark.parametrize(
    ("verdicts", "rewards"),
    [
        ([Verdict(kind="scored", score=1.5), Verdict(kind="scored", score=-0.25)], [1.5, -0.25]),
        ([Verdict(kind="scored", score=1.0), Verdict(kind="no_answer"), Verdict(kind="timeout")], [1.0, 0.0, 0.0]),
        # To bring the scorer down pays no more than the worst that it judged.
        ([Verdict(kind="scored", score=-2.0), Verdict(kind="scored", score=3.0), Verdict(kind="error")], [-2, 3, -2]),
        ([Verdict(kind="scored", score=0.5), Verdict(kind="scored", score=0.7), Verdict(kind="error")], [0.5, 0.7, 0]),
        ([Verdict(kind="error"), Verdict(kind="timeout")], [0.0, 0.0]),
    ],
)
def test_rewards_are_the_scores_and_a_failure_never_pays(verdicts: list[Verdict], rewards: list[float]) -> None:
    assert rewards_of(verdicts) == rewards


@pytest.mark.parametrize(
    ("gold", "answer", "score"),
    [
        ("72", "72", 1),
        ("72", "72.0", 1),
        ("1072", "1,072", 1),
        ("72", "27", 0),
        ("\\frac{1}{2}", "0.5", 1),
        ("x+1", "1 + x", 1),
        ("Paris", "paris", 1),
        ("Paris", "London", 0),
        ("7", "\\frac{1}{", 0),
        ("7", "}{}{", 0),
    ],
)
def test_math_is_equivalence(gold: str, answer: str, score: float) -> None:
    assert math_score(answer, label(gold)) == score


def test_auto_uses_the_familys_own_scorer() -> None:
    section = ProblemsSection(
        families=(FamilySettings(name="count_primes"), FamilySettings(name="chain_sum")), num_train=20, num_heldout=2
    )
    for task in load_problems(section, 0).train:
        assert AUTO(f"\\boxed{{{task.label.answer}}}", task.label).correct
        wrong = AUTO(f"\\boxed{{{int(task.label.answer) + 1}}}", task.label)
        assert (wrong.kind, wrong.correct) == ("scored", False)
        assert AUTO("no idea", task.label) == Verdict(kind="no_answer")


def test_auto_falls_back_to_math_and_math_ignores_the_family() -> None:
    assert AUTO("\\boxed{0.5}", label("1/2")).correct
    assert make_scorer("math", RewardSection())("\\boxed{2/4}", label("1/2", family="chain_sum")).correct


def test_auto_takes_tests_for_a_program_and_refuses_it_where_none_can_be_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scorers, "isolation_problem", lambda packages: "there are no walls")
    scorers._isolated.cache_clear()
    program = label("", tests="assert f(1)", entry_point="f")
    with pytest.raises(IsolationError, match="there are no walls"):
        judged(lambda: AUTO("def f(x): return x", program))
    assert AUTO("\\boxed{7}", label("7")).correct
    with pytest.raises(ConfigError, match=r"reward\.scorer = 'code': there are no walls"):
        Scoring(RewardSection(scorer="code"))


@pytest.mark.parametrize(
    ("log", "said"),
    [
        ("", ""),
        ("one\ntwo", "one\ntwo"),
        ('Traceback (most recent call last):\n  File "a.py", line 1, in f\n    g()\nOSError: no', "OSError: no"),
        ("x" * 299 + "\n" + "the end", "the end"),
        ("y" * 400, "y" * 300 + "…"),
    ],
)
def test_the_end_of_a_log_is_whole_lines(log: str, said: str) -> None:
    assert last_lines(log) == said


@pytest.mark.parametrize(
    ("scorer", "words"),
    [
        ("exact", "use 'auto', 'math'"),
        ("no_such_module:f", "cannot import"),
        ("json:nothing", "has no function 'nothing'"),
        ("./m1.py:reward", "write 'm1:reward', and run from the folder"),
        ("/home/me/m1.py:reward", "write 'm1:reward', and run from the folder"),
        ("rewards/m1:reward", "write 'm1:reward'"),
        ("..m1:reward", "write 'm1:reward'"),
        ("m1..m2:reward", "is no module's name"),
        ("no_such_m1.py:reward", "write 'no_such_m1:reward', without .py"),
    ],
)
def test_unknown_scorers(scorer: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Scoring(RewardSection(scorer=scorer))
    assert f"reward.scorer = {scorer!r}" in str(caught.value)
    assert words in str(caught.value)
