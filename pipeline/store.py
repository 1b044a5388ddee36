"""Opening LanceDB tables with bounded memory: its own bounds are 6 GiB of index cache and 1 GiB of metadata per process."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

INDEX_CACHE_BYTES = 256 << 20
METADATA_CACHE_BYTES = 64 << 20


@cache
def _session() -> Any:
    """The caches, shared by all tables of this process."""
    import lancedb

    return lancedb.Session(index_cache_size_bytes=INDEX_CACHE_BYTES, metadata_cache_size_bytes=METADATA_CACHE_BYTES)


def open_table(path: Path | str, name: str, schema: Any) -> Any:
    """The table `name` in the folder or object store at `path`; made with `schema` if it is not there."""
    import lancedb

    return lancedb.connect(str(path), session=_session()).create_table(name, schema=schema, exist_ok=True)
