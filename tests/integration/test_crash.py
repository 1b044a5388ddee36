"""SIGKILL of orchestrator or learner at named points, and the run comes out the same (docs/promises.md: 1, 2, 12).

The whole command with the real learner on a tiny model, S = 0, and the mock endpoint as a server that repeats itself.
What was killed and resumed is compared with a run that was left alone. At any moment, and counted:
test_crash_count.py."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from pipeline.run.folder import RunFolder
from tests.integration.crash_child import resolved
from tests.integration.crash_driver import Driver, assert_equal, assert_worth_comparing, mock_endpoint
from tests.integration.crash_ledger import assert_nothing_lost_nothing_twice
from tests.integration.crash_points import POINTS, sessions_to

NUM_STEPS = 8


@pytest.fixture(scope="module")
def mock_url(repository: Path) -> Iterator[str]:
    with mock_endpoint(repository) as url:
        yield url


class Compared(NamedTuple):
    url: str
    driver: Driver
    unbroken: RunFolder


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory, repository: Path, mock_url: str) -> Compared:
    """A driver, and a run of it that was left alone. Its journal and pool were merged as seldom as a real run's."""
    driver = Driver(tmp_path_factory.mktemp("crash"), repository, mock_url, learner__num_steps=NUM_STEPS)
    unbroken = driver.finish("unbroken", often=False)
    assert_worth_comparing(unbroken)
    assert "TRL currently supports vLLM" not in (unbroken.logs / "learner.log").read_text(), "it loads no vLLM"
    return Compared(mock_url, driver, unbroken)


@pytest.fixture(scope="module")
def rescuing(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Iterator[Compared]:
    """The same where most groups are all wrong, and at most two of a step are sampled again."""
    options: dict[str, Any] = {
        "learner__num_steps": NUM_STEPS,
        "feedback__ratio": 0.5,
        "feedback__rescue": "reflect",
        "feedback__max_rescues_per_step": 2,
    }
    with mock_endpoint(repository, "--accuracy", "0.2") as url:
        driver = Driver(tmp_path_factory.mktemp("rescue"), repository, url, **options)
        unbroken = driver.finish("unbroken", often=False)
        assert_worth_comparing(unbroken)
        yield Compared(url, driver, unbroken)


@pytest.fixture
def driver(compared: Compared) -> Driver:
    """That driver, and a server that no failed test left paused."""
    httpx.post(f"{compared.url}/resume").raise_for_status()
    return compared.driver


@pytest.mark.parametrize("name", POINTS)
def test_a_crash_point_names_something_that_is_there(name: str) -> None:
    owner, attribute = resolved(POINTS[name].target)
    assert callable(getattr(owner, attribute))
    for other in (POINTS[name].first, POINTS[name].beside):
        assert other in {"", *POINTS}


def test_four_deaths_in_two_sessions_change_nothing(compared: Compared, driver: Driver) -> None:
    """An orphan dies with its only checkpoint half done; then a learner while it reloads a server, and its orchestrator
    after it."""
    driver.die("four", {"step 3 begun": 6, "first checkpoint saved": 1})
    driver.die("four", {"server paused": 3, "both ended": 1})
    assert_equal(driver.finish("four"), compared.unbroken)
    assert_nothing_lost_nothing_twice(driver.ledger("four"), RunFolder.open(driver.folder("four")))


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, point in POINTS.items() if point.rescued])
def test_a_kill_amid_a_rescue_changes_nothing(rescuing: Compared, name: str) -> None:
    test_a_kill_at_a_crash_point_changes_nothing(rescuing, rescuing.driver, name)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, point in POINTS.items() if not point.rescued])
def test_a_kill_at_a_crash_point_changes_nothing(compared: Compared, driver: Driver, name: str) -> None:
    folder = re.sub(r"\W+", "_", name)
    for die_at in sessions_to(name):
        driver.die(folder, die_at)
    assert_equal(driver.finish(folder), compared.unbroken)
    assert_nothing_lost_nothing_twice(driver.ledger(folder), RunFolder.open(driver.folder(folder)))
