"""Maintenance of tables: which failures are lost races, worth another attempt."""

from __future__ import annotations

import pytest

from pipeline.storage.maintenance import is_conflict


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Commit conflict for version 7: there was a concurrent commit", True),
        ("Incompatible transaction: this CreateIndex was preempted", True),
        ("Retryable commit conflict for version 9", True),
        ("Too many concurrent writers. Attempted 10 times, but failed on retry_timeout of 30.000 seconds.", True),
        ("No space left on device (os error 28)", False),
        ("LanceError(IO): Input/output error", False),
    ],
)
def test_a_lost_race_is_told_from_a_disk_that_fails(text: str, expected: bool) -> None:
    assert is_conflict(OSError(text)) is expected
