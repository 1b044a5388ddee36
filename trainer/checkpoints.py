"""Checkpoints of the trainer: transformers writes them, this declares them whole and keeps the newest few.

Which ones are whole is decided without torch in `pipeline.run.checkpoints`; the orchestrator asks the same functions.
"""

from __future__ import annotations

from typing import Any

from accelerate.utils import wait_for_everyone
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from pipeline.run.checkpoints import checkpoint_path, is_whole, newest_whole, prune, write_manifest
from pipeline.run.folder import RunFolder
from trainer.processes import is_rank0, on_rank0
from trainer.stop import StopSignal

__all__ = ["CheckpointCallback", "newest_whole", "save_now"]


class CheckpointCallback(TrainerCallback):
    """Declares each checkpoint whole once it is written, and ends training after the step in which a stop was asked
    for."""

    def __init__(self, run: RunFolder, num_kept: int, stop: StopSignal) -> None:
        self._run = run
        self._num_kept = num_kept
        self._stop = stop

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        # A resumed state has how often its run saved; the configuration may say otherwise by now.
        state.compute_steps(args, state.max_steps)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if on_rank0(lambda: self._stop.requested):
            control.should_training_stop = True

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        declare_whole(self._run, state.global_step, self._num_kept)


def declare_whole(run: RunFolder, step: int, num_kept: int) -> None:
    """Once every process has written its part."""
    wait_for_everyone()
    if is_rank0():
        write_manifest(checkpoint_path(run, step))
        prune(run, num_kept)


def save_now(trainer: Any, run: RunFolder, num_kept: int) -> None:
    """Save a checkpoint at the completed step unless there is a whole one, or no step was completed (nothing to
    keep)."""
    step = trainer.state.global_step
    if on_rank0(lambda: step > 0 and not is_whole(checkpoint_path(run, step))):
        trainer._save_checkpoint(trainer.model_wrapped, trial=None)
        declare_whole(run, step, num_kept)
