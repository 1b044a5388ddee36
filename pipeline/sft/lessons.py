"""Hand-written lessons per task family: what SFT seeding shows as lessons and what it teaches to write.

No lesson holds a digit, so none can give an answer away. The first principle is short: answers quote it.
"""

from __future__ import annotations

from prompts.schemas import Lesson


def _lesson(flow: str, principles: tuple[str, ...], pitfall: str) -> Lesson:
    return Lesson(flow_of_thought=flow, principles=principles, pitfalls=(pitfall,))


CHAIN = (
    _lesson("Keep a running total and update it term by term.", ("Add from left to right.",), "Losing a minus sign."),
    _lesson(
        "Combine the first two terms, then bring in the next one.",
        ("Write one line per operation.",),
        "Doing two operations at once.",
    ),
    _lesson(
        "Turn the chain into small sums and solve each in order.",
        ("Carry each result into the next line.",),
        "Copying the last result wrongly.",
    ),
    _lesson(
        "Go through the terms in order and watch each sign.",
        ("Apply the sign in front of each term.",),
        "Adding a term that should be subtracted.",
    ),
    _lesson(
        "Update the total after every term and report the last total.",
        ("Let the total go below zero when needed.",),
        "Dropping the sign of a negative total.",
    ),
    _lesson(
        "Add or subtract digit by digit, then box the last result.",
        ("Check carries and borrows.",),
        "Forgetting a carry.",
    ),
)

ARITHMETIC = (
    _lesson(
        "Solve the brackets, then products and quotients, then sums.",
        ("Work inside brackets first.",),
        "Ignoring the brackets.",
    ),
    _lesson(
        "Replace one operation at a time by its result.",
        ("Multiply and divide before adding.",),
        "Adding before multiplying.",
    ),
    _lesson(
        "Reduce the expression step by step until one number is left.",
        ("Write one line per operation.",),
        "Skipping an operation.",
    ),
    _lesson(
        "Watch the signs while reducing the expression.",
        ("Subtracting a negative adds it.",),
        "Losing a minus sign.",
    ),
    _lesson(
        "Take operations of equal rank in the order written.",
        ("Go from left to right.",),
        "Changing the order of subtractions.",
    ),
)

WORD_PROBLEMS = (
    _lesson(
        "Name the quantities, compute each in turn, then combine them.",
        ("Write one equation per step.",),
        "Leaving out a quantity.",
    ),
    _lesson(
        "Find what is asked and work towards it from the given numbers.",
        ("Answer exactly what is asked.",),
        "Stopping at an intermediate result.",
    ),
    _lesson(
        "Compute the parts first, then their total or difference.",
        ("Find the parts before the total.",),
        "Adding where the story takes away.",
    ),
    _lesson(
        "Turn rates and shares into products, then combine the results.",
        ("Multiply a rate by its amount.",),
        "Mixing up units.",
    ),
    _lesson(
        "Follow the story in order and update the amount after each event.",
        ("Use the latest amount in each step.",),
        "Using an amount that has changed.",
    ),
)

GENERAL = (
    _lesson(
        "Read the task, work in small steps, then state the answer.",
        ("Work in small steps.",),
        "Jumping to the answer.",
    ),
    _lesson("Find the rule, apply it, then check the result.", ("Apply one rule at a time.",), "Mixing two rules."),
    _lesson(
        "List what is given, see what is asked, and connect the two.",
        ("Use everything that is given.",),
        "Overlooking a condition.",
    ),
    _lesson(
        "Solve it, then check the answer against the question.",
        ("Check the answer against the task.",),
        "Giving another form than asked.",
    ),
)

_BY_FAMILY = {"chain_sum": CHAIN, "basic_arithmetic": ARITHMETIC, "gsm_symbolic": WORD_PROBLEMS}
ALL = (*CHAIN, *ARITHMETIC, *WORD_PROBLEMS, *GENERAL)


def lessons_of(family: str) -> tuple[Lesson, ...]:
    """The variants of `family`; the general ones for a family without its own."""
    return _BY_FAMILY.get(family, GENERAL)
