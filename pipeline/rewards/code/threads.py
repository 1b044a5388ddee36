"""Threads, where a sandbox allows none: each runs when it is started, to its end. Most programs want no more of them,
or their stack, which the main thread has too."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def replace_threads(source: str) -> None:
    """Run threads in their place, where `source` speaks of any: each import costs a start its time."""
    if "threading" in source or "concurrent" in source:
        import threading

        threading.Thread.start = _start  # type: ignore[method-assign, assignment]
        threading.Thread.join = lambda self, timeout=None: None  # type: ignore[method-assign]
        threading.Thread.is_alive = lambda self: False  # type: ignore[method-assign]
    if "concurrent" in source or "to_thread" in source or "run_in_executor" in source:
        from concurrent.futures import ThreadPoolExecutor

        ThreadPoolExecutor.submit = _submit  # type: ignore[method-assign]


def _start(thread: Any) -> None:
    thread.run()


def _submit(executor: Any, function: Any, /, *arguments: Any, **named: Any) -> Any:
    from concurrent.futures import Future

    future: Future[Any] = Future()
    try:
        future.set_result(function(*arguments, **named))
    except Exception as error:  # noqa: BLE001 - of whoever asks for the result
        future.set_exception(error)
    return future
