"""The settings of the learner. Where TRL has a switch, it is that switch, and its name stands in the description."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field, model_validator

from pipeline.config.base import NonNegative, Positive, Probability, Schedule, Section
from pipeline.config.rate import RateSchedule, rate_share

CLIP_RANGE, CISPO_BOUND = 0.2, 5.0
"""CISPO bounds the ratio itself, not its distance from 1; the bound is that of ScaleRL, as in TRL's documentation."""
LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""The greatest ranks that a vLLM server can be started for."""


class LoraSection(Section):
    """LoRA: train low-rank additions to the linear layers instead of all weights."""

    rank: int = Field(0, ge=0, description="Rank of the additions; 0: train all weights.")
    alpha: Annotated[float, Field(gt=0)] = Field(32.0, description="The additions count alpha / rank.")
    target_modules: tuple[str, ...] = Field(
        (), description="Layers by the ends of their names, for example q_proj; empty: all linear ones but the head."
    )

    @model_validator(mode="after")
    def _head_is_frozen(self) -> LoraSection:
        if "lm_head" in self.target_modules:
            raise ValueError(
                "target_modules names 'lm_head', whose weight the loss reads directly, so that its addition would "
                "never be trained; remove it from learner.lora.target_modules"
            )
        return self


class LearnerSection(Section):
    num_steps: Positive = Field(20, description="Optimizer steps.")
    learning_rate: Annotated[float, Field(gt=0)] = Field(3e-6, description="Peak learning rate.")
    num_warmup_steps: int = Field(
        3, ge=0, description="Steps of the linear warm-up: of three the rates are 1/4, 1/2 and 3/4 of the peak."
    )
    lr_scheduler: RateSchedule = Field(
        "constant_with_warmup",
        description="After the warm-up; linear and cosine fall to 0 at num_steps. A resume with other num_steps goes "
        "on at the rate that a run of that length has there.",
    )
    adam_beta2: Annotated[float, Field(gt=0, lt=1)] = Field(0.95, description="Adam's second-moment decay.")
    weight_decay: Annotated[float, Field(ge=0)] = Field(0.0, description="Weight decay.")
    max_grad_norm: Annotated[float, Field(gt=0)] = Field(1.0, description="Gradient clipping.")
    kl_coef: Schedule[NonNegative] = Field(
        0.001,
        description="beta: KL to the reference policy; a number, or [[step, beta], ...] interpolated linearly. 0 saves "
        "its forward pass.",
    )
    epsilon_low: Annotated[float, Field(gt=0)] = Field(
        0.2, description="Clip range below; without effect while one optimizer step is taken per batch."
    )
    epsilon_high: Annotated[float, Field(gt=0)] | None = Field(
        None, description="Clip range above, without effect likewise; of 'cispo' the largest ratio. none: 0.2, cispo 5."
    )
    clip_delta: Annotated[float, Field(gt=1)] | None = Field(
        None, description="Two-sided clipping: most that the ratio counts where the advantage is negative (delta)."
    )
    loss_type: Literal["grpo", "dapo", "dr_grpo", "bnpo", "cispo", "sapo", "luspo", "vespo"] = Field(
        "dapo", description="TRL's losses and their normalisations."
    )
    ratio_level: Literal["token", "sequence"] = Field(
        "token", description="Of what the policy's ratio is taken (importance_sampling_level); 'sequence' is GSPO."
    )
    scale_rewards: Literal["group", "batch", "none"] = Field("group", description="TRL's advantage scaling.")
    train_under: Literal["sampled", "scratch"] = Field(
        "sampled",
        description="Of rollouts in a context: train them under the prompt that they were sampled under, or cut what "
        "speaks of the context (the block before the solution) and train the solution under the problem alone. One "
        "without such a block is not trained then.",
    )
    sampled_weight: Probability = Field(
        0.0,
        description="With train_under 'scratch', the share of the loss that is as 'sampled' would make it; above 0 "
        "each rollout is computed twice, in the memory of both.",
    )
    context_ratio: Literal["none", "token", "sequence"] = Field(
        "none",
        description="What rollouts trained without their context are weighted by: nothing, or the policy's probability "
        "of each token, or of the solution, without the context ÷ that in it. Not exact: the sampled text was longer.",
    )
    context_ratio_cap: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = Field(
        None,
        description="Largest such weight; none: 3 of tokens, without bound of solutions, of which a bound would let "
        "wrong ones that are likelier alone push less than the others.",
    )
    context_ratio_floor: NonNegative = Field(0.0, description="Smallest such weight.")
    importance_sampling: Literal["none", "token_truncate", "token_mask", "sequence_truncate", "sequence_mask"] = Field(
        "token_truncate", description="TRL's correction by the behaviour log-probabilities."
    )
    importance_sampling_cap: Annotated[float, Field(gt=0)] = Field(3.0, description="Largest such ratio.")
    importance_sampling_floor: NonNegative = Field(0.0, description="Smallest such ratio.")
    off_policy_threshold: Annotated[float, Field(gt=0)] | None = Field(
        None,
        description="Drop rollouts of negative advantage further than this from the policy, nats per token "
        "(off_policy_mask_threshold).",
    )
    mask_truncated: bool = Field(False, description="Do not train on completions that the token limit cut.")
    mask_zero_variance: bool = Field(
        False,
        description="Do not train on groups whose rewards are all equal; else they count in KL and normalisation.",
    )
    rescale_zero_variance: bool = Field(
        False,
        description="Divide the policy gradient by what has advantages alone, so that groups whose rewards are all "
        "equal do not dilute it; KL is divided by all.",
    )
    max_trained_staleness: int | None = Field(
        None,
        ge=0,
        description="Do not train on rollouts that lag by more updates than this; none: rollout.max_staleness.",
    )
    top_entropy_quantile: Annotated[float, Field(gt=0, le=1)] = Field(
        1.0, description="Share of tokens, those of highest entropy, that the policy gradient acts on."
    )
    share_prefix: bool = Field(
        True, description="Compute the prompt of a group once for all its rollouts (same gradients)."
    )
    attention: Literal["auto", "sdpa", "eager", "flex_attention", "flash_attention_2"] = Field(
        "auto",
        description="Kernels of attention; auto: the model's default, mostly sdpa. flex_attention leaves out what a "
        "shared prefix masks (GPUs; not run on one yet), flash_attention_2 takes no mask, so each rollout's prompt is "
        "computed anew.",
    )
    num_groups_per_micro_batch: Positive = Field(1, description="Groups in one forward and backward pass.")
    precision: Literal["float32", "bf16_autocast"] = Field(
        "float32", description="Arithmetic; autocast is faster and widens the gap to the server."
    )
    lora: LoraSection = LoraSection()
    gradient_checkpointing: bool | Literal["cheap"] = Field(
        False,
        description="Less memory, more time, in SFT too: compute the layers anew in the backward pass; 'cheap': only "
        "what lies between their matrix products.",
    )
    transfer: Literal["filesystem", "nccl", "lora"] = Field(
        "filesystem",
        description="How servers get new weights: whole models from the run folder, or from GPU to GPU (never run "
        "yet; the files stay the way back), or LoRA adapters beside each other.",
    )
    publish_every: Positive = Field(1, description="Optimizer steps between publications of weights.")
    checkpoint_every: Positive = Field(5, description="Optimizer steps between checkpoints.")
    num_checkpoints_kept: Positive = Field(2, description="Checkpoints kept.")
    num_weights_kept: int = Field(3, ge=2, description="Published weight versions kept.")
    logprob_gap_tolerance: Annotated[float, Field(gt=0)] = Field(
        0.05,
        description="Alert when the mean gap of server and learner log-probabilities exceeds this (nats per token).",
    )
    report_to: tuple[str, ...] = Field(("tensorboard",), description="Trackers, by the names TRL's report_to knows.")
    num_processes: Positive = Field(
        1,
        description="Processes of the learner on this machine, one per GPU; the groups of a step are divided among "
        "them.",
    )
    sharding: Literal["none", "fsdp2"] = Field(
        "none",
        description="Whether model, gradients and optimizer state are divided among the processes; none: each holds "
        "all of them.",
    )
    cpu_threads: int = Field(0, ge=0, description="Threads of each process of a CPU learner; 0: all cores, divided.")

    @property
    def upper_bound(self) -> float:
        """`epsilon_high`, or that of the loss."""
        return self.epsilon_high or (CISPO_BOUND if self.loss_type == "cispo" else CLIP_RANGE)

    @property
    def largest_context_ratio(self) -> float:
        """`context_ratio_cap` with its default."""
        if self.context_ratio_cap is not None:
            return self.context_ratio_cap
        return math.inf if self.context_ratio == "sequence" else 3.0

    @property
    def num_views(self) -> int:
        """How often each rollout of a micro-batch is computed before its backward pass."""
        return 2 if self.train_under == "scratch" and self.sampled_weight else 1

    def rate_at(self, step: int) -> float:
        """The learning rate of the optimizer step that follows `step` completed ones."""
        return self.learning_rate * rate_share(step, self.lr_scheduler, self.num_warmup_steps, self.num_steps)

    @property
    def max_kl_coef(self) -> float:
        """Largest weight of KL at any step; 0: no reference is needed."""
        return max(beta for _, beta in self.kl_coef) if isinstance(self.kl_coef, tuple) else self.kl_coef

    @model_validator(mode="after")
    def _adapters_fit_a_server(self) -> LearnerSection:
        rank = self.lora.rank
        if self.transfer == "lora" and not 0 < rank <= LORA_RANKS[-1]:
            raise ValueError(
                f"transfer = 'lora' gives servers adapters, and learner.lora.rank = {rank} "
                + ("trains none" if rank == 0 else "is more than vLLM can serve")
                + f"; set learner.lora.rank to 1 to {LORA_RANKS[-1]}, or learner.transfer = 'filesystem'"
            )
        return self

    @model_validator(mode="after")
    def _fields_agree(self) -> LearnerSection:
        if self.attention == "flash_attention_2" and self.precision == "float32":
            raise ValueError(
                "attention = 'flash_attention_2' computes in 16 bits only; set learner.precision = 'bf16_autocast' or "
                "learner.attention = 'auto'"
            )
        if self.rescale_zero_variance and self.loss_type == "bnpo":
            raise ValueError(
                "rescale_zero_variance needs a loss that is divided once a step, and loss_type = 'bnpo' is by each "
                "micro-batch; set learner.loss_type = 'dapo', or learner.mask_zero_variance = true"
            )
        if self.loss_type == "luspo" and self.ratio_level != "sequence":
            raise ValueError("loss_type = 'luspo' needs learner.ratio_level = 'sequence'")
        if self.loss_type == "vespo" and (
            self.ratio_level != "token" or self.importance_sampling.startswith("sequence")
        ):
            raise ValueError(
                "loss_type = 'vespo' takes ratios of whole sequences by itself; it needs learner.ratio_level = "
                "'token' and learner.importance_sampling = 'token_truncate', 'token_mask' or 'none'"
            )
        if self.sharding != "none" and self.num_processes == 1:
            raise ValueError(
                f"sharding = '{self.sharding}' divides the model among processes; set learner.num_processes to 2 or "
                "more, one per GPU"
            )
        if self.sharding != "none" and self.transfer != "filesystem":
            raise ValueError(
                f"sharding = '{self.sharding}' leaves whole weights in no process, from which transfer = "
                f"'{self.transfer}' would take them; set learner.transfer = 'filesystem'"
            )
        if self.context_ratio_floor > self.largest_context_ratio:
            raise ValueError(
                f"context_ratio_floor = {self.context_ratio_floor} exceeds context_ratio_cap = "
                f"{self.largest_context_ratio}; lower learner.context_ratio_floor"
            )
        if self.train_under == "scratch" and (self.loss_type == "vespo" or self.off_policy_threshold is not None):
            setting = "loss_type = 'vespo'" if self.loss_type == "vespo" else "off_policy_threshold"
            raise ValueError(
                f"{setting} weighs rollouts by the probabilities that they were sampled with, which are of another "
                "text with train_under = 'scratch'; leave it out, or set learner.train_under = 'sampled'"
            )
        if self.importance_sampling_floor > self.importance_sampling_cap:
            raise ValueError(
                f"importance_sampling_floor = {self.importance_sampling_floor} exceeds importance_sampling_cap = "
                f"{self.importance_sampling_cap}; lower learner.importance_sampling_floor"
            )
        return self
