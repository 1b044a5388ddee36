"""SFT pairs of the three skills from a teacher behind any endpoint: asked as the policy will be, kept only when they
are right.

Invariants: what is asked for pair i is a function of seed and i; a pair is kept when the verifier accepts its answer (a
lesson: when it passes the checks of abstraction), else the teacher is asked again, `sft.teacher_attempts` times;
whatever became of pair i is one line of the file, written when it is known, and is not asked for again. No held-out
problem is used, and no label reaches a prompt.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
from collections import Counter
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from pipeline.config import Config
from pipeline.errors import DataError, EndpointError, FinalEndpointError
from pipeline.experience.abstraction import check_reply
from pipeline.experience.contexts import messages_of
from pipeline.hashing import seed_of
from pipeline.inference.chat_client import ChatClient
from pipeline.rewards.verifier import Verifier
from pipeline.runtime import jsonl
from pipeline.sft.exchanges import Exchange
from pipeline.sft.grounds import SolvedGround
from pipeline.sft.pairs import file_digests, pair_of, refuse_heldout, skills_of
from pipeline.sft.worked_solutions import Solution, solve, with_mistake
from pipeline.text import visible
from pipeline.types import Record, Task
from prompts.schemas import Abstract, Inter, Intra, Lesson, PromptInput, Scratch, Summary, reply_type
from prompts.sets import templates_of

# A problem that the teacher cannot solve is replaced by another one, so often.
MAX_PROBLEMS_PER_PAIR = 3
STAGE = "teacher"
# Failures that the next request would meet as well.
HOPELESS = frozenset({"quota", "http_401", "http_403", "http_404", "no_endpoint"})
Json = dict[str, Any]


class Taught(Record):
    """What became of one pair: the pair, or why there is none. A line of the file."""

    index: int
    skill: str
    problem_id: str
    num_asked: int
    pair: Json | None = None
    reason: str = ""
    lost: bool = False
    """The endpoint failed, which is no fault of the pair: it is not written, and the next session asks for it again."""


class TeacherReply(NamedTuple):
    text: str
    reason: str
    """Why it cannot be used; empty: it can."""


class Teacher:
    """Asks for pairs, many at a time; places at the endpoint bound how many."""

    def __init__(self, config: Config, tasks: list[Task], endpoints: ChatClient, verifier: Verifier) -> None:
        self._config = config
        self._tasks = tasks
        self._endpoints = endpoints
        self._verifier = verifier
        others = [(task, Solution((), task.label.answer)) for task in tasks]
        self._ground = SolvedGround(others, random.Random(f"teacher:{config.sft.seed}:lessons"))
        self._skills = skills_of(config.sft, config.sft.num_teacher_pairs)
        random.Random(f"teacher:{config.sft.seed}").shuffle(self._skills)

    async def taught(self, index: int, before: Taught | None = None) -> Taught:
        """Pair number `index`, or why the teacher has none; `before` is what came of fewer attempts. Raises
        EndpointError when asking on is of no use."""
        begin = before.num_asked if before else 0
        rng = random.Random(f"teacher:{self._config.sft.seed}:{index}")
        skill, task = self._skills[index % len(self._skills)], rng.choice(self._tasks)
        found = Taught(index=index, skill=skill, problem_id=task.problem.id, num_asked=begin)
        reason = ""
        try:
            for attempt in range(begin, self._config.sft.teacher_attempts):
                found = found.model_copy(update={"num_asked": attempt + 1})
                value = await self._prompt(skill, task, rng, (index, attempt))
                reply = await self._asked(value, task, (index, attempt))
                if not (reason := reply.reason):
                    return found.model_copy(update={"pair": pair_of(self._config, skill, task, value, reply.text)})
        except EndpointError as error:
            if error.kind in HOPELESS:
                raise
            if not isinstance(error, FinalEndpointError):
                return found.model_copy(update={"reason": error.kind, "lost": True})
            reason = error.kind
        return found.model_copy(update={"reason": reason})

    async def _prompt(self, skill: str, task: Task, rng: random.Random, place: tuple[int, int]) -> PromptInput:
        problem, form = task.problem.text, task.problem.form
        if skill == "respond-scratch":
            return Scratch(problem=problem, form=form)
        if skill == "respond-inter":
            material = self._ground.about(task, solve(task) or Solution((), task.label.answer), rng)
            return Exchange(self._config, self._ground, material, rng).of(skill)[0]
        solution = solve(task)
        if skill.endswith("wrong") and solution is not None and solution.answer:
            attempt = with_mistake(solution, rng).text
        else:
            # An attempt of its own, right or not: nobody is told which.
            attempt = (await self._answer(Scratch(problem=problem, form=form), (*place, "attempt"))).text
        if skill.startswith("inspect"):
            return Intra(problem=problem, attempt=attempt or "I do not know.", form=form)
        return Abstract(problem=problem, trajectory=attempt or "I do not know.")

    async def _asked(self, value: PromptInput, task: Task, place: tuple[int, int]) -> TeacherReply:
        if isinstance(value, Abstract):
            reply = await self._answer(value, place, schema=reply_type(self._config.lesson_sizes).model_json_schema())
            checked = reply.reason or check_reply(
                reply.text, "stop", "", task.label, value.trajectory, sizes=self._config.lesson_sizes
            )
            if isinstance(checked, Summary):
                return TeacherReply(checked.reply, await self._misled(checked.lesson, task, place))
            return TeacherReply("", checked if isinstance(checked, str) else checked.reason)
        reply = await self._answer(value, place)
        if reply.reason:
            return reply
        verdict = await self._verifier.verify(reply.text, task)
        wrong = "wrong" if verdict.kind == "scored" else verdict.kind
        return reply if verdict.correct else reply._replace(reason=wrong)

    async def _misled(self, lesson: Lesson, task: Task, place: tuple[int, int]) -> str:
        """What is wrong with a lesson by what a reader, the teacher, does with it on another problem of the family;
        empty where it answers rightly, or where there is no other problem."""
        rng = random.Random(f"teacher:{self._config.sft.seed}:reader:{place}")
        others = [one for one in self._tasks if one.problem.family == task.problem.family and one != task]
        if not others:
            return ""
        other = rng.choice(others)
        shown = Inter(
            problem=other.problem.text, lessons=(lesson,), sources=(task.problem.query_text,), form=other.problem.form
        )
        reply = await self._answer(shown, (*place, "reader"))
        verdict = await self._verifier.verify(reply.text, other)
        return "" if verdict.correct else "misleads"

    async def _answer(self, value: PromptInput, place: tuple[object, ...], schema: Json | None = None) -> TeacherReply:
        settings = self._config.sft
        reply = await self._endpoints.chat(
            messages_of(value, self._config),
            max_tokens=settings.teacher_max_tokens,
            temperature=settings.teacher_temperature,
            stage=STAGE,
            schema=schema,
            seed=seed_of("teacher", settings.seed, *place),
        )
        text = visible(reply.text, strip=self._config.rollout.strip_think)
        return TeacherReply(text.strip(), "cut" if reply.finish_reason == "length" else "" if text.strip() else "empty")


class Lines:
    """The file of what was taught: read at the start, appended to line by line."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.found: dict[int, Taught] = {}
        num_bytes = 0
        with suppress(ValidationError):  # what follows was never written whole
            for line in jsonl.whole_lines(path):
                taught = Taught.model_validate_json(line)
                self.found[taught.index] = taught
                num_bytes += len(line)
        path.parent.mkdir(parents=True, exist_ok=True)
        jsonl.truncate(path, num_bytes)

    def add(self, taught: Taught) -> None:
        """Raises DiskError."""
        if not taught.lost:
            jsonl.append(self._path, taught.model_dump_json())
        self.found[taught.index] = taught

    @property
    def num_kept(self) -> int:
        return sum(taught.pair is not None for taught in self.found.values())

    @property
    def pairs(self) -> list[Json]:
        """The pairs in the order of their numbers."""
        return [taught.pair for _, taught in sorted(self.found.items()) if taught.pair is not None]

    def counts(self) -> dict[str, dict[str, int]]:
        """By skill: kept, and why others were not."""
        table: dict[str, dict[str, int]] = {}
        counted = Counter((taught.skill, taught.reason or "kept") for taught in self.found.values())
        for (skill, reason), num in sorted(counted.items()):
            table.setdefault(skill, {})[reason] = num
        return table


def teacher_key(config: Config, teacher: str, tasks: Collection[Task] = ()) -> str:
    """Name of the file that a teacher's answers are kept in: 16 hex digits over all that is asked of it."""
    # What was not there when earlier answers were paid for counts only where it is used.
    problems = config.problems.model_dump(mode="json")
    if not config.problems.columns.named:
        del problems["columns"]
    if not config.problems.drop_near_duplicates:
        del problems["drop_near_duplicates"]
    has_programs = any(task.problem.form == "code" for task in tasks)
    templates = templates_of(config.rollout.templates)
    parts = {
        **({"form": "code"} if has_programs else {}),
        # The pairs hold the prompts. Those of before are of the templates of before.
        **({} if templates.name == "legacy" else {"templates": templates.identity}),
        "teacher": teacher,
        "sft": config.sft.model_dump(
            mode="json", include={"seed", "respond_share", "inspect_share", "num_teacher_pairs"}
        ),
        "asked": [config.sft.teacher_temperature, config.sft.teacher_max_tokens],
        "problems": [problems, file_digests(config.problems)],
        "reward": config.reward.model_dump(mode="json", include={"scorer", "threshold"}),
        "system_prompt": config.rollout.system_prompt,
        "num_lessons": config.feedback.num_lessons,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


async def teach(
    config: Config,
    tasks: list[Task],
    heldout_hashes: Collection[str],
    endpoints: ChatClient,
    verifier: Verifier,
    lines: Lines,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Json]:
    """`sft.num_teacher_pairs` pairs, those that `lines` has among them; one that came to nothing is replaced by one of
    its skill.

    Raises DataError when the teacher is right too seldom, EndpointError for a wrong key or an empty account; what was
    taught until then is in the file."""
    refuse_heldout(tasks, heldout_hashes)
    teacher, wanted = Teacher(config, tasks, endpoints, verifier), config.sft.num_teacher_pairs

    async def one(index: int) -> None:
        lines.add(await teacher.taught(index, lines.found.get(index)))
        progress(lines.num_kept, wanted)

    attempts = config.sft.teacher_attempts
    while indices := [
        index for place in range(wanted) if (index := _following(place, wanted, lines, attempts)) is not None
    ]:
        async with asyncio.TaskGroup() as group:
            for index in indices:
                group.create_task(one(index))
    if lines.num_kept < wanted:
        raise DataError(
            f"sft.teacher: only {lines.num_kept} of {wanted} pairs were right, with {MAX_PROBLEMS_PER_PAIR} problems "
            f"tried for each: {lines.counts()}; use a stronger teacher, raise sft.teacher_attempts, or lower "
            "sft.num_teacher_pairs"
        )
    return lines.pairs


def _following(place: int, wanted: int, lines: Lines, attempts: int) -> int | None:
    """The number to ask for next at one of the `wanted` places: its own, then further ones of the same skill, those
    first that were given fewer `attempts` than there are now; None when it has a pair, or no problem left to try."""
    for index in range(place, MAX_PROBLEMS_PER_PAIR * wanted, wanted):
        if (taught := lines.found.get(index)) is None:
            return index
        if taught.pair is not None:
            return None
        if taught.num_asked < attempts and not taught.lost and not taught.reason.startswith("http_"):
            return index
    return None
