"""Where the solution of a rollout begins, in tokens, and the row that it becomes without its context."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.types import Context
from tests.builders import group
from trainer.rows import Decode, sampled_row, scratch_row, solution_start

BLOCK = "<analysis>\nLesson 1 applies: add.\n</analysis>"


def decode_of(pieces: Sequence[str | bytes]) -> Decode:
    """A tokenizer whose token n is the n-th piece; bytes that are no whole character come out as others."""
    whole = [piece.encode() if isinstance(piece, str) else piece for piece in pieces]
    return lambda ids: b"".join(whole[token] for token in ids).decode(errors="replace")


def start_in(*pieces: str | bytes) -> int | None:
    return solution_start(range(len(pieces)), decode_of(pieces))


@pytest.mark.parametrize(
    ("pieces", "start"),
    [
        ([BLOCK, "\n", "4", " - 8"], 2),
        ([BLOCK[:-1], ">\n", "4", " - 8"], 2),
        ([BLOCK, " The", " sum"], 1),
        ([BLOCK, "\n", " The", " sum"], 2),
        ([BLOCK, "4", " - 8"], 1),
        (["<think>", "it is a sum", "</think>\n", BLOCK, "\n", "4"], 5),
        (["a thought</think>", BLOCK, "\n", "4"], 3),
        (["<analysis>h\u00e9", "\u2212".encode()[:2], "\u2212".encode()[2:], "</analysis>", "\n", "4"], 5),
        ([BLOCK, "\n", "\u2212".encode()[:1], "\u2212".encode()[1:], "4"], 2),
        ([BLOCK[:-1], ">4", " - 8"], None),
        ([BLOCK, "\n"], None),
        (["<analysis>never closed", " 4"], None),
        (["4", " - 8"], None),
    ],
)
def test_the_solution_begins_at_a_token(pieces: list[str | bytes], start: int | None) -> None:
    assert start_in(*pieces) == start


@given(st.lists(st.integers(1, 70), max_size=12), st.sampled_from(["", "\n", " \n\n"]), st.booleans())
def test_wherever_tokens_end_the_kept_ones_are_the_solution(cuts: list[int], blanks: str, thinks: bool) -> None:
    solution = "4 - 8 = \u22124\n\\boxed{-4}"
    before = ("<think>Lesson 1?</think>" if thinks else "") + BLOCK
    text = before + blanks + solution
    ends = sorted({end for end in cuts if end < len(text)} | {len(text)})
    pieces = [text[begin:end] for begin, end in zip([0, *ends], ends, strict=False)]
    start = start_in(*pieces)
    if start is None:
        assert not set(range(len(before), len(before + blanks) + 1)) & set(ends)
    else:
        assert "".join(pieces[start:]).lstrip() == solution


def test_a_row_without_its_context_has_the_bare_prompt_and_the_ids_of_the_solution() -> None:
    pieces = ["never", "sampled", BLOCK, "\n", "4", " - 8"]
    shown = Context(drawn="inter", kind="inter")
    sampled = group(context=shown).model_copy(update={"bare_prompt_ids": (1,)})
    whole = sampled.rollouts[0].model_copy(update={"token_ids": (2, 3, 4, 5), "logprobs": (-1.0, -2.0, -3.0, -4.0)})
    row = scratch_row(sampled, whole, decode_of(pieces))
    assert row == ([1], [4, 5], [-3.0, -4.0], True, False)
    uncut = scratch_row(sampled, whole.model_copy(update={"token_ids": (4, 5, 5, 5)}), decode_of(pieces))
    assert uncut == ([1], [4], [-1.0], True, True), "it keeps its place"
    assert sampled_row(sampled, whole) == ([1, 2, 3], [2, 3, 4, 5], [-1.0, -2.0, -3.0, -4.0], False, False)
    alone = sampled.model_copy(update={"context": Context(drawn="inter"), "bare_prompt_ids": ()})
    assert scratch_row(alone, whole, decode_of(pieces)) == sampled_row(alone, whole), "a fall-back had no context"
    with pytest.raises(ValueError, match="holds no prompt without it"):
        scratch_row(sampled.model_copy(update={"bare_prompt_ids": ()}), whole, decode_of(pieces))
