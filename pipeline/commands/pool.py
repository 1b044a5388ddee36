"""`pool`: look at the experience pool of a run, take it elsewhere, keep it in order.

No action holds the pool's entries in memory: they are read in batches, and counted column by column."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable, Iterator
from itertools import islice

from pipeline.audit.effects import Groups
from pipeline.commands.opened_run import RunPool, open_run
from pipeline.commands.search_explanation import explanation
from pipeline.errors import DataError
from pipeline.experience.pool_export import export, num_rows, read
from pipeline.experience.pool_integrity import entry_faults, faults
from pipeline.experience.usefulness import Use, total_use
from pipeline.observability.progress import counted
from pipeline.types import Experience
from prompts.render import normal_line, render_lessons

MAX_TOLD = 50
IMPORT_BATCH = 1024
COMPACT_EVERY = 50
"""Batches of an import between two compactions."""
SHOW_PROGRESS_FROM = 10_000
"""Entries; fewer are done at once."""


def pool_command(arguments: argparse.Namespace) -> int:
    parts = open_run(arguments.run, getattr(arguments, "version", ""))
    return ACTIONS[arguments.action](parts, arguments)


def _stats(parts: RunPool, arguments: argparse.Namespace) -> int:
    columns, uses = parts.columns(), parts.usefulness
    num_problems, most = columns.num_and_most("problem_id")
    first, last = columns.bounds("step")
    num_shown = num_groups = num_right = 0
    for entry_id, num_before, reward in columns.rows("id", "num_retrieved", "reward"):
        shown = num_before + uses.of(entry_id).num_groups
        num_shown += shown > 0
        num_groups += shown
        # A right answer earns 1, and `reward.format_weight` beside it; a wrong one that alone.
        num_right += reward >= 1
    num_files, num_bytes = parts.pool.size()
    rows = {
        "entries": columns.num_entries(),
        "problems": num_problems,
        "most of one problem": most,
        "families": _listed(columns.counts("family")),
        "made from": _listed(columns.counts("kind")),
        "from right answers": num_right,
        "steps": "-" if first is None else f"{first} to {last}",
        "shown at least once": num_shown,
        "shown, groups": num_groups,
        "not in the index yet": parts.pool.num_unindexed(),
        "version": parts.pool.version,
        "pinned": ", ".join(sorted(parts.pool.pins)) or "-",
        "data files": num_files,
        "bytes": num_bytes,
    }
    for name, value in rows.items():
        print(f"{name:<22} {value}")
    return 0


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{name or '-'} {num}" for name, num in islice(counts.items(), 9))


def _search(parts: RunPool, arguments: argparse.Namespace) -> int:
    if arguments.n < 1:
        raise DataError(f"--n {arguments.n}: show one entry at least")
    if arguments.explain:
        print("\n".join(explanation(parts, arguments)))
        return 0
    found = parts.pool.search(arguments.text, arguments.n)
    if not found:
        print(f"no problem of the {parts.pool.num_entries()} entries has a word of {arguments.text!r}")
    for one in found:
        print(f"{one.bm25:8.2f}  {one.id}  {normal_line(one.problem_text)[:90]}")
        print(f"          {normal_line(render_lessons((one.lesson,)))[:160]}")
    return 0


def _show(parts: RunPool, arguments: argparse.Namespace) -> int:
    entry = parts.pool.get(arguments.id)
    if entry is None:
        raise DataError(f"{arguments.run} has no entry {arguments.id!r}; `pool search` prints ids")
    groups = Groups(parts.outcomes(), [entry.id])
    effect = groups.effect_of(entry.id)
    shown = _with_uses(entry, groups.use_of(entry.id)).model_dump()
    # Of the groups of this run: rewards with the entry in context minus rewards from scratch, families and steps alike.
    shown["usefulness"] = effect.model_dump() if effect else None
    print(json.dumps(shown, indent=1, ensure_ascii=False))
    return 0


def _export(parts: RunPool, arguments: argparse.Namespace) -> int:
    entries = (_with_uses(entry, parts.usefulness.of(entry.id)) for entry in parts.pool.entries())
    num = export(_counted(entries, "entries written", parts.pool.num_entries()), arguments.file)
    print(f"{num} entries of version {parts.pool.version} written to {arguments.file}")
    return 0


def _with_uses(entry: Experience, here: Use) -> Experience:
    """`entry` with this run's uses added to those that it came with."""
    use = total_use(entry, here)
    update = {"num_retrieved": use.num_groups, "num_rollouts": use.num_rollouts, "reward_sum": use.reward_sum}
    return entry.model_copy(update=update)


def _import(parts: RunPool, arguments: argparse.Namespace) -> int:
    """All of the file or nothing: it is read and checked before the first entry is added."""
    heldout = parts.problems().heldout_keys
    parts.pool.set_heldout(heldout)
    total, num_read = num_rows(arguments.file), 0
    refused: list[str] = []
    num_refused = 0
    for entry in _counted(read(arguments.file), "entries checked", total):
        num_read += 1
        found = entry_faults(entry, heldout=heldout, answers={})
        num_refused += len(found)
        refused += found[: 3 - len(refused)]
    if refused:
        more = f" and {num_refused - len(refused)} more" if num_refused > len(refused) else ""
        raise DataError(f"{arguments.file}: nothing was imported: {'; '.join(refused)}{more}; leave these entries out")
    before = parts.pool.num_entries()
    entries = _counted(read(arguments.file), "entries imported", total)
    for number, batch in enumerate(iter(lambda: list(islice(entries, IMPORT_BATCH)), []), 1):
        parts.pool.import_entries(batch)
        if number % COMPACT_EVERY == 0:
            parts.pool.compact()
    parts.pool.compact()
    added = parts.pool.num_entries() - before
    print(f"{num_read} entries read, {added} more in the pool; the others were there already or are over the cap")
    return 0


def _compact(parts: RunPool, arguments: argparse.Namespace) -> int:
    parts.pool.compact()
    print(f"version {parts.pool.version}: {parts.pool.num_entries()} entries, {parts.pool.num_unindexed()} not indexed")
    return 0


def _verify(parts: RunPool, arguments: argparse.Namespace) -> int:
    heldout, answers, columns = parts.problems().heldout_keys, parts.answers(), parts.columns()
    num_wrong = num_unknown = 0

    def looked_at(entries: Iterable[Experience]) -> Iterator[Experience]:
        nonlocal num_unknown
        for entry in entries:
            num_unknown += entry.problem_hash not in answers
            yield entry

    for words in faults(
        looked_at(_counted(parts.pool.entries(), "entries checked", columns.num_entries())),
        columns.over,
        max_entries_per_problem=parts.config.pool.max_entries_per_problem,
        heldout=heldout,
        answers=answers,
    ):
        num_wrong += 1
        if num_wrong <= MAX_TOLD:
            print(f"WRONG     {words}")
    if num_wrong > MAX_TOLD:
        print(f"… and {num_wrong - MAX_TOLD} more")
    if num_unknown:
        print(f"unchecked {num_unknown} entries of problems whose answer this run does not know: they may give it away")
    print(f"{columns.num_entries()} entries, {num_wrong} things wrong")
    return 1 if num_wrong else 0


def _counted(entries: Iterable[Experience], name: str, total: int) -> Iterator[Experience]:
    """`entries`, with progress where they are many."""
    return counted(entries, name, total, least=SHOW_PROGRESS_FROM, every=IMPORT_BATCH)


ACTIONS: dict[str, Callable[[RunPool, argparse.Namespace], int]] = {
    "stats": _stats,
    "search": _search,
    "show": _show,
    "export": _export,
    "import": _import,
    "compact": _compact,
    "verify": _verify,
}
