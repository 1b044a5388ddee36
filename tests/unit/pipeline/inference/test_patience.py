"""The time limit of an attempt follows what endpoints were seen to need."""

from __future__ import annotations

from pipeline.inference.patience import MOST, Patience


def test_it_is_the_configured_one_while_answers_are_quick() -> None:
    patience = Patience(100.0)
    for _ in range(10):
        patience.on_answer(40.0)
    assert patience.limit_s == 100.0 and patience.growth == 1.0


def test_slow_answers_raise_it_and_quick_ones_forget_them_in_time() -> None:
    patience = Patience(100.0)
    patience.on_answer(90.0)
    assert patience.limit_s == 180.0
    patience.on_answer(10.0)
    assert 170.0 < patience.limit_s < 180.0, "one quick answer says little"
    for _ in range(500):
        patience.on_answer(10.0)
    assert patience.limit_s == 100.0


def test_waits_in_vain_double_it_once_for_all_that_waited_together_and_not_for_ever() -> None:
    patience = Patience(100.0)
    limits = []
    for _ in range(6):
        limit_s = patience.limit_s
        limits.append(limit_s)
        for _ in range(256):
            patience.on_timeout(limit_s)
    assert limits == [100.0, 200.0, 400.0, 800.0, 800.0, 800.0]
    assert patience.growth == MOST
