"""A model of scripted skills: it reads the prompts of the probe and answers as well, or as badly, as it is told."""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from typing import Any, Literal, NamedTuple

from aiohttp import web

from pipeline.inference.protocol import Reply
from pipeline.problems.operator_rules import BY_NAME, NUM_WORDINGS, RULES, Rule
from pipeline.problems.operators import PHRASINGS
from pipeline.types import Message
from servers.mock.answers import calculate
from tests.scripted_endpoint import ScriptedEndpoint, completion

_QUESTIONS = [
    re.compile(
        re.escape(phrasing)
        .replace(r"\{name\}", r"(?P<name>\w+)", 1)
        .replace(r"\{name\}", r"\w+")
        .replace(r"\{left\}", r"(?P<left>\d+)")
        .replace(r"\{right\}", r"(?P<right>\d+)")
    )
    for phrasing in PHRASINGS
]
_SUM = re.compile(r"arithmetic problem: (.*) =")
_TOLD = re.compile(r"For (\w+), ([^.]*)\.")
_RULE_OF = {rule.words(wording): rule for rule in RULES for wording in range(NUM_WORDINGS)}
_GUESS = BY_NAME["double-first-add"]
_SPOILED = 1000
"""Added to an answer that is meant to be wrong by no rule."""


class Skills(NamedTuple):
    """`reads`: whose lessons it follows; `tells`: what its summaries say; `critique`: what it makes of an attempt."""

    reads: Literal["own", "any", "none"] = "own"
    tells: Literal["truth", "one rule", "answer"] = "truth"
    critique: Literal["check", "uphold", "overturn"] = "check"


class Puzzle(NamedTuple):
    """The problem of a prompt: a sum, or an operator on two numbers, its rule perhaps stated."""

    name: str
    numbers: tuple[int, int]
    stated: Rule | None
    total: int | None

    def answer(self, rule: Rule) -> int:
        return rule.value(*self.numbers) if self.total is None else self.total


class SkilledPolicy(ScriptedEndpoint):
    """Answers as a `PolicyRequest`, and as an endpoint."""

    def __init__(self, skills: Skills = Skills()) -> None:  # noqa: B008
        self._skills = skills
        self.num_asked = 0
        self._times: Counter[str] = Counter()
        self._more = asyncio.Condition()

    async def __call__(self, messages: tuple[Message, ...], sample: int, wanted: dict[str, Any]) -> Reply:
        self.num_asked += 1
        text = self.reply(messages[-1].content, sample if wanted["temperature"] else None)
        return Reply(text=text, finish_reason="stop", num_prompt_tokens=10, num_completion_tokens=5)

    def reply(self, prompt: str, sample: int | None = None) -> str:
        """The answer to a prompt; of samples every other one goes wrong, by another rule where there are rules."""
        if "flow_of_thought" in prompt:
            return self._summary(prompt)
        lessons, _, problem = prompt.rpartition("The problem to solve:\n")
        puzzle = _puzzle(problem)
        rule = puzzle.stated or _GUESS
        for name, words in _TOLD.findall(lessons):
            if self._skills.reads == "any" or (
                self._skills.reads == "own" and name == puzzle.name and not puzzle.stated
            ):
                rule = _RULE_OF.get(words, rule)
                puzzle = puzzle._replace(total=None if puzzle.total is None else puzzle.total + _SPOILED)
        if (attempt := re.search(r"earlier attempt(.*)", prompt, re.DOTALL)) is not None:
            return self._refined(puzzle, rule, attempt[1])
        if sample is not None and (sample + puzzle.numbers[0]) % 2:
            other = RULES[(RULES.index(rule) + 7) % len(RULES)]
            return _worked(other, puzzle.answer(other) + (0 if puzzle.total is None else _SPOILED))
        return _worked(rule, puzzle.answer(rule))

    def _refined(self, puzzle: Puzzle, rule: Rule, attempt: str) -> str:
        answer = puzzle.answer(rule)
        found = re.search(r"\\boxed\{(-?\d+)\}", attempt)
        before = int(found[1]) if found else None
        if self._skills.critique == "uphold" and before is not None:
            answer = before
        if self._skills.critique == "overturn" and before == answer:
            answer += _SPOILED
        return _worked(rule, answer)

    def _summary(self, prompt: str) -> str:
        puzzle, words = _puzzle(prompt), _GUESS.words(0)
        if self._skills.tells != "one rule" and (found := re.search(r"Rule: ([^.]*)\.", prompt)) is not None:
            words = found[1]
        answered = re.search(r"\\boxed\{(-?\d+)\}", prompt)
        answer = f" The answer is {answered[1]}." if self._skills.tells == "answer" and answered else ""
        lesson = {"flow_of_thought": f"It has two steps.{answer}", "principles": [f"For {puzzle.name}, {words}."]}
        return json.dumps({"critique": "Each step holds.", **lesson})

    # As an endpoint

    async def asked_of(self, num: int) -> None:
        """Wait for request number `num`."""
        async with self._more:
            await self._more.wait_for(lambda: self.num_asked >= num)

    async def _chat(self, request: web.Request) -> web.Response:
        body = await request.json()
        prompt = body["messages"][-1]["content"]
        async with self._more:
            self.num_asked += 1
            self._more.notify_all()
        sample = None
        if body.get("temperature"):
            sample, self._times[prompt] = self._times[prompt], self._times[prompt] + 1
        return web.json_response(completion(self.reply(prompt, sample)))


def _worked(rule: Rule, answer: int) -> str:
    return f"Rule: {rule.words(0)}. Step by step that is so, and so is the rest of it.\n\\boxed{{{answer}}}"


def _puzzle(text: str) -> Puzzle:
    if (found := _SUM.search(text)) is not None:
        total = calculate(found[1])
        return Puzzle("", (total, 0), None, total)
    found = min(filter(None, (question.search(text) for question in _QUESTIONS)), key=lambda one: one.start())
    stated = re.search(rf"{re.escape(found[0])} Here is the rule of \w+: ([^.]*)\.", text)
    rule = _RULE_OF[stated[1]] if stated else None
    return Puzzle(found["name"], (int(found["left"]), int(found["right"])), rule, None)
