"""The data card of SFT pairs: what they are, where they come from, what was left out and what it cost.

Its text is `data_card.md`."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.config import Config
from prompts.sets import templates_of

Json = dict[str, Any]
TEMPLATE = Path(__file__).with_name("data_card.md")


class Teaching(NamedTuple):
    """What a teacher gave: its pairs, counts by skill of what was kept and why the rest was not, and what all sessions
    cost."""

    pairs: list[Json]
    counts: dict[str, dict[str, int]]
    cost: dict[str, float]
    digest: str


def card(config: Config, builtin: list[Json], teaching: Teaching | None, num_own: int = 0) -> str:
    """The card, as Markdown; `num_own` pairs are the user's."""
    text = TEMPLATE.read_text(encoding="utf-8")
    shown, taught = (text, teaching) if teaching else (text.partition("\n## Teacher")[0], Teaching([], {}, {}, ""))
    counts = [Counter(pair["skill"] for pair in pairs) for pairs in (builtin, taught.pairs)]
    templates = templates_of(config.rollout.templates)
    names = ("scratch", "inter", "lesson", "intra", "form_boxed", "abstract")
    return shown.format(
        config=config,
        templates=f"{templates.identity}: " + ", ".join(f"{name} {templates.hash(name)}" for name in names),
        skills="\n".join(
            f"| {skill} | {counts[0][skill]} | {counts[1][skill]} |" for skill in ("respond", "inspect", "summarise")
        ),
        own=f"\nPairs of `{config.sft.pairs_file}`: {num_own}, as they are there.\n" if num_own else "",
        teacher=config.sft.teacher and (config.sft.teacher.model or config.model.name),
        kinds="".join(_kind(kind, found) for kind, found in taught.counts.items()),
        teaching=taught,
        cost=defaultdict(float, taught.cost),
    )


def _kind(kind: str, found: dict[str, int]) -> str:
    reasons = ", ".join(f"{reason} {num}" for reason, num in found.items() if reason != "kept")
    return f"| {kind} | {found.get('kept', 0)} | {reasons or '-'} |\n"
