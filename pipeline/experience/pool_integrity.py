"""Checks of a pool: entry by entry for `pool verify` and `pool import`, and against the problems of an evaluation."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

from pydantic import ValidationError

from pipeline.errors import DataError
from pipeline.experience.leakage import gives_answer_away
from pipeline.experience.pool import Pool
from pipeline.problems.duplicates import keys_apart
from pipeline.text import key_among, text_hash
from pipeline.types import Experience, Task
from prompts.render import harmless_lesson, render_lessons

NUM_NAMED = 5


def check_pool(pool: Pool, tasks: Sequence[Task], *, near: bool = True) -> None:
    """Raise DataError that names entries of the pool made from problems among `tasks`, or with `near` from
    near-duplicates of some. Blocking: it reads the text of every entry.

    A lesson of a problem that is evaluated would be its answer key (promise 15)."""
    asked = {key: task.problem.id for task in tasks for key in keys_apart([task], near=near)}
    exact = {task.problem.text_hash for task in tasks}
    found = [
        f"{asked[key]} (entry {entry_id}{'' if key in exact else ', of a near-duplicate'})"
        for entry_id, text in pool.problem_texts()
        if (key := key_among(text, asked)) is not None
    ]
    if not found:
        return
    more = f" and {len(found) - NUM_NAMED} more" if len(found) > NUM_NAMED else ""
    raise DataError(
        f"the pool holds lessons of problems that are to be evaluated: {', '.join(found[:NUM_NAMED])}{more}; evaluate "
        "other problems, or use a pool that never saw them (`pool export`, take these entries out, `pool import` into "
        "another run); problems.drop_near_duplicates = false takes near-duplicates for other problems"
    )


def faults(
    entries: Iterable[Experience],
    over: Callable[[str, int], list[tuple[str, int]]],
    *,
    max_entries_per_problem: int,
    heldout: Collection[str],
    answers: Mapping[str, str],
) -> Iterator[str]:
    """One line for each thing wrong with a pool: with its entries, with ids that are there twice, with problems over
    the cap.

    `over` returns the values that stand in a column of the pool more often than a number (`PoolColumns.over`)."""
    for entry in entries:
        yield from entry_faults(entry, heldout=heldout, answers=answers)
    for entry_id, num in over("id", 1):
        yield f"entry {entry_id}: is there {num} times"
    for problem_id, num in over("problem_id", max_entries_per_problem):
        yield (
            f"problem {problem_id}: has {num} entries, more than pool.max_entries_per_problem = "
            f"{max_entries_per_problem}"
        )


def entry_faults(entry: Experience, *, heldout: Collection[str], answers: Mapping[str, str]) -> list[str]:
    """One line for each thing wrong, naming the entry: a held-out problem, a text that is not the hash's, a gold answer
    given away, text that is not harmless. `answers` go by the hash of a problem's text, `heldout` by its bag too."""
    own_hash = text_hash(entry.problem_text)
    found = []
    if entry.is_held_out(heldout):
        found.append(f"its problem {entry.problem_id} is held out, or a near-duplicate of one that is")
    if entry.problem_hash != own_hash:
        found.append("its problem_hash is not that of its problem_text")
    answer = answers.get(own_hash)
    if answer is not None and gives_answer_away(render_lessons((entry.lesson,)), answer):
        found.append("gives the gold answer of its problem away")
    try:
        if harmless_lesson(entry.lesson) != entry.lesson:
            found.append("holds control tokens, a role header, template syntax, or blanks at an end or in a row")
    except ValidationError:
        found.append("holds a text of blanks alone")
    return [f"entry {entry.id}: {fault}" for fault in found]
