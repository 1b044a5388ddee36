"""Effects of lessons, on simulated runs whose truth is known."""

from __future__ import annotations

import random
from statistics import fmean, median

import pytest

from pipeline.audit.effects import Groups
from pipeline.storage.journal import GroupResult

FAMILIES = {"easy": (0.4, 0.2), "hard": (0.0, 1.0)}
"""What a family adds to the reward of every rollout, and to the chance that a lesson is found."""


def simulated(
    lift: float, seed: int, num_steps: int = 60, num_groups: int = 24, x9_lift: float = 0.0
) -> list[GroupResult]:
    """A run that gets better with its steps, shows more and finds more as it goes on, and finds more for easy problems.

    `lift` is what lessons add where they are shown, `x9_lift` what the entry x9 adds beside it."""
    rng = random.Random(seed)
    found = []
    for step in range(num_steps):
        progress = step / num_steps
        for _ in range(num_groups):
            family = rng.choice(list(FAMILIES))
            easier, findable = FAMILIES[family]
            problem = rng.randrange(150)
            talent = 0.2 * (problem % 7) / 7
            aware, reflects = rng.random() < 0.2 + 0.4 * progress, rng.random() < 0.3
            drawn = ("intra" if reflects else "inter") if aware else "scratch"
            is_found = rng.random() < (0.1 + 0.8 * progress) * (0.5 if findable == 1.0 else 1.0)
            kind = "scratch" if drawn == "inter" and not is_found else drawn
            ids = [f"x{rng.randrange(10)}"] if kind == "inter" else []
            chance = 0.05 + 0.3 * progress + easier + talent
            chance += (lift if kind == "inter" else 0.0) + (x9_lift if "x9" in ids else 0.0)
            rewards = [float(rng.random() < chance) for _ in range(8)]
            found.append(GroupResult(step, f"{family}-{problem}", family, drawn, kind, ids, rewards))  # type: ignore[arg-type]
    return found


def mean_reward(outcomes: list[GroupResult], kind: str) -> float:
    return fmean(fmean(one.rewards) for one in outcomes if one.kind == kind)


def test_progress_alone_is_no_effect_of_lessons() -> None:
    """What was shown against what was not is confounded: lessons are found later, and for easier problems."""
    runs = [simulated(0.0, seed) for seed in range(40)]
    naive = [mean_reward(outcomes, "inter") - mean_reward(outcomes, "scratch") for outcomes in runs]
    assert min(naive) > 0.08, "the simulation has the confounding that it is made for"
    found = [Groups(outcomes).effect_of_lessons(num_resamples=300) for outcomes in runs]
    drawn = [one.drawn for one in found if one]
    carried = [one.carried for one in found if one and one.carried]
    assert len(drawn) == len(carried) == 40
    assert abs(fmean(one.difference for one in drawn)) < 0.01
    assert abs(fmean(one.difference for one in carried)) < 0.02
    for effects in (drawn, carried):
        assert sum(one.low <= 0 <= one.high for one in effects) >= 35
    assert median(one.high - one.low for one in drawn) < 0.1


def test_an_effect_is_found_by_what_was_drawn_and_what_was_carried() -> None:
    for seed in range(5):
        outcomes = simulated(0.2, seed)
        found = Groups(outcomes).effect_of_lessons()
        assert found and found.carried
        inter = [one for one in outcomes if one.drawn == "inter"]
        share = sum(one.kind == "inter" for one in inter) / len(inter)
        assert found.share_carried == pytest.approx(share, abs=0.05)
        assert found.drawn.low > 0
        assert found.drawn.difference == pytest.approx(0.2 * found.share_carried, abs=0.05)
        assert found.carried.low < 0.2 < found.carried.high
        assert (found.drawn.num_with, found.drawn.num_without) == (
            len(inter),
            sum(one.drawn == "scratch" for one in outcomes),
        )


def test_the_same_seed_gives_the_same_interval() -> None:
    groups = Groups(simulated(0.1, 3, num_steps=20))
    assert groups.effect_of_lessons(seed=1) == groups.effect_of_lessons(seed=1)


def test_a_run_of_few_steps_is_cut_into_windows_too() -> None:
    """Eight steps in which both the share of feedback and the rewards double: within all of them there is
    confounding."""
    found = [Groups(simulated(0.0, seed, 8, 16)).effect_of_lessons(num_resamples=100) for seed in range(100)]
    effects = [one.drawn for one in found if one]
    assert abs(fmean(one.difference for one in effects)) < 0.015
    assert sum(one.low <= 0 <= one.high for one in effects) >= 90


def test_a_problem_that_comes_again_is_no_new_evidence() -> None:
    """The interval resamples problems: the same groups five times over say no more than once."""
    outcomes = simulated(0.0, 4, num_steps=8)
    once, often = (Groups(found).effect_of_lessons() for found in (outcomes, outcomes * 5))
    assert once and often
    assert often.drawn.high - often.drawn.low > 0.6 * (once.drawn.high - once.drawn.low)


def test_families_do_not_mix_and_nothing_to_compare_is_said() -> None:
    mixed = [
        GroupResult(0, "p", "easy", "inter", "inter", ["x1"], [1.0, 1.0]),
        GroupResult(0, "q", "hard", "scratch", "scratch", [], [0.0, 0.0]),
    ]
    groups = Groups(mixed, ["x1"])
    assert groups.effect_of_lessons() is None
    assert groups.effect_of("x1") is None
    assert Groups([]).effect_of_lessons() is None


def test_lessons_that_were_never_found_have_no_effect_of_their_own() -> None:
    outcomes = [
        GroupResult(step, f"p{step}", "", drawn, "scratch", [], [float(step % 2)])
        for step in range(40)
        for drawn in ("inter", "scratch")
    ]
    found = Groups(outcomes).effect_of_lessons()
    assert found and found.share_carried == 0 and found.carried is None
    assert found.drawn.low < 0 < found.drawn.high


def test_equal_rewards_leave_a_doubt() -> None:
    outcomes = [
        GroupResult(0, f"p{number}", "", drawn, drawn, ["x"] if drawn == "inter" else [], [1.0] * 8)
        for number in range(10)
        for drawn in ("inter", "scratch")
    ]
    groups = Groups(outcomes, ["x"])
    found, one = groups.effect_of_lessons(), groups.effect_of("x")
    assert found and one
    for effect in (found.drawn, one):
        assert effect.difference == 0
        assert -0.2 < effect.low < 0 < effect.high < 0.2


def test_an_entry_is_compared_within_its_families_and_steps() -> None:
    covered, naive = 0, []
    for seed in range(40):
        outcomes = simulated(0.0, seed)
        one = Groups(outcomes, ["x3"]).effect_of("x3")
        assert one
        covered += one.low <= 0 <= one.high
        assert one.num_with == sum("x3" in found.lesson_ids for found in outcomes)
        naive.append(
            fmean(fmean(o.rewards) for o in outcomes if "x3" in o.lesson_ids) - mean_reward(outcomes, "scratch")
        )
    assert fmean(naive) > 0.08
    assert covered >= 35


def test_an_entry_that_helps_stands_out_when_it_was_used_enough() -> None:
    groups = Groups(simulated(0.0, 1, num_steps=120, x9_lift=0.3), ["x9", "x1", "never"])
    helps, other = groups.effect_of("x9"), groups.effect_of("x1")
    assert helps and other
    assert helps.low > 0 and helps.low < 0.3 < helps.high
    assert other.low < 0 < other.high
    assert groups.effect_of("never") is None


def test_few_uses_make_a_wide_interval() -> None:
    """One that was seen once can hardly be told from anything; the width falls with the square root of the uses."""
    rng = random.Random(5)

    def outcomes(num_uses: int) -> list[GroupResult]:
        shown = [GroupResult(0, f"s{n}", "", "inter", "inter", ["x"], [1.0]) for n in range(num_uses)]
        return shown + [
            GroupResult(0, f"p{n}", "", "scratch", "scratch", [], [float(rng.random() < 0.5)]) for n in range(400)
        ]

    effects = [Groups(outcomes(num), ["x"]).effect_of("x") for num in (1, 4, 64)]
    widths = [one.high - one.low for one in effects if one]
    assert widths[0] > 1.4
    assert widths[0] > widths[1] > widths[2] > 0.15
    assert effects[0] and effects[0].low < 0 < effects[0].high and effects[0].num_with == 1
    assert effects[2] and effects[2].low > 0.3
    alone = [
        GroupResult(0, "p", "", "inter", "inter", ["x"], [1.0]),
        GroupResult(0, "q", "", "scratch", "scratch", [], [0.0]),
    ]
    one = Groups(alone, ["x"]).effect_of("x")
    assert one and (one.low, one.high) == (-1.0, 1.0), "two groups tell nothing, and no reward is beyond these"


def test_the_spread_of_a_family_is_known_from_all_of_its_scratch_groups() -> None:
    """One use beside eight groups of its window: alone, these say little of how far rewards spread."""
    outcomes = [GroupResult(0, "first", "", "inter", "inter", ["x"], [0.5])]
    for step in range(40):
        outcomes.append(GroupResult(step, f"i{step}", "", "inter", "inter", ["other"], [0.5]))
        outcomes += [
            GroupResult(step, f"s{step}-{up}", "", "scratch", "scratch", [], [0.4 + 0.2 * up]) for up in (0, 1)
        ]
    one = Groups(outcomes, ["x"]).effect_of("x")
    assert one and (one.num_with, one.num_without) == (1, 8)
    assert 0.3 < one.high - one.low < 0.7


def test_uses_are_counted_in_the_same_pass() -> None:
    outcomes = [
        GroupResult(0, "p", "", "inter", "inter", ["x1", "x2"], [1.0, 0.0]),
        GroupResult(1, "q", "", "inter", "inter", ["x1"], [1.0, 1.0]),
    ]
    groups = Groups(outcomes, ["x1", "x3"])
    assert groups.use_of("x1") == (2, 4, 3.0)
    assert groups.use_of("x3") == (0, 0, 0.0)


def test_strata_may_be_many() -> None:
    """More than fit into a byte: 20 windows of 30 families."""
    rng = random.Random(2)
    outcomes = [
        GroupResult(number // 30, f"p{number}", f"f{number % 30}", drawn, drawn, [], [float(rng.random() < 0.5)])
        for number in range(6000)
        for drawn in ("inter", "scratch")
    ]
    found = Groups(outcomes).effect_of_lessons(num_resamples=50)
    assert found and found.drawn.low < 0 < found.drawn.high
