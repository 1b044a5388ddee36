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
from pipeline.sft.lessons import all_lessons, lessons_of
from pipeline.sft.worked_solutions import Solution, answer_only, solve, with_mistake
from pipeline.types import Task
from prompts.analysis import block
from prompts.render import render
from prompts.schemas import Abstract, Inter, Intra, Lesson, PromptInput, Scratch, Summary
from prompts.sets import templates_of

# Part of the cache key: raise it whenever the pairs made from the same inputs change.
CODE_VERSION = 6
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
    fewer. A third of the answers come with lessons (they cost twice the tokens), half of the inspected attempts are
    wrong; what has no steps that were checked is answered, not inspected. Of the answers from scratch and the inspected
    attempts, `sft.answer_only_share` show no steps: the critique then says so, whether the result is right or wrong.
    Raises ValueError for a held-out task, by its split or its text.
    """
    refuse_heldout(tasks, heldout_hashes)
    rng = random.Random(f"sft:{config.sft.seed}")
    solved = solved_of(tasks)
    skills = skills_of(config.sft, min(config.sft.num_pairs, MAX_PAIRS_PER_PROBLEM * len(solved)))
    order = [pair for _ in range(-(-len(skills) // max(1, len(solved)))) for pair in rng.sample(solved, len(solved))]
    pairs = []
    for skill, (task, solution) in zip(skills, order, strict=False):
        if skill.startswith("inspect") and not solution.steps:
            skill = "respond-scratch"
        user, assistant = _exchange(skill, task, solution, config, rng)
        pairs.append(pair_of(config, skill, task, user, assistant))
    rng.shuffle(pairs)
    return pairs


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
    respond = ["respond-inter" if i % 3 == 2 else "respond-scratch" for i in range(num_respond)]
    inspect = ["inspect-wrong" if i % 2 == 0 else "inspect-right" for i in range(num_inspect)]
    num_summarise = num - num_respond - num_inspect
    summarise = ["summarise-wrong" if i % 3 == 0 else "summarise-right" for i in range(num_summarise)]
    return respond + inspect + summarise


def _exchange(
    skill: str, task: Task, solution: Solution, config: Config, rng: random.Random
) -> tuple[PromptInput, str]:
    """What the prompt shows and what the model should answer."""
    problem, form = task.problem.text, task.problem.form
    match skill:
        case "respond-scratch":
            shown = answer_only(task) if form == "boxed" and _shows_no_steps(config, rng) else solution
            return Scratch(problem=problem, form=form), shown.text
        case "respond-inter":
            lessons, index = drawn_lessons(task.problem.family, config.feedback.num_lessons, rng)
            principle = lessons[index].principles[0]
            analysis = f"Lesson {index + 1} applies: {principle[0].lower()}{principle[1:]}"
            return Inter(problem=problem, lessons=lessons, form=form), f"{block(analysis)}{solution.text}"
        case "inspect-right" | "inspect-wrong":
            if _shows_no_steps(config, rng):
                attempt = with_mistake(task, answer_only(task), rng) if skill == "inspect-wrong" else answer_only(task)
                return Intra(
                    problem=problem, attempt=attempt.attempt, form=form
                ), f"{block('It shows no steps.')}{solution.text}"
            attempt = with_mistake(task, solution, rng) if skill == "inspect-wrong" else solution
            return Intra(
                problem=problem, attempt=attempt.attempt, form=form
            ), f"{block(critique(attempt, solution))}{solution.text}"
    attempt = with_mistake(task, solution, rng) if skill == "summarise-wrong" else solution
    lesson = rng.choice(lessons_of(task.problem.family))
    found = critique(attempt, solution)[: config.lesson_sizes.critique]
    return Abstract(problem=problem, trajectory=attempt.attempt), Summary(critique=found, lesson=lesson).reply


def _shows_no_steps(config: Config, rng: random.Random) -> bool:
    """Whether this answer is one that shows no steps. Nothing is drawn where the recipe wants none of them."""
    return config.sft.answer_only_share > 0 and rng.random() < config.sft.answer_only_share


def drawn_lessons(family: str, most: int, rng: random.Random) -> tuple[tuple[Lesson, ...], int]:
    """One to `most` lessons and the index of the one that applies; the others are of other families."""
    own = lessons_of(family)
    others = [lesson for lesson in all_lessons() if lesson not in own]
    num_others = min(rng.randrange(most), len(others))
    lessons = rng.sample(others, num_others)
    index = rng.randint(0, num_others)
    lessons.insert(index, rng.choice(own))
    return tuple(lessons), index


def critique(attempt: Solution, solution: Solution) -> str:
    """One line per checked step of `attempt`, up to its mistake, which is named with the right value; what has no steps
    was not checked, and is not called right."""
    lines: list[str] = []
    for index, step in enumerate(attempt.steps):
        if index == attempt.wrong_step:
            return "\n".join([*lines, f"{step.text} is wrong: it is {solution.steps[index].value}."])
        lines.append(f"{step.text} is right.")
    if attempt.wrong_step is not None:
        lines.append(f"The answer is {solution.answer}, not {attempt.answer}.")
    return "\n".join(lines or ["It shows no steps."])


def pair_of(config: Config, skill: str, task: Task, user: PromptInput, assistant: str) -> dict[str, Any]:
    """A pair as it is trained on; `skill` may name a kind of it after a dash."""
    messages = [message.model_dump() for message in messages_of(user, config)]
    messages.append({"role": "assistant", "content": assistant})
    return {"messages": messages, "skill": skill.partition("-")[0], "problem_id": task.problem.id}
