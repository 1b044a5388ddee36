"""Problems of reasoning-gym families: seeded, distinct, split.

Each family draws from a stream of its own, seeded by the hash of split, seed and family, because reasoning-gym adds the
index to the seed: neighbouring seeds would yield the same problems, shifted by one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from typing import Any

from pipeline.config.problems import FamilySettings, ProblemsSection
from pipeline.errors import ConfigError, DataError
from pipeline.hashing import seed_of
from pipeline.problems.drawing import draw_split, draw_splits
from pipeline.text import nearest, text_hash
from pipeline.types import Label, Problem, Split, Task

REMEDY = ", or widen its params"


def generate(settings: ProblemsSection, seed: int) -> tuple[list[Task], list[Task]]:
    """Held-out and training tasks, in this order, families mixed. Raises ConfigError and DataError."""
    if not settings.families:
        raise ConfigError("problems.families is empty; name at least one family, for example chain_sum")
    return draw_splits(settings, settings.families, seed, partial(_stream, settings), REMEDY)


def heldout_tasks(settings: ProblemsSection) -> list[Task]:
    """The held-out tasks that `generate` yields for any seed. Raises ConfigError and DataError."""
    stream = partial(_stream, settings)
    return draw_split(settings, settings.families, "heldout", settings.heldout_seed, stream, REMEDY, set())


def _stream(
    settings: ProblemsSection, family: FamilySettings, split: Split, seed: int, num_draws: int, taken: set[str]
) -> Iterator[Task]:
    own_seed = seed_of(json.dumps([split, seed, family.name, family.params], sort_keys=True, default=str))
    source = create_family(family, settings.families.index(family), own_seed, num_draws)
    is_checked = False
    for index in range(num_draws):
        item = source[index]
        task, exact = _task(family, item, split)
        if task.problem.text_hash not in taken:
            if not (is_checked and exact):
                _check_scorer(family, source, item, task.label)
            is_checked = True
            yield task


def check_family(name: str, field: str) -> None:
    """Raise ConfigError for a `name`, which stands in `field`, that is no family of reasoning-gym."""
    from reasoning_gym.factory import DATASETS

    if name not in DATASETS:
        close = nearest(name, DATASETS, num=4, cutoff=0.4)
        raise ConfigError(
            f"{field} = {name!r} is no reasoning-gym family; "
            + (
                f"close names: {', '.join(close)}"
                if close
                else "for example: chain_sum, basic_arithmetic, gsm_symbolic"
            )
        )


def create_family(family: FamilySettings, position: int, seed: int, size: int) -> Any:
    """The family's reasoning-gym data set. Raises ConfigError naming the field, the value and the remedy."""
    import reasoning_gym
    from reasoning_gym.factory import DATASETS

    check_family(family.name, f"problems.families[{position}].name")
    if reserved := {"seed", "size"} & family.params.keys():
        raise ConfigError(
            f"problems.families[{position}].params sets {', '.join(sorted(reserved))}; leave it out: "
            "run.seed, problems.heldout_seed, num_train and num_heldout decide it"
        )
    try:
        return reasoning_gym.create_dataset(family.name, **family.params, seed=seed, size=size)
    except (TypeError, ValueError, AssertionError) as error:
        _, config_class = DATASETS[family.name]
        known = [name for name in config_class.__dataclass_fields__ if name not in ("seed", "size")]
        raise ConfigError(
            f"problems.families[{position}].params = {family.params!r} does not suit {family.name!r}: {error}; "
            f"its params are {', '.join(known)}"
        ) from error


def _task(family: FamilySettings, item: dict[str, Any], split: Split) -> tuple[Task, bool]:
    """`item` as a task, and whether JSON holds its metadata as it is; else values like fractions became their texts."""
    if not isinstance(item["answer"], str):
        raise DataError(f"family {family.name!r} gives no single gold answer, which labels need; choose another family")
    question = item["question"].strip()
    problem = Problem(id=f"{family.name}-{text_hash(question)}", text=question, split=split, family=family.name)
    entry = {
        "family": family.name,
        "params": family.params,
        "question": item["question"],
        "answer": item["answer"],
        "metadata": item["metadata"],
    }
    try:
        text, exact = json.dumps(entry), True
    except TypeError:
        text, exact = _as_text(family, entry), False
    label = Label(problem_id=problem.id, answer=item["answer"], entry=json.loads(text))
    return Task(problem=problem, label=label), exact


def _as_text(family: FamilySettings, entry: dict[str, Any]) -> str:
    try:
        return json.dumps(entry, default=str)
    except TypeError as error:  # keys that are no texts
        raise DataError(
            f"family {family.name!r} has metadata that JSON cannot hold ({error}); choose another family"
        ) from error


def _check_scorer(family: FamilySettings, source: Any, item: dict[str, Any], label: Label) -> None:
    """The gold answer must score alike before and after the trip through JSON, or every reward would be wrong."""
    direct = source.score_answer(label.answer, item)
    stored = source.score_answer(label.answer, label.entry)
    if direct != stored:
        raise DataError(
            f"family {family.name!r} scores its gold answer {direct:g}, but {stored:g} from a stored record; choose "
            "another family"
        )
