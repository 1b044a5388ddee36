"""Writes docs/prompts.md: every kind of prompt as each set renders it, and the answers that are asked for.

python -m prompts.examples > docs/prompts.md"""

from __future__ import annotations

from collections.abc import Iterator

from prompts.analysis import block
from prompts.render import render
from prompts.schemas import SIZES, Abstract, Contrast, Inter, Intra, Lesson, PromptInput, RescueIntra, Scratch, Summary
from prompts.sets import ALLOWED, FULL_CONTEXT, FULL_PARAMETERS, NEEDED, templates_of

PROBLEM = "In dax arithmetic the sign dax joins two numbers. What is 7 dax 3?"
LESSONS = (
    Lesson(
        flow_of_thought="Find what the sign stands for, then work it out for the two numbers.",
        principles=("The sign dax doubles the first number and adds the second.",),
        pitfalls=("Taking the sign for a product.",),
    ),
    Lesson(flow_of_thought="Bring fractions to one denominator.", principles=("Add the numerators then.",)),
)
SOURCES = ("In dax arithmetic the sign dax joins two numbers. What is 5 dax 9?", "What is one half plus one third?")
RIGHT = "dax doubles the first number and adds the second.\n7 + 7 = 14\n14 + 3 = 17\n\\boxed{17}"
WRONG = "dax is a product.\n7 * 3 = 21\n\\boxed{21}"
SUMMARY = Summary(
    critique="It takes dax for a product, which nothing in the problem says; the product itself is worked out rightly.",
    lesson=Lesson(
        flow_of_thought="It took an unknown sign for a product and worked that out.",
        principles=("Before you compute, find out what the sign stands for.",),
        pitfalls=("Taking an unknown sign for one that you know.",),
    ),
)
UNDER_LESSONS = f"""{
    block('''Lesson 1 applies: the same sign, which doubles the first number and adds the second.
Lesson 2 does not apply: there are no fractions here.''')
}7 + 7 = 14
14 + 3 = 17
\\boxed{{17}}"""
AFTER_ATTEMPT = f"""{
    block('''7 * 3 = 21 is right.
That dax is a product is wrong: the problem does not say so.
Verdict: wrong.''')
}7 + 7 = 14
14 + 3 = 17
\\boxed{{17}}"""
KINDS: tuple[tuple[str, str, PromptInput, str], ...] = (
    ("scratch", "The problem alone.", Scratch(problem=PROBLEM), RIGHT),
    (
        "inter",
        "Lessons of other problems, each under its number and the problem that it was drawn from.",
        Inter(problem=PROBLEM, lessons=LESSONS, sources=SOURCES),
        UNDER_LESSONS,
    ),
    ("intra", "An earlier attempt, of which nobody says whether it is right.", Intra(problem=PROBLEM, attempt=WRONG),
     AFTER_ATTEMPT),
    ("rescue_intra", "One of a group that was all wrong (`feedback.rescue = \"reflect\"`); the prompt says so.",
     RescueIntra(problem=PROBLEM, attempt=WRONG), AFTER_ATTEMPT),
    ("abstract", "To the summarizer: what can be learned from an attempt (`abstraction.outcomes = \"hidden\"`).",
     Abstract(problem=PROBLEM, trajectory=WRONG), SUMMARY.reply),
    ("abstract, outcome shown", "The same with `abstraction.outcomes = \"shown\"`.",
     Abstract(problem=PROBLEM, trajectory=WRONG, outcome="wrong"), ""),
    ("contrast", "A right and a wrong attempt of one group side by side (`abstraction.outcomes = \"contrast\"`).",
     Contrast(problem=PROBLEM, right=RIGHT, wrong=WRONG), ""),
)  # fmt: skip
HEAD = f"""# What models are asked

This page is written by `python -m prompts.examples`, and a test compares them. `rollout.templates` names the set of
templates that rollouts, SFT and evaluation render by:

| set | for |
|---|---|
| `compact` | models of a hundred million parameters: short prompts, whose answers SFT teaches |
| `full` | models that follow instructions: what is asked is explained, field by field |
| `legacy` | runs that began before the other two, which go on as they began |
| a folder | templates of yours |

`auto` is `full` from {FULL_PARAMETERS / 1e9:.0f} billion parameters and {FULL_CONTEXT:,} tokens of context on, else
`compact`. The run stores what was chosen, and its texts (`templates/` in its folder). A resume with other texts is
refused, with the names of the files.

## Templates of yours

Copy `prompts/templates/full`, change what you like, delete what you do not change, and name the folder. What it lacks
is taken from `full`, which `doctor` and the log of a run say. Before anything is asked each file is checked:
placeholders that are missing or unknown, control tokens of chat formats, and places where a text that is filled in
could make one with what stands beside it. Texts are filled in in a single pass, so braces in a problem stay braces.

| file | placeholders | may have |
|---|---|---|
"""
TAIL = """
## Sizes

Defaults of the parts of a lesson, characters; settings change them. An attempt that is too long to be shown
(`reflection.max_attempt_chars`, `abstraction.max_trajectory_chars`) keeps its beginning, its end, and the line that
states its final answer.

| part | setting | `compact` | `full` |
|---|---|---|---|
"""


def document() -> str:
    """The whole page."""
    return "\n".join([HEAD + "\n".join(_files()), *_kinds(), TAIL + "\n".join(_sizes())]) + "\n"


def _files() -> Iterator[str]:
    def listed(names: frozenset[str]) -> str:
        return ", ".join(f"`{{{{{name}}}}}`" for name in sorted(names)) or "-"

    for name, needed in NEEDED.items():
        yield f"| {name}.txt | {listed(needed)} | {listed(ALLOWED.get(name, frozenset()))} |"


def _kinds() -> Iterator[str]:
    for name, what, value, answer in KINDS:
        yield f"\n## {name}\n\n{what}"
        for set_name in ("compact", "full"):
            sized = {"sizes": SIZES[set_name]} if isinstance(value, Abstract | Contrast) else {}
            shown = render(value.model_copy(update=sized), templates_of(set_name))
            if set_name == "full" and isinstance(value, Scratch):
                continue
            both = "`compact` and `full`" if isinstance(value, Scratch) else f"`{set_name}`"
            yield f"\n{both}:\n\n```text\n{shown}\n```"
        if answer:
            yield f"\nAn answer:\n\n```text\n{answer}\n```"


def _sizes() -> Iterator[str]:
    compact, full = SIZES["compact"].settings, SIZES["full"].settings
    parts = ("critique", "flow of thought", "a principle or pitfall", "principles, how many", "pitfalls, how many")
    for part, setting in zip(parts, compact, strict=True):
        yield f"| {part} | `abstraction.{setting}` | {compact[setting]} | {full[setting]} |"


if __name__ == "__main__":
    print(document(), end="")
