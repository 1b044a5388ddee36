"""The page that shows every prompt is what the code renders today, and its answers have the formats that are read."""

from __future__ import annotations

from prompts.analysis import analysis_of, end_of_analysis, verdict_of, without_analysis
from prompts.examples import AFTER_ATTEMPT, KINDS, RIGHT, SUMMARY, UNDER_LESSONS, document
from prompts.schemas import SIZES, PromptInput, reply_type, summary_of
from tests.documents import ROOT


def test_the_page_is_what_is_rendered() -> None:
    page = (ROOT / "docs" / "prompts.md").read_text(encoding="utf-8")
    assert page == document(), "renew it: python -m prompts.examples > docs/prompts.md"


def test_every_kind_of_prompt_is_on_it() -> None:
    shown = {type(value) for _, _, value, _ in KINDS}
    assert shown == set(PromptInput.__args__)


def test_its_answers_have_the_formats_that_are_read() -> None:
    assert analysis_of(UNDER_LESSONS).startswith("Lesson 1 applies: ")
    assert verdict_of(AFTER_ATTEMPT) is False
    for answer in (UNDER_LESSONS, AFTER_ATTEMPT):
        assert without_analysis(answer) == "7 + 7 = 14\n14 + 3 = 17\n\\boxed{17}"
    assert end_of_analysis(RIGHT) is None
    for sizes in (SIZES["compact"], SIZES["full"]):
        assert summary_of(reply_type(sizes).model_validate_json(SUMMARY.reply)) == SUMMARY
