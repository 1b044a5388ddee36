"""Which steps end a run, which are an alert, and what is named as the cause."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.config import Config
from pipeline.errors import RewardError
from pipeline.loop.reward_watch import RewardWatch, likely_causes
from pipeline.types import RolloutGroup, Verdict
from tests.builders import group, rollout


def watch(alerts: list[str], scorer: str = "m:f", num_steps: int = 20, flat_steps: int = 3) -> RewardWatch:
    reward = {"scorer": scorer, "flat_steps": flat_steps}
    return RewardWatch(Config.model_validate({"reward": reward, "learner": {"num_steps": num_steps}}), alerts.append)


def with_kinds(*kinds: Any, text: str = "KeyError: 'x'") -> RolloutGroup:
    made = group(rewards=tuple(float(index) for index in range(len(kinds))))
    verdicts = [Verdict(kind=kind, text=text) for kind in kinds]
    rollouts = [r.model_copy(update={"verdict": v}) for r, v in zip(made.rollouts, verdicts, strict=True)]
    return made.model_copy(update={"rollouts": tuple(rollouts)})


FLAT, SPREAD = group(rewards=(0.0, 0.0)), group(rewards=(0.0, -1.0))


def test_a_step_without_a_judgement_ends_the_run_with_the_reason() -> None:
    dead = with_kinds("error", "timeout", "error")
    with pytest.raises(RewardError, match=r"step 4: no answer of 3 got a reward from m:f: KeyError: 'x'; mend it"):
        watch([]).check(4, [dead], [dead])
    watch([]).check(4, [dead], [])
    late = with_kinds("timeout", "timeout")
    watch([], scorer="code").check(4, [late], [late])


def test_some_without_a_judgement_are_one_alert_for_each_reason() -> None:
    alerts: list[str] = []
    some, few = with_kinds("error", "scored"), with_kinds("error", *["scored"] * 20, text="other")
    watching = watch(alerts)
    for made in (some, some, few):
        watching.check(1, [made], [made])
    assert alerts == ["step 1: 1 of 2 answers got no reward: KeyError: 'x'"]


@pytest.mark.parametrize(
    ("steps", "num_steps", "alerted"),
    [
        ([FLAT] * 3, 20, [2]),
        ([FLAT] * 9, 20, [2]),
        ([FLAT, FLAT, SPREAD, FLAT, FLAT], 20, []),
        ([FLAT] * 3 + [SPREAD] + [FLAT] * 3, 20, [2, 6]),
        ([group(rewards=(5e5, 5e5 + 1e-3))] * 3, 20, [2]),  # the same for the learner, which has them in float32
        ([group(rewards=(5e5, 5e5 + 0.1))] * 3, 20, []),
        ([FLAT] * 2, 2, [1]),  # a whole run of less than the steps that are waited for
    ],
)
def test_steps_without_spread_are_one_alert_for_each_spell(
    steps: list[RolloutGroup], num_steps: int, alerted: list[int]
) -> None:
    alerts: list[str] = []
    watching = watch(alerts, num_steps=num_steps)
    for step, made in enumerate(steps):
        watching.check(step, [made, made], [made, made])
    assert [int(alert.partition("up to step ")[2].partition(":")[0]) for alert in alerts] == alerted


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            [{"reward": 0.0, "text": "a"}, {"reward": 0.0, "text": "b"}],
            "every reward was 0; likely causes: the problems are too hard",
        ),
        (
            [{"reward": 1.0, "text": "a"}, {"reward": 1.0, "text": "b"}],
            "every answer is right: the problems are too easy",
        ),
        ([{"reward": 5e5}, {"reward": 5e5 + 1e-3}], "rewards differ by less than float32 tells apart"),
        ([{"reward": 0.0}, {"reward": 2.0}], "rewards were 0 to 2 between groups"),
        (
            [{"reward": 0.0, "finish_reason": "length"}] * 2,
            "100% of the answers are cut at rollout.sampling.max_tokens = 64",
        ),
        ([{"reward": 0.0, "verdict": Verdict(kind="no_answer")}] * 2, "can be parsed in 0% only"),
        ([{"reward": 0.0}] * 3, "most answers are the same text"),
    ],
)
def test_causes_follow_from_the_answers(changes: list[dict[str, Any]], words: str) -> None:
    made = []
    for change in changes:
        one = rollout(reward=change["reward"], text=change.get("text", "12"))
        made.append(one.model_copy(update=change))
    assert words in likely_causes(made, 64)
