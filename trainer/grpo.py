"""TRL's GRPOTrainer, subclassed once: groups come from the rollout journal instead of a generator.

Advantages, loss, KL, reference model, clipping, optimizer, checkpoints and logging are TRL's. Deviations from it:
1. Generation is a `rollout_func` that returns the journal's token ids, behaviour log-probabilities and rewards (TRL's
   public seam); the one reward function returns the journal's reward.
2. Rows are not shuffled between micro-batches, so that groups stay whole. The optimizer step sums over all
   micro-batches, so the gradient is the same; only loss type 'bnpo', which normalises by each micro-batch's tokens, and
   the balance of a mixture's experts, which is that of each micro-batch, depend on the division.
3. A group's prompt is computed once for all its rollouts (`shared_prefix`), with the same results up to rounding.
4. TRL computes the old log-probabilities in a forward pass of their own. Here one optimizer step is taken per batch and
   dropout is off, so they equal those of the policy's pass, and the importance-sampling ratio is computed from those.
5. A micro-batch without advantage (all groups of zero variance) and without KL has a zero gradient: it is not computed.
   Its tokens count in the normalisation of the loss as before, and are missing from the means of entropy and gap.
6. Rollouts that the rules of `batches` exclude are masked token by token, through the `env_mask` of that seam. TRL's
   own switch for truncated completions guesses from the last token; the journal knows.
7. The coefficient of KL may follow a schedule.
8. A checkpoint's learning rate, betas and weight decay give way to the configuration's: a fork may have changed them.
9. No model card is written beside a checkpoint.
10. With several processes each trains every n-th group. What deviation 3 computes runs inside the forward pass of
    whatever is around the model (DDP, FSDP2), so that its hooks gather weights and average gradients. Nothing is
    skipped then (deviation 5), because all processes must take part in each pass.
11. The reference of a divided model is divided layer by layer, as the policy is; TRL would divide it as one unit.
12. A checkpoint is written over nothing: the manifest of one that was torn would fit what is half written anew.
13. The learning rate is that of `pipeline.config.rate`: transformers' warm-up begins with a step of rate 0.
14. The policy gradient may be divided by what has advantages alone (`learner.rescale_zero_variance`).
15. On a CPU the reference is in memory only while it computes (`reference`), gradients stay where they are
    (`gradients`), and freed memory is returned before and after what has no gradient.
16. Rollouts that were sampled in a context and are trained without it (`rows`, `learner.train_under`) have advantages
    of each token, weighted by `transfer`, in place of the importance-sampling ratio.
17. A batch may be trained in two views, under the problem alone and under the prompts sampled under: the loss is the
    sum of both by `learner.sampled_weight`, each as it would be alone. Both are logged into the same means.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object
from datasets import Dataset
from peft import PeftConfig
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from trl import GRPOConfig, GRPOTrainer
from trl.models.utils import _ForwardRedirection
from trl.trainer.utils import split_tensor_dict

from pipeline.run.checkpoints import begin
from trainer import sharding
from trainer.batches import RULES, RolloutBatch
from trainer.gap import GapMeter
from trainer.gradients import drop_gradients, keep_gradients
from trainer.kl import KlMeter
from trainer.lora import without_wrapper
from trainer.memory import return_freed_memory
from trainer.processes import on_rank0
from trainer.ratios import importance_ratio
from trainer.recompute import UNCACHED
from trainer.reference import MappedWeights
from trainer.schedule import FromTheFirstStep
from trainer.shared_prefix import prompt_groups, shared_prefix_logps, supports_shared_prefix
from trainer.transfer import ContextMeter

Logs = dict[str, Any]
AS_SAMPLED = "as_sampled"
MEANS_OF_ROLLOUTS = ("grpo", "sapo")
"""Losses that take the mean over the tokens of each rollout first."""


class WeightSync:
    """What TRL calls `vllm_generation`: its `sync_weights` runs before a batch whenever an optimizer step was taken."""

    def __init__(self, sync: Callable[[], object]) -> None:
        self.sync_weights = sync


def journal_reward(prompts: list[str], completions: list[str], journal_reward: list[float], **_: Any) -> list[float]:
    """The reward that the journal holds for each rollout."""
    return journal_reward


def placeholder_dataset(num_rows: int) -> Dataset:
    """Rows that only drive TRL's loop: the prompts come with the rollouts."""
    return Dataset.from_dict({"prompt": [""] * num_rows})


class JournalGRPOTrainer(FromTheFirstStep, GRPOTrainer):
    """GRPO on groups that `next_batch(step)` returns, `step` counting completed optimizer steps.

    `sync_weights` is called before the first batch and after each optimizer step. `on_log(step, logs)` gets what was
    logged after a step; `more_logs()` may add to it before it reaches the trackers. `kl_coef(step)` is the weight of
    KL, `args.beta` by default; where it is above 0 at any step, so must `args.beta` be, or there is no reference.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        args: GRPOConfig,
        processing_class: PreTrainedTokenizerBase,
        *,
        next_batch: Callable[[int], RolloutBatch],
        sync_weights: Callable[[], object],
        on_log: Callable[[int, Logs], None],
        more_logs: Callable[[], Logs] = dict,
        kl_coef: Callable[[int], float] | None = None,
        share_prefix: bool = True,
        peft_config: PeftConfig | None = None,
    ) -> None:
        self._next_batch = next_batch
        self._on_log = on_log
        self._more_logs = more_logs
        self._kl_coef = kl_coef or (lambda step: args.beta)
        self._batch: RolloutBatch | None = None
        self._part: RolloutBatch | None = None
        self._scored: dict[str, Any] | None = None
        self._buffered_inputs: list[dict[str, Any]] | None = None
        self._reset_meters()
        self._batch_ready_s = 0.0
        beta, divided = args.beta, sharding.asked_for(args)
        if divided:
            args.beta = 0.0  # deviation 11: no reference of TRL's
        super().__init__(
            model=model,
            reward_funcs=[journal_reward],
            args=args,
            train_dataset=placeholder_dataset(args.max_steps * args.generation_batch_size // args.num_generations),
            processing_class=processing_class,
            rollout_func=self._rollout,
            peft_config=peft_config,
        )
        args.beta = beta
        if divided and beta and peft_config is None:
            self.ref_model = sharding.reference(self.accelerator, model, self.temperature)
        # Deviation 15; TRL has loaded it from where the policy came from.
        folder, has_reference = model.config._name_or_path, self.ref_model is not None and not divided
        self._mapped = MappedWeights(self.ref_model, Path(folder)) if has_reference and folder else None
        if args.use_cpu and self.accelerator.num_processes == 1:
            keep_gradients(self.model)
        # Set after construction: at construction it would connect to a vLLM server of TRL's own.
        self.use_vllm = True
        self.vllm_generation = WeightSync(sync_weights)
        self._last_loaded_step = -1
        # A mixture of experts adds a loss for its router's balance, over each copy of a prompt.
        self._share_prefix = (
            share_prefix and not self.aux_loss_enabled and supports_shared_prefix(without_wrapper(self.model))
        )

    def create_accelerator_and_postprocess(self) -> None:
        """Transformers', on CPUs too (`sharding`). Raises ConfigError for what the learner cannot do."""
        super().create_accelerator_and_postprocess()
        asked = sharding.asked_for(self.args)
        if asked and self.args.use_cpu and self.accelerator.num_processes > 1:
            sharding.divide_on_cpus(self.accelerator, self.args.fsdp_plugin_args)
            self.is_fsdp_enabled = True
        sharding.prepare(self.accelerator, asked=asked, bf16=self.args.bf16)

    def _reset_meters(self) -> None:
        self.gap, self.kl, self.context = GapMeter(), KlMeter(), ContextMeter()
        self.num_computed_tokens = 0

    def _rollout(self, prompts: list[str], trainer: GRPOTrainer) -> dict[str, Any]:
        if self._part is None:
            return_freed_memory()  # before the wait: servers sample meanwhile
            self._batch = self._next_batch(self.state.global_step)
            self.beta = self._kl_coef(self.state.global_step)
            self._batch_ready_s = time.monotonic()
            self._reset_meters()
            self._part = self._batch.part(self.accelerator.process_index, self.accelerator.num_processes)
        return self._part.as_rollouts()

    def _prepare_inputs(self, generation_batch: Any) -> dict[str, Any]:
        """TRL's, without its shuffle (deviation 2); training only, with num_iterations 1."""
        num_micro_batches = self.args.steps_per_generation
        index = self._step % num_micro_batches
        if index == 0 or self._buffered_inputs is None:
            self._part = None
            self._buffered_inputs = self._scored_inputs(generation_batch, num_micro_batches)
        return self._buffered_inputs[index]

    def _scored_inputs(self, generation_batch: Any, num_micro_batches: int) -> list[dict[str, Any]]:
        """The micro-batches of a step; where it is trained in two views, that of the prompts sampled under in each."""
        inputs = split_tensor_dict(self._generate_and_score_completions(generation_batch), num_micro_batches)
        assert self._part is not None
        if self._part.as_sampled is None:
            return inputs
        self._part = self._part.as_sampled
        as_sampled = split_tensor_dict(self._generate_and_score_completions(generation_batch), num_micro_batches)
        return [{**here, AS_SAMPLED: there} for here, there in zip(inputs, as_sampled, strict=True)]

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        self.vllm_importance_sampling_correction = False  # deviation 4: no separate pass for the old log-probabilities
        try:
            output = super()._generate_and_score_completions(inputs)
        finally:
            self.vllm_importance_sampling_correction = self.args.vllm_importance_sampling_correction
        if self._mapped is not None:
            self._mapped.release()
        return_freed_memory()
        assert self._part is not None
        output["advantages"] *= self._part.advantage_scale
        for name in ("on_policy", "in_context", "without_context"):
            output[name] = torch.tensor(getattr(self._part, name), device=output["advantages"].device)
        return output

    def _compute_loss(self, model: nn.Module, inputs: dict[str, Any]) -> Tensor:
        loss = self._loss_of(model, inputs)
        if AS_SAMPLED not in inputs:
            return loss
        assert self._batch is not None
        weight = self._batch.sampled_weight
        return (1 - weight) * loss + weight * self._loss_of(model, inputs[AS_SAMPLED])

    def _loss_of(self, model: nn.Module, inputs: dict[str, Any]) -> Tensor:
        alone = self.accelerator.num_processes == 1
        if alone and (not trained_mask(inputs).any() or (self.beta == 0.0 and not inputs["advantages"].any())):
            return zero_with_gradients(model)
        self._scored = dict(inputs)
        try:
            return super()._compute_loss(model, self._scored)
        finally:
            self._scored = None

    def _get_per_token_logps_and_entropies(
        self,
        model: nn.Module,
        input_ids: Tensor,
        attention_mask: Tensor,
        logits_to_keep: int,
        batch_size: int | None = None,
        compute_entropy: bool = False,
        **kwargs: Any,
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        if self._share_prefix:
            logps, entropies = self._shared(
                model, input_ids, attention_mask, logits_to_keep, batch_size, compute_entropy
            )
            aux_loss = None
        else:
            logps, entropies, aux_loss = super()._get_per_token_logps_and_entropies(
                model, input_ids, attention_mask, logits_to_keep, batch_size, compute_entropy, **kwargs
            )
            self.num_computed_tokens += input_ids.numel()
        if self._scored is not None:
            self._correct(self._scored, logps.detach())
        return logps, entropies, aux_loss

    def _shared(
        self,
        model: nn.Module,
        input_ids_BL: Tensor,
        attention_mask_BL: Tensor,
        num_completion: int,
        batch_size: int | None,
        compute_entropy: bool,
    ) -> tuple[Tensor, Tensor | None]:
        batch_size = batch_size or input_ids_BL.shape[0]
        inner = self.accelerator.unwrap_model(model)
        all_logps, all_entropies = [], []
        for ids, mask in zip(input_ids_BL.split(batch_size), attention_mask_BL.split(batch_size), strict=True):
            with self.accelerator.autocast(UNCACHED):
                logps, entropies, num_tokens = _ForwardRedirection()(
                    model,
                    inner,
                    shared_prefix_logps,
                    without_wrapper(inner),
                    ids,
                    mask,
                    num_completion,
                    prompt_groups(ids, mask, num_completion),
                    temperature=self.temperature,
                    compute_entropy=compute_entropy,
                )
            self.num_computed_tokens += num_tokens
            all_logps.append(logps)
            all_entropies.append(entropies)
        return torch.cat(all_logps), torch.cat(all_entropies) if compute_entropy else None

    def _correct(self, inputs: dict[str, Any], old_logps_BC: Tensor) -> None:
        """Put the importance-sampling ratio where TRL's loss looks for it, and measure the gap to the server. What is
        trained without its context has no such ratio, but advantages that are weighted (deviation 16)."""
        mask_BC, sampling_BC = trained_mask(inputs), inputs["sampling_per_token_logps"]
        advantages, moved_B = inputs["advantages"], inputs["without_context"]
        ratio = importance_ratio(
            old_logps_BC,
            sampling_BC,
            mask_BC,
            mode=self.vllm_importance_sampling_mode,
            clip_min=self.vllm_importance_sampling_clip_min,
            clip_max=self.vllm_importance_sampling_clip_max,
        )
        if moved_B.any():
            ratio = ratio.masked_fill(moved_B[:, None], 1.0)
            advantages = self._weighted(inputs, old_logps_BC, mask_BC)
        kept = ~moved_B
        self.gap.add(old_logps_BC[kept], sampling_BC[kept], mask_BC[kept], inputs["on_policy"][kept], ratio[kept])
        if self.beta != 0.0:
            self.kl.add(old_logps_BC, inputs["ref_per_token_logps"], mask_BC)
        weighted = advantages if advantages.dim() == 2 else advantages[:, None]
        if self.vllm_importance_sampling_correction:  # some losses look for the ratio, others for this switch
            inputs["importance_sampling_ratio"] = ratio
            weighted = weighted * ratio
        inputs["advantages"] = advantages
        by_rollout = self.loss_type in MEANS_OF_ROLLOUTS
        self.context.add_advantages(weighted.expand_as(mask_BC), mask_BC, inputs["in_context"], by_rollout=by_rollout)

    def _weighted(self, inputs: dict[str, Any], old_logps_BC: Tensor, mask_BC: Tensor) -> Tensor:
        """Advantages (B, C): of rows that are trained without their context by their ratio."""
        assert self._batch is not None
        settings, moved_B = self._batch.context_ratio, inputs["without_context"]
        sampling_BC = inputs["sampling_per_token_logps"]
        ratio = settings.unbounded(old_logps_BC, sampling_BC, mask_BC)
        log_ratio_BC = old_logps_BC - sampling_BC
        self.context.add_weights(settings, ratio[moved_B], log_ratio_BC[moved_B], mask_BC[moved_B])
        weights_BC = settings.bounded(ratio).masked_fill(~moved_B[:, None], 1.0)
        return inputs["advantages"][:, None] * weights_BC.expand_as(mask_BC)

    def log(self, logs: Logs, start_time: float | None = None) -> None:
        trained = "loss" in logs
        logs.update(self._more_logs())
        if trained and self._batch is not None:
            self._gather_counts()
            logs.update(self._step_numbers(self._batch))
        super().log(logs, start_time)
        if trained:
            self._on_log(self.state.global_step, logs)

    def _gather_counts(self) -> None:
        if self.accelerator.num_processes == 1:
            return
        parts = gather_object([(self.gap, self.kl, self.context, self.num_computed_tokens)])
        self._reset_meters()
        for gap, kl, context, num in parts:
            self.gap.merge(gap)
            self.kl.merge(kl)
            self.context.merge(context)
            self.num_computed_tokens += num

    def _step_numbers(self, batch: RolloutBatch) -> Logs:
        return {
            **self.gap.numbers(),
            **self.kl.numbers(),
            **self.context.numbers(),
            "num_trained_tokens": batch.num_trained_tokens,
            "share_tokens_without_advantage": batch.share_tokens_without_advantage,
            **{f"num_masked_{rule}": batch.num_masked.get(rule, 0) for rule in RULES},
            "kl_coef": self.beta,
            "num_computed_tokens": self.num_computed_tokens,
            "wait_s": batch.wait_s,
            "train_s": time.monotonic() - self._batch_ready_s,
            "staleness_max": max(batch.staleness),
            "staleness_mean": sum(batch.staleness) / len(batch.staleness),
            "share_zero_variance": batch.share_zero_variance,
        }

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        """Deviation 8."""
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is None or self.optimizer is None or self.lr_scheduler is None:
            return
        self.lr_scheduler.base_lrs = [self.args.learning_rate] * len(self.lr_scheduler.base_lrs)
        groups = zip(self.optimizer.param_groups, self.lr_scheduler.lr_lambdas, strict=True)
        for index, (group, factor) in enumerate(groups):
            group["initial_lr"] = self.args.learning_rate
            group["lr"] = self.args.learning_rate * factor(self.lr_scheduler.last_epoch)
            group["betas"] = (self.args.adam_beta1, self.args.adam_beta2)
            group["weight_decay"] = self.args.weight_decay if index == 0 else 0.0  # biases and norms are in the second
        self.lr_scheduler._last_lr = [group["lr"] for group in self.optimizer.param_groups]

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """TRL's, into an empty folder (deviation 12)."""
        folder = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"
        on_rank0(lambda: begin(folder))
        super()._save_checkpoint(model, trial)

    def forget_training(self) -> None:
        """Give back the memory of gradients, optimizer and reference; there is no further step, but logs."""
        drop_gradients(self.model)
        self.accelerator.free_memory()
        self.__dict__.update(optimizer=None, lr_scheduler=None, ref_model=None, _mapped=None)
        self.callback_handler.optimizer = self.callback_handler.lr_scheduler = None
        return_freed_memory()

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """Deviation 9."""


def trained_mask(inputs: dict[str, Any]) -> Tensor:
    """(B, C): the completion tokens that are trained."""
    return inputs["completion_mask"] * inputs["tool_mask"]


def zero_with_gradients(model: nn.Module) -> Tensor:
    """A zero loss whose gradients are zeros, not None: the optimizer then moves by its momentum as it would have
    done."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    missing = [parameter for parameter in parameters if parameter.grad is None] or parameters[-1:]
    return torch.stack([parameter.flatten()[0].float() for parameter in missing]).sum() * 0.0
