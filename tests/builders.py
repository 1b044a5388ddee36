"""Small records for tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipeline.config.loading import load_recipe
from pipeline.experience.pool import Candidate, Pool
from pipeline.run.folder import RunFolder
from pipeline.text import text_hash
from pipeline.types import Context, Experience, Label, Problem, Rollout, RolloutGroup, Task, Verdict, WeightVersion
from prompts.schemas import Lesson


def version(step: int, lineage: int = 0) -> WeightVersion:
    return WeightVersion(lineage=lineage, step=step)


def task_with(
    answer: str, identity: str = "p", text: str = "What is p?", row: dict[str, Any] | None = None, **entry: Any
) -> Task:
    """A problem with its gold answer; `entry` is what scorers know beside it."""
    label = Label(problem_id=identity, answer=answer, entry=entry, row=row or {})
    return Task(problem=Problem(id=identity, text=text), label=label)


def rollout(
    identity: str = "r",
    reward: float = 1.0,
    oldest: int = 0,
    newest: int | None = None,
    lineage: int = 0,
    text: str = "12",
) -> Rollout:
    return Rollout(
        id=identity,
        text=text,
        token_ids=(5, 6),
        logprobs=(-0.1, -0.2),
        finish_reason="stop",
        reward=reward,
        verdict=Verdict(kind="scored", score=reward, correct=reward > 0, answer=text),
        oldest_version=version(oldest, lineage),
        newest_version=version(oldest if newest is None else newest, lineage),
    )


def group(
    step: int = 0,
    slot: int = 0,
    lineage: int = 0,
    rewards: tuple[float, ...] = (1.0, 0.0),
    oldest: int = 0,
    problem_id: str = "p",
    pool_version: int = 1,
    context: Context | None = None,
    pair: int | None = None,
    **more: Any,
) -> RolloutGroup:
    identity = f"l{lineage}-{step:06d}-{slot:04d}"
    return RolloutGroup(
        id=identity,
        lineage=lineage,
        step=step,
        slot=slot,
        pair=pair,
        problem=Problem(id=problem_id, text=f"What is {problem_id}?"),
        context=context or Context(),
        prompt_ids=(1, 2, 3),
        rollouts=tuple(
            rollout(f"{identity}-{i:03d}", reward, oldest, lineage=lineage) for i, reward in enumerate(rewards)
        ),
        pool_version=pool_version,
        created_s=float(lineage * 1000 + step),
        **more,
    )


def saving(content: bytes) -> Callable[[Path], None]:
    """What `publish` calls to write weights: one file with `content`."""

    def save(folder: Path) -> None:
        (folder / "model.safetensors").write_bytes(content)

    return save


def experience(number: int, problem_id: str = "p", text: str = "What is 4 + 3?") -> Experience:
    return Experience(
        id=f"x{number}",
        lesson=Lesson(flow_of_thought=f"idea {number}", principles=("p",)),
        problem_id=problem_id,
        problem_text=text,
        problem_hash=text_hash(text),
        split="train",
        lineage=0,
        policy_version=1,
        step=1,
        reward=1.0,
        kind="scratch",
        rollout_id="r",
        created_s=float(number),
    )


def run_with_lessons(root: Path, *texts: str) -> RunFolder:
    """A run whose pool holds a lesson of each text."""
    config = load_recipe("quickstart")
    config = config.model_copy(update={"run": config.run.model_copy(update={"root": root, "name": "r"})})
    run = RunFolder.create(config)
    Pool(run.store).add([experience(number, f"p{number}", text) for number, text in enumerate(texts)])
    return run


def candidates(texts: list[str]) -> list[Candidate]:
    """A candidate for each problem text, `x0` of problem `p0` and so on."""
    lesson = experience(1).lesson.model_dump_json()
    return [
        Candidate(f"x{number}", f"p{number}", text_hash(text), text, "train", lesson, 0, 1.0)
        for number, text in enumerate(texts)
    ]


def tear_index(table: Any, column: str) -> None:
    """Cut the largest file of a column's index short."""
    dataset = table.to_lance()
    (index,) = (kept for kept in dataset.describe_indices() if kept.field_names == [column])
    folder = Path(dataset.uri) / "_indices" / str(index.segments[-1].uuid)
    file = max(folder.iterdir(), key=lambda each: each.stat().st_size)
    file.write_bytes(file.read_bytes()[:-100])
