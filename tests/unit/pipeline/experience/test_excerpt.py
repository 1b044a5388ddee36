"""What is kept of a text that is too long."""

from __future__ import annotations

import random

import pytest

from pipeline.experience.excerpt import shortened

STEPS = "\n".join(
    f"Step {number}: add {number} to what is there, which gives {number * (number + 1) // 2} by now."
    for number in range(1, 400)
)
LONG = f"Plan: add the numbers in order.\n{STEPS}\nSo all is added.\n\\boxed{{80200}}"


def test_a_text_that_fits_stays_as_it_is() -> None:
    assert shortened(LONG, len(LONG)) == LONG


@pytest.mark.parametrize("max_chars", [0, 3, 50, 100, 199, 200, 201, 300, 1000, 2000, 4000, 20_000])
def test_no_more_is_kept_than_is_asked_for(max_chars: int) -> None:
    short = shortened(LONG, max_chars)
    assert len(short) <= max(max_chars, 3)
    if max_chars >= 50:
        assert short.startswith("Plan: add the n")
        assert short.endswith("\\boxed{80200}")


def test_it_is_cut_between_lines_and_says_how_much_is_left_out() -> None:
    short = shortened(LONG, 2000)
    head, mark, tail = short.partition("\n[… ")
    assert mark
    assert LONG.startswith(f"{head}\n")
    number, _, kept = tail.partition(" characters are left out …]\n")
    assert LONG.endswith(f"\n{kept}")
    assert int(number) == len(LONG) - len(head) - len(kept)
    assert 1.5 < len(kept) / len(head) < 3, "most of it is of the end"


@pytest.mark.parametrize("max_chars", [300, 1000, 4000])
def test_the_final_answer_is_kept_where_the_model_went_on_after_it(max_chars: int) -> None:
    rambling = "Let me look at it once more from another side, to be sure of all that was said. " * 300
    text = f"Plan: add.\n{STEPS}\nThe final answer is \\boxed{{80211}}\n{rambling}"
    short = shortened(text, max_chars)
    assert "\\boxed{80211}" in short
    assert len(short) <= max_chars


def test_any_text_can_be_shortened_to_any_length() -> None:
    rng = random.Random(20)
    for _ in range(2000):
        text = "".join(rng.choice("ab .\n7\\boxed{}=") for _ in range(rng.randrange(1, 900)))
        max_chars = rng.randrange(3, 900)
        short = shortened(text, max_chars)
        assert len(short) <= max_chars, (text, max_chars)
