r"""How often do graders of mathematics err, and how fast are they? Ours beside plain math-verify, on what others wrote.

Sets, none of which is ours: the tables in the tests of public graders, split into formulas (each in a box), prose, and
pairs whose label is in doubt; public gold answers behind one of six marks; the same in other, equal forms; with one
change that makes them unequal (benchmarks/equal_forms.py, benchmarks/changed_forms.py); and golds that ours cannot read
and compares as text ("unread"), respelled and changed. `--folder` holds checkouts of the repositories that
benchmarks/public_golds.py names, as FOLDER/owner/name; what is not there is skipped by name. Without it golds are drawn
from seeds.

Copies are the formulas of a problem that are equal to its gold answer and written otherwise: with `reward.refuse_echo`
ours should pay none of them, and all equal forms as without.

math-verify is `verify(parse(gold), parse(text))` with the gold answer in a \boxed{…}, its time-outs as they come. It
judges all pairs of the suites and of what ours cannot read, and every `--every`-th of the others. Both run in a process
of their own.

examples:
  python -m benchmarks.graders --folder ~/checkouts
  python -m benchmarks.graders --folder ~/checkouts --every 1 --list
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import random
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.changed_forms import ANYWHERE, UNEQUAL
from benchmarks.equal_forms import EQUAL, MARKS, spaced, spelled
from benchmarks.gold_text import rewritten
from benchmarks.machine import in_child
from benchmarks.public_golds import Gold, golds, suites
from benchmarks.script import Benchmark, Goal, Row
from pipeline.rewards.math import answer_types as types

_WORDS = re.compile(r"(?<![\\A-Za-z{])[A-Za-z]{3,}(?![A-Za-z]*\})")
"""What makes an answer prose."""
_FORMULAS = re.compile(r"\$\$?([^$]+)\$\$?|\\\[(.+?)\\\]", re.DOTALL)


def drawn(seed: int, number: int = 60) -> Iterator[Gold]:
    """Golds of no source: numbers, fractions, roots, polynomials, intervals."""
    rng = random.Random(seed)
    for _ in range(number):
        a, b, c = (rng.randint(2, 99) for _ in range(3))
        forms = (
            str(a * b), f"{a}.{b}", rf"\frac{{{a}}}{{{a + b}}}", rf"{a}\sqrt{{{b}}} + {c}", f"{a}x^2 - {b}x + {c}",
            f"[{a}, {a + b})", f"{a}, {a + b}", f"x = {a}", rf"\begin{{pmatrix}} {a} & {b} \\ {c} & 1 \end{{pmatrix}}",
        )  # fmt: skip
        yield Gold("drawn", "", rng.choice(forms))


def pairs(folder: Path | None, seed: int) -> Iterator[Row]:
    """Every pair to judge: its set and kind, the gold answer, the response, whether they are equal."""
    for pair in suites(folder) if folder else ():
        is_formula = not _WORDS.search(pair.answer)
        text = pair.answer if "\\boxed" in pair.answer or not is_formula else f"\\boxed{{{pair.answer} }}"
        kind = "contested" if pair.doubt else "equivalence" if is_formula else "extraction"
        yield {"set": "suites", "kind": kind, "gold": pair.gold, "text": text, "equal": pair.is_equal}
    rng = random.Random(seed)
    for gold in golds(folder) if folder else drawn(seed):
        for kind, form in rewritten(gold.answer, EQUAL, rng):
            if kind == "as it is":
                mark = rng.choice(list(MARKS))
                yield {"set": "marks", "kind": mark, "gold": gold.answer, "text": MARKS[mark] % form, "equal": True}
            text = MARKS["box"] % form
            yield {"set": "equal forms", "kind": kind, "gold": gold.answer, "text": text, "equal": True}
        for kind, form in rewritten(gold.answer, UNEQUAL, rng):
            text = MARKS["box"] % form
            yield {"set": "one change", "kind": kind, "gold": gold.answer, "text": text, "equal": False}

        if folder and not is_read(gold.answer):
            forms = (("spelling", spelled(gold.answer, rng), True), ("blanks", spaced(gold.answer, rng), True))
            changed = ((kind, change(gold.answer, rng), False) for kind, change in ANYWHERE.items())
            for kind, other, is_equal in (*forms, *changed):
                if other and other != gold.answer:
                    text = MARKS["box"] % other
                    yield {"set": "unread", "kind": kind, "gold": gold.answer, "text": text, "equal": is_equal}


def is_read(gold: str) -> bool:
    """Whether ours reads a gold answer as mathematics or words."""
    from pipeline.rewards.math.expressions import readable
    from pipeline.rewards.math.parsing import shape_of
    from pipeline.rewards.math.tokens import tokens_of

    def is_whole(shape: Any) -> bool:
        match shape:
            case None:
                return False
            case types.Value(quantity=quantity):
                return readable(quantity.tokens) is not None
            case types.Group(items=items) | types.Listing(items=items):
                return all(map(is_whole, items))
            case types.Matrix(rows=rows):
                return all(is_whole(cell) for row in rows for cell in row)
            case types.Relation(sides=sides):
                return all(readable(side) is not None for side in sides)
            case types.NamedValue(value=value):
                return is_whole(value)
            case types.Assigned(values=values):
                return all(map(is_whole, values.values()))
        return True

    try:
        return is_whole(shape_of(tokens_of(gold)))
    except ValueError:
        return True


def echoes(folder: str) -> dict[str, int]:
    """Formulas of problems that are equal to the gold answer and written otherwise: how many ours pays with and without
    `reward.refuse_echo`; and how many of all equal forms of golds it refuses for it."""
    from pipeline.rewards.math import is_echo, same_answer

    rng, found = random.Random(0), Counter[str]()
    for gold in golds(Path(folder)):
        formulas = {text.strip().rstrip(".,") for pair in _FORMULAS.findall(gold.problem) for text in pair if text}
        for formula in formulas - {gold.answer, ""}:
            with contextlib.suppress(ValueError):
                if same_answer(gold.answer, formula):
                    found["paid without"] += 1
                    found["paid"] += not is_echo(gold.problem, gold.answer, formula)
        for _, form in rewritten(gold.answer, EQUAL, rng):
            found["equal forms"] += 1
            found["refused"] += is_echo(gold.problem, gold.answer, form)
    return dict(found)


def shared(rows: list[Row], every: int) -> list[Row]:
    """The pairs that both graders judge: all of the small sets, of the others every so many-th."""
    return [row for number, row in enumerate(rows) if number % every == 0 or row["set"] in ("suites", "unread")]


def judged(file: str, grader: str, every: int) -> dict[str, Any]:
    """Verdicts of a grader on the `shared` pairs of a file, and the seconds that they took together."""
    rows = shared([json.loads(line) for line in Path(file).read_text(encoding="utf-8").splitlines()], every)
    accepts = {"ours": _ours, "math-verify": _math_verify}[grader]()
    accepts("7", "\\boxed{7}")
    begin_s, slowest_s, accepted = time.perf_counter(), 0.0, []
    for row in rows:
        before_s = time.perf_counter()
        accepted.append(accepts(row["gold"], row["text"]))
        slowest_s = max(slowest_s, time.perf_counter() - before_s)
    return {"accepted": accepted, "seconds": time.perf_counter() - begin_s, "slowest_s": slowest_s}


def _ours() -> Callable[[str, str], bool]:
    from pipeline.config.rollout import RewardSection
    from pipeline.problems.gold import reduced
    from pipeline.rewards.scorers import make_scorer
    from pipeline.rewards.scoring import judged as verdict_of
    from pipeline.types import Label

    score = make_scorer("math", RewardSection(scorer="math"))

    def accepts(gold: str, text: str) -> bool:
        label = Label(problem_id="", answer=reduced(gold) or gold)
        return bool(verdict_of(partial(score, text, label)).correct)

    return accepts


def _math_verify() -> Callable[[str, str], bool]:
    from math_verify import parse, verify

    logging.disable(logging.CRITICAL)

    def accepts(gold: str, text: str) -> bool:
        wrapped = gold if re.search(r"\$|\\boxed", gold) else f"\\boxed{{{gold}}}"
        return bool(verify(parse(wrapped), parse(text)))

    return accepts


def measure(options: argparse.Namespace) -> Iterator[Row]:
    rows = list(pairs(options.folder, options.seed))
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
        file.flush()
        ours = in_child("graders:judged", file=file.name, grader="ours", every=1)
        theirs = in_child("graders:judged", file=file.name, grader="math-verify", every=options.every)
        same = in_child("graders:judged", file=file.name, grader="ours", every=options.every)
    by_both = shared(rows, options.every)
    kinds = dict.fromkeys((row["set"], row["kind"]) for row in rows)
    groups = [*kinds, *((name, "all") for name in dict.fromkeys(name for name, _ in kinds))]
    for name, kind in groups:
        yield {
            "set": name,
            "kind": kind,
            **counted("ours", rows, ours["accepted"], name, kind),
            **counted("ours, of the same", by_both, same["accepted"], name, kind),
            **counted("math-verify", by_both, theirs["accepted"], name, kind),
        }
    if options.folder:
        found = in_child("graders:echoes", folder=str(options.folder))
        yield {"copies of a problem's formula": found["paid without"], "paid": found["paid"],
               "equal forms": found["equal forms"], "refused as copies": found["refused"]}  # fmt: skip
    for name, result, num in (("ours", ours, len(rows)), ("math-verify", theirs, len(by_both))):
        yield {"grader": name, "pairs/s per core": num / result["seconds"], "slowest verdict, s": result["slowest_s"]}
    shown = {"ours": (rows, ours), "math-verify": (by_both, theirs)} if options.list else {}
    for name, (judged_rows, result) in shown.items():
        for row, accepted in zip(judged_rows, result["accepted"], strict=True):
            if accepted != row["equal"]:
                mistake = "false positive" if accepted else "miss"
                yield {"grader": name, "mistake": mistake, **{key: repr(row[key]) for key in ("kind", "gold", "text")}}


def counted(grader: str, rows: list[Row], accepted: list[bool], name: str, kind: str) -> Row:
    """How many pairs of a kind a grader judged, and its false positives and misses among them."""
    mine = [
        (row["equal"], verdict)
        for row, verdict in zip(rows, accepted, strict=True)
        if row["set"] == name and kind in (row["kind"], "all")
    ]
    return {
        f"{grader}: pairs": len(mine),
        f"{grader}: false positives": sum(verdict and not equal for equal, verdict in mine),
        f"{grader}: misses": sum(equal and not verdict for equal, verdict in mine),
    }


def goals(rows: list[Row]) -> list[Goal]:
    def share(name: str, kind: str, mistake: str) -> float | None:
        row = next((row for row in rows if (row.get("set"), row.get("kind")) == (name, kind)), None)
        return row[f"ours: {mistake}"] / row["ours: pairs"] if row and row["ours: pairs"] else None

    right = share("equal forms", "all", "misses")
    return [
        Goal("equal forms accepted", None if right is None else 1 - right, least=0.999),
        Goal("changed ones accepted", share("one change", "all", "false positives"), most=1e-4),
    ]


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--folder", type=Path, metavar="FOLDER", help="checkouts of public repositories, by owner/name")
    parser.add_argument("--every", type=int, default=20, metavar="N", help="math-verify judges each N-th pair")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--list", action="store_true", help="every pair that a grader gets wrong")


main = Benchmark(__file__, __doc__, add_options, measure, small={"every": 20}, goals=goals).main

if __name__ == "__main__":
    sys.exit(main())
