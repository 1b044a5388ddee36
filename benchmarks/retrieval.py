"""Which lessons does retrieval let through? Precision and recall of the measures of similarity by gamma, on labelled
problems.

A pool of 5,000 problems (benchmarks/families.py), one lesson each, of 21 families in two phrasings. A third of the
queries are twins (other numbers, a stored phrasing), a third paraphrases (the phrasing that is not stored), a third of
the 7 families that are not stored at all: whatever is shown for these is wrong. BM25 finds 32 candidates as in a run, a
measure grades them; relevant is what is of the query's family. Gamma and measure are chosen on half of the families by
F0.5 (a wrong lesson costs more than none) and reported on the other half.

precision   share of the admitted candidates that are relevant
recall      share of the relevant candidates that are admitted
shown       share of queries for which any is admitted, of each kind
shown right share of these for which the best admitted one is relevant

examples:
  python -m benchmarks.retrieval --out docs/retrieval.json --plot docs/retrieval.svg
  python -m benchmarks.retrieval --judge http://127.0.0.1:8000 --judge-model my-model --num-queries 70
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from benchmarks.families import FAMILIES, Labelled, problems
from benchmarks.machine import server
from benchmarks.pool import BATCH, entries_of
from benchmarks.script import Benchmark, Row
from pipeline.config.endpoints import EndpointSettings, RequestsSection
from pipeline.experience.pool import Candidate, Pool
from pipeline.experience.similarity import Embedding, JudgeSimilarity, Measure, NormalisedBm25, lexical
from pipeline.inference.client import InferenceClient

NUM_CANDIDATES = 32
GAMMAS = tuple(round(0.3 + 0.05 * step, 2) for step in range(14))
BETA = 0.5

STORED_PHRASINGS = 2
ABSENT = frozenset(list(FAMILIES)[3::4])
"""Families that are not in the pool."""
Kind = Literal["twin", "paraphrase", "unrelated"]


def kind_of(query: Labelled) -> Kind:
    if query.family in ABSENT:
        return "unrelated"
    return "twin" if query.phrasing < STORED_PHRASINGS else "paraphrase"


class Graded(NamedTuple):
    """One candidate of one query."""

    query: int
    family: str
    kind: Kind
    similarity: float
    relevant: bool


class Quality(NamedTuple):
    precision: float
    recall: float
    recall_twins: float
    recall_paraphrases: float
    shown_twins: float
    shown_paraphrases: float
    shown_unrelated: float
    shown_right: float

    @property
    def f(self) -> float:
        weight = BETA**2
        below = weight * self.precision + self.recall
        return (1 + weight) * self.precision * self.recall / below if below else 0.0


def quality(graded: Sequence[Graded], gamma: float, num_queries: Counter[Kind]) -> Quality:
    admitted = [one for one in graded if one.similarity >= gamma]
    best: dict[int, Graded] = {}
    for one in admitted:
        if one.query not in best or one.similarity > best[one.query].similarity:
            best[one.query] = one

    def recall(*kinds: Kind) -> float:
        relevant = [one for one in graded if one.relevant and one.kind in kinds]
        return sum(one.similarity >= gamma for one in relevant) / max(len(relevant), 1)

    def shown(kind: Kind) -> float:
        return sum(one.kind == kind for one in best.values()) / max(num_queries[kind], 1)

    return Quality(
        precision=sum(one.relevant for one in admitted) / len(admitted) if admitted else 1.0,
        recall=recall("twin", "paraphrase"),
        recall_twins=recall("twin"),
        recall_paraphrases=recall("paraphrase"),
        shown_twins=shown("twin"),
        shown_paraphrases=shown("paraphrase"),
        shown_unrelated=shown("unrelated"),
        shown_right=sum(one.relevant for one in best.values()) / max(len(best), 1),
    )


async def graded_by(
    measure: Measure, pool: Pool, labels: dict[str, Labelled], queries: Sequence[Labelled]
) -> list[Graded]:
    found = []
    for number, query in enumerate(queries):
        candidates: list[Candidate] = await asyncio.to_thread(pool.search, query.text, NUM_CANDIDATES)
        similarities = await measure(query.text, candidates)
        for candidate, similarity in zip(candidates, similarities, strict=True):
            relevant = labels[candidate.problem_text].family == query.family
            found.append(Graded(number, query.family, kind_of(query), similarity, relevant))
    return found


async def graded_by_all(options: argparse.Namespace) -> tuple[dict[str, list[Graded]], list[Labelled]]:
    present = [family for family in FAMILIES if family not in ABSENT]
    stored = problems(options.num_problems, present, range(STORED_PHRASINGS))
    labels = {one.text: one for one in stored}
    queries = [one for one in queries_of(options.num_queries, present) if one.text not in labels]
    with tempfile.TemporaryDirectory() as folder, server(module=options.embedder) as url:
        pool = Pool(folder)
        texts = [one.text for one in stored]
        for first in range(0, len(texts), 32 * BATCH):
            pool.add(entries_of(texts[first : first + 32 * BATCH], first))
        pool.compact()
        async with InferenceClient((EndpointSettings(url=url),), "policy", RequestsSection()) as embedder:
            measures: dict[str, Measure] = {
                "lexical": lexical,
                "bm25": NormalisedBm25(pool),
                "embedding": Embedding(embedder),
            }
            found = {name: await graded_by(measure, pool, labels, queries) for name, measure in measures.items()}
        if options.judge:
            endpoint = EndpointSettings(url=options.judge, model=options.judge_model)
            async with InferenceClient((endpoint,), "", RequestsSection()) as judge:
                found["judge"] = await graded_by(JudgeSimilarity(judge), pool, labels, queries)
    return found, queries


def queries_of(num_each: int, present: list[str]) -> list[Labelled]:
    """As many of each kind."""
    return [
        *problems(num_each, present, range(STORED_PHRASINGS), seed=1),
        *problems(num_each, present, range(STORED_PHRASINGS, 3), seed=2),
        *problems(num_each, sorted(ABSENT), range(3), seed=3),
    ]


def half(names: Sequence[str], which: int) -> set[str]:
    """Every other family."""
    return set(names[which::2])


def rows_of(found: dict[str, list[Graded]], queries: list[Labelled], families: set[str]) -> list[Row]:
    num_queries = Counter(kind_of(query) for query in queries if query.family in families)
    rows = []
    for name, graded in found.items():
        mine = [one for one in graded if one.family in families]
        for gamma in GAMMAS:
            values = quality(mine, gamma, num_queries)
            rows.append({"measure": name, "gamma": gamma, **values._asdict(), "F0.5": values.f})
    return rows


def plot(rows: list[Row], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    for name in dict.fromkeys(row["measure"] for row in rows):
        mine = [row for row in rows if row["measure"] == name]
        axes.plot(
            [row["recall"] for row in mine], [row["precision"] for row in mine], marker="o", markersize=3, label=name
        )
        for row in mine[::3]:
            axes.annotate(f"{row['gamma']:.2f}", (row["recall"], row["precision"]), fontsize=7, alpha=0.7)
    axes.set(xlabel="recall of relevant candidates", ylabel="precision", xlim=(0, 1.02), ylim=(0, 1.02))
    axes.set_title("Families not used for the choice; gamma beside the points", fontsize=10)
    axes.legend(loc="lower left")
    figure.savefig(path)


def measure(options: argparse.Namespace) -> Iterator[Row]:
    found, queries = asyncio.run(graded_by_all(options))
    present = [family for family in FAMILIES if family not in ABSENT]
    chosen_on, reported_on = (half(present, which) | half(sorted(ABSENT), which) for which in (0, 1))
    choosing, reporting = rows_of(found, queries, chosen_on), rows_of(found, queries, reported_on)
    best = [max((r for r in choosing if r["measure"] == name), key=lambda r: float(r["F0.5"])) for name in found]
    choices = [(row["measure"], row["gamma"]) for row in best]
    picked = [row for row in reporting if (row["measure"], row["gamma"]) in choices]
    for part, rows in (("best of these", best), ("chosen on others", picked), ("all", reporting)):
        for row in rows:
            yield {"gammas": part, "families": len(chosen_on if rows is best else reported_on), **row}
    if options.plot:
        plot(reporting, options.plot)


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--num-problems", type=int, default=5000, help="in the pool")
    parser.add_argument("--num-queries", type=int, default=420, help="of each kind")
    parser.add_argument("--embedder", default="servers.embed", metavar="MODULE", help="the embeddings server")
    parser.add_argument("--judge", default="", metavar="URL", help="grade by a language model as well")
    parser.add_argument("--judge-model", default="", metavar="NAME")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="write the plot (.svg or .png)")


SMALL = {"num_problems": 84, "num_queries": 14, "embedder": "servers.mock"}
main = Benchmark(__file__, __doc__, add_options, measure, SMALL).main

if __name__ == "__main__":
    sys.exit(main())
