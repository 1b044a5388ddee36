"""What can be wrong with a pool, entry by entry: pure functions for `pool verify`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping

from pipeline.leaks import gives_answer_away
from pipeline.records import Experience, text_hash
from prompts.render import harmless_lesson, render_lessons


def faults(
    entries: Iterable[Experience],
    *,
    max_entries_per_problem: int,
    heldout: Collection[str],
    answers: Mapping[str, str],
) -> list[str]:
    """One line for each thing wrong, naming the entry: ids twice, held-out problems, texts that are not the hash's, gold
    answers given away, text that is not harmless, problems over the cap."""
    found: list[str] = []
    ids: Counter[str] = Counter()
    problems: Counter[str] = Counter()
    for entry in entries:
        ids[entry.id] += 1
        problems[entry.problem_id] += 1
        found += [f"entry {entry.id}: {words}" for words in _faults_of(entry, heldout, answers)]
    found += [f"entry {entry_id}: is there {num} times" for entry_id, num in ids.items() if num > 1]
    found += [
        f"problem {problem_id}: has {num} entries, more than pool.max_entries_per_problem = {max_entries_per_problem}"
        for problem_id, num in problems.items()
        if num > max_entries_per_problem
    ]
    return found


def _faults_of(entry: Experience, heldout: Collection[str], answers: Mapping[str, str]) -> list[str]:
    found = []
    if entry.split != "train" or entry.problem_hash in heldout:
        found.append(f"its problem {entry.problem_id} is held out")
    if entry.problem_hash != text_hash(entry.problem_text):
        found.append("its problem_hash is not that of its problem_text")
    answer = answers.get(entry.problem_id)
    if answer is not None and gives_answer_away(render_lessons((entry.lesson,)), answer):
        found.append("gives the gold answer of its problem away")
    if harmless_lesson(entry.lesson) != entry.lesson:
        found.append("holds control tokens, a role header or template syntax")
    return found
