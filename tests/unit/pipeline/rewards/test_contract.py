"""Reward functions of users: which kinds are recognised, what they are called with, what they may return."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from pipeline.commands.parser import build_parser
from pipeline.commands.setting_options import settings_given
from pipeline.config.loading import validated
from pipeline.config.rollout import RewardSection
from pipeline.errors import ConfigError
from pipeline.problems.tasks import with_all_columns
from pipeline.rewards.contract import FunctionScore, RewardTask, UserFunction, score_of
from pipeline.rewards.scoring import Scoring, combined
from pipeline.types import Verdict
from tests.builders import task_with
from tests.own_rewards import own

TASK = task_with("7", text="What is 3 + 4?", row={"question": "What is 3 + 4?", "answer": "We add. #### 7", "level": 3})
MESSAGE = [{"role": "assistant", "content": "It is 7."}]
PROMPT = [{"role": "user", "content": "What is 3 + 4?"}]


def called(function: Callable[..., Any], texts: tuple[str, ...] = ("It is 7.",)) -> Any:
    return UserFunction(function, "my_module:reward").call(texts, RewardTask.of(TASK))


def seen_by(source: str) -> Any:
    """What the function with this head was given, by the names of its parameters."""
    names: dict[str, Any] = {}
    exec(f"{source}:\n    return dict(locals())", names)
    return called(names["f"])


@pytest.mark.parametrize(
    ("head", "given"),
    [
        ("def f(response, answer)", {"response": "It is 7.", "answer": "7"}),
        ("def f(text, gold)", {"text": "It is 7.", "gold": "7"}),
        ("def f(gold, text)", {"text": "It is 7.", "gold": "7"}),
        ("def f(x, ground_truth, /)", {"x": "It is 7.", "ground_truth": "7"}),
        ("def f(x, *, gold_answer, scale=2.0)", {"x": "It is 7.", "gold_answer": "7", "scale": 2.0}),
        ("def f(output)", {"output": "It is 7."}),
        ("def f(prompt, output)", {"prompt": "What is 3 + 4?", "output": "It is 7."}),
        ("def f(output=None, answer=None)", {"output": "It is 7.", "answer": "7"}),
        # As of verifiers: columns as they stand in the file.
        ("def f(completion, answer)", {"completion": MESSAGE, "answer": "We add. #### 7"}),
        ("def f(prompt, completion, info, level)", {"prompt": PROMPT, "completion": MESSAGE, "info": {}, "level": 3}),
        ("def f(completion: str, prompt)", {"completion": "It is 7.", "prompt": PROMPT}),
        ("def f(completion: 'Messages | str')", {"completion": MESSAGE}),
        # As of TRL.
        ("def f(completions, answer)", {"completions": [MESSAGE], "answer": ["We add. #### 7"]}),
        (
            "def f(prompts, completions: list[str], level)",
            {"prompts": [PROMPT], "completions": ["It is 7."], "level": [3]},
        ),
        ("def f(completions: list[list[dict[str, str]]])", {"completions": [MESSAGE]}),
    ],
)  # fmt: skip
def test_a_function_is_given_what_its_parameters_name(head: str, given: dict[str, Any]) -> None:
    assert seen_by(head) == given


def test_a_task_tells_of_its_problem() -> None:
    def reward(response: str, task: RewardTask) -> tuple[float, str]:
        return float(task["level"]), f"{task.id} {task.prompt} {task.question} {task.answer} {task.get('nothing', '-')}"

    assert score_of(called(reward)) == FunctionScore(3.0, "p What is 3 + 4? What is 3 + 4? 7 -")


@pytest.mark.parametrize(
    ("head", "names"),
    [
        ("def f(completion, ground_truth, gold, question, info)", ("ground_truth", "gold", "question", "info")),
        ("def f(state, gold_answer, prompt)", ("gold_answer",)),
        ("def f(completions, ground_truth, gold, question, task)", ("ground_truth", "gold", "question")),
        ("def f(completions, **columns)", ()),
    ],
)
def test_the_names_of_the_gold_answer_are_known_to_every_kind(head: str, names: tuple[str, ...]) -> None:
    given = seen_by(head)
    known = {"question": "What is 3 + 4?", "info": {}}
    for name in names:
        value = known.get(name, "7")
        assert given[name] == ([value] if "completions" in given else value)
    if "columns" in given:
        assert given["columns"]["ground_truth"] == ["7"]


NESTED = {"steps": [{"n": 1}, {"n": 2}], "level": 3}
TAKES = [
    "def f(response, task): steps = task['steps']",
    "async def f(response, task): steps = task.columns['steps']",
    "def f(completion, steps): pass",
    "def f(completion, state): steps = state['steps']",
    "def f(completions, steps): steps = steps[0]",
    "async def f(completions, states): steps = states[1]['steps']",
    "def f(completions, tasks): steps = tasks[0]['steps']",
]


@pytest.mark.parametrize("head", TAKES)
@pytest.mark.parametrize("change", ["steps.pop()", "steps[0]['n'] = 9", "steps.clear()"])
def test_what_a_function_changes_is_its_own(head: str, change: str, monkeypatch: pytest.MonkeyPatch) -> None:
    head, _, first = head.partition(": ")
    returned = "[1] * len(completions)" if "completions" in head else "1"
    own(f"seen = []\n{head}:\n    {first}; seen.append(repr(steps)); {change}; return {returned}", monkeypatch)
    task = task_with("7", row={**copy.deepcopy(NESTED), "question": "Q?"})
    answers = [("a", task), ("b", task), ("c", task)]
    scoring = Scoring(RewardSection(scorer="own_reward:f"))
    assert [verdict.kind for _ in range(2) for verdict in scoring.verdicts(answers)] == ["scored"] * 6
    assert set(sys.modules["own_reward"].seen) == {repr(NESTED["steps"])}
    assert task.label.row["steps"] == NESTED["steps"]


def test_responses_of_one_call_do_not_share_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    own(
        "def f(completions, steps, info):\n"
        "    for one in info[1:]:\n        one.update(n=1)\n"
        "    for one in steps:\n        one.pop()\n"
        "    return [float(len(one)) for one in steps]",
        monkeypatch,
    )
    task = task_with("7", row={**NESTED, "question": "Q?"})
    verdicts = list(Scoring(RewardSection(scorer="own_reward:f")).verdicts([("a", task), ("b", task)]))
    assert [verdict.score for verdict in verdicts] == [1.0, 1.0]


@pytest.mark.parametrize(
    ("head", "given"),
    [
        ("def f(completions, level, hint, **kw)", {"level": [None], "hint": [None]}),
        ("def f(completion, level, answer, info)", {"level": None, "answer": "7", "info": {}}),
        ("def f(completion, hint=5)", {"hint": None}),
        ("def f(completions, answer, infos)", {"answer": ["7"], "infos": [{}]}),
    ],
)
def test_columns_that_other_rows_have_are_given_as_none(head: str, given: dict[str, Any]) -> None:
    rows: list[dict[str, Any]] = [
        {"question": "1?", "level": None, "answer": None, "info": None},
        {"question": "2?", "level": 2, "hint": "h"},
    ]
    first, second = with_all_columns([task_with("7", str(n), row=row) for n, row in enumerate(rows)])
    names: dict[str, Any] = {}
    exec(f"{head}:\n    return dict(locals())", names)
    function = UserFunction(names["f"], "m:f")
    assert function.call(["x"], RewardTask.of(first)).items() >= given.items()
    task = RewardTask.of(first)
    assert (task["level"], task.get("level", 4), task.get("hint", 5), RewardTask.of(second)["info"]) == (
        None,
        4,
        5,
        None,
    )


@pytest.mark.parametrize("value", [1e6, -1e6, 0.1, np.float32(1e-30), 10**6])
def test_rewards_that_float32_tells_apart_are_scores(value: Any) -> None:
    assert score_of(value).score == float(value)


@pytest.mark.parametrize("value", [1.01e6, -1e30, 1e308, np.float32(1e38), 10**12, (2e6, "why")], ids=repr)
def test_rewards_that_float32_cannot_tell_apart_are_errors(value: Any) -> None:
    with pytest.raises(
        ValueError, match=r"returned [-\d.e+]+, which is beyond ±1,000,000: .* float32.*; scale it"
    ) as caught:
        score_of(value)
    assert f"{float(value[0] if isinstance(value, tuple) else value):g}" in str(caught.value)
    with pytest.raises(ValueError, match="returned -inf; a finite number"):
        score_of(-(10**400))


@pytest.mark.parametrize("weight", [3.0, -3.0, 1e300, 1e308])
def test_a_weighted_sum_too_large_is_an_error_with_its_parts(weight: float) -> None:
    parts = [Verdict(kind="scored", score=5e5), Verdict(kind="scored", score=5e5)]
    found = combined(parts, [("style", weight), ("length", weight)])
    assert found.kind == "error"
    for words in ("the weighted sum of style, length is", "beyond ±1,000,000", "reward.scorers", "weight"):
        assert words in found.text


def test_functions_that_take_anything_are_given_the_columns() -> None:
    seen = called(lambda completions, **columns: columns, ("a", "b"))
    assert seen["level"] == [3, 3]
    assert len(seen["prompts"]) == 2
    state = called(lambda state, **_: state)
    assert (state["answer"], state["completion"], state["task"].answer) == ("We add. #### 7", MESSAGE, "7")


@pytest.mark.parametrize(
    "head",
    [
        "def f(x, y)",
        "def f(response, reference)",
        "def f(answer, gold)",
        "def f(answer)",
        "def f()",
        "def f(*args)",
        "def f(data_source, solution_str, ground_truth)",
    ],
)
def test_what_could_mean_two_things_is_refused_with_both_signatures(head: str) -> None:
    with pytest.raises(ConfigError) as caught:
        seen_by(head)
    for words in ("reward.scorer = 'my_module:reward'", "reward(response, task)", "reward(response, answer)"):
        assert words in str(caught.value)


def test_what_only_a_trainer_has_is_refused_where_it_is_needed() -> None:
    with pytest.raises(ConfigError, match="needs 'trainer_state', which there is not here"):
        seen_by("def f(completions, trainer_state)")
    assert seen_by("def f(completions, trainer_state=None)")["trainer_state"] is None
    with pytest.raises(TypeError, match=r"reward\(completion, rubric\): nothing is known for rubric: no such column"):
        seen_by("def f(completion, rubric)")


@pytest.mark.parametrize(
    "value",
    [1, -2.5, True, Fraction(1, 2), np.float32(0.5), np.int64(3), np.array(0.25)],
    ids=repr,
)
def test_numbers_of_all_kinds_are_scores(value: Any) -> None:
    assert score_of(value) == FunctionScore(float(value))
    assert score_of((value, "why")) == FunctionScore(float(value), "why")


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "returned None; a number"),
        ([1.0], "returned [1.0] (list)"),
        ("1.0", "returned '1.0' (str)"),
        ({"score": 1}, "(dict)"),
        ((1.0, 2.0), "(tuple)"),
        (float("nan"), "returned nan; a finite number"),
        (float("-inf"), "returned -inf; a finite number"),
        (1j, "(complex)"),
        (np.array([1.0]), "(ndarray)"),
        ((None, "why"), "returned None"),
        (object, "(type)"),
    ],
)
def test_what_is_no_number_is_no_score(value: Any, words: str) -> None:
    with pytest.raises(ValueError, match="expected") as caught:
        score_of(value)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (1.0, "a list of 2 numbers is expected"),
        ([1.0], "returned 1 rewards for 2 completions"),
        ([1.0, None], "returned None"),
        ("ab", "a list of 2 numbers is expected"),
    ],
)
def test_a_function_over_lists_returns_one_number_for_each(value: Any, words: str) -> None:
    function = UserFunction(lambda completions: value, "m:f")
    with pytest.raises(ValueError, match="expected") as caught:
        function.scores(value, 2)
    assert words in str(caught.value)
    assert function.scores(np.array([1.0, -2.0]), 2) == [FunctionScore(1.0), FunctionScore(-2.0)]


def test_weights_add_up_and_the_first_scorer_decides_what_is_correct() -> None:
    settings = RewardSection.model_validate(
        {"scorers": ["math", {"scorer": "m:brevity", "weight": -0.5}], "format_weight": 0.25}
    )
    assert settings.scorer == "math"
    right = Verdict(kind="scored", score=1.0, correct=True, answer="7")
    columns = [(one.column, one.weight) for one in settings.all_scorers]
    both = combined([right, Verdict(kind="scored", score=3.0, text="long")], columns, settings.format_weight)
    assert both.components == {"math": 1.0, "brevity": 3.0}
    assert (both.score, both.correct, both.answer, both.text) == (1.0 - 1.5 + 0.25, True, "7", "long")
    none = combined([right, Verdict(kind="error", text="KeyError")], columns)
    assert none == Verdict(kind="error", text="brevity: KeyError")


def test_scorers_are_given_by_name_on_the_command_line() -> None:
    words = ["train", "--reward.scorers", "math,my_module:style"]
    given = settings_given(build_parser(words).parse_args(words))
    columns = [(one.column, one.weight) for one in validated(given).reward.all_scorers]
    assert columns == [("math", 1.0), ("style", 1.0)]
    stored = RewardSection.model_validate(validated(given).reward.model_dump(mode="json"))
    assert (stored.scorer, stored.scorers) == ("math", validated(given).reward.scorers)


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"scorers": ["math", "m:math"]}, "two that are called 'math'"),
        ({"scorer": "code", "scorers": ["math"]}, "'code' is not the first of scorers"),
        ({"scorers": [{"scorer": "m:f", "name": "a b"}]}, "name"),
        ({"scorers": [{"scorer": "m:f", "weight": float("nan")}]}, "weight"),
    ],
)
def test_scorers_that_contradict_one_another_are_refused(section: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        RewardSection.model_validate(section)


@pytest.mark.parametrize("head", ["f(response, answer)", "f(completion: str, answer)", "f(completions: list[str])"])
def test_calls_of_an_async_function_are_open_together_and_late_alone(
    head: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lists = "completions" in head
    own(
        "import asyncio\nnum = most = 0\n"
        f"async def {head}:\n"
        "    global num, most\n    num += 1\n    most = max(num, most)\n    await asyncio.sleep(0)\n    num -= 1\n"
        f"    first = {head.split('(')[1].split(':')[0].split(',')[0]}{'[0]' if lists else ''}\n"
        "    if first == 'late':\n        await asyncio.sleep(60)\n"
        "    if first == 'bad':\n        raise KeyError('x')\n"
        f"    return {'[1.0] * len(completions)' if lists else '1.0'}",
        monkeypatch,
    )
    settings = RewardSection(scorer="own_reward:f", timeout_s=0.25)
    texts = ["good", "late", "bad", "good"]
    answers = [(text, task) for n, text in enumerate(texts) for task in [task_with("7", str(n))] for _ in range(2)]
    kinds = [verdict.kind for verdict in Scoring(settings).verdicts(answers)]
    assert kinds == [kind for kind in ("scored", "timeout", "error", "scored") for _ in range(2)]
    assert sys.modules["own_reward"].most == (4 if lists else 8)
