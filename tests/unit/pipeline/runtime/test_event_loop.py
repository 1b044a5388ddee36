"""Signals reach the loop while somebody handles them, and have their own effect again afterwards."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from pipeline.runtime.event_loop import on_signal


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_is_handled_on_the_loop_and_only_within_the_block(number: signal.Signals) -> None:
    handled, before = asyncio.Event(), signal.getsignal(signal.SIGTERM)
    with on_signal(handled.set):
        os.kill(os.getpid(), number)
        await asyncio.wait_for(handled.wait(), 10)
    assert not asyncio.get_running_loop().remove_signal_handler(number)
    assert signal.getsignal(signal.SIGTERM) == before
