"""Long runs stay flat (docs/promises.md: 22). The full form takes two hours."""

from __future__ import annotations

import pytest

from benchmarks.soak import Look, is_flat, slope, soaked

# Some commits' files, all indices, and what compactions of twelve seconds replaced.
MAX_STORE_FILES = 10_000


def test_a_short_soak_works_through_faults_and_keeps_its_files_few() -> None:
    row, looks = soaked(0.2)
    assert row["groups"] > 50
    assert row["retries"] > 0
    assert row["open files"] < 400
    assert row["most files in the store"] < MAX_STORE_FILES
    assert len(looks) >= 2


@pytest.mark.slow
def test_two_hours_at_full_load_are_flat() -> None:
    row, _ = soaked(120.0)
    assert is_flat(row), row


def test_growth_is_seen() -> None:
    looks = [Look(float(second), 10**9 + second * 10**5, 50, 500, second) for second in range(0, 3600, 60)]
    assert slope(looks, "resident_bytes") == pytest.approx(3.6e8)
    assert slope(looks, "num_open_files") == 0
    row = {"memory, share an hour": 0.36, "open files an hour": 0.0, "files in the store, share an hour": 0.01}
    assert not is_flat(row)
    assert is_flat({**row, "memory, share an hour": 0.005})
    assert not is_flat({**row, "memory, share an hour": 0.005, "files in the store, share an hour": 0.2})
    assert not is_flat({**row, "memory, share an hour": 0.005, "open files an hour": 50.0})
