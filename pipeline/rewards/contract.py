"""A reward function of the user's: recognised by the names of its parameters, called as it expects to be.

| kind | recognised by | is given | returns |
|---|---|---|---|
| single | `reward(response, task)`, `(response, answer)`, `(response)` | text, `RewardTask`, gold | number (and text) |
| rubric | a parameter `completion` or `state`, as of verifiers | what it names, columns too | the same |
| lists | a parameter `prompts`, `completions`, `states`, as of TRL | all responses to a problem | list of numbers |

Invariants: what a parameter means follows from names alone, and what could mean two things is refused with both
signatures; each kind may be `async`; what is returned is a finite number or an error, never a number that was made of
something else. Completions are lists of messages, as they are with chat data there, and texts where the parameter's
annotation says `str`. What a function is given is its own: what it changes there reaches no other call, nor another
response of its call."""

from __future__ import annotations

import copy
import inspect
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from pipeline.errors import ConfigError
from pipeline.types import Task

OURS = "reward(response, task) -> float or (float, str)"
GOLD = ("answer", "gold", "gold_answer", "ground_truth")
GIVEN = frozenset({*GOLD, "task", "prompt", "question"})
# float32 tells numbers up to here apart that differ by 0.1 (it steps by 1/16), and their squares are far from its end:
# deviations and advantages of a group are finite, and as exact as the rewards.
MAX_REWARD = 1e6
LISTS = frozenset({"prompts", "completions", "states"})
# What only a trainer has: functions that cannot do without are refused.
OF_A_TRAINER = frozenset({"trainer_state", "completion_ids", "environments", "parser", "judge"})
Kind = Literal["single", "rubric", "lists"]


@dataclass(frozen=True)
class RewardTask:
    """What a reward function may know of a problem. `answer` is the gold answer, `answers` are all of them where any is
    right; `columns` is its row as it stands in the file, and `task["level"]` short for one of it: None where another
    row has it and this one does not. `get` gives its default there."""

    id: str
    prompt: str
    question: str
    answer: str
    answers: tuple[str, ...] = ()
    family: str = ""
    columns: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, task: Task) -> RewardTask:
        problem, label = task.problem, task.label
        answers = tuple(label.entry.get("answers", (label.answer,)))
        row = {name: value for name, value in label.row.items() if value is not None}
        columns = copy.deepcopy({**dict.fromkeys(label.row), **label.entry, **row})
        return cls(problem.id, problem.text, problem.query_text, label.answer, answers, problem.family, columns)

    def __getitem__(self, column: str) -> Any:
        return self.columns[column]

    def get(self, column: str, default: Any = None) -> Any:
        value = self.columns.get(column)
        return default if value is None else value

    @property
    def given(self) -> dict[str, Any]:
        """What parameters may name: the columns, and what stands in for those that the row does not have."""
        own = dict.fromkeys(GOLD, self.answer) | {"task": self, "prompt": self.prompt, "question": self.question}
        own["info"] = {}
        return own | {name: value for name, value in self.columns.items() if value is not None or name not in own}


class FunctionScore(NamedTuple):
    """What a function returned for one response."""

    score: float
    text: str = ""


class UserFunction:
    """`function` with its kind. `setting` and `name` say, in messages, where it stands and what it is called there."""

    def __init__(self, function: Callable[..., Any], name: str, setting: str = "reward.scorer") -> None:
        """Raises ConfigError for a function that nothing is known to call with."""
        self._function = function
        self._name = name
        self._where = f"{setting} = {name!r}"
        try:
            self._parameters = dict(inspect.signature(function).parameters)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"{self._where}: its parameters cannot be read ({error}); write {OURS}") from error
        variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        self._named = {name: one for name, one in self._parameters.items() if one.kind not in variable}
        self._takes_any = any(one.kind is inspect.Parameter.VAR_KEYWORD for one in self._parameters.values())
        self.kind: Kind = self._kind_of()
        self.is_async = any(map(inspect.iscoroutinefunction, (function, type(function).__call__)))
        self._response = self._response_parameter() if self.kind == "single" else ""

    def arguments(self, texts: Sequence[str], task: RewardTask) -> tuple[list[Any], dict[str, Any]]:
        """What to call the function with, for one text, or for all of `texts` if its kind is 'lists'.

        Raises TypeError naming a parameter that there is nothing for."""
        if self.kind == "single":
            values = dict.fromkeys(GOLD, task.answer) | {"task": task, "prompt": task.prompt}
            values |= {"question": task.question, self._response: texts[0]}
        elif self.kind == "rubric":
            values = self._of_rubric(texts[0], task)
        else:
            values = self._of_lists(texts, task)
        if missing := [n for n, one in self._named.items() if n not in values and one.default is one.empty]:
            raise TypeError(f"{self.signature}: nothing is known for {', '.join(missing)}: no such column in this row")
        first = [one for one in self._named.values() if one.kind is one.POSITIONAL_ONLY]
        by_name = {name: values[name] for name in self._named if name in values and self._named[name] not in first}
        if self._takes_any:
            by_name = {name: value for name, value in values.items() if name not in self._named} | by_name
        return [values[one.name] for one in first if one.name in values], by_name

    def call(self, texts: Sequence[str], task: RewardTask) -> Any:
        """What the function returns, to be read by `scores`; awaitable where it is async."""
        positional, by_name = self.arguments(texts, task)
        return self._function(*positional, **by_name)

    def scores(self, value: Any, num: int) -> list[FunctionScore]:
        """The scores in what a call for `num` responses returned. Raises ValueError for anything but that many finite
        numbers."""
        if self.kind != "lists":
            return [score_of(value)]
        if isinstance(value, str | bytes | dict) or not hasattr(value, "__len__"):
            raise ValueError(f"returned {_shown(value)}; a list of {num} numbers is expected, one for each completion")
        if len(value) != num:
            raise ValueError(f"returned {len(value)} rewards for {num} completions; one for each is expected")
        return [score_of(item) for item in value]

    @property
    def signature(self) -> str:
        short = self._name.rpartition(":")[2]
        return f"{short}({', '.join(str(one) for one in self._parameters.values())})"

    @property
    def hint(self) -> str:
        """What a function that takes messages could have meant otherwise; empty where there is nothing to say."""
        name = "completions" if self.kind == "lists" else "completion"
        if self.kind == "single" or name not in self._named or self._wants_text(name):
            return ""
        wanted = "list[str]" if self.kind == "lists" else "str"
        return f"; {name} holds messages here, as with chat data: write `{name}: {wanted}` to be given texts"

    def _kind_of(self) -> Kind:
        kind: Kind = "single"
        if self._named.keys() & LISTS:
            kind = "lists"
        elif self._named.keys() & {"completion", "state"}:
            kind = "rubric"
        wanted = [name for name in OF_A_TRAINER & self._named.keys() if self._named[name].default is inspect._empty]
        if kind != "single" and wanted:
            raise ConfigError(
                f"{self._where}: {self.signature} needs {wanted[0]!r}, which there is not here; give it a default, or "
                f"write {OURS}"
            )
        return kind

    def _response_parameter(self) -> str:
        """The one parameter that is neither the task nor the gold answer. Raises ConfigError where it is not one."""
        unknown = [name for name in self._named if name not in GIVEN]
        unknown = [name for name in unknown if self._named[name].default is inspect._empty] or unknown
        if len(unknown) == 1:
            return unknown[0]
        short = self._name.rpartition(":")[2]
        which = f"which of {', '.join(unknown or self._named)} is the response" if self._named else "what it takes"
        raise ConfigError(
            f"{self._where}: {self.signature} does not tell {which}; name the parameters {short}(response, task) — "
            f"task has prompt, answer and columns — or {short}(response, answer)"
        )

    def _wants_text(self, name: str) -> bool:
        annotation = self._named[name].annotation if name in self._named else inspect._empty
        text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
        return bool(re.search(r"\bstr\b", text)) and not re.search(r"dict|Dict|Message", text)

    def _completion(self, name: str, text: str) -> Any:
        return text if self._wants_text(name) else [{"role": "assistant", "content": text}]

    def _prompt(self, name: str, completion: str, task: RewardTask) -> Any:
        is_text = self._wants_text(name if name in self._named else completion)
        return task.prompt if is_text else [{"role": "user", "content": task.prompt}]

    def _of_rubric(self, text: str, task: RewardTask) -> dict[str, Any]:
        prompt, completion = self._prompt("prompt", "completion", task), self._completion("completion", text)
        own = {**task.given, "prompt": prompt, "completion": completion, "task": task}
        return {**own, "state": {**own, "example_id": task.id}}

    def _of_lists(self, texts: Sequence[str], task: RewardTask) -> dict[str, Any]:
        tasks = [copy.deepcopy(task) for _ in texts]
        rows = [one.given for one in tasks]
        prompts = [self._prompt("prompts", "completions", task) for _ in texts]
        completions = [self._completion("completions", text) for text in texts]
        each = zip(rows, prompts, completions, tasks, strict=True)
        return {name: [row[name] for row in rows] for name in rows[0]} | {
            "prompts": prompts,
            "completions": completions,
            "answers": [row["answer"] for row in rows],
            "infos": [row["info"] for row in rows],
            "tasks": tasks,
            "states": [
                {**row, "prompt": prompt, "completion": completion, "task": one, "example_id": one.id}
                for row, prompt, completion, one in each
            ],
        }


def score_of(value: Any) -> FunctionScore:
    """The score, and the words where there are any, that a function returned. Raises ValueError for anything else."""
    text = ""
    if isinstance(value, tuple) and len(value) == 2 and isinstance(value[1], str):
        value, text = value
    is_number = hasattr(value, "__float__") or hasattr(value, "__index__")
    if isinstance(value, str | bytes) or not is_number or getattr(value, "ndim", None):
        raise ValueError(f"returned {_shown(value)}; a number, or (number, text), is expected")
    try:
        score = float(value)
    except OverflowError:  # an integer of more than 308 digits
        score = math.inf if value > 0 else -math.inf
    if not math.isfinite(score):
        raise ValueError(f"returned {score}; a finite number is expected")
    if abs(score) > MAX_REWARD:
        raise ValueError(f"returned {too_large(score)}")
    return FunctionScore(score, text)


def too_large(reward: float) -> str:
    """Why a number beyond MAX_REWARD is no reward to learn from."""
    return (
        f"{reward:g}, which is beyond ±{MAX_REWARD:,.0f}: a group's statistics are float32, in which such rewards are "
        "not told apart; scale it, for example by dividing it by the largest that you expect"
    )


def _shown(value: Any) -> str:
    text = repr(value)
    kind = "" if value is None else f" ({type(value).__name__})"
    return (text if len(text) <= 60 else f"{text[:60]}…") + kind
