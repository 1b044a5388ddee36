r"""SFT pairs for the three skills of method.md (docs/method.md): respond, inspect, summarise.

Invariants: user messages come from `prompts.render`, so seeding and sampling share one template; no held-out problem is
used; no label reaches a user message (an answer appears there only inside an attempt). A pair is `{"messages":
[system?, user, assistant], "skill": …, "problem_id": …}`, a line of JSONL. A target has reasoning, in the form that the
problem's answers have; a critique claims only what was checked."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import random
from collections.abc import Collection
from pathlib import Path
from typing import Any

from pipeline.config import Config
from pipeline.config.problems import ProblemsSection
from pipeline.config.sft import SftSection
from pipeline.experience.contexts import messages_of
from pipeline.runtime.files import write_atomic
from pipeline.runtime.plugins import is_plugin
from pipeline.sft.exchanges import Exchange
from pipeline.sft.grounds import Ground, Material, SolvedGround, is_practised, practice
from pipeline.sft.lessons import all_lessons
from pipeline.sft.worked_solutions import Solution, solve
from pipeline.types import Task
from prompts.render import render
from prompts.schemas import Abstract, Inter, Intra, Lesson, PromptInput, Scratch
from prompts.sets import templates_of

# Part of the cache key: raise it whenever the pairs made from the same inputs change.
CODE_VERSION = 8
# What a teacher said is part of the key by its digest, how it was asked is not.
NOT_OF_THE_PAIRS = {
    "enabled",
    "pairs_file",
    "num_tokens_per_micro_batch",
    "teacher",
    "num_teacher_pairs",
    "teacher_attempts",
    "teacher_temperature",
    "teacher_max_tokens",
}

MAX_PAIRS_PER_PROBLEM = 3
"""One of each skill."""


def make_pairs(
    config: Config, tasks: list[Task], heldout_hashes: Collection[str] = frozenset()
) -> list[dict[str, Any]]:
    """`sft.num_pairs` pairs from training `tasks`, skills in the configured shares and mixed, drawn by `sft.seed`.

    Only tasks with a worked solution are used, each for `MAX_PAIRS_PER_PROBLEM` pairs at most, so that there may be
    fewer; those of operators are of practice operators instead. What has no steps that were checked is answered, not
    inspected; what no way is known of is not summarised. Of the answers without a lesson that applies and the inspected
    attempts, `sft.answer_only_share` show no steps. Raises ValueError for a held-out task, by its split or its text.
    """
    refuse_heldout(tasks, heldout_hashes)
    rng = random.Random(f"sft:{config.sft.seed}")
    ground: Ground
    if is_practised(config.problems):
        ground, num = practice(config.problems), config.sft.num_pairs
    elif solved := solved_of(tasks):
        ground, num = SolvedGround(solved, rng), min(config.sft.num_pairs, MAX_PAIRS_PER_PROBLEM * len(solved))
    else:
        return []
    pairs = []
    for skill in skills_of(config.sft, num):
        material = ground.material(rng)
        if not _suits(skill, material):
            skill = "respond-scratch"
        user, assistant = Exchange(config, ground, material, rng).of(skill)
        pairs.append(pair_of(config, skill, material.task, user, assistant))
    rng.shuffle(pairs)
    return pairs


def _suits(skill: str, material: Material) -> bool:
    """Whether the input of the skill decides its target."""
    if skill.startswith("inspect"):
        return bool(material.solution.steps)
    return not skill.startswith("summarise") or bool(material.ways)


def solved_of(tasks: list[Task]) -> list[tuple[Task, Solution]]:
    """The tasks that have a solution with reasoning: equations, a source's words, or a program."""
    found = ((task, solve(task)) for task in tasks)
    return [(task, solution) for task, solution in found if solution and (solution.steps or solution.prose)]


def write_pairs(path: Path, pairs: list[dict[str, Any]]) -> None:
    """Write `pairs` as JSONL, whole or not at all. Raises DiskError."""
    write_atomic(path, "".join(json.dumps(pair, ensure_ascii=False) + "\n" for pair in pairs))


def pairs_key(config: Config, model_fingerprint: str, teacher_digest: str = "") -> str:
    """Name of the result of SFT seeding: 16 hex digits over everything it depends on; `teacher_digest` is of a
    teacher's pairs.

    The tasks are those of `load_problems(config.problems, config.sft.seed)`, so runs that differ only in `run.seed`
    share it. A hub data set counts by its name, a user's source by the file of its module."""
    problems = config.problems
    sample = Lesson(flow_of_thought="flow", principles=("do",), pitfalls=("avoid",))
    inputs: tuple[PromptInput, ...] = (
        Scratch(problem="x"),
        Inter(problem="x", lessons=(sample,)),
        Intra(problem="x", attempt="y"),
        Abstract(problem="x", trajectory="y"),
    )
    parts = {
        "code": CODE_VERSION,
        "model": model_fingerprint,
        **({"teacher": teacher_digest} if teacher_digest else {}),
        "sft": config.sft.model_dump(mode="json", exclude=NOT_OF_THE_PAIRS),
        "problems": problems.model_dump(mode="json"),
        "files": [*file_digests(problems), *([_digest(Path(own))] if (own := config.sft.pairs_file) else [])],
        "system_prompt": config.rollout.system_prompt,
        "chat_template_kwargs": config.rollout.chat_template_kwargs,
        "num_lessons": config.feedback.num_lessons,
        "sizes": config.lesson_sizes.model_dump(),
        "templates": [render(value, templates_of(config.rollout.templates)) for value in inputs],
        "lessons": [lesson.model_dump(mode="json") for lesson in all_lessons()],
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def file_digests(problems: ProblemsSection) -> list[str]:
    """Of the files that problems come from: a file of one name may be another tomorrow, with other problems held
    out."""
    files = (problems.train_file, problems.heldout_file, _module_file(problems.source))
    return [_digest(Path(file)) for file in files if file]


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else "missing"


def _module_file(source: str) -> str:
    """File of a user's module; empty for another source, and for a missing module, which loading the problems
    reports."""
    try:
        spec = importlib.util.find_spec(source.partition(":")[0]) if is_plugin(source) else None
    except ImportError:
        return ""
    return spec.origin or "" if spec else ""


def refuse_heldout(tasks: list[Task], heldout_hashes: Collection[str]) -> None:
    if not tasks:
        raise ValueError("seeding needs at least one training task")
    for task in tasks:
        if task.problem.split != "train" or task.problem.text_hash in heldout_hashes:
            raise ValueError(f"problem {task.problem.id!r} is held out; seeding may use training problems only")


def skills_of(settings: SftSection, num: int) -> list[str]:
    """One entry for each of `num` pairs, in the configured shares. Kinds alternate by position, so that their shares
    are exact."""
    num_respond = round(num * settings.respond_share)
    num_inspect = min(num - num_respond, round(num * settings.inspect_share))
    num_inter = round(num_respond * settings.lessons_share)
    respond = ["respond-inter"] * num_inter + ["respond-scratch"] * (num_respond - num_inter)
    inspect = ["inspect-wrong" if i % 2 == 0 else "inspect-right" for i in range(num_inspect)]
    num_summarise = num - num_respond - num_inspect
    summarise = ["summarise-wrong" if i % 3 == 0 else "summarise-right" for i in range(num_summarise)]
    return respond + inspect + summarise


def pair_of(config: Config, skill: str, task: Task, user: PromptInput, assistant: str) -> dict[str, Any]:
    """A pair as it is trained on; `skill` may name a kind of it after a dash."""
    messages = [message.model_dump() for message in messages_of(user, config)]
    messages.append({"role": "assistant", "content": assistant})
    return {"messages": messages, "skill": skill.partition("-")[0], "problem_id": task.problem.id}
