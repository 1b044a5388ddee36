"""Makes the fixture of test_old_run.py: a run that was stopped midway, and an evaluation with its lessons.

`tests/data/run_790bb89.tar.xz` was made with it by the code at commit 790bb89, when the modules of `pipeline` were not
yet in packages:

    git worktree add ../790bb89 790bb89
    python -m tests.integration.make_old_run --code ../790bb89 --out tests/data/run_790bb89.tar.xz

The code in that folder is asked by its command line alone. In the archive are

    model/, sums.jsonl   what the run began with; its configuration names them relative to the archive's root
    runs/old/            stopped by SIGTERM amid its third step of four, after SFT, lessons and a checkpoint
    questions.jsonl      a benchmark
    evals/old/           one answer to each of its questions, zero-shot and with the lessons of the run
    expected.json        what `pool export` wrote of the run's pool

The texts in it name no place on the machine that made it: `{ROOT}` stands for the folder of the archive, `{CODE}` for
that of the code, `{PYTHON}` for that of the interpreter. The evaluation identifies lessons and benchmark by their
paths, so two things are hashes of texts with `{ROOT}`: the name of the copy of the lessons, and the ids of the cells,
with which the keys of the answers begin. `moved` sets all of them to where the archive is unpacked."""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.tiny_model import make_tiny_model

ROOT, CODE, PYTHON = "{ROOT}", "{CODE}", "{PYTHON}"
RUN, EVALUATION = Path("runs/old"), Path("evals/old")
NUM_STEPS, STOP_AFTER = 4, 2
# The names are those of commit 790bb89. With this seed each kind of context is drawn before the stop.
OPTIONS = {
    "run.root": "runs",
    "run.name": "old",
    "run.seed": "5",
    "model.path": "model",
    "problems.source": "jsonl",
    "problems.train_file": "sums.jsonl",
    "problems.num_heldout": "4",
    "eval.num_problems": "4",
    "feedback.similarity_threshold": "0.3",
    "rollout.group_size": "4",
    "rollout.num_problems_per_step": "4",
    "rollout.max_groups_in_flight": "1",
    "rollout.sampling.max_tokens": "48",
    "rollout.sampling.seeded": "true",
    "abstraction.num_per_step": "4",
    "abstraction.max_tokens": "400",
    "learner.num_steps": str(NUM_STEPS),
    "learner.checkpoint_every": "2",
    "learner.num_checkpoints_kept": "1",
    "learner.num_weights_kept": "2",
    "learner.kl_coef": "0.04",
    "learner.learning_rate": "1e-3",
    "learner.logprob_gap_tolerance": "1e9",
    "learner.cpu_threads": "1",
    "learner.report_to": "[]",
    "sft.num_pairs": "16",
    "sft.batch_size": "8",
    "sft.hasty_share": "0.5",
    "sft.precision": "float32",
}
EVALUATE = (
    "--benchmark", "questions.jsonl", "--mode", "zero-shot,retrieval", "--pool", str(RUN), "--temperature", "1",
    "--max-tokens", "64", "--out", str(EVALUATION),
)  # fmt: skip
"""All options of the evaluation but the endpoint and the number of samples."""
LONGEST_WAIT_S = 600.0


def cell_id(cell: dict[str, Any]) -> str:
    """Identity of a cell of plan.json, as the keys of its answers begin."""
    identity = [cell["benchmark"], cell["mode"], cell["settings"], cell["of_mode"]]
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:12]


def copy_name(source: str) -> str:
    """The folder in `lessons/` for the copy of the pool at `source`."""
    return hashlib.sha256(source.encode()).hexdigest()[:12]


def moved(folder: Path, names: dict[str, str]) -> None:
    """Replace each of `names` by its value in the texts below `folder`, and renew what depends on them by a hash."""
    plan_file, answers_file = folder / EVALUATION / "plan.json", folder / EVALUATION / "answers.jsonl"
    before = [cell_id(cell) for cell in json.loads(plan_file.read_text(encoding="utf-8"))]
    for file in sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()):
        if (text := text_of(file)) is not None and any(name in text for name in names):
            for name, value in names.items():
                text = text.replace(name, value)
            file.write_text(text, encoding="utf-8")
    after = [cell_id(cell) for cell in json.loads(plan_file.read_text(encoding="utf-8"))]
    answers = answers_file.read_text(encoding="utf-8")
    for old, new in zip(before, after, strict=True):
        assert f'"key":"{old}-' in answers, f"no answer of the cell {old}: its identity is made otherwise"
        answers = answers.replace(f'"key":"{old}-', f'"key":"{new}-')
    answers_file.write_text(answers, encoding="utf-8")
    (copy,) = (folder / EVALUATION / "lessons").iterdir()
    source = json.loads((copy / "source.json").read_text(encoding="utf-8"))["source"]
    copy.rename(copy.with_name(copy_name(source)))


def without_path(checkpoint: Path) -> None:
    """Take the run's path from the copy of the trainer's settings in a checkpoint, which nobody reads again."""
    import torch

    file, manifest_file = checkpoint / "training_args.bin", checkpoint / "complete.json"
    settings = torch.load(file, weights_only=False)
    settings.output_dir = f"{ROOT}/{RUN}/checkpoints"
    torch.save(settings, file)
    manifest = json.loads(manifest_file.read_text(encoding="utf-8"))
    manifest["files"][file.name] = {
        "size": file.stat().st_size,
        "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
    }
    manifest_file.write_text(json.dumps(manifest, indent=1), encoding="utf-8")


def text_of(file: Path) -> str | None:
    """What a file holds, None if that is no text."""
    try:
        return file.read_bytes().decode()
    except UnicodeDecodeError:
        return None


class Maker:
    """Asks the code in `code` for a run and an evaluation in `root`."""

    def __init__(self, code: Path, root: Path) -> None:
        self._root = root
        more = {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
        self._env = {**os.environ, **more, "PYTHONPATH": str(code), "LANPO_CACHE": str(root / "cache")}

    def make(self) -> dict[str, Any]:
        """What is expected of the run."""
        make_tiny_model(self._root / "model", hidden_size=16)
        _write_sums(self._root / "sums.jsonl", 24, seed=0)
        _write_sums(self._root / "questions.jsonl", 6, seed=1)
        with self._mock() as url:
            self._train(url)
            self._ask("pool", "export", str(RUN), "lessons.jsonl")
            self._ask("eval", "--endpoint", url, *EVALUATE, "--n", "1")
        entries = (self._root / "lessons.jsonl").read_text(encoding="utf-8").splitlines()
        return {"entries": [json.loads(line) for line in entries]}

    def _train(self, url: str) -> None:
        """Begin the run, and stop it when the first group of a step is in the journal, and others of it are not."""
        options = {**OPTIONS, "endpoints": json.dumps([{"url": url}])}
        process = self._started("train", *(part for name, value in options.items() for part in (f"--{name}", value)))

        def wait_until(holds: Callable[[], bool]) -> None:
            deadline_s = time.monotonic() + LONGEST_WAIT_S
            while not holds():
                assert process.poll() is None and time.monotonic() < deadline_s, f"see {self._root}"
                time.sleep(0.02)

        try:
            wait_until(lambda: self._has_trained(STOP_AFTER))
            # One group is sampled at a time: the next one is asked for when the one before is in the journal.
            num_sampled = num_generated(url)
            wait_until(lambda: num_generated(url) >= num_sampled + 3)
            process.send_signal(signal.SIGTERM)
            assert process.wait(LONGEST_WAIT_S) == 130, f"see {self._root}"
        finally:
            process.kill()

    def _has_trained(self, step: int) -> bool:
        file = self._root / RUN / "metrics.jsonl"
        text = file.read_text(encoding="utf-8") if file.exists() else ""
        lines = [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]
        return any(line["event"] == "learner_step" and line["step"] == step for line in lines)

    def _ask(self, *words: str) -> None:
        assert self._started(*words).wait(LONGEST_WAIT_S) == 0, f"see {self._root}"

    def _started(self, *words: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-m", "pipeline.orchestrate", *words], env=self._env, cwd=self._root)

    @contextmanager
    def _mock(self) -> Iterator[str]:
        command = [sys.executable, "-m", "servers.mock", "--latency-s", "0.2"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=self._env, cwd=self._root) as process:
            assert process.stdout is not None
            try:
                yield process.stdout.readline().strip()
            finally:
                process.terminate()


def num_generated(url: str) -> int:
    """Groups that the mock endpoint was asked for."""
    with urllib.request.urlopen(f"{url}/_mock/counters") as reply:
        return int(json.load(reply)["requests"].get("/inference/v1/generate", 0))


def _write_sums(file: Path, num: int, seed: int) -> None:
    rng = random.Random(seed)
    with file.open("w", encoding="utf-8") as lines:
        for _ in range(num):
            terms = [rng.randint(2, 99) for _ in range(rng.randint(2, 3))]
            row = {"question": f"What is {' + '.join(map(str, terms))}?", "answer": str(sum(terms))}
            lines.write(json.dumps(row) + "\n")


def pack(root: Path, out: Path) -> None:
    """What is in `root` as an archive without times, owners and process ids."""
    with tarfile.open(out, "w:xz", preset=9, format=tarfile.PAX_FORMAT) as archive:
        for path in sorted(root.rglob("*")):
            info = archive.gettarinfo(str(path), str(path.relative_to(root)))
            info.mtime, info.uid, info.gid, info.uname, info.gname = 0, 0, 0, "", ""
            info.mode = 0o755 if path.is_dir() else 0o644
            archive.addfile(info, io.BytesIO(path.read_bytes()) if info.isreg() else None)


def check(root: Path, forbidden: list[str]) -> None:
    """Raise AssertionError for a file that names a place on this machine."""
    for file in (path for path in root.rglob("*") if path.is_file()):
        content = file.read_bytes()
        assert not any(place.encode() in content for place in forbidden), f"{file} names one of {forbidden}"


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.integration.make_old_run", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--code", type=Path, required=True, help="checkout of the code that is asked")
    parser.add_argument("--out", type=Path, required=True, help="the archive")
    parser.add_argument("--keep", action="store_true", help="keep the folder in which it was made")
    arguments = parser.parse_args()
    root, code = Path(tempfile.mkdtemp(prefix="old-run-")).resolve(), arguments.code.resolve()
    expected = Maker(code, root).make()
    for name in ("cache", "lessons.jsonl"):
        path = root / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    for checkpoint in (root / RUN / "checkpoints").iterdir():
        without_path(checkpoint)
    moved(root, {str(root): ROOT, str(code): CODE, sys.prefix: PYTHON})
    (root / "expected.json").write_text(json.dumps(expected, indent=1), encoding="utf-8")
    print(f"made in {root}")
    check(root, [str(root), str(code), sys.prefix])
    pack(root, arguments.out)
    print(f"{arguments.out}: {arguments.out.stat().st_size} bytes")
    if not arguments.keep:
        shutil.rmtree(root)


if __name__ == "__main__":
    main()
