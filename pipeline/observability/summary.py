"""The closing summary of a run: what was gained, what it cost, where everything is."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from typing import Any

from pipeline.observability.live_view import duration, score_columns
from pipeline.run.folder import RunFolder
from pipeline.run.metrics_log import read_metrics
from pipeline.run.state import of_problems, shown_reward
from pipeline.types import RESCUE_KINDS, removed_by_gamma

STAGES = (
    "server_start",
    "sft",
    "eval",
    "probe",
    "rollout",
    "rescue",
    "reflect",
    "retrieve",
    "reward",
    "judge",
    "journal",
    "abstract",
    "pool",
    "wait_for_learner",
    "reload",
)


def render_summary(run: RunFolder, state: dict[str, Any]) -> Iterator[str]:
    """Lines for the end of a run, from what `state.json` holds."""
    yield "summary"
    for name, report in state["evals"].items():
        low, high = report["interval"]
        yield (
            f"  held-out accuracy, {name}: {report['accuracy']:.1%}, 95 % interval [{low:.1%}, {high:.1%}], "
            f"{of_problems(report)}, {shown_reward(report.get('mean_reward'), report['accuracy'])}"
            f"{report['share_parsable']:.1%} parsable, {report['share_cut']:.1%} cut short"
        )
    yield from _skills(state.get("skills", {}))
    totals = state.get("totals", {})
    drawn, carried = totals.get("drawn", {}), totals.get("carried", {})
    for kind in ("inter", "intra"):
        if drawn.get(kind):
            share = carried.get(kind, 0) / drawn[kind]
            yield (
                f"  {kind}-drawn prompts that carried a context: {carried.get(kind, 0)} of {drawn[kind]} "
                f"({share:.0%}); the rest fell back to scratch"
            )
    yield from _rescues(totals.get("rescues", {}))
    yield from _gamma(run, totals)
    rejected = ", ".join(f"{reason} {number}" for reason, number in totals.get("rejected", {}).items()) or "none"
    yield (
        f"  experience pool: {totals.get('accepted', 0)} entries accepted, {totals.get('pool_size', 0)} held; "
        f"rejected: {rejected}"
    )
    if trims := totals.get("trims"):
        yield f"  contexts trimmed to max_model_len, by kind: {trims}"
    yield from (f"  {line.splitlines()[0]}" for line in state.get("judges", {}).values())
    yield from _costs(totals)
    yield from _learning(run)
    yield f"  run folder: {run.path}"
    yield f'  load the model with: transformers.AutoModelForCausalLM.from_pretrained("{run.final_model}")'


def _rescues(numbers: dict[str, int]) -> Iterator[str]:
    """What became of the all-wrong groups that were sampled again (`feedback.rescue`)."""
    if num := numbers.get("tried"):
        helped = {kind: numbers[kind] for kind in RESCUE_KINDS if numbers.get(kind)}
        found = ", ".join(f"{kind} {number}" for kind, number in helped.items()) or "none"
        yield (
            f"  scratch groups that were all wrong and sampled again: {num}; with a success then: {found} "
            f"({sum(helped.values()) / num:.0%})"
        )


def _gamma(run: RunFolder, totals: dict[str, Any]) -> Iterator[str]:
    """The share of what was compared that gamma removed, and what it should be told where that is nearly nothing or
    all."""
    outcomes = totals.get("candidates", {})
    removed, num = removed_by_gamma(outcomes)
    if not num:
        return
    settings, near = run.config().feedback, outcomes.get("near_duplicate", 0)
    verdict = settings.gamma_verdict(removed / num)
    yield (
        f"  feedback.similarity_threshold = {settings.similarity_threshold:g} removed {removed} of {num} candidates "
        f"({removed / num:.1%})" + (f": {verdict}" if verdict else "") + f"; {near} more were near-duplicates"
    )


def _skills(skills: dict[str, Any]) -> Iterator[str]:
    """What the short probes found, a line each; the command `probe` measures the same with more problems."""
    for name, report in skills.items():
        found = "; ".join(f"{one['skill']} ({one['ground']}) {one['verdict']}" for one in report["skills"])
        rates = ", ".join(f"{one['rates'][0]['name']} {one['rates'][0]['value']:.0%}" for one in report["skills"])
        lacking = f"; {num} measures could not be had" if (num := sum(report["failures"].values())) else ""
        yield f"  skills, {name}: {found} (few problems: {rates}{lacking})"


def _learning(run: RunFolder) -> Iterator[str]:
    """What the learner did, over all sessions of the run."""
    lines, _ = read_metrics(run.metrics_file)
    steps = {line["step"]: line for line in lines if line["event"] == "learner_step"}
    sampled = [line for _, line in sorted({line["step"]: line for line in lines if line["event"] == "step"}.items())]
    yield from _rewards(sampled)
    if not steps:
        return
    total = {
        name: sum(line.get(name) or 0 for line in steps.values())
        for name in ("num_trained_tokens", "train_s", "publish_s", "reload_s")
    }
    yield (
        f"  train: {len(steps)} steps, {total['num_trained_tokens']:.0f} completion tokens in "
        f"{duration(total['train_s'])}; publishing {duration(total['publish_s'])}, reloading "
        f"{duration(total['reload_s'])}"
    )
    yield from _odds(list(steps.values()))
    gaps = [line["logprob_gap_mean"] for line in steps.values() if line.get("logprob_gap_mean") is not None]
    alerts = f"{sum(line['event'] == 'alert' for line in lines)} alerts"
    if sampled and num_flat_steps(sampled) == len(sampled):
        alerts += ", and NOTHING WAS LEARNED FROM REWARDS: in no step did those of any group differ"
    if gaps:
        highest = max(line.get("logprob_gap_max") or 0.0 for line in steps.values())
        yield (
            f"  log-probabilities, servers against learner: mean gap {sum(gaps) / len(gaps):.5f} nats per token over "
            f"all steps, largest single gap {highest:.3f}; {alerts}"
        )
    else:
        yield f"  {alerts}"


def _odds(steps: list[dict[str, Any]]) -> Iterator[str]:
    """What diluted the policy gradient, and the step whose KL stands out with the tokens that hold it."""
    diluting = [share for line in steps if (share := line.get("share_tokens_without_advantage")) is not None]
    if diluting and (share := sum(diluting) / len(diluting)) > 0:
        yield (
            f"  {share:.0%} of the trained tokens were of groups whose rewards are all equal: they teach nothing and "
            "dilute the policy gradient (learner.rescale_zero_variance, rollout.refill_zero_variance)"
        )
    kls = [line for line in steps if line.get("kl_top_share") is not None]
    if kls:
        worst = max(kls, key=lambda line: line["kl"] or 0.0)
        yield (
            f"  KL to the reference: {statistics.median(line['kl'] or 0.0 for line in kls):.3g} nats per token in the "
            f"median of {len(kls)} steps, at most {worst['kl']:.3g} (step {worst['step']}, where its largest tokens "
            f"hold {worst['kl_top_share']:.0%} of it)"
        )


def num_flat_steps(sampled: list[dict[str, Any]]) -> int:
    """Steps in which the rewards of no group differed."""
    return sum(line["share_zero_variance"] == 1 for line in sampled)


def _rewards(sampled: list[dict[str, Any]]) -> Iterator[str]:
    """What the rewards were, and how often there was nothing in them to learn from."""
    if not sampled:
        return
    first, last = sampled[0], sampled[-1]
    parts = " ".join(f"{name.removeprefix('score_')} {last[name]:.3f}" for name in score_columns(last))
    notes = [f"{first['reward']:.3f} at the first step, {last['reward']:.3f} at the last"]
    if len(score_columns(last)) > 1:
        notes[0] += f" ({parts})"
    if num_failed := sum(line["verifier_failures"] for line in sampled):
        notes.append(f"{num_failed} answers got no reward")
    if num_missing := sum(line.get("missing_modules", 0) for line in sampled):
        notes.append(f"{num_missing} of these programs import what their sandbox lacks (reward.code.packages)")
    if num_flat := num_flat_steps(sampled):
        notes.append(f"in {num_flat} of {len(sampled)} steps those of no group differed")
    yield f"  mean reward: {'; '.join(notes)}"


def _is_known(totals: dict[str, Any], stage: str) -> bool:
    """Whether a stage is that of judges, some of whose judgements were paid for before."""
    return stage == "judge" and bool(totals.get("num_judged_before"))


def _costs(totals: dict[str, Any]) -> Iterator[str]:
    costs = totals.get("stage_cost", {})
    for stage, numbers in totals.get("usage", {}).items():
        failed = sum(value for name, value in numbers.items() if name.startswith("failed_"))
        yield (
            f"  {stage}: {numbers.get('requests', 0)} requests ({failed} failed attempts), "
            f"{numbers.get('prompt_tokens', 0)} prompt tokens, {numbers.get('completion_tokens', 0)} sampled tokens"
            + (f", cost {costs[stage]:.4f}" if costs.get(stage) else "")
            + (f"; {totals['num_judged_before']} judgements known from before" if _is_known(totals, stage) else "")
        )
    if totals.get("cost"):
        yield f"  cost of tokens by the configured prices: {totals['cost']:.4f}"
    seconds = totals.get("seconds", {})
    shown = [f"{stage} {duration(seconds[stage])}" for stage in STAGES if stage in seconds]
    if shown:
        yield "  wall clock by stage (stages overlap): " + ", ".join(shown)
