"""The data card of SFT pairs: what they are, where they come from, what was left out and what it cost.

Its text is `data_card.md.jinja`."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.config import Config
from prompts.render import template_hash

Json = dict[str, Any]
TEMPLATE = Path(__file__).with_name("data_card.md.jinja")


class Teaching(NamedTuple):
    """What a teacher gave: its pairs, counts by skill of what was kept and why the rest was not, and what all sessions cost."""

    pairs: list[Json]
    counts: dict[str, dict[str, int]]
    cost: dict[str, float]
    digest: str


def card(config: Config, builtin: list[Json], teaching: Teaching | None) -> str:
    """The card, as Markdown."""
    from jinja2 import StrictUndefined, Template

    text = TEMPLATE.read_text(encoding="utf-8")
    return Template(text, trim_blocks=True, keep_trailing_newline=True, undefined=StrictUndefined).render(
        config=config,
        templates=("scratch", "inter", "intra", "form_boxed", "abstract"),
        template_hash=template_hash,
        num_builtin=Counter(pair["skill"] for pair in builtin),
        num_taught=Counter(pair["skill"] for pair in (teaching.pairs if teaching else ())),
        teaching=teaching,
        cost=defaultdict(float, teaching.cost if teaching else {}),
    )
