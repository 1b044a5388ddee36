"""Logs each optimizer step of the learner, and forwards the orchestrator's metrics to the trackers."""

from __future__ import annotations

import logging
from typing import Any

from pipeline.run.folder import RunFolder
from pipeline.run.metrics_log import MetricsWriter, read_metrics
from pipeline.runtime.files import flat

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
    "num_masked_stale",
    "num_masked_truncated",
    "num_masked_zero_variance",
    "kl_coef",
)


class StepLog:
    """One metrics line per optimizer step, and an alert when servers and learner disagree about probabilities, or
    rewards that differ give no gradient."""

    def __init__(self, metrics: MetricsWriter, gap_tolerance: float) -> None:
        self._metrics = metrics
        self._gap_tolerance = gap_tolerance

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


def _untaught(numbers: dict[str, Any]) -> str:
    """Why a step taught nothing although rewards differ within its groups; empty where it did. Pure."""
    share = numbers["share_zero_variance"]
    if numbers["grad_norm"] != 0 or share is None or share == 1:
        return ""
    masked = {rule: num for rule in ("stale", "truncated") if (num := numbers[f"num_masked_{rule}"])}
    rules = ", ".join(f"{num} as {rule}" for rule, num in masked.items())
    cause = (
        f"answers were left out ({rules}; learner.max_trained_staleness, learner.mask_truncated), maybe all that differ"
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
