"""A learner on made-up groups; benchmarks.training runs it in a process of its own.

Variants: `ours` (pipeline's trainer), `unshared` (the same without shared prefixes), `stock` (TRL's GRPOTrainer, fed
through its own seam) and `stock_head` (stock, with the head applied to the completions only, which on a CPU it is
not)."""

from __future__ import annotations

import dataclasses
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipeline.runtime.computing import ENVIRONMENT

os.environ.update(ENVIRONMENT | dict(os.environ))
os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")

import torch
from torch import Tensor, nn
from transformers import TrainerCallback
from trl import GRPOConfig, GRPOTrainer

from pipeline.config import Config
from pipeline.run.folder import RunFolder
from trainer.arguments import grpo_config, set_threads
from trainer.batches import RolloutBatch
from trainer.grpo import JournalGRPOTrainer, WeightSync, journal_reward, placeholder_dataset
from trainer.memory import keep_freed_memory
from trainer.models import load_model, load_tokenizer
from trainer.token_logps import token_logps


@dataclasses.dataclass(frozen=True)
class Load:
    """What every variant trains."""

    model: str
    precision: str
    prompt: int
    completion: int
    group_size: int
    groups: int
    steps: int


def made_up(load: Load, vocabulary: int, step: int) -> RolloutBatch:
    """Groups of random tokens with rewards of both kinds; the same for every variant."""
    rng = random.Random(f"{load.prompt} {load.completion} {step}")
    prompts = [[rng.randrange(vocabulary) for _ in range(load.prompt)] for _ in range(load.groups)]
    num = load.groups * load.group_size
    completions = [[rng.randrange(vocabulary) for _ in range(load.completion)] for _ in range(num)]
    return RolloutBatch(
        prompt_ids=[list(prompt) for prompt in prompts for _ in range(load.group_size)],
        completion_ids=completions,
        logprobs=[[-12.0 + rng.random() for _ in ids] for ids in completions],
        rewards=[float(index % 2) for index in range(num)],
        on_policy=[True] * num,
        in_context=[False] * num,
        without_context=[False] * num,
        trained=[True] * num,
        num_masked={},
        staleness=[0] * num,
        share_zero_variance=0.0,
        wait_s=0.0,
        group_size=load.group_size,
    )


class HeadOnCompletions(GRPOTrainer):
    """Stock TRL but for the positions that its head scores."""

    def _get_per_token_logps_and_entropies(
        self,
        model: nn.Module,
        input_ids: Tensor,
        attention_mask: Tensor,
        logits_to_keep: int,
        batch_size: int | None = None,
        compute_entropy: bool = False,
        **_: Any,
    ) -> tuple[Tensor, Tensor | None, None]:
        size = batch_size or len(input_ids)
        all_logps, all_entropies = [], []
        for ids, mask in zip(input_ids.split(size), attention_mask.split(size), strict=True):
            with self.accelerator.autocast():
                hidden = model.base_model(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
                hidden = hidden[:, -logits_to_keep - 1 : -1]
                targets = ids[:, -logits_to_keep:]
                logps, entropies = token_logps(
                    hidden.flatten(0, 1),
                    model.get_output_embeddings(),
                    targets.flatten(),
                    self.temperature,
                    compute_entropy,
                )
            all_logps.append(logps.view_as(targets))
            all_entropies.append(entropies.view_as(targets) if entropies is not None else None)
        return torch.cat(all_logps), torch.cat(all_entropies) if compute_entropy else None, None


class Watch(TrainerCallback):
    """Times of the steps, and the gradient of the first one."""

    def __init__(self, gradient_file: str | None) -> None:
        self.gradient_file = gradient_file
        self.ready_s = 0.0
        self.step_s: list[float] = []

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        if state.global_step == 0 and self.gradient_file is not None:
            torch.save([parameter.grad.clone() for parameter in model.parameters()], self.gradient_file)
            self.ready_s = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.step_s.append(time.perf_counter() - self.ready_s)


def stock_trainer(
    kind: type[GRPOTrainer],
    model: Any,
    args: GRPOConfig,
    tokenizer: Any,
    batch: Callable[[int], RolloutBatch],
    num_prompts: int,
    **options: Any,
) -> Any:
    """TRL's own trainer, which gets the batch of each step through the seams that TRL has for rollouts and vLLM."""

    def rollout(prompts: list[str], trainer: GRPOTrainer) -> dict[str, Any]:
        return batch(trainer.state.global_step).as_rollouts()

    trainer: Any = kind(
        model,
        [journal_reward],
        args,
        train_dataset=placeholder_dataset(num_prompts),
        processing_class=tokenizer,
        rollout_func=rollout,
        **options,
    )
    trainer.use_vllm = True
    trainer.vllm_generation = WeightSync(lambda: None)
    trainer._last_loaded_step = -1
    return trainer


def trainer_of(variant: str, load: Load, config: Config, folder: Path, watch: Watch) -> Any:
    model, tokenizer = load_model(load.model), load_tokenizer(load.model)
    args: GRPOConfig = dataclasses.replace(
        grpo_config(config, RunFolder(folder)), save_strategy="no", generation_batch_size=None
    )

    def batch(step: int) -> RolloutBatch:
        made = made_up(load, model.config.vocab_size, step)
        watch.ready_s = time.perf_counter()
        return made

    if variant in ("ours", "unshared"):
        ours = JournalGRPOTrainer(
            model,
            args,
            tokenizer,
            next_batch=batch,
            sync_weights=lambda: None,
            on_log=lambda step, logs: None,
            share_prefix=variant == "ours",
        )
        ours.add_callback(watch)
        return ours

    kind = HeadOnCompletions if variant == "stock_head" else GRPOTrainer
    return stock_trainer(kind, model, args, tokenizer, batch, load.steps * load.groups, callbacks=[watch])


def peak_bytes(*, reset: bool = False) -> int:
    """Most memory of this process since the last reset: of the GPU where there is one, else resident."""
    if torch.cuda.is_available():
        if reset:
            torch.cuda.reset_peak_memory_stats()
        return torch.cuda.max_memory_allocated()
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def run(variants: list[str], gradient_files: dict[str, str], **load: Any) -> list[dict[str, float]]:
    """What each variant takes, one after the other; the gradients of the first step are saved for those with a file."""
    keep_freed_memory()
    return [_run(variant, Load(**load), gradient_files.get(variant)) for variant in variants]


def _run(variant: str, load: Load, gradient_file: str | None) -> dict[str, float]:
    rollout = {
        "group_size": load.group_size,
        "num_problems_per_step": load.groups,
        "sampling": {"max_tokens": load.completion},
    }
    learner = {"num_steps": load.steps, "kl_coef": 0.001, "precision": load.precision, "report_to": ()}
    config = Config.model_validate({"rollout": rollout, "learner": learner})
    watch = Watch(gradient_file)
    with tempfile.TemporaryDirectory() as folder:
        set_threads(config)
        trainer = trainer_of(variant, load, config, Path(folder), watch)
        before = peak_bytes(reset=True)
        trainer.train()
    # The first step pays for the optimizer's state and for memory that later ones find.
    step_s = statistics.median(watch.step_s[1:] or watch.step_s)
    num_tokens = load.groups * load.group_size * load.completion
    return {
        "tokens_per_s": num_tokens / step_s,
        "step_s": step_s,
        "peak_bytes": peak_bytes(),
        "loaded_bytes": before,
    }
