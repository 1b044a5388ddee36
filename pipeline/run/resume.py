"""Checks that a resumed run changes no setting but those that alter neither what is sampled nor what is learned."""

from __future__ import annotations

from pipeline.config import Config
from pipeline.errors import RunFolderError
from pipeline.runtime.files import flat

# A resume may change these, each with all that is below it, and nothing else.
RESUMABLE_SETTINGS = (
    "run.root",
    "run.name",
    "servers.port",
    "servers.gpu_ids",
    "servers.startup_timeout_s",
    "servers.max_restarts",
    "servers.kv_cache_gib",
    "servers.canary_tolerance",
    "endpoints",
    "eval.every",
    "learner.num_steps",
    "learner.checkpoint_every",
    "learner.num_checkpoints_kept",
    "learner.num_weights_kept",
    "learner.logprob_gap_tolerance",
    "learner.report_to",
    "learner.cpu_threads",
    "reward.num_workers",
    "reward.timeout_s",
    "reward.concurrency",
    "reward.probe",
    "reward.flat_steps",
    "reward.judge.endpoint.url",
    "reward.judge.endpoint.api_key_env",
    "reward.judge.endpoint.max_concurrency",
    "reward.judge.endpoint.prompt_price",
    "reward.judge.endpoint.completion_price",
    "reward.judge.labelled_file",
    "reward.judge.min_agreement",
    "requests",
    "operations",
    # Another place for the same texts: `pipeline.experience.wording` compares them.
    "rollout.templates",
    "rollout.max_groups_in_flight",
    "rollout.group_timeout_s",
    "rollout.max_group_attempts",
    "rollout.max_failed_groups",
)


def schedule_note(stored: Config, wanted: Config, step: int) -> str:
    """What a resume at `step` with another number of steps does to the learning rate and to p_t; empty where
    nothing."""
    num_steps = wanted.learner.num_steps
    changes = (
        (wanted.learner.lr_scheduler, "a learning rate", stored.learner.rate_at(step), wanted.learner.rate_at(step)),
        (wanted.feedback.annealing, "a p_t (feedback.end_ratio)", stored.ratio_at(step), wanted.ratio_at(step)),
    )
    return "\n".join(
        f"learner.num_steps = {num_steps}, {stored.learner.num_steps} before: the '{schedule}' schedule is that of a "
        f"run of {num_steps} steps from here on, at step {step} {what} of {after:.3g} in place of {before:.3g}"
        for schedule, what, before, after in changes
        if before != after
    )


def check_resume_config(stored: Config, wanted: Config) -> None:
    """Raise RunFolderError when `wanted` differs from `stored` in a setting that changes the run; name each
    difference."""
    before, after = flat(stored.model_dump(mode="json")), flat(wanted.model_dump(mode="json"))
    differing = [key for key in sorted(before.keys() | after.keys()) if before.get(key) != after.get(key)]
    harmful = [key for key in differing if not any(key == ok or key.startswith(f"{ok}.") for ok in RESUMABLE_SETTINGS)]
    if harmful:
        lines = "\n".join(f"  {key}: {before.get(key)!r} in the run, {after.get(key)!r} now" for key in harmful)
        raise RunFolderError(
            f"a resumed run must keep its settings, but these differ:\n{lines}\n"
            "Leave them as they were, or start a new run with `train --config`."
        )
