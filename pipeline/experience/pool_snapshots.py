"""Snapshots of the pool as each step began: versions by the name of the step, which resumes and forks return to.
Blocking."""

from __future__ import annotations

from collections.abc import Callable

from pipeline.experience.pool import Pool

PIN = "step-"
"""Names of versions of the pool begin so: each is what the pool was when a step began last."""


def keep(pool: Pool, step: int, oldest: int) -> int:
    """Keep the pool as it is when `step` begins, let go of steps before `oldest`; return the version."""
    _forget(pool, lambda begun: begun < oldest)
    return pool.pin(_name_of(step))


def version_at(pool: Pool, step: int) -> int | None:
    """The version of the pool when `step` began last; None where it has not begun."""
    return pool.pins.get(_name_of(step))


def rollback(pool: Pool, step: int) -> None:
    """Return the pool to what it was when `step` began last, for a resume from there.

    A step that has not begun adds no lessons, so there is nothing to undo. The start's name is let go of when a later
    checkpoint will do; where every one of those is torn, nothing that the run learned counts. Later steps are
    forgotten: should this one end before they begin again, the pool that another lineage had then is not what to return
    to."""
    version = version_at(pool, step)
    if version is not None and version != pool.version:
        pool.restore(version)
    elif version is None and step == 0 and any(name.startswith(PIN) for name in pool.pins):
        pool.clear_run_entries()
    _forget(pool, lambda begun: begun > step)


def _name_of(step: int) -> str:
    return f"{PIN}{step:06d}"


def _forget(pool: Pool, goes: Callable[[int], bool]) -> None:
    """Let go of the steps that `goes` names."""
    for name in pool.pins:
        if name.startswith(PIN) and goes(int(name.removeprefix(PIN))):
            pool.unpin(name)
