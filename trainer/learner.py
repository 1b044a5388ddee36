"""The learner process: `python -m trainer.learner --run RUN`.

Reads the run's configuration, waits for each step's groups in the journal, trains, publishes weights, reloads the
servers.

| waits for                          | woken by                                             |
|------------------------------------|------------------------------------------------------|
| a step's groups                    | a commit of the journal, a stop request, time        |
| servers that cannot be reached     | time, a stop request                                 |
| the orchestrator's last metrics    | end of file on stdin, a stop request                 |

With several processes (`trainer.processes`) rank 0 does all of this, and the others compute with it.

Invariants: one learner at a time, by a lock; an optimizer step is finished or not begun; a stop request leaves a whole
checkpoint of the completed step; the status file never names a version that some server lacks. Exit status: 0 done or
stopped on request, 2 disk full, 1 otherwise; a request that comes while it is loading ends it at once, by the signal.
"""

from __future__ import annotations

import argparse
import logging
import os
import select
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.runtime.computing import ENVIRONMENT

os.environ.update(ENVIRONMENT | dict(os.environ))
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

from pipeline.config.base import value_at
from pipeline.errors import ConfigError, DiskError, RunFolderError
from pipeline.run.checkpoints import checkpoint_path
from pipeline.run.folder import LEARNER_LOCK, RunFolder
from pipeline.run.metrics_log import MetricsWriter
from pipeline.runtime.child_process import end_with_parent
from pipeline.storage.claim import check_claim
from pipeline.storage.journal import Journal
from pipeline.weights.publishing import REFERENCE, canary_of, is_adapter, path_of
from trainer.disk import as_disk_error
from trainer.memory import keep_freed_memory
from trainer.processes import WorkerProcesses, ignore_stop_signals, is_rank0, on_rank0
from trainer.status import LearnerStatus
from trainer.stop import StopRequested, StopSignal
from trainer.without_vllm import leave_vllm_out

logger = logging.getLogger("trainer.learner")
EXIT_FAILED, EXIT_DISK = 1, 2
STDIN_POLL_S = 0.5


class Learner:
    """Wires journal, trainer and publisher of one run. Of several processes only rank 0 has journal and publisher."""

    def __init__(self, run: RunFolder, status: LearnerStatus, stop: StopSignal) -> None:
        from trainer.canary import write_canary
        from trainer.lora import without_wrapper
        from trainer.models import load_model, load_tokenizer
        from trainer.step_log import StepLog, TrackerFeed, kls_until

        self.run, self.status, self.stop = run, status, stop
        self.config = run.config()
        self.lineages = run.lineages()
        self.start_step = self.lineages[-1].start_step
        self.metrics = MetricsWriter(run.metrics_file, "learner")
        kls = kls_until(run.metrics_file, self.start_step)
        self.step_log = StepLog(self.metrics, self.config.learner.logprob_gap_tolerance, kls)
        self.feed = TrackerFeed(run)
        self.reference = path_of(run, REFERENCE)
        finished = self.start_step >= self.config.learner.num_steps
        self.tokenizer = load_tokenizer(self.reference)
        # Before the end of training the reference is loaded even on a resume: TRL loads the reference model from where
        # the policy came from, and puts the checkpoint's weights into the policy afterwards.
        self.policy = (
            self._finished_model() if finished and self.start_step else load_model(self.reference, self.config.learner)
        )
        self.model = without_wrapper(self.policy)
        if is_rank0() and not finished and canary_of(run, REFERENCE) is None:
            write_canary(self.model, self.tokenizer, run.weights)
        self.publisher: Any = self._publisher() if is_rank0() else None
        self._gathered: dict[str, Any] = {}
        self.trainer: Any = None
        if not finished:
            self.trainer = self._trainer()
            self.policy = self.trainer.model

    def _finished_model(self) -> Any:
        from trainer.lora import lora_config, with_adapter
        from trainer.models import load_model
        from trainer.sharding import has_parts, load_parts

        checkpoint = checkpoint_path(self.run, self.start_step)
        if has_parts(checkpoint):
            return load_parts(load_model(self.reference), checkpoint, lora_config(self.config))
        if self.config.learner.lora.rank:
            return with_adapter(load_model(self.reference), checkpoint)
        return load_model(checkpoint)

    def _publisher(self) -> Any:
        from trainer.canary import write_canary
        from trainer.lora import save_adapter
        from trainer.models import load_model
        from trainer.publisher import Publisher

        learner = self.config.learner

        def save(folder: Path) -> None:
            if learner.transfer == "lora":
                save_adapter(self.policy, folder)
            else:
                self._save_whole(folder)
            # A divided model computes with all ranks, in its own arithmetic: what was written is asked instead.
            whole = load_model(folder) if self._gathered else self.model
            write_canary(whole, self.tokenizer, folder)

        send = self._sender() if learner.transfer == "nccl" else None
        return Publisher(
            self.run, self.config, self.lineages[-1].number, save, self.status, self.metrics, self.stop, send
        )

    def _save_whole(self, folder: Path) -> None:
        from trainer.models import save_model

        save_model(self.model, self.tokenizer, folder, self._gathered)

    def _sender(self) -> Any:
        from trainer.models import state_of
        from trainer.nccl import NcclSender

        return NcclSender(lambda: state_of(self.model))

    def _trainer(self) -> Any:
        from transformers import PrinterCallback

        from trainer.arguments import grpo_config
        from trainer.batches import JournalReader
        from trainer.checkpoints import CheckpointCallback
        from trainer.grpo import JournalGRPOTrainer
        from trainer.lora import lora_config
        from trainer.models import decoded
        from trainer.recompute import recompute_cheap_parts

        if self.config.learner.gradient_checkpointing == "cheap":
            recompute_cheap_parts(self.model)
        if is_rank0():
            check_claim(self.run)
            self.reader = JournalReader(
                Journal(self.run.store), self.lineages, self.config, self.stop, partial(decoded, self.tokenizer)
            )
        trainer = JournalGRPOTrainer(
            self.model,
            grpo_config(self.config, self.run),
            self.tokenizer,
            next_batch=self._next_batch,
            sync_weights=lambda: self._publish(trainer.state.global_step),
            on_log=self.step_log.write if is_rank0() else (lambda step, logs: None),
            more_logs=self._more_logs if is_rank0() else dict,
            kl_coef=partial(value_at, self.config.learner.kl_coef),
            share_prefix=self.config.learner.share_prefix,
            peft_config=lora_config(self.config),
        )
        trainer.add_callback(CheckpointCallback(self.run, self.config.learner.num_checkpoints_kept, self.stop))
        trainer.remove_callback(PrinterCallback)
        if trainer.is_fsdp_enabled and self.config.learner.transfer != "filesystem":
            raise ConfigError(
                f"learner.transfer = '{self.config.learner.transfer}' needs weights that are whole in the learner, and "
                "those of a divided model are in no place; set learner.transfer = 'filesystem'"
            )
        return trainer

    def _publish(self, step: int, *, final: bool = False) -> Any:
        """Rank 0 publishes; what it publishes of a divided model, all ranks gather for it."""
        from trainer.sharding import gathered, is_divided

        if self.trainer is None:  # nothing was left to train, so the processes never met
            return self.publisher.publish(step, final=final) if is_rank0() else None
        if is_divided(self.model) and on_rank0(lambda: self.publisher.will_save(step, final=final)):
            self._gathered = gathered(self.model)
        try:
            return on_rank0(lambda: self.publisher.publish(step, final=final))
        finally:
            self._gathered = {}

    def _next_batch(self, step: int) -> Any:
        batch = on_rank0(lambda: self.reader.wait_for(step, on_wait=lambda: self.status.update("waiting", step=step)))
        self.status.update("training", step=step)
        return batch

    def _more_logs(self) -> dict[str, Any]:
        return {**self.feed.numbers(), "publish_s": self.publisher.publish_s, "reload_s": self.publisher.reload_s}

    def train(self) -> None:
        """To the last step, or to a checkpoint if a stop is asked for (StopRequested)."""
        from trainer.checkpoints import save_now

        step = self.start_step
        if self.trainer is not None:
            try:
                self.trainer.train(resume_from_checkpoint=self._checkpoint(step) if step else None)
                interrupted = on_rank0(lambda: self.stop.requested) and (
                    self.trainer.state.global_step < self.config.learner.num_steps
                )
            except StopRequested:
                interrupted = True
            step = self.trainer.state.global_step
            if interrupted:
                save_now(self.trainer, self.run, self.config.learner.num_checkpoints_kept)
                self.status.update("waiting", step=step)
                raise StopRequested
        folder = self._publish(step, final=True)
        if is_rank0():
            self._finish(step, folder)

    def _checkpoint(self, step: int) -> str:
        from trainer.sharding import check_layout

        folder = checkpoint_path(self.run, step)
        check_layout(folder, divided=self.trainer.is_fsdp_enabled)
        return str(folder)

    def _finish(self, step: int, folder: Path) -> None:
        from trainer.publisher import link_final_model, merged_model

        if is_adapter(folder):
            folder = merged_model(self.run, folder.name, self._save_whole)
        link_final_model(self.run, folder)
        self.status.update("done", step=step)
        logger.info("done after step %d; the final model is %s", step, folder)

    def linger(self) -> None:
        """Forward the orchestrator's metrics to the trackers until it closes our stdin. The optimizer's state is not
        needed for that, and the servers are still at work."""
        if self.trainer is not None:
            self.trainer.forget_training()
        while not self.stop.requested and not stdin_ended(STDIN_POLL_S):
            pass
        if self.trainer is not None and (numbers := self.feed.numbers()):
            self.trainer.log(dict(numbers))


def stdin_ended(timeout_s: float) -> bool:
    """Whether stdin is at its end, waiting up to `timeout_s` for it; a terminal or a closed stdin counts as ended."""
    if sys.stdin is None or sys.stdin.closed or sys.stdin.isatty():
        return True
    descriptor = sys.stdin.fileno()
    ready, _, _ = select.select([descriptor], [], [], timeout_s)
    return bool(ready) and not os.read(descriptor, 4096)


def work(run: RunFolder, status: LearnerStatus, stop: StopSignal, begins: Callable[[], None] = lambda: None) -> int:
    """Run the learner; every failure ends in the status file. Returns the exit status.

    `begins` is called when it is built: until then there is nothing to save, and a signal may end it at once."""
    try:
        status.update("starting")
        leave_vllm_out()
        from trainer.arguments import set_environment

        set_environment(run.config(), run)
        learner = Learner(run, status, stop)
        begins()
        learner.train()
        if is_rank0():
            learner.linger()
        return 0
    except StopRequested:
        logger.info("stopped on request after step %d", status.step)
        return 0
    except Exception as error:  # the process's outermost boundary: whatever ended it must reach the status file
        full = as_disk_error(error, run.path)
        logger.exception("the learner failed")
        try:
            status.update("failed", error=str(full) if full else f"{type(error).__name__}: {error}")
        except (OSError, DiskError):
            logger.exception("the status file could not be written")
        return EXIT_DISK if full else EXIT_FAILED


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m trainer.learner", description="Train the policy of a run folder.")
    parser.add_argument("--run", type=Path, required=True, help="run folder that `train` made")
    options = parser.parse_args(arguments)
    stop = StopSignal()
    keep_freed_memory()
    level = logging.INFO if is_rank0() else logging.WARNING
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    run = RunFolder.open(options.run)
    if not is_rank0():
        ignore_stop_signals()
        return work(run, LearnerStatus(None), stop)
    end_with_parent()
    command = [sys.executable, "-m", "trainer.learner", "--run", str(run.path)]
    status = LearnerStatus(run)

    def report(reason: str) -> None:
        status.update("failed", error=reason)

    try:
        with run.locked(LEARNER_LOCK), WorkerProcesses(run.config().learner.num_processes, command, report):
            return work(run, status, stop, begins=stop.install)
    except RunFolderError as error:
        logger.error("another learner is at work: %s", error)
        return EXIT_FAILED


if __name__ == "__main__":
    sys.exit(main())
