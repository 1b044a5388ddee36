"""Checks machine and configuration without starting anything, within a second.

A check returns a detail worth showing, a `Doubt` (it may be meant so), or nothing; it raises the UserError that names
field, value and remedy."""

from __future__ import annotations

import os
import resource
import shutil
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryFile

from pipeline.config import Config
from pipeline.errors import (
    ConfigError,
    DiskError,
    EndpointSetupError,
    LanpoError,
    ServerStartError,
    StoreError,
    UserError,
)
from pipeline.experience.wording import checked
from pipeline.inference.local_servers import SMALL, check_port
from pipeline.preflight.lengths import LEAST_COMPLETION
from pipeline.rewards.code.preflight import check_code, imports_note
from pipeline.rewards.judge.verifier import check_judgeable
from pipeline.runtime.files import is_uri
from pipeline.runtime.hardware import gpus
from pipeline.sft.seeding import seeding
from pipeline.storage.claim import check_reachable

# Two float32 weight sets of the embedded model and its optimizer state fit several times; less fails within minutes.
MIN_FREE_GIB = 6.0
PACKAGES = ("torch", "vllm", "trl", "transformers", "lancedb", "reasoning_gym", "aiohttp", "rapidfuzz")
LOOPBACK = ("127.0.0.1", "localhost", "::1")
# Files that are open beside connections: logs, tables, libraries, pipes.
SPARE_FILES = 256


class Doubt(str):
    """Something that is probably not meant so, and does not keep a run from starting."""


Check = Callable[[Config], str | None]


def _packages(config: Config) -> None:
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise UserError(f"not installed: {', '.join(missing)}; run `make install`")


def _mismatched_vision(config: Config) -> None:
    """facts: vLLM's CPU wheel pulls a torchvision that does not match a CPU torch, and then transformers' models
    fail."""
    if not gpus() and find_spec("torchvision") is not None:
        raise UserError(
            "torchvision is installed beside a CPU torch and breaks transformers; run `pip uninstall torchvision "
            "torchaudio torchcodec`"
        )


def _disk(config: Config) -> str:
    folder = config.run.root.resolve()
    while not folder.exists():
        folder = folder.parent
    free_gib = shutil.disk_usage(folder).free / 2**30
    if free_gib < MIN_FREE_GIB:
        raise DiskError(
            f"run.root = {str(config.run.root)!r}: {free_gib:.1f} GiB free, {MIN_FREE_GIB} needed; free some space or "
            "choose another folder"
        )
    return f"{free_gib:.0f} GiB free"


def _writable(config: Config) -> None:
    folder = config.run.root
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(
            f"run.root = {str(folder)!r}: cannot write there ({error.strerror}); choose another folder"
        ) from error


def _store(config: Config) -> str | None:
    store = config.run.store
    if not store:
        return None
    if is_uri(store):
        check_reachable(store)
        return store
    folder = Path(store).expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        writable = os.access(folder, os.W_OK)
    except OSError:
        writable = False
    if not writable:
        raise StoreError(
            f"run.store = {store!r}: cannot write there; choose another folder, or a URI as s3://bucket/prefix"
        )
    return str(folder)


def _ports(config: Config) -> None:
    if config.endpoints or not config.servers.port:
        return
    for index in range(config.servers.num_servers):
        check_port(config.servers.port + index)


def _keys(config: Config) -> None:
    for endpoint in config.named_endpoints:
        if endpoint.api_key_env and not os.environ.get(endpoint.api_key_env):
            raise EndpointSetupError(
                f"endpoint {endpoint.url}: the environment variable {endpoint.api_key_env} that should hold its key is "
                "not set"
            )


def _insecure(config: Config) -> None:
    if os.environ.get("VLLM_ALLOW_INSECURE_SERIALIZATION", "0") not in ("", "0"):
        raise UserError(
            "VLLM_ALLOW_INSECURE_SERIALIZATION is set: anyone who reaches the server could run code; unset it"
        )


def _model(config: Config) -> None:
    """A local folder is looked at here; a hub id when it is fetched."""
    path = Path(config.model.path)
    if config.model.path.startswith((".", "/", "~")) and not path.expanduser().is_dir():
        raise ConfigError(
            f"model.path = {config.model.path!r}: no such folder; give a model folder, a hub id, or 'embedded'"
        )


def _operations_port(config: Config) -> None:
    if config.operations.port:
        try:
            check_port(config.operations.port)
        except ServerStartError as error:
            raise ConfigError(
                f"operations.port = {config.operations.port}: the port is in use; choose another, or 0 to serve nothing"
            ) from error


def _sampling_agrees(config: Config) -> str | None:
    sampling = config.rollout.sampling
    if sampling.top_p < 1 or sampling.top_k or sampling.min_p:
        return Doubt(
            "rollout.sampling cuts by top_p, top_k or min_p, which the learner does not repeat: expect a "
            "log-probability gap"
        )
    return None


def _extra(config: Config, option: str) -> str | None:
    """The value of an option among servers.extra_args, written `--option value` or `--option=value`."""
    words = config.servers.extra_args
    for index, word in enumerate(words):
        if word == option and index + 1 < len(words):
            return words[index + 1]
        if word.startswith(f"{option}="):
            return word.partition("=")[2]
    return None


def _dtypes_agree(config: Config) -> str | None:
    dtype, other = config.servers.dtype, _extra(config, "--dtype")
    if other is not None and other != dtype:
        raise ConfigError(
            f"servers.extra_args has --dtype {other}, but servers.dtype = {dtype!r}; name it once, in servers.dtype"
        )
    if dtype in ("bfloat16", "float16") and config.learner.precision == "float32":
        return Doubt(
            f"servers.dtype = {dtype!r} rounds the weights that the learner trains in float32: small updates do not "
            "reach the samples, and log-probabilities differ by about .01 nats per token; servers.dtype = 'float32'"
            " agrees to 1e-5"
        )
    return None


def _servers_on_loopback(config: Config) -> None:
    host = _extra(config, "--host")
    if host is not None and host not in LOOPBACK:
        raise ConfigError(
            f"servers.extra_args has --host {host}: anyone who reaches it could load weights and pause the server, "
            "because --api-key does not guard vLLM's control routes; leave --host out"
        )


def _answers_fit(config: Config) -> None:
    if config.endpoints:
        return  # their own limit is asked of them
    limit = config.servers.max_model_len
    for name, max_tokens in longest_answers(config):
        if limit is not None and max_tokens >= limit:
            raise ConfigError(
                f"{name} = {max_tokens} leaves no tokens for a prompt within servers.max_model_len = "
                f"{limit}; raise the one or lower the other"
            )


def longest_answers(config: Config) -> list[tuple[str, int]]:
    """Settings that bound an answer, tokens; one that is derived is this long at least."""
    lessons = config.abstraction.max_tokens if config.abstraction.enabled else None
    bounds = {
        "rollout.sampling.max_tokens": config.rollout.sampling.max_tokens or LEAST_COMPLETION,
        "abstraction.max_tokens": lessons,
        "eval.max_tokens": config.eval.max_tokens,
    }
    return [(name, bound) for name, bound in bounds.items() if bound is not None]


def _open_files(config: Config) -> None:
    wanted = sum(endpoint.max_concurrency for endpoint in config.named_endpoints) + SPARE_FILES
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < wanted:
        raise ConfigError(
            f"endpoints ask for {wanted - SPARE_FILES} requests in flight, each a connection, but this machine allows "
            f"{hard} open files; raise it (ulimit -Hn), or lower max_concurrency"
        )


def _proxies(config: Config) -> str | None:
    proxies = [name for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY") if os.environ.get(name)]
    excepted = os.environ.get("no_proxy", os.environ.get("NO_PROXY", ""))
    if proxies and not any(host in excepted for host in ("127.0.0.1", "*")):
        return Doubt(
            f"{proxies[0]} is set and NO_PROXY does not name 127.0.0.1: requests to the servers of this run may go to "
            "the proxy; set NO_PROXY=127.0.0.1,localhost"
        )
    return None


def _endpoints_differ(config: Config) -> None:
    urls = [endpoint.base_url for endpoint in config.endpoints]
    twice = sorted({url for url in urls if urls.count(url) > 1})
    if twice:
        raise ConfigError(
            f"endpoints names {twice[0]} twice: it would be given twice its max_concurrency; name it once"
        )


def _gpus(config: Config) -> str | None:
    if config.endpoints or not config.servers.gpu_ids:
        return None
    found, wanted = len(gpus()), config.servers.gpu_ids
    if not found:
        raise ConfigError(f"servers.gpu_ids = {list(wanted)}: there is no GPU here; leave it out to serve on the CPU")
    if len(wanted) < config.servers.num_servers:
        raise ConfigError(
            f"servers.gpu_ids names GPUs for {len(wanted)} servers, but servers.num_servers = "
            f"{config.servers.num_servers}"
        )
    return f"{found} GPUs"


def _memory(config: Config) -> str | None:
    if config.endpoints or gpus():
        return None
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    free_gib = next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")) / 2**20
    wanted_gib = config.servers.kv_cache_gib * config.servers.num_servers
    if wanted_gib > free_gib:
        raise ConfigError(
            f"servers.kv_cache_gib = {config.servers.kv_cache_gib} for {config.servers.num_servers} server(s) exceeds "
            f"the {free_gib:.1f} GiB of free memory; lower it"
        )
    return f"{free_gib:.0f} GiB free"


def _trackers(config: Config) -> None:
    offline = os.environ.get("WANDB_MODE") in ("offline", "disabled")
    keyed = bool(os.environ.get("WANDB_API_KEY")) or (Path.home() / ".netrc").exists()
    if "wandb" in config.learner.report_to and not (keyed or offline):
        raise ConfigError(
            "learner.report_to names wandb, but WANDB_API_KEY is not set; set it, or WANDB_MODE=offline, or take "
            "wandb out"
        )


def _hub(config: Config) -> str | None:
    path = config.model.path
    local = path in ("embedded", SMALL) or Path(path).expanduser().is_dir() or path.startswith((".", "/", "~"))
    if not local and os.environ.get("HF_HUB_OFFLINE", "0") not in ("", "0"):
        return Doubt(f"model.path = {path!r} is a hub id, and HF_HUB_OFFLINE is set: it must be in the cache already")
    return None


def _templates(config: Config) -> str:
    found = checked(config)
    if config.rollout.templates == "auto":
        return "chosen by the model's size and context"
    more = "those of runs that began before there were others" if found.name == "legacy" else found.note
    return f"{found.identity}{f': {more}' if more else ''}"


def _problems(config: Config) -> str | None:
    from pipeline.problems.dataset import load_problems

    few = config.problems.model_copy(update={"num_train": min(64, config.problems.num_train)})
    try:
        found = load_problems(few, config.run.seed, config.reward.code.packages)
    except LanpoError as error:
        raise error if isinstance(error, UserError) else UserError(str(error)) from error
    check_code(config, [*found.train, *found.heldout])
    check_judgeable(config.reward, [*found.train, *found.heldout])
    seeds = seeding(config, found.train)
    sft = "SFT seeds" if seeds.wanted else f"no SFT: {seeds.why}"
    imports = imports_note(config.reward.code.packages)
    near = f" ({found.num_near} near-duplicates of these left out)" if found.num_near else ""
    return f"{len(found.train)} or more to train on, {len(found.heldout)} held out{near}; {sft}{imports}"


CHECKS: tuple[tuple[str, Check], ...] = (
    ("packages", _packages),
    ("templates", _templates),
    ("no mismatched torchvision", _mismatched_vision),
    ("run folder writable", _writable),
    ("disk space", _disk),
    ("store", _store),
    ("memory", _memory),
    ("open files", _open_files),
    ("ports", _ports),
    ("operations port", _operations_port),
    ("proxies", _proxies),
    ("keys", _keys),
    ("serialization", _insecure),
    ("servers on loopback", _servers_on_loopback),
    ("GPUs", _gpus),
    ("model", _model),
    ("hub", _hub),
    ("types agree", _dtypes_agree),
    ("answers fit", _answers_fit),
    ("endpoints differ", _endpoints_differ),
    ("sampling", _sampling_agrees),
    ("trackers", _trackers),
    ("problems", _problems),
)
