"""The block that opens a reply, found again and cut off."""

from __future__ import annotations

import pytest

from prompts.analysis import (
    analysis_of,
    block,
    end_of_analysis,
    span_before_solution,
    verdict_of,
    without_analysis,
)

REPLY = block("Lesson 1 applies: add.\nLesson 2 does not apply: no fractions.") + "4 - 8 = -4\n\\boxed{-4}"


def test_what_follows_the_block_is_the_solution() -> None:
    assert REPLY[end_of_analysis(REPLY) :] == without_analysis(REPLY) == "4 - 8 = -4\n\\boxed{-4}"
    assert analysis_of(REPLY).splitlines()[1] == "Lesson 2 does not apply: no fractions."


@pytest.mark.parametrize(
    "reply",
    [
        "4 - 8 = -4",
        "",
        "First 4 - 8. <analysis>late</analysis> -4",
        "<analysis>never closed: 4 - 8 = -4",
        "<analysis>closed, and then nothing</analysis>\n ",
        "</analysis> -4",
        "<think>4 - 8</think>4 - 8 = -4",
        "<think><analysis>planned</analysis> and cut",
        "<think>4 - 8</think>First 4 - 8. <analysis>late</analysis> -4",
        "<think>4 - 8</think><analysis>closed, and then nothing</analysis>\n",
    ],
)
def test_without_a_block_in_front_of_a_solution_nothing_is_cut(reply: str) -> None:
    assert end_of_analysis(reply) is None
    assert without_analysis(reply) == reply


def test_only_the_block_that_opens_the_reply_goes() -> None:
    assert without_analysis("\n<analysis>a</analysis> x <analysis>b</analysis> y") == "x <analysis>b</analysis> y"


@pytest.mark.parametrize(
    "thoughts",
    [
        "<think>Lesson 1 is about sums.</think>\n",
        "\n<think>\n\n</think>\n\n",
        "Lesson 1 is about sums.\n</think>\n\n",
        "<analysis>first words of a thought</analysis> and more</think>",
        "<think>of <analysis>this</analysis> I am not sure</think>",
        "<think>one</think> <think>two</think>",
        "opened by the chat template</think><think>and again</think>\n",
    ],
)
def test_the_block_is_found_behind_thoughts_and_they_go_with_it(thoughts: str) -> None:
    reply = thoughts + block("Lesson 1 applies: add.\nVerdict: wrong.") + "4 - 8 = -4"
    assert without_analysis(reply) == "4 - 8 = -4"
    assert analysis_of(reply).startswith("Lesson 1 applies")
    assert verdict_of(reply) is False


def test_between_the_block_and_the_solution_are_blanks_only() -> None:
    reply = "<think>a</think><analysis>b</analysis> \n The sum"
    span = span_before_solution(reply)
    assert span and reply[: span[0]].endswith("</analysis>") and reply[slice(*span)] == " \n "


@pytest.mark.parametrize(
    ("reply", "upheld"),
    [
        (block("4 - 8 = -4 is right.\nVerdict: right.") + "-4", True),
        (block("4 - 8 = 4 is wrong: it is -4.\nVerdict: wrong") + "-4", False),
        (block("Verdict: right.\nNo: 4 - 8 = -4.\nVerdict: wrong.") + "-4", False),
        (block("4 - 8 = -4 is right.") + "Verdict: right.", None),
        ("Verdict: right.", None),
    ],
)
def test_the_last_verdict_of_the_block_counts(reply: str, upheld: bool | None) -> None:
    assert verdict_of(reply) is upheld
