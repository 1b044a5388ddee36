"""`pretrain`: the small model from nothing, in the trainer's process, kept in the cache."""

from __future__ import annotations

import argparse
from pathlib import Path

from pipeline.commands.model_out import check_out, copied
from pipeline.errors import ConfigError
from pipeline.observability.live_view import View
from pipeline.runtime import event_loop
from pipeline.sft.small_model import NUM_TEXTS, small_model


def pretrain_command(arguments: argparse.Namespace) -> int:
    """Train the model, and print its folder as the last line."""
    num_texts = NUM_TEXTS if arguments.num_texts is None else arguments.num_texts
    if num_texts < 1:
        raise ConfigError(f"--num-texts {num_texts}: give 1 or more")
    if arguments.out is not None:
        check_out(arguments.out)

    async def work() -> Path:
        return await small_model(View(0, live=False).log, num_texts, arguments.seed)

    folder = event_loop.run(work())
    print(folder if arguments.out is None else copied(folder, arguments.out), flush=True)
    return 0
