"""Problem texts by the hundred thousand, seeded: templates of word problems and sums with drawn numbers, names and
things."""

from __future__ import annotations

import random

NAMES = ("Ada", "Ben", "Chen", "Dora", "Emil", "Farah", "Goran", "Hana", "Ivan", "Jada", "Kofi", "Lena", "Mona", "Omar")
THINGS = (
    "apples",
    "books",
    "coins",
    "drums",
    "eggs",
    "flags",
    "grapes",
    "hats",
    "jars",
    "keys",
    "lamps",
    "maps",
    "nuts",
)
TEMPLATES = (
    "State the final answer to the following arithmetic problem: {a} + {b} - {c} =",
    "{name} has {a} {thing} and gives {b} to {other}. How many {thing} does {name} have left?",
    "A train travels {a} km in {b} hours. How far does it get in {c} hours at the same speed?",
    "Sort these numbers from the smallest to the largest: {a}, {b}, {c}, {d}.",
    "What is the greatest common divisor of {a} and {b}?",
    "A rectangle is {a} cm long and {b} cm wide. What is its area, and what its perimeter?",
    "{name} buys {a} {thing} for {b} coins each and sells them for {c} coins each. What is the profit?",
    "How many prime numbers are there between {a} and {b}?",
    "Solve for x: {a} x + {b} = {c}.",
    "{name}, {other} and a friend share {a} {thing} in the ratio {b} : {c} : {d}. How many does {name} get?",
    "What is the remainder when {a} is divided by {b}?",
    "The sum of two numbers is {a} and their difference is {b}. What are they?",
)


def texts(num: int, seed: int = 0) -> list[str]:
    rng = random.Random(seed)
    return [
        rng.choice(TEMPLATES).format(
            a=rng.randrange(10, 10_000),
            b=rng.randrange(2, 1000),
            c=rng.randrange(2, 1000),
            d=rng.randrange(2, 1000),
            name=rng.choice(NAMES),
            other=rng.choice(NAMES),
            thing=rng.choice(THINGS),
        )
        for _ in range(num)
    ]
