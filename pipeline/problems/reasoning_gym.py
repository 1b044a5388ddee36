"""Problems of reasoning-gym families: seeded, distinct, split.

Each family draws from a stream of its own, seeded by the hash of split, seed and family, because reasoning-gym adds the
index to the seed: neighbouring seeds would yield the same problems, shifted by one. Held-out problems are drawn first,
from `heldout_seed` alone; a training problem that equals one is skipped and another drawn in its place."""

from __future__ import annotations

import hashlib
import json
import random
from typing import Any

from pipeline.config.problems import FamilySettings, ProblemsSection
from pipeline.errors import ConfigError, DataError
from pipeline.text import nearest, text_hash
from pipeline.types import Label, Problem, Split, Task

# Draws per wanted problem before a family is said to be exhausted: collecting the last of n values takes about n ln n
# draws.
DRAWS_PER_PROBLEM = 20
EXTRA_DRAWS = 1000


def generate(settings: ProblemsSection, seed: int) -> tuple[list[Task], list[Task]]:
    """Held-out and training tasks, in this order, families mixed. Raises ConfigError and DataError."""
    if not settings.families:
        raise ConfigError("problems.families is empty; name at least one family, for example chain_sum")
    taken: set[str] = set()
    heldout = _draw(settings, "heldout", settings.heldout_seed, settings.num_heldout, taken)
    train = _draw(settings, "train", seed, settings.num_train, taken)
    return heldout, train


def heldout_tasks(settings: ProblemsSection) -> list[Task]:
    """The held-out tasks that `generate` yields for any seed. Raises ConfigError and DataError."""
    return _draw(settings, "heldout", settings.heldout_seed, settings.num_heldout, set())


def _draw(settings: ProblemsSection, split: Split, seed: int, num: int, taken: set[str]) -> list[Task]:
    """`num` distinct tasks whose text hashes are not in `taken`; adds theirs."""
    counts = shares([family.weight for family in settings.families], num)
    tasks = []
    for position, (family, count) in enumerate(zip(settings.families, counts, strict=True)):
        if count:
            tasks += _draw_family(family, position, split, seed, count, taken)
    random.Random(f"mix:{split}:{seed}").shuffle(tasks)
    return tasks


def shares(weights: list[float], num: int) -> list[int]:
    """`num` split in proportion to `weights`, by largest remainders."""
    exact = [num * weight / sum(weights) for weight in weights]
    counts = [int(value) for value in exact]
    by_remainder = sorted(range(len(exact)), key=lambda i: counts[i] - exact[i])
    for i in by_remainder[: num - sum(counts)]:
        counts[i] += 1
    return counts


def _draw_family(
    family: FamilySettings, position: int, split: Split, seed: int, num: int, taken: set[str]
) -> list[Task]:
    num_draws = DRAWS_PER_PROBLEM * num + EXTRA_DRAWS
    source = create_family(family, position, _stream_seed(family, split, seed), num_draws)
    tasks: list[Task] = []
    for index in range(num_draws):
        item = source[index]
        task, exact = _task(family, item, split)
        if task.problem.text_hash not in taken:
            if not (tasks and exact):
                _check_scorer(family, source, item, task.label)
            taken.add(task.problem.text_hash)
            tasks.append(task)
            if len(tasks) == num:
                return tasks
    setting = "problems.num_heldout" if split == "heldout" else "problems.num_train"
    raise DataError(
        f"family {family.name!r} with params {family.params} made only {len(tasks)} of the {num} distinct {split} problems "
        f"wanted (in {num_draws} draws); lower {setting}, or widen its params"
    )


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


def _stream_seed(family: FamilySettings, split: Split, seed: int) -> int:
    text = json.dumps([split, seed, family.name, family.params], sort_keys=True, default=str)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4]) >> 1


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
    exact = True
    try:
        text = json.dumps(entry)
    except TypeError:
        exact = False
        text = _as_text(family, entry)
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
            f"family {family.name!r} scores its gold answer {direct:g}, but {stored:g} from a stored record; choose another family"
        )
