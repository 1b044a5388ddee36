"""Writes to a pool through its writer until it is killed, and says what was acknowledged: `python -m
tests.integration.pool_child`."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from pipeline.config.experience import PoolSection
from pipeline.experience.pool import Pool
from pipeline.runtime.batch_writer import BatchWriter
from pipeline.runtime.stage_clock import StageClock
from pipeline.runtime.watchdog import Watchdog
from pipeline.types import Experience
from tests.builders import experience

MAX_ENTRIES, BATCH = 4, 8


async def write_for_ever(folder: Path, first: int) -> None:
    pool = Pool(folder, PoolSection(max_entries_per_problem=MAX_ENTRIES))
    # Maintained after every other commit, and with problems over their cap, so that a kill meets each kind of change.
    writer: BatchWriter[Experience] = BatchWriter("pool", pool.add, pool.compact, 2, StageClock(), Watchdog())
    writing = asyncio.create_task(writer.run())
    number = first
    while not writing.done():
        batch = [experience(number + i, problem_id=f"p{(number + i) // 6}") for i in range(BATCH)]
        await writer.write(batch)
        if number % 24 == 0:
            pool.pin("here")
        print(" ".join(entry.id for entry in batch), flush=True)
        number += BATCH
    await writing


if __name__ == "__main__":
    asyncio.run(write_for_ever(Path(sys.argv[1]), int(sys.argv[2])))
