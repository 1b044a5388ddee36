"""Supervised seeding: `python -m trainer.sft --config CONFIG.json --model DIR --pairs PAIRS.jsonl --out DIR`.

TRL's SFTTrainer on conversations, the loss on the last message only (prompt-completion format, so the chat template
needs no generation marks). Deviation from it: log-probabilities are computed at the trained positions only, where TRL
on a CPU computes them at the prompt's positions too; its entropy and accuracy metrics are left out; the warm-up begins
above 0. Prints one line per
step, and at the end one JSON line with num_pairs, num_left_out, num_tokens, train_s and final_loss. `--out` appears
whole or not at all.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipeline.runtime.computing import ENVIRONMENT

os.environ.update(ENVIRONMENT | dict(os.environ))
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

import torch
from datasets import Dataset, disable_progress_bars
from transformers import PreTrainedModel, PreTrainedTokenizerBase, PrinterCallback, TrainerCallback
from trl import SFTConfig, SFTTrainer

from pipeline.config import Config
from pipeline.config.loading import stored_config
from pipeline.config.sft import USUAL_MICRO_BATCH
from pipeline.errors import DataError, RunFolderError
from pipeline.runtime.child_process import end_with_parent
from pipeline.runtime.files import unused
from pipeline.runtime.written import Written
from trainer.arguments import set_threads
from trainer.canary import write_canary
from trainer.disk import exit_status
from trainer.gradients import drop_gradients, keep_gradients
from trainer.memory import keep_freed_memory, return_freed_memory
from trainer.models import load_model, load_tokenizer, save_model
from trainer.recompute import UNCACHED, recompute_cheap_parts
from trainer.schedule import FromTheFirstStep
from trainer.shared_prefix import supports_shared_prefix
from trainer.token_logps import token_logps

MAX_MICRO_BATCH = 64
"""Pairs computed at once."""
WARMUP_SHARE = 0.05


class CompletionTrainer(FromTheFirstStep, SFTTrainer):
    """SFTTrainer that computes logits at trained positions only, for plain decoders; for others TRL's own loss."""

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        if not supports_shared_prefix(model):
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        labels_BT = inputs["labels"][:, 1:]
        trained_BT = labels_BT != -100
        with self.accelerator.autocast(UNCACHED):
            outputs = model.base_model(
                input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], use_cache=False
            )
            hidden_NH = outputs.last_hidden_state[:, :-1][trained_BT]
            logps_N, _ = token_logps(hidden_NH, model.get_output_embeddings(), labels_BT[trained_BT], 1.0, False)
        num_tokens = trained_BT.sum() if num_items_in_batch is None else num_items_in_batch
        loss = -logps_N.sum() / torch.as_tensor(num_tokens).clamp(min=1)
        return (loss, outputs) if return_outputs else loss


class Progress(TrainerCallback):
    """Prints 'sft step i/n loss …'."""

    def __init__(self, log: Callable[[str], None]) -> None:
        self._log = log

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        if logs and "loss" in logs:
            self._log(f"sft step {state.global_step}/{state.max_steps} loss {logs['loss']:.4f}")


def read_pairs(path: Path) -> list[dict[str, Any]]:
    """Pairs as {"prompt": messages, "completion": [last message]}. Raises DataError naming file and line."""
    pairs = []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise DataError(f"{path}: the pairs cannot be read: {error}") from error
    for number, line in enumerate(lines, start=1):
        try:
            messages = [
                {"role": message["role"], "content": message["content"]} for message in json.loads(line)["messages"]
            ]
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"{path}, line {number}: not a pair with `messages` of role and content ({error!r})"
            ) from error
        if len(messages) < 2 or messages[-1]["role"] != "assistant":
            raise DataError(f"{path}, line {number}: a pair needs a prompt and, last, a message of the assistant")
        pairs.append({"prompt": messages[:-1], "completion": messages[-1:]})
    if not pairs:
        raise DataError(f"{path}: no pairs in it; generate some, or set sft.enabled = false")
    return pairs


def those_that_fit(
    pairs: list[dict[str, Any]], tokenizer: PreTrainedTokenizerBase, config: Config
) -> tuple[list[dict[str, Any]], int]:
    """The pairs of at most `sft.max_length` tokens, and the tokens of the longest: one that is cut would teach to stop
    amid a sentence. Raises DataError where none fits."""
    kwargs = config.rollout.chat_template_kwargs
    sizes = [
        len(
            tokenizer.apply_chat_template([*pair["prompt"], *pair["completion"]], return_dict=True, **kwargs)[
                "input_ids"
            ]
        )
        for pair in pairs
    ]
    limit = config.sft.max_length or max(sizes)
    kept = [pair for pair, size in zip(pairs, sizes, strict=True) if size <= limit]
    if not kept:
        raise DataError(
            f"sft.max_length = {limit}: all {len(pairs)} pairs are longer, by {min(sizes) - limit} tokens at least; "
            "raise it"
        )
    return kept, max(size for size in sizes if size <= limit)


def sft_config(config: Config, folder: Path, longest: int, **others: Any) -> SFTConfig:
    """TRL's settings: linear decay after 5 % warm-up, no checkpoints, no trackers; batches drawn at random, computed in
    parts of similar length: a batch of one length would be of one skill, and the last ones decide. `longest` is the
    most tokens of a pair; `others` are settings of TRL's that differ."""
    sft = config.sft
    num_that_fit = max(1, (sft.num_tokens_per_micro_batch or USUAL_MICRO_BATCH) // longest)
    micro_batch = max(size for size in range(1, min(num_that_fit, MAX_MICRO_BATCH) + 1) if sft.batch_size % size == 0)
    settings: dict[str, Any] = {
        "output_dir": str(folder),
        "seed": sft.seed,
        "num_train_epochs": sft.num_epochs,
        "per_device_train_batch_size": micro_batch,
        "gradient_accumulation_steps": sft.batch_size // micro_batch,
        "learning_rate": sft.learning_rate,
        "lr_scheduler_type": "linear",
        "warmup_steps": WARMUP_SHARE,  # below 1 it is a share of all steps
        "max_length": None,
        "completion_only_loss": True,
        "train_sampling_strategy": "group_by_length",
        "use_cpu": not torch.cuda.is_available(),
        "bf16": sft.precision == "bf16_autocast",
        "gradient_checkpointing": config.learner.gradient_checkpointing is True,
        "dataloader_pin_memory": False,
        "save_strategy": "no",
        "logging_steps": 1,
        "report_to": "none",
        "disable_tqdm": True,
    }
    return SFTConfig(**settings | others)


def train(
    config: Config,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    pairs: list[dict[str, Any]],
    scratch: Path,
    log: Callable[[str], None],
    **others: Any,
) -> dict[str, Any]:
    """Train `model` in place; returns num_pairs, num_left_out, num_tokens (processed), train_s and final_loss
    (mean of the last steps)."""
    disable_progress_bars()
    if config.learner.gradient_checkpointing == "cheap":
        recompute_cheap_parts(model)
    num_pairs = len(pairs)
    pairs, longest = those_that_fit(pairs, tokenizer, config)
    if num_left_out := num_pairs - len(pairs):
        log(f"sft: {num_left_out} of {num_pairs} pairs are longer than sft.max_length and left out")
    if kwargs := config.rollout.chat_template_kwargs:
        pairs = [{**pair, "chat_template_kwargs": kwargs} for pair in pairs]
    trainer = CompletionTrainer(
        model=model,
        args=sft_config(config, scratch, longest, **others),
        train_dataset=Dataset.from_list(pairs),
        processing_class=tokenizer,
        callbacks=[Progress(log)],
    )
    trainer.remove_callback(PrinterCallback)
    if trainer.args.use_cpu:
        keep_gradients(model)
    num_tokens = sum(len(ids) for ids in trainer.train_dataset["input_ids"])
    begin = time.monotonic()
    trainer.train()
    drop_gradients(model)
    last = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry][-5:]
    return {
        "num_pairs": len(pairs),
        "num_left_out": num_left_out,
        "num_tokens": num_tokens * config.sft.num_epochs,
        "train_s": round(time.monotonic() - begin, 2),
        "final_loss": sum(last) / len(last),
    }


def run(config_file: Path, model_path: str, pairs_file: Path, out: Path) -> None:
    """The command. Raises UserError for what the user can mend."""
    check_out(out)
    config = stored_config(config_file)
    pairs = read_pairs(pairs_file)
    set_threads(config)
    tokenizer = load_tokenizer(model_path)
    model = load_model(model_path)

    def work(folder: Path) -> dict[str, Any]:
        return train(config, model, tokenizer, pairs, folder, lambda line: print(line, flush=True))

    print(json.dumps(written_whole(model, tokenizer, out, work)), flush=True)


def check_out(out: Path) -> None:
    """Raise RunFolderError where something is at `out` that was not made here."""
    if os.path.lexists(out) and not Written(out.parent).owns_folder(out.name):
        raise RunFolderError(f"{out} is in the way, and was not made by lanpo; move it away")


def written_whole(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, out: Path, work: Callable[[Path], dict[str, Any]]
) -> dict[str, Any]:
    """Do `work` (given a folder for its files), then put the model, its tokenizer and a canary at `out`, by one rename;
    the report of the work. Raises RunFolderError where something else is there."""
    written, part = Written(out.parent), unused(out).name
    try:
        temporary = written.make_folder(part)
        report = work(temporary)
        gc.collect()  # the optimizer's state, before the weights are copied into the bytes of a file
        return_freed_memory()
        save_model(model, tokenizer, temporary)
        write_canary(model, tokenizer, temporary)
        check_out(out)
        if os.path.lexists(out):
            written.remove_folder(out.name)
        written.rename_folder(part, out.name)
    finally:
        written.remove_folder(part)
    return report


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m trainer.sft", description="Fine-tune a model on pairs of prompt and answer."
    )
    parser.add_argument("--config", type=Path, required=True, help="resolved configuration (config.json of a run)")
    parser.add_argument("--model", required=True, help="model folder to start from")
    parser.add_argument("--pairs", type=Path, required=True, help="JSONL with `messages` on each line")
    parser.add_argument("--out", type=Path, required=True, help="folder for the trained model")
    options = parser.parse_args(arguments)
    end_with_parent()
    keep_freed_memory()
    return exit_status(lambda: run(options.config, options.model, options.pairs, options.out), options.out.parent)


if __name__ == "__main__":
    sys.exit(main())
