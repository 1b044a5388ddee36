"""Ours against an unsubclassed TRL GRPOTrainer, fed the same ids, rewards and log-probabilities."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, Qwen3MoeConfig, Qwen3MoeForCausalLM, TrainerCallback
from trl import GRPOConfig, GRPOTrainer

from benchmarks.training_child import stock_trainer
from pipeline.config.base import value_at
from pipeline.run.folder import RunFolder
from pipeline.types import RolloutGroup
from tests.tiny_model import make_tiny_model
from tests.unit.trainer.groups import make_groups, tiny_config
from trainer.arguments import grpo_config
from trainer.batches import JournalReader
from trainer.grpo import JournalGRPOTrainer
from trainer.lora import lora_config
from trainer.models import decoded, load_model, load_tokenizer
from trainer.stop import StopSignal

TOLERANCE = 1e-5


class Recorder(TrainerCallback):
    """Keeps what each step made: gradients before the optimizer, and the logged numbers."""

    def __init__(self) -> None:
        self.gradients: list[torch.Tensor] = []
        self.logs: list[dict[str, Any]] = []
        self.advantages: list[torch.Tensor] = []

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        self.gradients.append(torch.cat([p.grad.flatten().clone() for p in model.parameters() if p.requires_grad]))

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        if "loss" in logs:
            self.logs.append(dict(logs))

    def watch(self, trainer: GRPOTrainer) -> None:
        original = trainer._generate_and_score_completions

        def watched(inputs: Any) -> Any:
            output = original(inputs)
            self.advantages.append(output["advantages"].clone())
            return output

        trainer._generate_and_score_completions = watched


class MemoryJournal:
    """What JournalReader asks of a journal."""

    commits = None

    def __init__(self, groups: Callable[[int], list[RolloutGroup]]) -> None:
        self._groups = groups

    def num_groups(self) -> int:
        return 1

    def read_step(self, step: int, lineages: Any) -> Any:
        return self._groups(step)


def train(
    folder: Path,
    *,
    ours: bool,
    share_prefix: bool = True,
    num_zero_variance: int = 1,
    callbacks: tuple[TrainerCallback, ...] = (),
    groups: Callable[[int], list[RolloutGroup]] | None = None,
    rollout: dict[str, Any] | None = None,
    **learner: Any,
) -> tuple[Recorder, Any]:
    settings = {"max_grad_norm": 1e9, "num_groups_per_micro_batch": 2, "share_prefix": share_prefix} | learner
    config = tiny_config(folder, rollout=rollout, **settings)
    args: GRPOConfig = dataclasses.replace(
        grpo_config(config, RunFolder(folder)), optim="sgd", save_strategy="no", generation_batch_size=None
    )
    groups = groups or partial(make_groups, num_zero_variance=num_zero_variance)
    model_folder = folder / "model"
    if not model_folder.exists():
        make_tiny_model(model_folder)
    model, tokenizer, recorder = load_model(model_folder), load_tokenizer(model_folder), Recorder()
    journal: Any = MemoryJournal(groups)
    reader = JournalReader(journal, [], config, StopSignal(), partial(decoded, tokenizer))
    trainer: Any
    if ours:
        trainer = JournalGRPOTrainer(
            model,
            args,
            tokenizer,
            next_batch=reader.wait_for,
            sync_weights=lambda: None,
            on_log=lambda step, logs: None,
            kl_coef=partial(value_at, config.learner.kl_coef),
            share_prefix=share_prefix,
            peft_config=lora_config(config),
        )
        for callback in (recorder, *callbacks):
            trainer.add_callback(callback)
    else:
        more = {"callbacks": [recorder], "peft_config": lora_config(config)}
        trainer = stock_trainer(GRPOTrainer, model, args, tokenizer, reader.wait_for, 12, **more)
    recorder.watch(trainer)
    trainer.train()
    return recorder, trainer


def relative_error(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    return ((ours - theirs).norm() / theirs.norm()).item()


@pytest.mark.parametrize("share_prefix", [True, False])
@pytest.mark.parametrize(
    "learner",
    [
        {"kl_coef": 0.04, "loss_type": "dapo", "importance_sampling": "token_truncate", "importance_sampling_cap": 1.1},
        {"kl_coef": 0.04, "loss_type": "grpo", "importance_sampling": "sequence_mask", "importance_sampling_cap": 1.5},
        {"kl_coef": 0.0, "loss_type": "dr_grpo", "importance_sampling": "token_mask", "importance_sampling_cap": 1.1},
        {"kl_coef": 0.0, "loss_type": "dapo", "importance_sampling": "sequence_truncate", "scale_rewards": "batch"},
        {"loss_type": "dapo", "importance_sampling": "none", "ratio_level": "sequence", "clip_delta": 4.0},
        {"loss_type": "grpo", "importance_sampling_floor": 0.9, "mask_truncated": True, "scale_rewards": "none"},
        {"loss_type": "dapo", "mask_zero_variance": True, "off_policy_threshold": 0.05},
        # Of one micro-batch, because both look at a micro-batch as a whole, and TRL shuffles rows between them.
        {"loss_type": "bnpo", "top_entropy_quantile": 0.5, "num_groups_per_micro_batch": 4},
        {"loss_type": "cispo", "epsilon_high": 5.0},
        {"loss_type": "sapo"},
        {"loss_type": "luspo", "ratio_level": "sequence"},
        {"loss_type": "vespo", "importance_sampling": "token_mask"},
        {"loss_type": "vespo", "importance_sampling": "none"},
        {"lora": {"rank": 4, "target_modules": ["q_proj", "down_proj"]}},
    ],
    ids=lambda value: "-".join(f"{name}={setting}" for name, setting in value.items()),
)
def test_equals_plain_trl_over_three_steps(tmp_path: Path, learner: dict[str, Any], share_prefix: bool) -> None:
    assert_equals_plain_trl(tmp_path, {"kl_coef": 0.04} | learner, share_prefix)


def test_a_mixture_of_experts_is_trained_with_its_routers_loss(tmp_path: Path) -> None:
    """Its prompts are not shared: TRL adds a loss over what every copy of a prompt was routed to."""
    make_tiny_mixture(tmp_path / "model")
    # Of one micro-batch, because the balance is that of a micro-batch.
    ours = assert_equals_plain_trl(tmp_path, {"kl_coef": 0.04, "num_groups_per_micro_batch": 4}, share_prefix=True)
    assert ours.logs[0]["aux_loss"] > 0


def make_tiny_mixture(folder: Path) -> None:
    make_tiny_model(folder)
    like = AutoConfig.from_pretrained(folder)
    torch.manual_seed(0)
    Qwen3MoeForCausalLM(
        Qwen3MoeConfig(
            **{name: getattr(like, name) for name in ("vocab_size", "hidden_size", "pad_token_id", "eos_token_id")},
            moe_intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=2,
            head_dim=64,
            num_experts=4,
            num_experts_per_tok=2,
        )
    ).save_pretrained(folder)


def assert_equals_plain_trl(tmp_path: Path, learner: dict[str, Any], share_prefix: bool) -> Recorder:
    ours, _ = train(tmp_path, ours=True, share_prefix=share_prefix, **learner)
    theirs, _ = train(tmp_path, ours=False, **learner)
    assert len(ours.gradients) == len(theirs.gradients) == 3
    for step in range(3):
        assert theirs.gradients[step].norm() > 0.01
        assert relative_error(ours.advantages[step], theirs.advantages[step]) <= TOLERANCE
        assert relative_error(ours.gradients[step], theirs.gradients[step]) <= TOLERANCE
        assert ours.logs[step]["loss"] == pytest.approx(theirs.logs[step]["loss"], rel=TOLERANCE, abs=1e-6)
        ratio = theirs.logs[step].get("sampling/importance_sampling_ratio/mean")
        if ratio is not None:
            near = TOLERANCE if learner["kl_coef"] else 0.2
            assert ours.logs[step]["importance_ratio_mean"] == pytest.approx(ratio, rel=near)
    return ours


def test_the_weight_of_kl_follows_its_schedule(tmp_path: Path) -> None:
    recorder, _ = train(tmp_path, ours=True, kl_coef=((0, 0.0), (2, 0.5)))
    assert [log["kl_coef"] for log in recorder.logs] == [0.0, 0.25, 0.5]
    assert ["kl" in log for log in recorder.logs] == [False, True, True]
    without, _ = train(tmp_path, ours=True, kl_coef=0.0)
    assert relative_error(recorder.gradients[0], without.gradients[0]) <= TOLERANCE
    assert relative_error(recorder.gradients[2], without.gradients[2]) > 10 * TOLERANCE


def test_masked_rollouts_are_counted_and_not_trained(tmp_path: Path) -> None:
    masked, _ = train(tmp_path, ours=True, kl_coef=0.04, mask_zero_variance=True, num_zero_variance=4)
    assert [log["num_masked_zero_variance"] for log in masked.logs] == [16, 16, 16]
    assert [log["num_trained_tokens"] for log in masked.logs] == [0, 0, 0]
    assert [gradient.abs().max().item() for gradient in masked.gradients] == [0.0, 0.0, 0.0], (
        "nor does KL move anything"
    )


@pytest.mark.parametrize(("loss_type", "by_tokens"), [("dapo", True), ("grpo", False), ("dr_grpo", False)])
def test_rescaled_the_gradient_is_what_groups_with_advantages_make(
    tmp_path: Path, loss_type: str, by_tokens: bool
) -> None:
    def first(**learner: Any) -> tuple[torch.Tensor, dict[str, Any]]:
        recorder, _ = train(tmp_path, ours=True, num_zero_variance=2, loss_type=loss_type, **learner)
        return recorder.gradients[0], recorder.logs[0]

    diluted, logs = first(kl_coef=0.0)
    rescaled, _ = first(kl_coef=0.0, rescale_zero_variance=True)
    live = sum(not group.zero_variance for group in make_groups(0, num_zero_variance=2)) / 4
    assert 0 < logs["share_tokens_without_advantage"] < 1
    share = 1 - logs["share_tokens_without_advantage"] if by_tokens else live
    assert relative_error(rescaled, diluted / share) <= TOLERANCE
    with_kl, without_kl = first(kl_coef=0.04)[0], first(kl_coef=0.04, rescale_zero_variance=True)[0]
    assert relative_error(without_kl - with_kl, rescaled - diluted) <= 1e-3, "KL is divided by all, as before"


def test_the_first_step_moves_and_the_logged_rates_are_those_of_the_steps(tmp_path: Path) -> None:
    rates: list[float] = []

    class Rates(TrainerCallback):
        def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, optimizer: Any = None, **_: Any) -> None:
            rates.append(optimizer.param_groups[0]["lr"])

    recorder, _ = train(tmp_path, ours=True, callbacks=(Rates(),), num_warmup_steps=2, learning_rate=0.3)
    assert rates == pytest.approx([0.1, 0.2, 0.3])
    assert [log["learning_rate"] for log in recorder.logs] == pytest.approx(rates)


def test_the_kl_of_a_step_is_that_of_its_tokens(tmp_path: Path) -> None:
    recorder, _ = train(tmp_path, ours=True, kl_coef=0.04, num_groups_per_micro_batch=4)
    log = recorder.logs[-1]
    assert 0 < log["kl_without_top"] < log["kl"] < log["kl_max"]
    assert 0 < log["kl_top_share"] < 1


def test_gap_is_trls_sampling_difference(tmp_path: Path) -> None:
    ours, _ = train(tmp_path, ours=True, kl_coef=0.04)
    theirs, _ = train(tmp_path, ours=False, kl_coef=0.04)
    for mine, other in zip(ours.logs, theirs.logs, strict=True):
        assert mine["logprob_gap_mean"] == pytest.approx(other["sampling/sampling_logp_difference/mean"], rel=1e-4)
        assert mine["logprob_gap_max"] == pytest.approx(other["sampling/sampling_logp_difference/max"], rel=1e-4)


def test_groups_without_advantage_are_not_computed_unless_kl_needs_them(tmp_path: Path) -> None:
    _, skipping = train(tmp_path, ours=True, kl_coef=0.0, num_zero_variance=4)
    assert skipping.num_computed_tokens == 0
    _, computing = train(tmp_path, ours=True, kl_coef=0.04, num_zero_variance=4)
    assert computing.num_computed_tokens > 0


def test_a_step_without_advantage_leaves_zero_gradients_not_none(tmp_path: Path) -> None:
    recorder, _ = train(tmp_path, ours=True, kl_coef=0.0, num_zero_variance=4)
    assert [gradient.abs().max().item() for gradient in recorder.gradients] == [0.0, 0.0, 0.0]


def test_sharing_the_prefix_computes_fewer_tokens(tmp_path: Path) -> None:
    _, shared = train(tmp_path, ours=True, share_prefix=True, kl_coef=0.04)
    _, unshared = train(tmp_path, ours=True, share_prefix=False, kl_coef=0.04)
    assert shared.num_computed_tokens < 0.5 * unshared.num_computed_tokens


def test_weights_are_synchronised_before_every_batch(tmp_path: Path) -> None:
    synced: list[int] = []
    config = tiny_config(tmp_path, kl_coef=0.0)
    folder = make_tiny_model(tmp_path / "model")
    reader = JournalReader(MemoryJournal(make_groups), [], config, StopSignal())  # type: ignore[arg-type]
    trainer = JournalGRPOTrainer(
        load_model(folder),
        dataclasses.replace(grpo_config(config, RunFolder(tmp_path)), save_strategy="no", generation_batch_size=None),
        load_tokenizer(folder),
        next_batch=reader.wait_for,
        sync_weights=lambda: synced.append(trainer.state.global_step),
        on_log=lambda step, logs: None,
    )
    trainer.train()
    assert synced == [0, 1, 2]


def test_training_can_be_forgotten_and_logs_go_on(tmp_path: Path) -> None:
    recorder, trainer = train(tmp_path, ours=True)
    num_logged = len(recorder.logs)
    trainer.forget_training()
    assert trainer.optimizer is None and trainer.ref_model is None
    trainer.log({"rollout/reward": 0.5})
    assert len(recorder.logs) == num_logged, "a number of the orchestrator's is no step"
    assert trainer.state.log_history[-1]["rollout/reward"] == 0.5
