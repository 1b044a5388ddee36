"""The run's configuration as TRL's: every GRPOConfig field that the learner sets is set here."""

from __future__ import annotations

import os

import torch
from transformers.utils.logging import disable_progress_bar
from trl import GRPOConfig

from pipeline.config import Config
from pipeline.run.folder import RunFolder
from pipeline.runtime.hardware import usable_cores
from trainer.processes import num_micro_batches, num_on_this_machine
from trainer.sharding import check_engine, fsdp_arguments

LONGEST_WAIT_S = 7 * 86_400
"""Of processes for the one that waits for rollouts or servers: an outage must not end them."""


def grpo_config(config: Config, run: RunFolder) -> GRPOConfig:
    """One optimizer step per batch of num_problems_per_step groups, divided into micro-batches of whole groups.

    Raises ConfigError for an engine or a number of processes that does not fit."""
    check_engine()
    learner, rollout = config.learner, config.rollout
    bf16 = learner.precision == "bf16_autocast"
    return GRPOConfig(
        output_dir=str(run.checkpoints),
        run_name=run.path.name,
        seed=config.run.seed,
        max_steps=learner.num_steps,
        num_iterations=1,
        num_generations=rollout.advantage_group_size,
        per_device_train_batch_size=rollout.group_size * learner.num_groups_per_micro_batch,
        gradient_accumulation_steps=num_micro_batches(
            rollout.num_problems_per_step, learner.num_groups_per_micro_batch, rollout.slots_per_problem
        ),
        max_completion_length=rollout.sampling.longest,
        temperature=rollout.sampling.temperature,
        shuffle_dataset=False,
        disable_dropout=True,
        # loss
        beta=learner.max_kl_coef,  # TRL loads the reference for it; the trainer sets each step's value
        epsilon=learner.epsilon_low,
        epsilon_high=learner.upper_bound,
        delta=learner.clip_delta,
        loss_type=learner.loss_type,
        importance_sampling_level=learner.ratio_level,
        scale_rewards=learner.scale_rewards,
        vllm_importance_sampling_correction=learner.importance_sampling != "none",
        vllm_importance_sampling_mode=learner.importance_sampling.replace("none", "token_truncate"),
        vllm_importance_sampling_clip_max=learner.importance_sampling_cap,
        vllm_importance_sampling_clip_min=learner.importance_sampling_floor or None,
        off_policy_mask_threshold=learner.off_policy_threshold,
        top_entropy_quantile=learner.top_entropy_quantile,
        # optimizer
        learning_rate=learner.learning_rate,
        warmup_steps=learner.num_warmup_steps,
        lr_scheduler_type=learner.lr_scheduler,
        adam_beta2=learner.adam_beta2,
        weight_decay=learner.weight_decay,
        max_grad_norm=learner.max_grad_norm,
        # arithmetic
        use_cpu=not torch.cuda.is_available(),
        ddp_timeout=LONGEST_WAIT_S,
        bf16=bf16,
        gradient_checkpointing=learner.gradient_checkpointing is True,
        **(fsdp_arguments() if learner.sharding == "fsdp2" else {}),
        dataloader_pin_memory=False,
        # checkpoints: transformers saves, trainer.checkpoints declares them whole and prunes
        save_strategy="steps",
        save_steps=learner.checkpoint_every,
        save_total_limit=None,
        ignore_data_skip=True,
        # logging
        logging_strategy="steps",
        logging_steps=1,
        logging_nan_inf_filter=False,
        report_to=list(learner.report_to) or "none",
        disable_tqdm=True,
    )


def set_environment(config: Config, run: RunFolder) -> None:
    """Threads and what libraries read from the environment: where TensorBoard writes; no telemetry."""
    os.environ["TENSORBOARD_LOGGING_DIR"] = str(run.trackers)
    os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
    set_threads(config)


def set_threads(config: Config) -> None:
    """Use `learner.cpu_threads` threads, 0 meaning this process's share of the cores; and no progress bars in logs."""
    torch.set_num_threads(config.learner.cpu_threads or max(1, len(usable_cores()) // num_on_this_machine()))
    disable_progress_bar()
