"""Shared fixtures. Tests run offline, on few threads, and leave nothing outside their temporary folders."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from pipeline.observability import logs
from tests.documents import promises

# Before any test imports torch or a hub client: two cores are shared by every process that the tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_OFFLINE", "1")
# How long an example takes says how busy the machine is.
settings.register_profile("ours", deadline=None, max_examples=150, derandomize=True, database=None)
settings.load_profile("ours")


@pytest.fixture(scope="session")
def repository() -> Path:
    """Root of the checkout."""
    return Path(__file__).resolve().parent.parent


@pytest.fixture
def logging_as_before() -> Iterator[None]:
    """Undo what a test does to the handlers and levels of logging."""
    root = logging.getLogger()
    loggers = [root, *map(logging.getLogger, logs.PACKAGES)]
    levels, formatters = [logger.level for logger in loggers], [(h, h.formatter) for h in root.handlers]
    yield
    known = [handler for handler, _ in formatters]
    for handler in [handler for handler in root.handlers if handler not in known]:
        root.removeHandler(handler)
        handler.close()
    for handler, formatter in formatters:
        handler.setFormatter(formatter)
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--promise", type=int, default=None, help="run only the tests that docs/promises.md names for this promise"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With `--promise N` keep the tests of row N. Raises UsageError when the table names none."""
    number = config.getoption("--promise")
    if number is None:
        return
    _, wanted = promises().get(number, ("", []))
    kept = [item for item in items if item.nodeid.partition("[")[0] in wanted]
    if not kept:
        raise pytest.UsageError(f"no test holds promise {number} yet; see docs/promises.md")
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = kept
