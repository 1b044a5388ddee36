"""Settings that were changed from their defaults and do nothing, or not what they seem to, beside the others.

What the recipe sets is none of the user's changes: who switches a stage off leaves the recipe's settings of it behind,
as does a recipe that extends another."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import reduce
from typing import NamedTuple

from pipeline.config.learner import CISPO_BOUND
from pipeline.config.loading import recipe_settings
from pipeline.config.root import Config
from pipeline.runtime.files import flat


class Rule(NamedTuple):
    """While `holds`, a change of a setting that begins with one of `names` is without effect, because of `why`."""

    names: tuple[str, ...]
    holds: Callable[[Config], bool]
    why: str
    but: tuple[str, ...] = ()
    """Settings among them that act all the same."""


RULES = (
    Rule(
        ("learner.epsilon_low", "learner.epsilon_high", "learner.clip_delta"),
        lambda config: config.learner.loss_type != "cispo",
        "one optimizer step is taken per batch, so that the policy's ratio is 1 and nothing is clipped; the ratio to "
        "the servers' policy is bounded by learner.importance_sampling_cap",
    ),
    Rule(
        ("learner.epsilon_low", "learner.clip_delta"),
        lambda config: config.learner.loss_type == "cispo",
        "learner.loss_type = 'cispo' has the upper bound alone",
    ),
    Rule(
        ("learner.importance_sampling_cap", "learner.importance_sampling_floor"),
        lambda config: config.learner.importance_sampling == "none",
        "learner.importance_sampling = 'none'",
    ),
    Rule(
        ("learner.sampled_weight", "learner.context_ratio"),
        lambda config: config.learner.train_under == "sampled",
        "learner.train_under = 'sampled'",
    ),
    Rule(
        ("learner.context_ratio_cap", "learner.context_ratio_floor"),
        lambda config: config.learner.train_under == "sampled" or config.learner.context_ratio == "none",
        "learner.train_under = 'sampled' or learner.context_ratio = 'none'",
    ),
    Rule(
        ("learner.train_under", "learner.sampled_weight", "learner.context_ratio"),
        lambda config: not config.has_contexts,
        "no prompt is feedback-aware (feedback.ratio, feedback.rescue)",
    ),
    Rule(
        ("learner.max_trained_staleness",),
        lambda config: (config.learner.max_trained_staleness or 0) >= config.rollout.max_staleness,
        "no sample lags by more than rollout.max_staleness anyway",
    ),
    Rule(("learner.lora.",), lambda config: config.learner.lora.rank == 0, "learner.lora.rank = 0 trains all weights"),
    Rule(
        ("rollout.max_refills",),
        lambda config: not config.rollout.refill_zero_variance,
        "rollout.refill_zero_variance is off",
    ),
    Rule(
        ("feedback.annealing",),
        lambda config: config.feedback.end_ratio is None,
        "feedback.end_ratio = none: p_t is not annealed",
    ),
    Rule(("feedback.max_rescues_per_step",), lambda config: config.feedback.rescue == "off", "feedback.rescue = 'off'"),
    Rule(
        ("feedback.rescue",),
        lambda config: config.feedback.rescue == "lesson" and not config.abstraction.enabled,
        "abstraction.enabled = false, and lessons that are not made can only be imported (`pool import`)",
    ),
    Rule(
        ("feedback.recency_half_life_steps",),
        lambda config: config.feedback.recency_weight == 0,
        "feedback.recency_weight = 0",
    ),
    Rule(
        ("feedback.diversity",),
        lambda config: config.feedback.num_lessons == 1,
        "feedback.num_lessons = 1 has no other to be unlike",
    ),
    Rule(
        ("feedback.similarity_endpoint",),
        lambda config: not config.feedback.asks_endpoint,
        "feedback.similarity asks no endpoint",
    ),
    Rule(
        ("feedback.",),
        lambda config: not config.retrieves,
        "no prompt retrieves (feedback.ratio, feedback.intra_share, feedback.rescue)",
        but=(
            "feedback.ratio",
            "feedback.end_ratio",
            "feedback.annealing",
            "feedback.intra_share",
            "feedback.rescue",
            "feedback.max_rescues_per_step",
        ),
    ),
    Rule(
        ("reflection.",),
        lambda config: not config.reflects,
        "no prompt reflects (feedback.ratio, feedback.intra_share)",
        but=("reflection.max_attempt_chars",),  # of evaluations too
    ),
    Rule(
        ("abstraction.",),
        lambda config: not config.abstraction.enabled,
        "abstraction.enabled = false",
        but=("abstraction.enabled",),
    ),
)


def inert(config: Config) -> Iterator[str]:
    """A line for each setting changed by the user that has no effect, and for those that have another one than their
    names say."""
    of_recipe = flat(recipe_settings(config.recipe))
    now = flat(config.model_dump(mode="json"))
    for name, value in changed(config).items():
        if name in of_recipe and of_recipe[name] == now.get(name):
            continue
        rule = next((rule for rule in RULES if _is_of(name, rule) and rule.holds(config)), None)
        if rule is not None:
            shown = f"{name} = {value!r}" if isinstance(value, str | int | float | tuple) else name
            yield f"{shown} has no effect: {rule.why}"
    learner, rollout = config.learner, config.rollout
    if rollout.paired_groups and not (config.retrieves or config.reflects):
        yield (
            "rollout.paired_groups = True pairs scratch with scratch, since no prompt is feedback-aware "
            f"(feedback.ratio): the same as rollout.group_size = {rollout.advantage_group_size}"
        )
    if learner.loss_type == "cispo" and learner.upper_bound < 1:
        yield (
            f"learner.epsilon_high = {learner.upper_bound:g} with learner.loss_type = 'cispo' bounds the ratio itself, "
            f"which is 1: it scales the gradient by {learner.upper_bound:g}; leave it out for {CISPO_BOUND:g}"
        )
    if learner.num_warmup_steps >= learner.num_steps:
        yield (
            f"learner.num_warmup_steps = {learner.num_warmup_steps} with learner.num_steps = {learner.num_steps}: the "
            "rate never comes to learner.learning_rate"
        )


def changed(config: Config) -> dict[str, object]:
    """The settings that differ from their defaults, by dotted name; a section that is none by default as one."""
    defaults, now = flat(Config().model_dump(mode="json")), flat(config.model_dump(mode="json"))
    known = {name: next((one for one in defaults if f"{name}.".startswith(f"{one}.")), name) for name in now}
    owners = dict.fromkeys(known[name] for name, value in now.items() if defaults.get(name, ...) != value)
    return {owner: reduce(getattr, owner.split("."), config) for owner in owners}


def _is_of(name: str, rule: Rule) -> bool:
    return name not in rule.but and any(
        name == of or (of.endswith(".") and name.startswith(of)) or name.startswith(f"{of}.") for of in rule.names
    )
