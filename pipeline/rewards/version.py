"""The version of a verifier: a hash of the files that decide its verdicts, so that verdicts of other code can be found.

Invariants: any change of such a file, its name included, is another version; a change anywhere else, as in a generator
of problems, is none. A file of the list that is not there is an error, never a hash of less."""

from __future__ import annotations

import hashlib
import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pipeline.config.rollout import RewardSection, ScorerSettings
from pipeline.runtime.plugins import is_plugin

ROOT = Path(__file__).parents[2]
REWARDS = "pipeline/rewards"
# Beside all of REWARDS: what is read of an answer at all. The configuration's part in a verdict is in a plan's
# settings.
SHARED = ("pipeline/text.py",)
JUDGES = "pipeline/rewards/judge"
JUDGE = (
    f"{JUDGES}/model.py",
    "pipeline/inference/structured_output.py",
    "prompts/filling.py",
    "prompts/schemas.py",
    "prompts/templates/judge_answer.txt",
    "prompts/templates/judge_rubric.txt",
)


def verifier_version(scorer: str, root: Path = ROOT) -> str:
    """Identity of the code that gives the verdicts of `scorer` (a value of `reward.scorer`, or 'judge'): 8 hex digits;
    of a user's module, its file. `root` holds the packages."""
    if is_plugin(scorer):
        spec = find_spec(scorer.partition(":")[0])
        origin = Path(spec.origin) if spec and spec.origin else None
        # A module without a file is known by its name alone.
        return (
            _digest([("", origin)]) if origin and origin.is_file() else hashlib.sha256(scorer.encode()).hexdigest()[:8]
        )
    return _digest([(name, root / name) for name in deciding_files(scorer, root)])


def reward_version(settings: RewardSection, root: Path = ROOT) -> str:
    """Identity of all that decides a reward: the code of each scorer, its weight, and how scores are read; 8 hex
    digits."""
    scorers: list[Any] = [[one.column, one.weight, verifier_version(one.scorer, root)] for one in settings.all_scorers]
    scorers += [judge_identity(one, settings) for one in settings.judges]
    code = settings.code
    reading = [settings.threshold, settings.graded, settings.format_weight, code.partial, *code.packages]
    reading.append(settings.refuse_echo)
    return hashlib.sha256(json.dumps([scorers, reading]).encode()).hexdigest()[:8]


def judge_identity(judge: ScorerSettings, settings: RewardSection) -> list[Any]:
    """What tells one of `settings.judges` from others: its model, at whatever address where it is named, and what it
    decides by."""
    endpoint, shared = judge.endpoint, settings.judge
    who = (endpoint.model or endpoint.base_url) if endpoint else ""
    return [judge.column, who, judge.rubric, shared.rubric_column, shared.max_tokens]


def deciding_files(scorer: str, root: Path = ROOT) -> list[str]:
    """The files that decide verdicts of a scorer of ours, relative to `root`, in order."""
    files = (file for file in (root / REWARDS).rglob("*") if file.suffix in (".py", ".toml"))
    rewards = [file.relative_to(root).as_posix() for file in files]
    rewards = [name for name in rewards if not name.startswith(f"{JUDGES}/")]
    return sorted([*rewards, *SHARED, *(JUDGE if scorer == "judge" else ())])


def _digest(files: list[tuple[str, Path]]) -> str:
    digest = hashlib.sha256()
    for name, file in files:
        # Names and contents are hashed each: neither can run into the next one.
        for part in (name.encode(), file.read_bytes()):
            digest.update(hashlib.sha256(part).digest())
    return digest.hexdigest()[:8]
