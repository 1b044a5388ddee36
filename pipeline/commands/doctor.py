"""`doctor`: is this machine and configuration fit for a run? The same checks run before `train` starts anything."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from pipeline.config import Config
from pipeline.errors import ConfigError, DiskFullError, EndpointSetupError, LanpoError, UserError
from pipeline.provenance import gpus
from pipeline.serving import check_port

# Two float32 weight sets of the embedded model and its optimizer state fit several times; less fails within minutes.
MIN_FREE_GIB = 6.0
PACKAGES = ("torch", "vllm", "trl", "transformers", "lancedb", "reasoning_gym", "math_verify", "aiohttp", "rapidfuzz")


def check_machine(config: Config) -> None:
    """Raise the first UserError that a check finds. Starts nothing and takes less than a second."""
    for _, check in CHECKS:
        check(config)


def doctor_command(config: Config) -> int:
    """Run every check, print one line each; exit status 2 when one failed."""
    num_failed = 0
    for name, check in CHECKS:
        try:
            print(f"ok      {name}{_detail(check(config))}")
        except UserError as error:
            num_failed += 1
            print(f"FAILED  {name}: {error}")
    print(f"{num_failed} of {len(CHECKS)} checks failed" if num_failed else "ready")
    return 2 if num_failed else 0


def _detail(value: str | None) -> str:
    return f": {value}" if value else ""


def _packages(config: Config) -> str | None:
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise UserError(f"not installed: {', '.join(missing)}; run `make install`")
    return None


def _mismatched_vision(config: Config) -> str | None:
    """facts: vLLM's CPU wheel pulls a torchvision that does not match a CPU torch, and then transformers' models fail."""
    if not gpus() and find_spec("torchvision") is not None:
        raise UserError(
            "torchvision is installed beside a CPU torch and breaks transformers; run `pip uninstall torchvision torchaudio torchcodec`"
        )
    return None


def _disk(config: Config) -> str:
    folder = config.run.root.resolve()
    while not folder.exists():
        folder = folder.parent
    free_gib = shutil.disk_usage(folder).free / 2**30
    if free_gib < MIN_FREE_GIB:
        raise DiskFullError(
            f"run.root = {str(config.run.root)!r}: {free_gib:.1f} GiB free, {MIN_FREE_GIB} needed; make room or choose another folder"
        )
    return f"{free_gib:.0f} GiB free"


def _writable(config: Config) -> str | None:
    folder = config.run.root
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".write-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UserError(
            f"run.root = {str(folder)!r}: cannot write there ({error.strerror}); choose another folder"
        ) from error
    return None


def _ports(config: Config) -> str | None:
    if config.endpoints or not config.servers.port:
        return None
    for index in range(config.servers.num_servers):
        check_port(config.servers.port + index)
    return None


def _keys(config: Config) -> str | None:
    named = [*config.endpoints, *([config.abstraction.endpoint] if config.abstraction.endpoint else [])]
    for endpoint in named:
        if endpoint.api_key_env and not os.environ.get(endpoint.api_key_env):
            raise EndpointSetupError(
                f"endpoint {endpoint.url}: the environment variable {endpoint.api_key_env} that should hold its key is not set"
            )
    return None


def _insecure(config: Config) -> str | None:
    if os.environ.get("VLLM_ALLOW_INSECURE_SERIALIZATION", "0") not in ("", "0"):
        raise UserError(
            "VLLM_ALLOW_INSECURE_SERIALIZATION is set: anyone who reaches the server could run code; unset it"
        )
    return None


def _model(config: Config) -> str | None:
    """A local folder is looked at here; a hub id when it is fetched."""
    path = Path(config.model.path)
    if config.model.path.startswith((".", "/", "~")) and not path.expanduser().is_dir():
        raise ConfigError(
            f"model.path = {config.model.path!r}: no such folder; give a model folder, a hub id, or 'embedded'"
        )
    return None


def _sampling_agrees(config: Config) -> str | None:
    sampling = config.rollout.sampling
    if sampling.top_p < 1 or sampling.top_k or sampling.min_p:
        return "rollouts are cut by top_p/top_k/min_p, which the learner does not repeat: expect a log-probability gap"
    return None


def _problems(config: Config) -> str | None:
    from pipeline.problems import load_problems

    try:
        found = load_problems(
            config.problems.model_copy(update={"num_train": min(64, config.problems.num_train)}), config.run.seed
        )
    except LanpoError as error:
        raise error if isinstance(error, UserError) else UserError(str(error)) from error
    return f"{len(found.train)} or more to train on, {len(found.heldout)} held out"


Check = Callable[[Config], str | None]
CHECKS: tuple[tuple[str, Check], ...] = (
    ("packages", _packages),
    ("no mismatched torchvision", _mismatched_vision),
    ("run folder writable", _writable),
    ("disk space", _disk),
    ("ports", _ports),
    ("keys", _keys),
    ("serialization", _insecure),
    ("model", _model),
    ("sampling", _sampling_agrees),
    ("problems", _problems),
)
