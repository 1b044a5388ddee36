"""Logs each optimizer step of the learner, and forwards the orchestrator's metrics to the trackers."""

from __future__ import annotations

import logging
import statistics
from collections import deque
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pipeline.run.folder import RunFolder
from pipeline.run.metrics_log import MetricsWriter, read_metrics
from pipeline.runtime.files import flat
from trainer.kl import NUM_TOP

logger = logging.getLogger(__name__)

# Our names of the numbers that TRL and transformers log.
NAMES = {
    "loss": "loss",
    "grad_norm": "grad_norm",
    "kl": "kl",
    "entropy": "entropy",
    "clip_ratio/region_mean": "clip_ratio",
    "importance_ratio_mean": "importance_ratio",
    "reward": "reward_mean",
    "learning_rate": "learning_rate",
}
PLAIN = (
    "logprob_gap_mean",
    "logprob_gap_max",
    "num_trained_tokens",
    "num_computed_tokens",
    "wait_s",
    "train_s",
    "publish_s",
    "reload_s",
    "staleness_max",
    "staleness_mean",
    "share_zero_variance",
    "share_tokens_without_advantage",
    "kl_max",
    "kl_top_share",
    "kl_without_top",
    "num_masked_stale",
    "num_masked_truncated",
    "num_masked_zero_variance",
    "num_masked_uncut",
    "kl_coef",
    "share_advantage_in_context",
    "context_ratio_ess",
    "context_ratio_at_cap",
    "context_ratio_at_floor",
    "context_log_ratio",
)


KL_WINDOW, KL_FEWEST = 8, 4
"""Steps that a step's KL is compared with, and the fewest of them."""
KL_FACTOR, KL_FLOOR = 4.0, 0.1
"""An outlier is this many times their median, and nats per token at least."""


class StepLog:
    """One metrics line per optimizer step, and an alert when servers and learner disagree about probabilities, rewards
    that differ give no gradient, or the KL estimate is an outlier among those of the steps before."""

    def __init__(self, metrics: MetricsWriter, gap_tolerance: float, kls: Iterable[float] = ()) -> None:
        """`kls` are of the steps before (`kls_until`)."""
        self._metrics = metrics
        self._gap_tolerance = gap_tolerance
        self._kls = deque(kls, maxlen=KL_WINDOW)

    def write(self, step: int, logs: dict[str, Any]) -> None:
        """`step` counts completed steps; a number that was not measured is null."""
        numbers = {ours: logs.get(theirs) for theirs, ours in NAMES.items()} | {name: logs.get(name) for name in PLAIN}
        self._metrics.write("learner_step", step, **numbers)
        logger.info("step %d %s", step, " ".join(f"{name}={_short(value)}" for name, value in numbers.items()))
        gap = numbers["logprob_gap_mean"]
        if gap is not None and gap > self._gap_tolerance:
            message = (
                f"the servers' log-probabilities differ from the learner's by {gap:.4g} nats per token on average (at "
                f"most {numbers['logprob_gap_max']:.4g}), above learner.logprob_gap_tolerance = "
                f"{self._gap_tolerance}: compare servers.dtype and learner.precision, and whether the servers really "
                "reloaded"
            )
            logger.warning(message)
            self._metrics.write("alert", step, kind="logprob_gap", message=message, logprob_gap_mean=gap)
        if message := _untaught(numbers):
            logger.warning("step %d: %s", step, message)
            self._metrics.write("alert", step, kind="no_gradient", message=message)
        if message := self._outlier(numbers):
            logger.warning("step %d: %s", step, message)
            self._metrics.write("alert", step, kind="kl_outlier", message=message, kl=numbers["kl"])

    def _outlier(self, numbers: dict[str, Any]) -> str:
        """What makes the KL of a step an outlier; empty where it is none."""
        if (kl := numbers["kl"]) is None:
            return ""
        known, usual = len(self._kls), statistics.median(self._kls or [kl])
        self._kls.append(kl)
        if known < KL_FEWEST or kl < max(KL_FLOOR, KL_FACTOR * usual):
            return ""
        top_share = numbers["kl_top_share"] or 0.0
        message = (
            f"KL to the reference is {kl:.3g} nats per token, and {usual:.3g} in the median of {known} steps before"
        )
        if top_share < 0.5:
            return (
                f"{message}; no few tokens hold it: the policy moved; lower learner.learning_rate, or raise "
                "learner.kl_coef"
            )
        return (
            f"{message}; {NUM_TOP} tokens hold {top_share:.0%} of it, the largest {numbers['kl_max']:.3g}: an outlier "
            f"of the estimate, without which it is {numbers['kl_without_top']:.3g}; the reference finds these tokens "
            "far likelier than the policy, and learner.max_grad_norm bounds what they do"
        )


def kls_until(file: Path, step: int) -> list[float]:
    """The KL of each step up to `step` that earlier sessions measured, from their metrics; of a repeated one the
    last."""
    lines, _ = read_metrics(file)
    kls = {line["step"]: line["kl"] for line in lines if line["event"] == "learner_step" and line["step"] <= step}
    return [kl for _, kl in sorted(kls.items()) if kl is not None]


def _untaught(numbers: dict[str, Any]) -> str:
    """Why a step taught nothing although rewards differ within its groups; empty where it did. Pure."""
    share = numbers["share_zero_variance"]
    if numbers["grad_norm"] != 0 or share is None or share == 1:
        return ""
    masked = {rule: num for rule in ("stale", "truncated", "uncut") if (num := numbers[f"num_masked_{rule}"])}
    rules = ", ".join(f"{num} as {rule}" for rule, num in masked.items())
    cause = (
        f"answers were left out ({rules}; learner.max_trained_staleness, learner.mask_truncated, learner.train_under), "
        "maybe all that differ"
        if masked
        else "their differences may be too small for float32 beside the rewards themselves, or all answers that differ "
        "are clipped: let the scorer return numbers of about 1"
    )
    return f"nothing was learned: rewards differ in {1 - share:.0%} of the groups, but the gradient is 0; {cause}"


class TrackerFeed:
    """Reads the orchestrator's new metrics lines as {'orchestrator/<event>/<name>': number}; of repeated ones the
    last."""

    def __init__(self, run: RunFolder) -> None:
        self._file = run.metrics_file
        self._offset = self._file.stat().st_size if self._file.exists() else 0

    def numbers(self) -> dict[str, float]:
        lines, self._offset = read_metrics(self._file, self._offset)
        return {
            f"orchestrator/{line['event']}/{name}": value
            for line in lines
            if line["source"] == "orchestrator"
            for name, value in flat(line, separator="/").items()
            if name not in ("step", "time_s") and isinstance(value, int | float) and not isinstance(value, bool)
        }


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, (int, float)) else str(value)
