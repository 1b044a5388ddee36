"""The page of an audit holds what was found, and nothing that was written by a model or a data set gets out of its
place."""

from __future__ import annotations

from html.parser import HTMLParser

from pipeline.audit.effects import Effect
from pipeline.audit.entries import AuditedEntry
from pipeline.audit.html import page
from pipeline.audit.report import AuditReport
from pipeline.types import Origin
from tests.builders import experience

HOSTILE = "<script>alert('1')</script>\n  {{ 7 * 7 }} </pre>&amp; \"q\""
EFFECT = Effect(difference=0.25, low=-0.5, high=1.0, num_with=3, num_without=4)


class Texts(HTMLParser):
    """The tags of a page, and its texts by the tag that they stand in."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags = [""]
        self.texts: list[tuple[str, str]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.texts.append((self.tags[-1], data))


def of_audit(*audited: AuditedEntry) -> Texts:
    report = AuditReport.of("runs/<x>", len(audited), audited, 0, None)
    return Texts(page(report, list(audited)))


def test_what_was_found_of_an_entry_stands_beside_its_source() -> None:
    shown = AuditedEntry(
        entry=experience(1, problem_id="p1", text="What is 4 + 3?"),
        trajectory="It is 7.",
        numbers=("4",),
        leaks=True,
        copy_of="x9",
        num_retrieved=1,
        num_rollouts=8,
        mean_reward=0.4567,
        effect=EFFECT,
        age_steps=3,
        verdict="specific",
    )
    found = of_audit(shown, AuditedEntry(entry=experience(2), trajectory="", num_retrieved=2))
    text = " ".join(" ".join(text.split()) for _, text in found.texts)
    assert "1. x1 gives the answer away; numbers of the problem: 4 · judge: specific · nearly a copy of x9" in text
    assert (
        "from a rollout with reward 1 (scratch) · 3 steps old · shown to 1 group, 8 rollouts, mean reward 0.46" in text
    )
    assert f"reward with it − from scratch: {EFFECT}" in text
    assert "shown to 2 groups, 0 rollouts" in text
    assert "reward with it − from scratch: no groups to compare" in text
    pre = [text for tag, text in found.texts if tag == "pre"]
    assert "What is 4 + 3?" in pre
    assert "It is 7." in pre
    assert "(not in this journal)" in pre


def test_what_produced_an_entry_stands_beside_it() -> None:
    origin = Origin(
        templates="full@0f3c", summarizer="policy", weights="l0-s000004", outcomes="contrast", contrasted_with="r7",
        critique=f"The sign is lost. {HOSTILE}",
    )  # fmt: skip
    made = experience(1).model_copy(update={"origin": origin})
    found = of_audit(AuditedEntry(entry=made, trajectory=""), AuditedEntry(entry=experience(2), trajectory=""))
    text = " ".join(" ".join(text.split()) for _, text in found.texts)
    line = "written by policy (l0-s000004 or newer) · templates full@0f3c · outcomes contrast, beside the wrong r7"
    assert text.count("written by") == 1
    assert line in text
    assert "The sign is lost." in text
    assert "script" not in found.tags


def test_whatever_was_written_elsewhere_is_escaped() -> None:
    found = of_audit(AuditedEntry(entry=experience(1, text=HOSTILE), trajectory=HOSTILE, copy_of=HOSTILE))
    assert "script" not in found.tags
    assert [text for tag, text in found.texts if tag == "pre"].count(HOSTILE) == 2
    assert ("h1", "Audit of the pool of runs/<x>") in found.texts
