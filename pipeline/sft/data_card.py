"""The data card of SFT pairs: what they are, where they come from, what was left out and what it cost."""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple

from pipeline.config import Config
from prompts.render import template_hash

Json = dict[str, Any]


class Teaching(NamedTuple):
    """What a teacher gave: its pairs, counts by skill of what was kept and why the rest was not, and what all sessions cost."""

    pairs: list[Json]
    counts: dict[str, dict[str, int]]
    cost: dict[str, float]
    digest: str


def card(config: Config, builtin: list[Json], teaching: Teaching | None) -> str:
    """The card, as Markdown."""
    templates = ", ".join(
        f"{name} {template_hash(name)}" for name in ("scratch", "inter", "intra", "form_boxed", "abstract")
    )
    counts = [Counter(pair["skill"] for pair in pairs) for pairs in (builtin, teaching.pairs if teaching else ())]
    rows = [f"| {skill} | {counts[0][skill]} | {counts[1][skill]} |" for skill in ("respond", "inspect", "summarise")]
    lines = [
        "# SFT pairs",
        "",
        f"Recipe `{config.recipe}`, seed {config.sft.seed}. Problems: `{config.problems.source}`, training split only; held-out ones are",
        "excluded by id and by text. The user's messages are the policy's own prompts, and no label is in them.",
        f"Templates: {templates}.",
        "",
        "| skill | built in | from the teacher |",
        "|---|---|---|",
        *rows,
        "",
        "Built-in pairs are made from worked solutions of procedural tasks, with seeded mistakes for critiques.",
    ]
    return "\n".join([*lines, *(_of_teacher(config, teaching) if teaching else ())]) + "\n"


def _of_teacher(config: Config, teaching: Teaching) -> list[str]:
    settings, cost = config.sft, teaching.cost
    assert settings.teacher is not None
    rows = []
    for kind, found in teaching.counts.items():
        reasons = ", ".join(f"{reason} {num}" for reason, num in found.items() if reason != "kept")
        rows.append(f"| {kind} | {found.get('kept', 0)} | {reasons or '-'} |")
    return [
        "",
        "## Teacher",
        "",
        f"`{settings.teacher.model or config.model.name}`, temperature {settings.teacher_temperature}, at most "
        f"{settings.teacher_max_tokens} tokens an answer and {settings.teacher_attempts} answers a pair.",
        f"An answer was kept when the verifier (`{config.reward.scorer}`) found it right, a lesson when it was well formed and did",
        "not give the answer away.",
        "",
        "| kind | kept | left out, by reason |",
        "|---|---|---|",
        *rows,
        "",
        f"Asked over all sessions: {cost.get('requests', 0):.0f} requests, {cost.get('prompt_tokens', 0):.0f} prompt and "
        f"{cost.get('completion_tokens', 0):.0f} completion tokens; cost by the configured prices: {cost.get('cost', 0.0):.4f}.",
        f"SHA-256 of the pairs: `{teaching.digest}`.",
    ]
