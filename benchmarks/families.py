"""Labelled problems: families of one skill each, every one in three phrasings. Problems of one family are relevant to
each other.

Of the same phrasing they are number-swapped twins, of another one paraphrases by template; of other families unrelated,
although several share their words (trains, rectangles, shops, cards)."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from benchmarks.pool_texts import NAMES

THINGS = ("apples", "books", "coins", "drums", "eggs", "flags", "grapes", "hats", "jars", "keys", "lamps", "maps")
WORDS = ("river", "stone", "candle", "window", "garden", "silver", "market", "winter", "button", "letter", "planet")

FAMILIES: Mapping[str, tuple[str, str, str]] = {
    "sum": (
        "What is {a} + {b} - {c}?",
        "Add {b} to {a}, then take {c} away. Which number do you get?",
        "Compute the value of the expression {a} + {b} - {c} and state it.",
    ),
    "product": (
        "What is {a} times {s}?",
        "Multiply {a} by {s}.",
        "Work out the product of the two factors {a} and {s}.",
    ),
    "remainder": (
        "What is the remainder when {a} is divided by {s}?",
        "Divide {a} by {s}. What is left over?",
        "Find {a} modulo {s}.",
    ),
    "gcd": (
        "What is the greatest common divisor of {a} and {b}?",
        "Find the largest integer that divides both {a} and {b}.",
        "gcd({a}, {b}) = ?",
    ),
    "lcm": (
        "What is the least common multiple of {s} and {t}?",
        "Find the smallest number that both {s} and {t} divide.",
        "lcm({s}, {t}) = ?",
    ),
    "primes": (
        "How many prime numbers are there between {b} and {a}?",
        "Count the primes from {b} up to {a}.",
        "In the range {b} to {a}, how many integers have no divisors but one and themselves?",
    ),
    "factorise": (
        "Write {a} as a product of primes.",
        "What is the prime factorisation of {a}?",
        "Break {a} down into its prime factors, in ascending order.",
    ),
    "base": (
        "Write the decimal number {a} in base {s}.",
        "Convert {a} from base ten to base {s}.",
        "How is {a} represented in the numeral system with {s} digits?",
    ),
    "linear": (
        "Solve for x: {s} x + {b} = {a}.",
        "Which value of x satisfies the equation {s}x + {b} = {a}?",
        "When {s} times a number is increased by {b} the result is {a}. What is the number?",
    ),
    "quadratic": (
        "Solve for x: x^2 - {b} x + {c} = 0.",
        "Find the roots of the polynomial x^2 - {b}x + {c}.",
        "For which x does x squared minus {b} x plus {c} vanish?",
    ),
    "speed": (
        "A train travels {a} km in {s} hours. How far does it get in {t} hours at the same speed?",
        "{name} drives {a} kilometres in {s} hours. At that rate, what distance is covered in {t} hours?",
        "At a steady pace {a} km take {s} h. How many km are done in {t} h?",
    ),
    "meeting": (
        "Two trains, {a} km apart, drive towards each other at {s} and {t} km/h. After how many hours do they meet?",
        "{name} and {other} start {a} km from one another and approach at {s} km/h and {t} km/h. When do they meet?",
        "From the ends of a road of {a} km two riders set out, one at {s}, one at {t} km/h. How long until they cross?",
    ),
    "area": (
        "A rectangle is {b} cm long and {s} cm wide. What is its area?",
        "How many square metres does a floor of {b} m by {s} m have?",
        "Find the surface of a field whose sides measure {b} and {s} metres.",
    ),
    "perimeter": (
        "A rectangle is {b} cm long and {s} cm wide. What is its perimeter?",
        "How long must a fence be that encloses a garden of {b} m by {s} m?",
        "Walking once around a court of {b} by {s} metres, how far does one go?",
    ),
    "discount": (
        "A coat costs {a} dollars and is reduced by {s} percent. What is its new price?",
        "{name} gets {s}% off a bill of {a} dollars. How much is to be paid?",
        "After a discount of {s} per cent, what remains of a price of {a}?",
    ),
    "interest": (
        "{name} saves {a} dollars at {s} percent simple interest a year. How much interest comes in {t} years?",
        "What does a deposit of {a} earn in {t} years at {s}% per year, without compounding?",
        "A loan of {a} dollars bears {s} per cent a year. What interest is due after {t} years?",
    ),
    "profit": (
        "{name} buys {b} {thing} for {s} coins each and sells them for {t} coins each. What is the profit?",
        "A shop pays {s} a piece for {b} {thing} and charges {t} a piece. How much does it gain?",
        "{b} {thing} were bought at {s} and sold at {t}. What was earned in all?",
    ),
    "share": (
        "{name}, {other} and a friend share {a} {thing} in the ratio {s} : {t} : {u}. How many does {name} get?",
        "Divide {a} {thing} in the proportion {s} to {t} to {u}. How large is the first part?",
        "{a} {thing} are split so that the parts are as {s}, {t} and {u}. What is the first part?",
    ),
    "age": (
        "{name} is {s} years older than {other}. Together they are {b}. How old is {other}?",
        "The ages of {name} and {other} add up to {b} and differ by {s}. What is the younger one's age?",
        "{other} was born {s} years after {name}; the sum of their ages is {b}. Give the age of {other}.",
    ),
    "sort": (
        "Sort these numbers in ascending order: {a}, {b}, {c}, {s}.",
        "Put {a}, {b}, {c} and {s} in order, the smallest first.",
        "Arrange the list [{a}, {b}, {c}, {s}] from low to high.",
    ),
    "mean": (
        "What is the average of {a}, {b}, {c} and {s}?",
        "Find the arithmetic mean of the list [{a}, {b}, {c}, {s}].",
        "{name} scored {a}, {b}, {c} and {s} points. What is the mean score?",
    ),
    "sequence": (
        "What comes next: {s}, {s2}, {s3}, {s4}?",
        "Continue the sequence {s}, {s2}, {s3}, {s4} by one term.",
        "An arithmetic progression begins {s}, {s2}, {s3}, {s4}. Give its fifth term.",
    ),
    "weekday": (
        "Today is Monday. Which day of the week is it in {a} days?",
        "If it is Monday now, what weekday will it be {a} days from now?",
        "{a} days after a Monday, what day is it?",
    ),
    "clock": (
        "A film starts at {h}:{m} and lasts {b} minutes. When does it end?",
        "It is {h}:{m}. What will the clock show in {b} minutes?",
        "{name} leaves at {h}:{m} and travels for {b} minutes. What is the time of arrival?",
    ),
    "letters": (
        'How often does the letter "{letter}" occur in "{w1} {w2} {w3}"?',
        'Count the {letter}\'s in the text "{w1} {w2} {w3}".',
        'In the words {w1}, {w2}, {w3}, how many times is "{letter}" written?',
    ),
    "reverse": (
        'Spell "{w1}" backwards.',
        'Write the letters of the word "{w1}" in reverse order.',
        "What is {w1} read from right to left?",
    ),
    "alphabet": (
        "Sort these words alphabetically: {w1}, {w2}, {w3}, {w4}.",
        "Put {w1}, {w2}, {w3} and {w4} in dictionary order.",
        "Arrange the words [{w1}, {w2}, {w3}, {w4}] from A to Z.",
    ),
    "dice": (
        "Two fair dice are rolled. What is the probability that their sum is {d}?",
        "{name} throws a pair of dice. How likely is a total of {d}?",
        "With what chance do two ordinary dice show {d} together?",
    ),
}


class Labelled(NamedTuple):
    text: str
    family: str
    phrasing: int


def problems(num: int, families: Sequence[str], phrasings: Sequence[int], seed: int = 0) -> list[Labelled]:
    """`num` distinct problems, families and phrasings in equal shares, seeded."""
    rng = random.Random(seed)
    kinds = [(family, phrasing) for family in families for phrasing in phrasings]
    seen: set[str] = set()
    found: list[Labelled] = []
    number = misses = 0
    while len(found) < num:
        family, phrasing = kinds[number % len(kinds)]
        text = FAMILIES[family][phrasing].format(**_drawn(rng))
        if text in seen:
            misses += 1
            # A family with few problems, as that of dice, gives its turn to the next one.
            number += misses % 20 == 0
            continue
        seen.add(text)
        found.append(Labelled(text, family, phrasing))
        number += 1
    return found


def _drawn(rng: random.Random) -> dict[str, object]:
    start, step = rng.randrange(2, 60), rng.randrange(2, 30)
    name, other = rng.sample(NAMES, 2)
    w1, w2, w3, w4 = rng.sample(WORDS, 4)
    suffix = rng.choice("abcdefghiklmnoprst")
    return {
        "a": rng.randrange(500, 10_000),
        "b": rng.randrange(20, 500),
        "c": rng.randrange(2, 400),
        "d": rng.randrange(2, 13),
        "s": start,
        "t": rng.randrange(2, 60),
        "u": rng.randrange(2, 9),
        "s2": start + step,
        "s3": start + 2 * step,
        "s4": start + 3 * step,
        "h": rng.randrange(1, 13),
        "m": f"{rng.randrange(60):02}",
        "name": name,
        "other": other,
        "thing": rng.choice(THINGS),
        "letter": rng.choice("aeilnrt"),
        "w1": w1 + suffix,
        "w2": w2,
        "w3": w3,
        "w4": w4,
    }
