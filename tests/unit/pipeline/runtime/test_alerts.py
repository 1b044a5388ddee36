"""Many stuck waits with one cause make one alert."""

from __future__ import annotations

from pipeline.runtime.alerts import QUIET_S, StuckAlerts
from pipeline.runtime.watchdog import Stuck


def test_of_a_kind_the_first_is_told_and_the_others_are_counted() -> None:
    told: list[str] = []
    now_s = 0.0
    alerts = StuckAlerts(told.append, lambda: now_s)
    for number in range(300):
        alerts(Stuck(f"request {number}", 75.0, 150.0))
    alerts(Stuck("commit 7", 30.0, 60.0))
    assert len(told) == 2, "a commit is another kind than a request"
    assert "request 0" in told[0] and "commit 7" in told[1]
    now_s = QUIET_S
    alerts(Stuck("request 300", 75.0, 150.0))
    assert "request 300" in told[2] and "and 299 more" in told[2]
    now_s = 2 * QUIET_S
    alerts(Stuck("request 301", 75.0, 150.0))
    assert "more" not in told[3], "what was told is not told again"
