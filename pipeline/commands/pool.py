"""`pool`: look at the experience pool of a run, take it elsewhere, keep it in order."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Callable
from itertools import islice
from pathlib import Path

from pipeline.commands.run_pool import RunPool, open_run
from pipeline.errors import DataError
from pipeline.pool_checks import faults
from pipeline.pool_files import export, read
from pipeline.records import Experience
from pipeline.usefulness import total_use
from prompts.render import normal_line, render_lessons

ACTIONS = {
    "stats": "how many entries, of what, how much they are used, versions and room on disk",
    "search": "the entries whose problem is most like a text",
    "show": "one entry, all that is known of it",
    "export": "write the entries to a .jsonl or .parquet file",
    "import": "add the entries of such a file",
    "compact": "merge small files, bring the indices up to date, remove old versions",
    "verify": "check every entry; exit status 1 when one is not as it should be",
}
MAX_TOLD = 50
IMPORT_BATCH = 1024


def add_options(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="{" + ",".join(ACTIONS) + "}")
    for name, brief in ACTIONS.items():
        action = actions.add_parser(name, help=brief, description=f"{brief[0].upper()}{brief[1:]}.")
        action.add_argument("run", type=Path, metavar="RUN", help="the run folder; the run may go on meanwhile")
        if name == "search":
            action.add_argument("text", help="words of a problem")
            action.add_argument("--n", type=int, default=8, help="most entries to show (default 8)")
        if name == "show":
            action.add_argument("id", help="an entry's id, as search prints it")
        if name in ("export", "import"):
            action.add_argument("file", type=Path, metavar="FILE")
        if name not in ("import", "compact"):
            action.add_argument(
                "--version", default="", metavar="V", help="a version, or the name of a pin; default: the newest"
            )


def pool_command(arguments: argparse.Namespace) -> int:
    parts = open_run(arguments.run, getattr(arguments, "version", ""))
    return COMMANDS[arguments.action](parts, arguments)


def _stats(parts: RunPool, arguments: argparse.Namespace) -> int:
    entries = list(parts.pool.entries())
    of_problem = Counter(entry.problem_id for entry in entries)
    uses = [parts.usefulness.of(entry.id) for entry in entries]
    num_files, num_bytes = parts.pool.size()
    rows = {
        "entries": len(entries),
        "problems": len(of_problem),
        "most of one problem": max(of_problem.values(), default=0),
        "families": ", ".join(f"{name or '-'} {n}" for name, n in Counter(e.family for e in entries).most_common(9)),
        "made from": ", ".join(f"{name} {n}" for name, n in Counter(e.kind for e in entries).most_common()),
        "from right answers": sum(entry.reward > 0 for entry in entries),
        "steps": f"{min(e.step for e in entries)} to {max(e.step for e in entries)}" if entries else "-",
        "shown at least once": sum(use.num_groups > 0 for use in uses),
        "shown, groups": sum(use.num_groups for use in uses),
        "not in the index yet": parts.pool.num_unindexed(),
        "version": parts.pool.version,
        "pinned": ", ".join(sorted(parts.pool.pins)) or "-",
        "data files": num_files,
        "bytes": num_bytes,
    }
    for name, value in rows.items():
        print(f"{name:<22} {value}")
    return 0


def _search(parts: RunPool, arguments: argparse.Namespace) -> int:
    for found in parts.pool.search(arguments.text, arguments.n):
        print(f"{found.bm25:8.2f}  {found.id}  {normal_line(found.problem_text)[:90]}")
        print(f"          {normal_line(render_lessons((found.lesson,)))[:160]}")
    return 0


def _show(parts: RunPool, arguments: argparse.Namespace) -> int:
    entry = parts.pool.get(arguments.id)
    if entry is None:
        raise DataError(f"{arguments.run} has no entry {arguments.id!r}; `pool search` prints ids")
    print(json.dumps(_counted(parts, entry).model_dump(), indent=1))
    return 0


def _export(parts: RunPool, arguments: argparse.Namespace) -> int:
    num = export((_counted(parts, entry) for entry in parts.pool.entries()), arguments.file)
    print(f"{num} entries of version {parts.pool.version} written to {arguments.file}")
    return 0


def _counted(parts: RunPool, entry: Experience) -> Experience:
    """`entry` with this run's uses added to those that it came with."""
    use = total_use(entry, parts.usefulness.of(entry.id))
    update = {"num_retrieved": use.num_groups, "num_rollouts": use.num_rollouts, "reward_sum": use.reward_sum}
    return entry.model_copy(update=update)


def _import(parts: RunPool, arguments: argparse.Namespace) -> int:
    """All of the file or nothing: it is read and checked before the first entry is added."""
    heldout = parts.problems().heldout_hashes
    parts.pool.hold_out(heldout)
    num_read = 0
    refused = []
    for entry in read(arguments.file):
        num_read += 1
        refused += _import_faults(entry, parts, heldout)
    if refused:
        more = f" and {len(refused) - 3} more" if len(refused) > 3 else ""
        raise DataError(
            f"{arguments.file}: nothing was imported: {'; '.join(refused[:3])}{more}; leave these entries out"
        )
    before, entries = parts.pool.num_entries(), read(arguments.file)
    while batch := list(islice(entries, IMPORT_BATCH)):
        parts.pool.add(batch)
        parts.pool.compact()
    added = parts.pool.num_entries() - before
    print(f"{num_read} entries read, {added} more in the pool; the others were there already or are over the cap")
    return 0


def _import_faults(entry: Experience, parts: RunPool, heldout: frozenset[str]) -> list[str]:
    return faults(
        [entry], max_entries_per_problem=parts.config.pool.max_entries_per_problem, heldout=heldout, answers={}
    )


def _compact(parts: RunPool, arguments: argparse.Namespace) -> int:
    parts.pool.compact()
    print(f"version {parts.pool.version}: {parts.pool.num_entries()} entries, {parts.pool.num_unindexed()} not indexed")
    return 0


def _verify(parts: RunPool, arguments: argparse.Namespace) -> int:
    problems = parts.problems()
    found = faults(
        parts.pool.entries(),
        max_entries_per_problem=parts.config.pool.max_entries_per_problem,
        heldout=problems.heldout_hashes,
        answers={task.problem.id: task.label.answer for task in problems.train},
    )
    for words in found[:MAX_TOLD]:
        print(f"WRONG     {words}")
    if len(found) > MAX_TOLD:
        print(f"… and {len(found) - MAX_TOLD} more")
    print(f"{parts.pool.num_entries()} entries, {len(found)} things wrong")
    return 1 if found else 0


COMMANDS: dict[str, Callable[[RunPool, argparse.Namespace], int]] = {
    "stats": _stats,
    "search": _search,
    "show": _show,
    "export": _export,
    "import": _import,
    "compact": _compact,
    "verify": _verify,
}
