"""Brings the servers of a run to its latest version, as the learner does: `python -m tests.integration.reload_child
RUN`."""

from __future__ import annotations

import sys
from pathlib import Path

from pipeline.run.folder import RunFolder
from pipeline.weights.publishing import latest
from pipeline.weights.sync import sync_all

if __name__ == "__main__":
    run = RunFolder.open(Path(sys.argv[1]))
    version = latest(run)
    assert version is not None
    sync_all(run, version)
