"""What the ledger of a run (crash_child) says, against what its folder holds.

Nothing of the program's own bookkeeping is asked: not lineages, not cursors, not which group survives. A learner that
begins with the batch of step s has the weights of s steps, by its trainer's own count; so of what was trained before
it, the first s steps are part of its weights, and the rest is not."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.run.folder import RunFolder


@dataclass
class Ledger:
    """`trained` is what the weights at the end were trained on: per step, the batch that was read for it."""

    acknowledged: list[str] = field(default_factory=list)
    trained: list[dict[str, Any]] = field(default_factory=list)
    num_undone: int = 0
    """Steps that were trained and are no part of these weights."""


def read(file: Path) -> Ledger:
    """Raises AssertionError when a learner began with weights that nobody had trained, or a step was trained on
    another's batch."""
    ledger, batch = Ledger(), None
    for line in map(json.loads, file.read_text().splitlines()):
        if "acknowledged" in line:
            ledger.acknowledged += line["acknowledged"]
        elif "begins" in line:
            assert line["begins"] <= len(ledger.trained), "a learner began after a step that was never trained"
            ledger.num_undone += len(ledger.trained) - line["begins"]
            del ledger.trained[line["begins"] :]
        elif "batch" in line:
            batch = line
            assert batch["batch"] == len(ledger.trained), "a batch was read for another step than the next one"
        else:
            assert batch is not None and line["trained"] == batch["batch"] + 1
            ledger.trained.append(batch)
    return ledger


def stored_groups(run: RunFolder) -> Counter[str]:
    """How often the journal's table holds each group, read as any other program would read it."""
    import lance

    return Counter(lance.dataset(f"{run.store}/journal.lance").to_table(["group_id"])["group_id"].to_pylist())


def assert_nothing_lost_nothing_twice(file: Path, run: RunFolder) -> str:
    """Every acknowledged group is in the journal; every slot of every step was trained exactly once, and so was each of
    its rollouts. Returns the figures."""
    config, ledger, stored = run.config(), read(file), stored_groups(run)
    lost = [name for name in ledger.acknowledged if stored[name] != 1]
    assert lost == [], "acknowledged, and not in the journal exactly once"
    assert max(Counter(ledger.acknowledged).values()) == 1
    rollout = config.rollout
    assert [batch["batch"] for batch in ledger.trained] == list(range(config.learner.num_steps))
    for batch in ledger.trained:
        assert sorted(batch["slots"]) == list(range(rollout.num_problems_per_step))
        assert batch["rows"] == rollout.num_problems_per_step * rollout.group_size
        assert all(stored[name] == 1 for name in batch["groups"])
    trained = Counter(name for batch in ledger.trained for rollouts in batch["groups"].values() for name in rollouts)
    assert max(trained.values()) == 1
    assert len(trained) == config.learner.num_steps * rollout.num_problems_per_step * rollout.group_size
    return (
        f"{len(ledger.acknowledged) * rollout.group_size} rollouts acknowledged, 0 lost; {len(trained)} trained, 0 "
        f"missing, 0 twice; {ledger.num_undone} steps trained and undone"
    )
