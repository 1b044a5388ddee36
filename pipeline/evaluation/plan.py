"""The plan of an evaluation: which answers are wanted, and under which identity each of them is stored.

A cell is a benchmark in one mode under one setting: all that an answer depends on beside its problem, its sample's
number and the model, which the folder stands for. A folder keeps every cell that was ever planned in it (plan.json):
more problems, samples, modes or benchmarks join what is there, and another setting (another temperature, prompt, pool)
is another cell, never a replacement."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from pipeline.config import Config
from pipeline.config.evaluation import Mode
from pipeline.errors import RunFolderError
from pipeline.hashing import digest
from pipeline.runtime.files import flat, write_atomic
from pipeline.types import Task
from prompts.sets import Templates, template_hash, templates_of

SEARCHING = (
    "similarity", "similarity_threshold", "num_candidates", "num_candidates_per_problem", "num_lessons", "diversity",
    "recency_weight", "recency_half_life_steps", "usefulness_weight",
)  # fmt: skip


class BenchmarkTasks(NamedTuple):
    """The problems of a benchmark, and what holds for all of its answers.

    `max_tokens` is the longest answer, `scorer` what judges it (a value of reward.scorer, or 'judge'), `source` where
    the problems come from, `num_all` how many there are without --limit."""

    name: str
    tasks: list[Task]
    max_tokens: int
    scorer: str
    source: str = ""
    num_all: int = 0
    is_heldout: bool = False
    """Of the run itself, held out from training."""


class Question(NamedTuple):
    """One answer of the plan."""

    benchmark: BenchmarkTasks
    task: Task
    mode: Mode
    sample: int
    key: str


class SampleTarget(NamedTuple):
    """How many answers to one problem, and the identity of its text, gold answer and tests."""

    task_hash: str
    num_samples: int


class PlannedCell(BaseModel):
    """The answers that are wanted of one benchmark in one mode under one setting.

    `settings` are common to the modes of a benchmark, so that modes are compared under the same; `of_mode` are this
    mode's own. `wanted` is by problem id, in the order of the requests."""

    model_config = ConfigDict(extra="forbid")
    benchmark: str
    mode: Mode
    settings: dict[str, Any]
    of_mode: dict[str, Any]
    votes: bool
    """False for programs: no two of them are one answer."""
    wanted: dict[str, SampleTarget]

    @property
    def id(self) -> str:
        return digest([self.benchmark, self.mode, self.settings, self.of_mode])[:12]

    def key(self, wanted: SampleTarget, sample: int) -> str:
        """Identity of one answer."""
        return f"{self.id}-{wanted.task_hash}-{sample}"

    def with_more(self, other: PlannedCell) -> PlannedCell:
        """Wants what either wants; of a problem whose text or gold changed, what `other` wants."""
        wanted = dict(self.wanted)
        for problem_id, more in other.wanted.items():
            before = wanted.get(problem_id)
            if before is None or before.task_hash != more.task_hash or before.num_samples < more.num_samples:
                wanted[problem_id] = more
        return self.model_copy(update={"wanted": wanted})


_CELLS = TypeAdapter(list[PlannedCell])


class Plan:
    """Cells in the order in which they were first planned; those of a benchmark beside each other."""

    def __init__(self, cells: list[PlannedCell] | None = None) -> None:
        self._cells = {cell.id: cell for cell in cells or []}

    @classmethod
    def read(cls, file: Path) -> Plan:
        """The plan in a file; an empty one where there is none. Raises RunFolderError for what is no plan."""
        try:
            return cls(_CELLS.validate_json(file.read_bytes())) if file.exists() else cls()
        except ValidationError as error:
            raise RunFolderError(
                f"{file}: no plan of this version of lanpo ({error.error_count()} faults); choose another --out, or "
                "begin anew with --fresh"
            ) from error

    def write(self, file: Path) -> None:
        """Raises DiskError."""
        write_atomic(file, _CELLS.dump_json(self.cells).decode())

    @property
    def cells(self) -> list[PlannedCell]:
        names = list(dict.fromkeys(cell.benchmark for cell in self._cells.values()))
        return sorted(self._cells.values(), key=lambda cell: names.index(cell.benchmark))

    def add(self, cell: PlannedCell) -> None:
        before = self._cells.get(cell.id)
        self._cells[cell.id] = before.with_more(cell) if before else cell


def planned(
    config: Config, benchmark: BenchmarkTasks, mode: Mode, *, pool_key: str = "", judge: str = ""
) -> PlannedCell:
    """The cell of a benchmark in one mode as `config` wants it.

    `pool_key` is the identity of the lessons, `judge` the name of the LLM that decides where one does."""
    num_samples = config.eval.num_samples
    return PlannedCell(
        benchmark=benchmark.name,
        mode=mode,
        settings=_settings(config, benchmark, judge if benchmark.scorer == "judge" else ""),
        of_mode=_of_mode(config, mode, pool_key),
        votes=not any(task.problem.form == "code" for task in benchmark.tasks),
        wanted={task.problem.id: SampleTarget(task_hash(task), num_samples) for task in benchmark.tasks},
    )


BenchmarkCells = tuple[BenchmarkTasks, list[PlannedCell]]
"""A benchmark with its cells, one for each mode."""


def questions(config: Config, benchmarks: Sequence[BenchmarkCells]) -> Iterator[Question]:
    """All that `config` wants of benchmarks and their cells, samples of one prompt beside each other."""
    for benchmark, cells in benchmarks:
        for task in benchmark.tasks:
            for cell in cells:
                wanted = cell.wanted[task.problem.id]
                for sample in range(config.eval.num_samples):
                    yield Question(benchmark, task, cell.mode, sample, cell.key(wanted, sample))


def sampling_of(config: Config, max_tokens: int) -> dict[str, Any]:
    """How answers are sampled, as far as a request says it."""
    return {
        "max_tokens": max_tokens,
        "temperature": config.eval.sampling_temperature,
        "top_p": config.eval.top_p,
        "template": config.rollout.chat_template_kwargs,
    }


def _settings(config: Config, benchmark: BenchmarkTasks, judge: str) -> dict[str, Any]:
    forms = sorted({task.problem.form for task in benchmark.tasks})
    templates = templates_of(config.rollout.templates)
    found: dict[str, Any] = {
        "source": benchmark.source,
        "sampling": sampling_of(config, benchmark.max_tokens),
        "system_prompt": config.rollout.system_prompt,
        "templates": {name: templates.hash(name) for name in ("scratch", *(f"form_{form}" for form in forms))},
        "scorer": benchmark.scorer,
        "threshold": config.reward.threshold,
        "strip_think": config.rollout.strip_think,
    }
    return found | ({"judge": judge} if judge else {})


def _of_mode(config: Config, mode: Mode, pool_key: str) -> dict[str, Any]:
    templates = templates_of(config.rollout.templates)
    if mode == "reflect":
        return {
            "num_rounds": config.eval.num_rounds,
            "max_chars": config.reflection.max_attempt_chars,
            "template": templates.hash("intra"),
        }
    if mode == "retrieval":
        feedback = config.feedback
        measured_by = feedback.similarity_endpoint
        return {
            "pool": pool_key,
            "feedback": {name: getattr(feedback, name) for name in SEARCHING},
            "measured_by": f"{measured_by.model} at {measured_by.base_url}" if measured_by else "",
            "template": templates.hash("inter"),
            **({} if templates.name == "legacy" else _headed(config, templates)),
            **({"relevance": template_hash("relevance")} if feedback.similarity == "judge" else {}),
        }
    return {}


def _headed(config: Config, templates: Templates) -> dict[str, Any]:
    """How lessons are headed; those of the templates of before have no heads."""
    return {"lesson": templates.hash("lesson"), "max_source_chars": config.feedback.max_source_chars}


def task_hash(task: Task) -> str:
    """Identity of a problem, its text, and what counts as right."""
    return digest([task.problem.id, task.problem.text, task.problem.form, task.label.answer, task.label.entry])[:12]


def labels(cells: list[PlannedCell]) -> dict[str, str]:
    """By id, what sets a cell apart from the others of its benchmark and mode: 'temperature 0'; empty without
    others."""
    found = {}
    for cell in cells:
        alike = [other for other in cells if (other.benchmark, other.mode) == (cell.benchmark, cell.mode)]
        values = [flat({**other.settings, **other.of_mode}) for other in alike]
        own = flat({**cell.settings, **cell.of_mode})
        names = dict.fromkeys(name for value in values for name in value)
        differing = [name for name in names if any(other.get(name) != own.get(name) for other in values)]
        found[cell.id] = ", ".join(f"{name.rpartition('.')[2]} {_brief(own.get(name))}" for name in differing)
    return found


def _brief(value: Any) -> str:
    text = value if isinstance(value, str) else f"{value:g}" if isinstance(value, float) else json.dumps(value)
    return text if len(text) <= 40 else f"{text[:18]}…{text[-20:]}"
