"""Writes to a store until it is killed: `python -m tests.integration.store_child journal|pool STORE FIRST`.

`journal` appends groups and says which were acknowledged; `pool` waits for a number on each line and adds the entry of
that number."""

from __future__ import annotations

import sys
from itertools import count

from pipeline.experience.pool import Pool
from pipeline.storage.journal import Journal
from tests.builders import experience, group


def append_for_ever(store: str, first: int) -> None:
    journal = Journal(store)
    for number in count(first):
        journal.append([group(step=number)])
        print(number, flush=True)
        if number % 4 == 3:
            journal.compact()


def add_when_told(store: str) -> None:
    pool = Pool(store)
    print("ready", flush=True)
    for line in sys.stdin:
        number = int(line)
        pool.add([experience(number, problem_id=f"p{number}")])
        print(number, flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "journal":
        append_for_ever(sys.argv[2], int(sys.argv[3]))
    else:
        add_when_told(sys.argv[2])
