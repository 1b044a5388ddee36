"""Checks that an endpoint can do its work before anything is trained; each lack is named with its remedy."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from pipeline.config import Config
from pipeline.errors import (
    EndpointError,
    EndpointSetupError,
    FinalEndpointError,
    MalformedReplyError,
    RetryableEndpointError,
    WeightSyncError,
)
from pipeline.inference import protocol, token_protocol
from pipeline.inference.client import CHAT, EMBEDDINGS, GENERATE, MODELS, RENDER, InferenceClient
from pipeline.inference.endpoint import Endpoint
from pipeline.run.folder import RunFolder
from pipeline.types import Message
from pipeline.weights.lora import RUNTIME_SWITCH, server_options
from pipeline.weights.publishing import ADAPTER_CONFIG
from pipeline.weights.sync import clear_version_label
from pipeline.weights.vllm_control import LOAD_ADAPTER


async def served_models(pool: InferenceClient, endpoint: Endpoint) -> dict[str, Any]:
    """What an endpoint says of each model that it serves, by name. Raises EndpointSetupError when it does not
    answer."""
    try:
        models = await pool.get(endpoint, MODELS)
    except EndpointError as error:
        raise EndpointSetupError(
            f"endpoint {endpoint.url} does not answer ({error.kind}: {error}); is it running there?"
        ) from error
    return protocol.models_in(models)


# An answer in fifty that is lost or broken must not end a run before it began; a lack shows every time.
NUM_TRIES = 5
LONGEST_PAUSE_S = 1.0


def _tries() -> AsyncRetrying:
    return AsyncRetrying(
        retry=retry_if_exception_type((EndpointSetupError, RetryableEndpointError)),
        stop=stop_after_attempt(NUM_TRIES),
        wait=wait_random_exponential(0.1, LONGEST_PAUSE_S),
        reraise=True,
    )


async def check_endpoint(
    pool: InferenceClient, endpoint: Endpoint, *, training: bool, temperature: float = 1.0
) -> None:
    """Prove that an endpoint can do its work, before anything is trained. Raises EndpointSetupError naming the lack."""
    try:
        await _tries()(_check, pool, endpoint, training, temperature)
    except EndpointError as error:
        raise EndpointSetupError(
            f"endpoint {endpoint.url} does not do what it is asked ({error.kind}: {error}), {NUM_TRIES} times in a row"
        ) from error


async def _check(pool: InferenceClient, endpoint: Endpoint, training: bool, temperature: float) -> None:
    known = await served_models(pool, endpoint)
    if not known:
        raise EndpointSetupError(
            f"endpoint {endpoint.url} lists no models at {endpoint.at(MODELS)}; is this the base URL of an "
            "OpenAI-compatible API, and has the server loaded its model?"
        )
    if not endpoint.model:  # nobody named one
        if len(known) != 1:
            raise EndpointSetupError(f"endpoint {endpoint.url} serves {sorted(known)}; say which with --model")
        (endpoint.model,) = known
    if endpoint.model not in known:
        raise EndpointSetupError(
            f"endpoint {endpoint.url} has no model {endpoint.model!r}, it serves {sorted(known)}; "
            "set model.name or the endpoint's model"
        )
    endpoint.card = known[endpoint.model]
    longest = endpoint.card.get("max_model_len")
    endpoint.max_model_len = longest if isinstance(longest, int) else None
    if training:
        await _check_for_training(pool, endpoint, temperature)


async def check_adapters(pool: InferenceClient, endpoint: Endpoint, config: Config, folder: Path) -> None:
    """Prove that an endpoint would load the run's adapters from below `folder`, changing nothing. Raises
    EndpointSetupError naming the lack."""
    with TemporaryDirectory(prefix=".adapter-", dir=folder.resolve()) as probe:
        Path(probe).chmod(0o755)  # the server may be another user's
        adapter = {"r": config.learner.lora.rank, "lora_alpha": config.learner.lora.alpha, "target_modules": []}
        (Path(probe) / ADAPTER_CONFIG).write_text(json.dumps(adapter), encoding="utf-8")
        await _tries()(_check_adapter, pool, endpoint, Path(probe), server_options(config))


async def _check_adapter(pool: InferenceClient, endpoint: Endpoint, probe: Path, options: list[str]) -> None:
    """`probe` is an adapter without tensors, which vLLM refuses for that, after it has looked at everything else."""
    said = "it took an adapter without tensors"
    try:
        await pool.post(endpoint, LOAD_ADAPTER, {"lora_name": probe.name, "lora_path": str(probe)}, 60.0)
    except EndpointError as error:
        said = str(error)
    if "doesn't contain tensors" not in said:
        lack = f"does not see the folder {probe.parent}" if "No adapter found" in said else "loads no such adapters"
        raise EndpointSetupError(
            f"endpoint {endpoint.url} {lack} ({said}); learner.transfer = 'lora' needs vLLM started with "
            f"{RUNTIME_SWITCH}=1 and {' '.join(options)}, where it sees the run folder by the same path; or set "
            "learner.transfer = 'filesystem'"
        )


async def take_label(run: RunFolder, endpoint: Endpoint) -> None:
    """Take from an endpoint that runs elsewhere the label that another run may have given it. Raises
    EndpointSetupError."""

    async def take() -> None:
        try:
            await clear_version_label(run, endpoint.address)
        except WeightSyncError as error:
            raise EndpointSetupError(
                f"endpoint {endpoint.url} does not take the label of its weights ({error}); is another run using it, "
                "or a proxy before it?"
            ) from error

    await _tries()(take)


async def check_embeddings(pool: InferenceClient, endpoint: Endpoint) -> None:
    """Prove that an endpoint embeds texts. Raises EndpointSetupError naming the lack."""
    body = {"model": endpoint.model, "input": ["a problem", "another"], "encoding_format": "float"}

    async def embed() -> None:
        protocol.parse_embeddings(await pool.post(endpoint, EMBEDDINGS, body, 60.0), 2)

    try:
        await _tries()(embed)
    except EndpointError as error:
        raise EndpointSetupError(
            f"feedback.similarity_endpoint {endpoint.url} does not embed texts ({error.kind}: {error}); "
            "it must serve /v1/embeddings, as python -m servers.embed does"
        ) from error


async def _check_for_training(pool: InferenceClient, endpoint: Endpoint, temperature: float) -> None:
    messages = (Message(role="user", content="What is 2 + 2?"),)
    need = "training needs vLLM's control routes; start it with VLLM_SERVER_DEV_MODE=1"
    try:
        await pool.get(endpoint, "/weight_info")
    except EndpointError as error:
        raise EndpointSetupError(f"endpoint {endpoint.url} has no /weight_info ({error}); {need}") from error
    try:
        reply = await pool.post(endpoint, RENDER, pool.chat_body(endpoint, messages), 60.0)
        prompt_ids = token_protocol.parse_render(reply)
        body = token_protocol.generate_body(endpoint.model, prompt_ids, {"max_tokens": 1, "temperature": 1.0, "n": 1})
        await pool.post(endpoint, GENERATE, body, 60.0)
        endpoint.has_token_route = True
    except FinalEndpointError:
        endpoint.has_token_route = False
    except EndpointError as error:
        raise EndpointSetupError(f"endpoint {endpoint.url} does not generate ({error.kind}: {error})") from error
    await _check_samples(pool, endpoint, messages)
    await _check_processed_logprobs(pool, endpoint, messages, 0.5 if temperature == 1.0 else temperature)


async def _check_samples(pool: InferenceClient, endpoint: Endpoint, messages: tuple[Message, ...]) -> None:
    body = pool.chat_body(endpoint, messages, max_tokens=2) | {"logprobs": True, "return_token_ids": True}
    try:
        reply = await pool.post(endpoint, CHAT, body, 60.0)
        reply_ids = token_protocol.parse_chat_samples(reply, 1, "l0-s000000", "l0-s000000")
    except MalformedReplyError as error:
        lack = {"no_token_ids": "token ids", "no_logprobs": "log-probabilities"}.get(error.kind, "a usable answer")
        raise EndpointSetupError(
            f"endpoint {endpoint.url} returns no {lack} ({error}); training needs vLLM's return_token_ids and "
            "logprobs. Evaluation works without them."
        ) from error
    except EndpointError as error:
        raise EndpointSetupError(
            f"endpoint {endpoint.url} does not answer a chat request ({error.kind}: {error})"
        ) from error
    assert reply_ids.completions


async def _check_processed_logprobs(
    pool: InferenceClient, endpoint: Endpoint, messages: tuple[Message, ...], temperature: float
) -> None:
    """Log-probabilities must be of the distribution that was sampled from.

    At temperature T the difference of two processed log-probabilities is 1/T times what it is at 1; raw ones stay the
    same."""

    async def candidates(at: float) -> dict[str, float]:
        """Log-probabilities of the first token's likeliest candidates; the sampled one may stand among them at any
        rank."""
        body = pool.chat_body(endpoint, messages, temperature=at) | {"logprobs": True, "top_logprobs": 5}
        reply = await pool.post(endpoint, CHAT, body, 60.0)
        try:
            top = reply["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
            return {item["token"]: item["logprob"] for item in top}
        except (KeyError, IndexError, TypeError) as error:
            raise EndpointSetupError(
                f"endpoint {endpoint.url} returns no top_logprobs, so its log-probabilities cannot be checked"
            ) from error

    one, other = await candidates(1.0), await candidates(temperature)
    common = sorted(one.keys() & other.keys(), key=one.__getitem__)
    if len(common) < 2:
        raise EndpointSetupError(
            f"endpoint {endpoint.url} returned {len(common)} common candidates at two temperatures instead of 4 or "
            "more, so its log-probabilities cannot be checked"
        )
    least, most = common[0], common[-1]
    at_other, expected = other[most] - other[least], (one[most] - one[least]) / temperature
    if abs(at_other - expected) > 0.02 * expected + 0.01:
        raise EndpointSetupError(
            f"endpoint {endpoint.url} reports log-probabilities that ignore the temperature (at {temperature} two "
            f"candidates tokens differ by {at_other:.3f}, expected {expected:.3f}); start vLLM with --logprobs-mode "
            "processed_logprobs"
        )
