"""Reads a pool's table column by column, for statistics, samples and checks of a large pool without its entries in
memory.

Read-only, at one version. Blocking."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.experience.pool import ROWS_PER_READ
from pipeline.experience.pool_schema import TABLE, entry_of, schema
from pipeline.storage.tables import SEARCHED, open_table
from pipeline.types import Experience


class PoolColumns:
    """The pool at `path` as it is at `version`."""

    def __init__(self, path: Path | str, version: int) -> None:
        self._table = open_table(path, TABLE, schema(), SEARCHED)
        self._table.checkout(version)

    def num_entries(self) -> int:
        return int(self._table.count_rows())

    def counts(self, name: str) -> dict[str, int]:
        """How often each value of a column with few values stands there, the most frequent first."""
        pairs = ((value["values"], value["counts"]) for value in self._counted(name).to_pylist())
        return dict(sorted(pairs, key=lambda pair: (-pair[1], pair[0])))

    def num_and_most(self, name: str) -> tuple[int, int]:
        """How many values a column has, and how often the most frequent one stands there."""
        import pyarrow.compute as pc

        counted = self._counted(name)
        return len(counted), pc.max(counted.field("counts")).as_py() or 0

    def over(self, name: str, most: int) -> list[tuple[str, int]]:
        """The values that stand in a column more than `most` times, and how often."""
        import pyarrow.compute as pc

        counted = self._counted(name)
        above = counted.filter(pc.greater(counted.field("counts"), most))
        return [(value["values"], value["counts"]) for value in above.to_pylist()]

    def bounds(self, name: str) -> tuple[Any, Any]:
        """Least and largest value of a column; None and None of an empty one."""
        import pyarrow.compute as pc

        both = pc.min_max(self._column(name))
        return both["min"].as_py(), both["max"].as_py()

    def rows(self, *names: str) -> Iterator[tuple[Any, ...]]:
        """The values of these columns, row by row in the order of the table."""
        for batch in self._table.search().select(list(names)).limit(None).to_batches(batch_size=ROWS_PER_READ):
            yield from zip(*(batch[name].to_pylist() for name in names), strict=True)

    def sample(self, num: int, seed: int) -> list[Experience]:
        """`num` entries drawn at random, or all where there are fewer."""
        total = self.num_entries()
        offsets = random.Random(seed).sample(range(total), k=min(num, total))
        return list(map(entry_of, self._table.take_offsets(offsets).to_arrow().to_pylist())) if offsets else []

    def _column(self, name: str) -> Any:
        return self._table.search().select([name]).limit(None).to_arrow()[name].combine_chunks()

    def _counted(self, name: str) -> Any:
        import pyarrow.compute as pc

        return pc.value_counts(self._column(name))
