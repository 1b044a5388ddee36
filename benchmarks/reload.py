"""Reloads of a real vLLM server under load: what fails, how long it is paused, and whether each token bears the right
version.

Two models, the given one and one with noise in its weights, are published in turn. Requests with common prompts stay in
flight meanwhile, so that a prefix cache of the old weights would be met. Afterwards both models give their
log-probabilities of what was sampled wholly under one label: a rollout that is nearer to the other model is
mislabelled, or met an old cache.

With --transfer lora the two are adapters of random weights to the given model, loaded beside each other; nothing is
paused then, and a bare reload of the whole model by the same server stands beside theirs.

examples:
  python -m benchmarks.reload                          # the embedded model, 20 reloads, 64 requests in flight
  python -m benchmarks.reload --reloads 200 --model ./my-model
  python -m benchmarks.reload --transfer lora
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import httpx

from benchmarks.machine import server
from benchmarks.script import TINY, Benchmark, Goal, Row, model_folder
from pipeline.config import Config
from pipeline.errors import EndpointError
from pipeline.inference.client import InferenceClient, client_of
from pipeline.inference.local_servers import Serving
from pipeline.run.folder import RunFolder
from pipeline.runtime import event_loop
from pipeline.types import Completion, Message, WeightVersion
from pipeline.weights.publishing import prune, publish
from pipeline.weights.sync import sync_server

MAX_PAUSE_RATIO = 1.5
"""Longest pause (median) relative to a bare reload."""
NUM_PROMPTS = 8
NOISE = 0.05
"""Standard deviation of the noise, relative to that of each matrix: about half a nat per token."""
NUM_CHECKED = 200
RANK = 8
ADAPTER_STD = 0.1
"""Standard deviation of the adapters' weights: a large fraction of a nat per token."""


class Answer(NamedTuple):
    prompt_ids: tuple[int, ...]
    completion: Completion


def version(number: int) -> WeightVersion:
    """Even ones are the given model, or the first adapter, odd ones the other."""
    return WeightVersion(lineage=0, step=number)


def prepare(model_folder: str, folders: list[Path]) -> list[Any]:
    """Save the model and its noisy twin, with their canaries; both as loaded models."""
    import torch

    from trainer.canary import write_canary
    from trainer.models import load_model, load_tokenizer, save_model

    tokenizer, models = load_tokenizer(model_folder), []
    for number, folder in enumerate(folders):
        model = load_model(model_folder)
        if number:
            torch.manual_seed(0)
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.add_(torch.randn_like(parameter) * parameter.std() * NOISE)
        folder.mkdir()
        save_model(model, tokenizer, folder)
        write_canary(model, tokenizer, folder)
        models.append(model.eval())
    return models


def prepare_adapters(model_folder: str, folders: list[Path]) -> list[Any]:
    """Save two adapters to the model, with their canaries; both as loaded models."""
    import torch
    from peft import LoraConfig, get_peft_model

    from trainer.canary import write_canary
    from trainer.lora import save_adapter
    from trainer.models import load_model, load_tokenizer

    tokenizer, models = load_tokenizer(model_folder), []
    for number, folder in enumerate(folders):
        settings = LoraConfig(r=RANK, lora_alpha=RANK, target_modules="all-linear", task_type="CAUSAL_LM")
        model: Any = get_peft_model(load_model(model_folder), settings)
        torch.manual_seed(number)
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.data.normal_(0.0, ADAPTER_STD)
        folder.mkdir()
        save_adapter(model, folder)
        write_canary(model.get_base_model(), tokenizer, folder)
        models.append(model.get_base_model().eval())
    return models


def linking(folder: Path) -> Callable[[Path], None]:
    """What `publish` calls: the files of `folder`, without copying them."""

    def save(target: Path) -> None:
        for file in folder.iterdir():
            os.link(file, target / file.name)

    return save


class Load:
    """Requests in flight over all reloads."""

    def __init__(self, pool: InferenceClient, config: Config, prompts: list[tuple[int, ...]]) -> None:
        self._pool, self._config, self._prompts = pool, config, prompts
        self.answers: list[Answer] = []
        self.num_failed = 0
        self.stopped = False

    async def work(self, number: int) -> None:
        sampling = self._config.rollout.sampling
        while not self.stopped:
            prompt_ids = self._prompts[number % len(self._prompts)]
            try:
                samples = await self._pool.generate(
                    prompt_ids, sampling, 1, max_tokens=sampling.longest, seed=0, stage="rollout"
                )
            except EndpointError:
                self.num_failed += 1
            else:
                self.answers.append(Answer(prompt_ids, samples.completions[0]))

    async def some_more(self, num: int) -> None:
        """Wait until so many more were answered."""
        goal = len(self.answers) + num
        while len(self.answers) < goal:  # noqa: ASYNC110 - a look now and then disturbs less
            await asyncio.sleep(0.02)


async def bare_reload_s(pool: InferenceClient, folder: Path) -> float:
    """Seconds of vLLM's own reload of an idle server, nothing around it; a tied head on a CPU is packed again."""
    begin_s = time.perf_counter()
    async with httpx.AsyncClient(base_url=pool.endpoints[0].url, timeout=300.0) as client:
        body = {"method": "reload_weights", "kwargs": {"weights_path": str(folder)}}
        for call in (body, {"method": "refresh_packed_weights"}):
            (await client.post("/collective_rpc", json=call)).raise_for_status()
    return time.perf_counter() - begin_s


async def num_cached_tokens(pool: InferenceClient) -> int:
    """Prompt tokens that the server took from its prefix cache so far."""
    async with httpx.AsyncClient(base_url=pool.endpoints[0].url) as client:
        metrics = (await client.get("/metrics")).text
    return int(sum(map(float, re.findall(r"^vllm:prefix_cache_hits_total\{.*\} (\S+)$", metrics, re.MULTILINE))))


def gaps(models: list[Any], answers: list[Answer]) -> tuple[float, float, int]:
    """Mean gap in nats per token to the labelled model and to the other one, and how many answers are nearer to the
    other."""
    import torch

    own_gaps, other_gaps, num_mislabelled = [], [], 0
    for prompt_ids, completion in answers:
        assert completion.newest_version is not None
        ids = torch.tensor([[*prompt_ids, *completion.token_ids]])
        found = torch.tensor(completion.logprobs)
        both = []
        for model in models:
            with torch.no_grad():
                logits = model(ids, use_cache=False).logits[0, len(prompt_ids) - 1 : -1].float()
            expected = torch.log_softmax(logits, -1).gather(1, ids[0, len(prompt_ids) :, None]).squeeze(1)
            both.append((expected - found).abs().mean().item())
        own = completion.newest_version.step % 2
        own_gaps.append(both[own])
        other_gaps.append(both[1 - own])
        num_mislabelled += both[own] >= both[1 - own]
    return statistics.fmean(own_gaps), statistics.fmean(other_gaps), num_mislabelled


async def reloaded(
    model: str, num_reloads: int, in_flight: int, root: Path, transfer: str = "filesystem", url: str = ""
) -> Row:
    """Reloads of a vLLM server started here, or of the one at `url`."""
    adapters = transfer == "lora"
    config = Config.model_validate(
        {
            "run": {"root": root, "name": "reload"},
            "model": {"path": model},
            "endpoints": [{"url": url}] if url else [],
            "servers": {"max_model_len": 512, "kv_cache_gib": 0.5},
            # At temperature 1 the learner's log-probabilities are those of the plain softmax.
            "rollout": {"sampling": {"max_tokens": 24, "temperature": 1.0}},
            "learner": {"transfer": transfer, "lora": {"rank": RANK if adapters else 0}},
        }
    )
    run = RunFolder.create(config)
    folders = [root / "given", root / "noisy"]
    models = await asyncio.to_thread(prepare_adapters if adapters else prepare, model, folders)
    base = Path(model) if adapters else folders[0]
    publish(run, version(0), linking(base))
    async with (
        Serving(config, run, base, print) as serving,
        client_of(config, serving.endpoints, adapters=adapters) as pool,
    ):
        pool.endpoints[0].has_token_route = True
        address = pool.endpoints[0].address
        bare = [await bare_reload_s(pool, base if adapters else folders[number % 2]) for number in (1, 0, 1, 0)]
        await sync_server(run, address, version(0))
        questions = [f"Problem {number}: what is {number} + {7 * number}?" for number in range(NUM_PROMPTS)]
        prompts = [await pool.render((Message(role="user", content=question),)) for question in questions]
        load, paused, brought = Load(pool, config, prompts), [], []
        async with asyncio.TaskGroup() as tasks:
            for number in range(in_flight):
                tasks.create_task(load.work(number))
            for number in range(1, num_reloads + 1):
                await load.some_more(in_flight)
                publish(run, version(number), linking(folders[number % 2]))
                begin_s = time.perf_counter()
                paused.append(await sync_server(run, address, version(number)))
                brought.append(time.perf_counter() - begin_s)
                prune(run, 2, config.requests.timeout_s if adapters else 0.0)
            await load.some_more(in_flight)
            load.stopped = True
        num_cached = await num_cached_tokens(pool)
    pure = [answer for answer in load.answers if answer.completion.oldest_version == answer.completion.newest_version]
    # The base was sampled before the first adapter.
    known = [answer for answer in pure if not adapters or answer.completion.oldest_version != version(0)]
    checked = known[:: max(1, len(known) // NUM_CHECKED)]
    own, other, num_mislabelled = await asyncio.to_thread(gaps, models, checked)
    return {
        "transfer": transfer,
        "reloads": num_reloads,
        "in flight": in_flight,
        "answers": len(load.answers),
        "over a reload": len(load.answers) - len(pure),
        "failed": load.num_failed,
        "asked again": pool.usage.total("retries"),
        "bare reload, s": statistics.median(bare),
        "brought, s": statistics.median(brought),
        "paused, s": statistics.median(paused),
        "longest, s": max(paused),
        "paused ÷ bare": statistics.median(paused) / statistics.median(bare),
        "cached tokens": num_cached,
        "checked": len(checked),
        "gap to own model": own,
        "to the other": other,
        "mislabelled": num_mislabelled,
    }


def measure(options: argparse.Namespace) -> Iterator[Row]:
    mock = server("--max-lora-rank", str(RANK), module="servers.mock") if options.small else nullcontext("")
    with tempfile.TemporaryDirectory() as folder, mock as url:
        root = Path(folder)
        model = model_folder(options.model, root)
        yield event_loop.run(reloaded(model, options.reloads, options.in_flight, root, options.transfer, url))


def goals(rows: list[Row]) -> list[Goal]:
    nothing_of = [Goal.of(rows, name, most=0) for name in ("failed", "mislabelled")]
    return [*nothing_of, Goal.of(rows, "paused ÷ bare", most=MAX_PAUSE_RATIO)]


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", default="embedded", help="as model.path; the small form has a mock endpoint")
    parser.add_argument("--reloads", type=int, default=20)
    parser.add_argument("--in-flight", type=int, default=64)
    parser.add_argument("--transfer", choices=["filesystem", "lora"], default="filesystem", help="as learner.transfer")


SMALL = {"model": TINY, "reloads": 2, "in_flight": 4}
main = Benchmark(__file__, __doc__, add_options, measure, SMALL, goals).main

if __name__ == "__main__":
    sys.exit(main())
