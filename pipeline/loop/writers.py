"""The writers of a run's journal and pool."""

from __future__ import annotations

from pipeline.experience.pool import Pool
from pipeline.runtime.batch_writer import BatchWriter
from pipeline.runtime.stage_clock import StageClock
from pipeline.runtime.watchdog import Watchdog
from pipeline.storage.journal import Journal
from pipeline.types import Experience, RolloutGroup

# Each commit makes a file; a read opens as many files more as there were commits since the last maintenance.
MAINTAIN_JOURNAL_EVERY = 128
# And a search looks through what is not yet in the index row by row.
MAINTAIN_POOL_EVERY = 16


def journal_writer(journal: Journal, clock: StageClock, watchdog: Watchdog) -> BatchWriter[RolloutGroup]:
    return BatchWriter("journal", journal.append, journal.compact, MAINTAIN_JOURNAL_EVERY, clock, watchdog)


def pool_writer(pool: Pool, clock: StageClock, watchdog: Watchdog) -> BatchWriter[Experience]:
    return BatchWriter("pool", pool.add, pool.compact, MAINTAIN_POOL_EVERY, clock, watchdog)
