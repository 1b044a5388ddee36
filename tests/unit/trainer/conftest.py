"""What the learner's process sets for itself, and one thread, so that tests do not crowd out each other."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def learner_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")
    torch.set_num_threads(1)
