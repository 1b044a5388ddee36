import json
import sys
import types
from typing import Any

import pytest

from pipeline.config.problems import FamilySettings, ProblemsSection
from pipeline.config.rollout import RewardSection
from pipeline.errors import ConfigError, IsolationError
from pipeline.problems.dataset import load_problems
from pipeline.rewards import scorers
from pipeline.rewards.scorers import make_scorer, math_score
from pipeline.rewards.verifier import reward_of
from pipeline.rewards.worker import reply_to
from pipeline.types import Label, Verdict


def label(answer: str, **entry: Any) -> Label:
    return Label(problem_id="p", answer=answer, entry=entry)


@pytest.mark.parametrize(
    ("verdict", "reward"),
    [
        (Verdict(kind="scored", score=1, correct=True, answer="7"), 1.1),
        (Verdict(kind="scored", score=0.5, answer="8"), 0.1),
        (Verdict(kind="no_answer"), 0.0),
        (Verdict(kind="timeout"), 0.0),
        (Verdict(kind="error"), 0.0),
    ],
)
def test_reward_of(verdict: Verdict, reward: float) -> None:
    assert reward_of(verdict, RewardSection(format_weight=0.1)) == pytest.approx(reward)
    assert reward_of(verdict, RewardSection()) == float(verdict.correct)


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
    score = make_scorer(RewardSection())
    for task in load_problems(section, 0).train:
        assert score(f"\\boxed{{{task.label.answer}}}", task.label).correct
        wrong = score(f"\\boxed{{{int(task.label.answer) + 1}}}", task.label)
        assert (wrong.kind, wrong.correct) == ("scored", False)
        assert score("no idea", task.label) == Verdict(kind="no_answer")


def test_auto_falls_back_to_math_and_math_ignores_the_family() -> None:
    assert make_scorer(RewardSection())("\\boxed{0.5}", label("1/2")).correct
    assert make_scorer(RewardSection(scorer="math"))("\\boxed{2/4}", label("1/2", family="chain_sum")).correct


def test_auto_takes_tests_for_a_program_and_refuses_it_where_none_can_be_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scorers, "isolation_problem", lambda: "there are no walls")
    scorers._isolated.cache_clear()
    program = label("", tests="assert f(1)", entry_point="f")
    score = make_scorer(RewardSection())
    with pytest.raises(IsolationError, match="there are no walls"):
        score("def f(x): return x", program)
    reply = json.loads(reply_to("def f(x): return x", program, score))
    assert reply == {"config_error": "problem 'p' asks for a program, but there are no walls"}
    assert score("\\boxed{7}", label("7")).correct
    with pytest.raises(ConfigError, match=r"reward\.scorer = 'code': there are no walls"):
        make_scorer(RewardSection(scorer="code"))


def test_a_users_scorer_sees_the_text(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("my_reward")
    module.score = lambda text, answer: 0.6 if answer in text else float("nan")  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "my_reward", module)
    score = make_scorer(RewardSection(scorer="my_reward:score", threshold=0.5))
    assert score("it is 7", label("7")) == Verdict(kind="scored", score=0.6, correct=True, answer=None)
    reply = json.loads(reply_to("it is 8", label("7"), score))
    assert reply["verdict"] == {"kind": "error"}
    assert "finite" in reply["reason"]


@pytest.mark.parametrize(
    ("scorer", "words"),
    [
        ("exact", "use 'auto', 'math'"),
        ("no_such_module:f", "cannot import"),
        ("json:nothing", "has no function 'nothing'"),
    ],
)
def test_unknown_scorers(scorer: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make_scorer(RewardSection(scorer=scorer))
    assert f"reward.scorer = {scorer!r}" in str(caught.value)
    assert words in str(caught.value)
