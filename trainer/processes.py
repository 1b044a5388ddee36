"""The processes of one learner: rank 0 decides, the others compute with it.

Rank 0 is the process that the orchestrator started. It holds the lock, reads the journal, publishes, logs and obeys
stop requests; `learner.num_processes` - 1 others are its children on this machine, and what they must know reaches them
by broadcast, errors and stop requests included, so that all leave a wait together. Started by `accelerate launch`,
which sets RANK and WORLD_SIZE, a learner starts no processes.

What a death leaves: a child that dies breaks the next collective of the others, which end with an error; where a
collective does not notice (NCCL waits until `ddp_timeout`), rank 0 ends some seconds after its child. When rank 0 dies
the kernel ends its children (Linux).
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from pipeline.errors import ConfigError
from pipeline.runtime.child_process import PARENT_PID, end_with_parent, free_port
from trainer.stop import StopRequested

Result = TypeVar("Result")
END_GRACE_S = 10.0
# For a collective to break by itself, with an error that says more.
BROKEN_GRACE_S = 30.0
logger = logging.getLogger(__name__)


def world_size() -> int:
    return int(os.environ.get("WORLD_SIZE", "1"))


def num_on_this_machine() -> int:
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def is_rank0() -> bool:
    return os.environ.get("RANK", "0") == "0"


class WorkerProcesses:
    """The processes that rank 0 started; use as a context manager.

    `report` gets the reason why this process ends with one of them, where nothing else has noticed."""

    def __init__(
        self, num_processes: int, command: list[str], report: Callable[[str], None] = lambda reason: None
    ) -> None:
        self._num = 0 if "WORLD_SIZE" in os.environ else num_processes - 1
        self._command = command
        self._report = report
        self._children: list[subprocess.Popen[bytes]] = []
        self._ending = threading.Event()

    def __enter__(self) -> WorkerProcesses:
        if not self._num:
            return self
        world = str(self._num + 1)
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": world, "RANK": "0"}
        os.environ |= {"LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": world}
        for number in range(1, self._num + 1):
            env = {**os.environ, "RANK": str(number), "LOCAL_RANK": str(number), PARENT_PID: str(os.getpid())}
            child = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, env=env)
            self._children.append(child)
            threading.Thread(target=self._end_after, args=(child, number), daemon=True).start()
        return self

    def _end_after(self, child: subprocess.Popen[bytes], number: int) -> None:
        """End this process when a child failed, and nothing here has noticed: a week of waiting for it is no
        training."""
        status = child.wait()
        if status and not self._ending.wait(BROKEN_GRACE_S):
            reason = f"process {number} of the learner ended with status {status}; so does this one"
            logger.error("%s", reason)
            try:
                self._report(reason)
            finally:
                os._exit(1)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """They end by themselves after rank 0's last message; a process that does not is ended."""
        self._ending.set()
        for child in self._children:
            try:
                child.wait(END_GRACE_S)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()


def ignore_stop_signals() -> None:
    """For every process but rank 0: a stop request is for rank 0, which broadcasts it. The death of rank 0 ends this
    process."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    end_with_parent(signal.SIGKILL)


def on_rank0(work: Callable[[], Result]) -> Result:
    """Call `work` at rank 0, and return its result on every rank. Every rank must call this.

    A stop that is requested there is raised on every rank; another failure there is a RuntimeError on the others."""
    if world_size() == 1:
        return work()
    if not is_rank0():
        received = _broadcast(None)
        if isinstance(received, Exception):
            raise received
        return received
    try:
        return _broadcast(work())
    except Exception as error:
        stop = isinstance(error, StopRequested)
        _broadcast(error if stop else RuntimeError(f"rank 0 failed: {type(error).__name__}: {error}"))
        raise


def num_micro_batches(num_groups: int, num_at_once: int, num_together: int = 1) -> int:
    """Micro-batches of `num_at_once` groups that each rank makes of its part of a step, which holds `num_together`
    groups (2: pairs) whole. Raises ConfigError for a remainder: the configuration is checked for
    `learner.num_processes`, but `accelerate launch` may start another number.
    """
    count, remainder = divmod(num_groups, world_size() * num_at_once)
    if remainder or num_groups % (world_size() * num_together):
        pairs = " and rollout.paired_groups" if num_together > 1 else ""
        raise ConfigError(
            f"rollout.num_problems_per_step = {num_groups} cannot be divided among {world_size()} processes of the "
            f"learner with learner.num_groups_per_micro_batch = {num_at_once}{pairs}; choose a multiple of both, or "
            "another number of processes"
        )
    return count


def _broadcast(value: Any) -> Any:
    """What rank 0 calls this with, on every rank."""
    from torch import distributed

    box = [value]
    distributed.broadcast_object_list(box, src=0)
    return box[0]
