"""Checks of endpoints that run already: all of them at once, with a few tokens each, changing nothing."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from email.utils import parsedate_to_datetime
from typing import Any, Literal, NamedTuple
from urllib.parse import urlsplit

from pipeline.config import Config
from pipeline.config.endpoints import EndpointSettings
from pipeline.errors import EndpointError, EndpointSetupError, UserError
from pipeline.inference import protocol
from pipeline.inference.capabilities import check_adapters, check_embeddings, check_endpoint
from pipeline.inference.client import InferenceClient, client_of
from pipeline.inference.endpoint import Endpoint
from pipeline.inference.http import RawReply, Transport
from pipeline.inference.trouble import described
from pipeline.preflight.machine import LOOPBACK, longest_answers
from pipeline.text import did_you_mean

WITHIN_S = 30.0
CONNECT_WITHIN_S = 3.0
MAX_SKEW_S = 300.0


class Finding(NamedTuple):
    """What is wrong, or doubtful, or (`ok`) not, with what is named."""

    state: Literal["ok", "warn", "FAILED"]
    name: str
    message: str = ""


async def findings(config: Config, on_trouble: Callable[[str], None] | None = None) -> list[Finding]:
    """One or more findings for each endpoint that the configuration names. `on_trouble` gets what the user should read
    before they are there."""
    num_training = len(config.endpoints)
    found = await asyncio.gather(
        *(
            _findings_of(config, named, index < num_training, on_trouble)
            for index, named in enumerate(config.named_endpoints)
        )
    )
    together = _together([facts for _, facts in found[:num_training]])
    return [finding for several, _ in found for finding in several] + together


async def _findings_of(
    config: Config, settings: EndpointSettings, training: bool, on_trouble: Callable[[str], None] | None
) -> tuple[list[Finding], dict[str, Any]]:
    name = f"endpoint {settings.url}"
    facts: dict[str, Any] = {"url": settings.url}
    try:
        async with asyncio.timeout(WITHIN_S), client_of(config, (settings,), on_trouble=on_trouble) as pool:
            (endpoint,) = pool.endpoints
            if config.feedback.similarity == "embedding" and settings == config.feedback.similarity_endpoint:
                await check_embeddings(pool, endpoint)
                several = []
            else:
                several = [finding async for finding in _probe(config, pool, endpoint, training, facts)]
    except TimeoutError:
        several = [
            Finding("FAILED", name, f"it took longer than {WITHIN_S:g} s to answer; is it overloaded or wedged?")
        ]
    except EndpointError as error:
        several = [Finding("FAILED", name, f"it gives no usable answer, {described(error)}")]
    except UserError as error:
        several = [Finding("FAILED", name, str(error))]
    return several or [Finding("ok", name)], facts


async def _probe(
    config: Config, pool: InferenceClient, endpoint: Endpoint, training: bool, facts: dict[str, Any]
) -> AsyncIterator[Finding]:
    """Findings about one endpoint. Raises EndpointSetupError for a lack that makes every further look futile."""
    name = f"endpoint {endpoint.url}"
    try:
        with pool.trouble.silence.asking(endpoint.url, "/v1/models"):
            reply = await _fetch(endpoint, "/v1/models", endpoint.headers)
        models = json.loads(reply.content) if reply.status == 200 else {}
    except (EndpointError, ValueError) as error:
        raise EndpointSetupError(f"it does not answer ({error}); is it running there?") from error
    if reply.status in (401, 403):
        key = endpoint.settings.api_key_env
        remedy = f"check the key in {key}" if key else "name the environment variable that holds its key in api_key_env"
        raise EndpointSetupError(
            f"it answers {reply.status} to a request {'with' if key else 'without'} a key; {remedy}"
        )
    served = protocol.models_in(models)
    if endpoint.model not in served:
        hint = did_you_mean(repr(endpoint.model), map(repr, served), cutoff=0.5)
        raise EndpointSetupError(
            f"it has no model {endpoint.model!r}, it serves {sorted(served)}{hint}; set model.name or the endpoint's "
            "model"
        )
    longest = served[endpoint.model].get("max_model_len")
    longest = facts["max_model_len"] = longest if isinstance(longest, int) else None
    for setting, max_tokens in longest_answers(config):
        if longest and max_tokens >= longest:
            yield Finding(
                "FAILED",
                name,
                f"its max_model_len = {longest} leaves no tokens for a prompt beside {setting} = {max_tokens}; serve "
                "with a larger --max-model-len, or lower the setting",
            )
    skew_s = _skew_s(reply.headers.get("Date", ""))
    if abs(skew_s) > MAX_SKEW_S:
        yield Finding(
            "warn",
            name,
            f"its clock differs from this machine's by {skew_s:.0f} s: dates in Retry-After will be misread; set the "
            "clocks",
        )
    if not training:
        await pool.probe(endpoint)
    else:
        async for finding in _probe_training(config, pool, endpoint, facts):
            yield finding


async def _probe_training(
    config: Config, pool: InferenceClient, endpoint: Endpoint, facts: dict[str, Any]
) -> AsyncIterator[Finding]:
    """Findings about what only training needs. Raises EndpointSetupError for a lack."""
    name = f"endpoint {endpoint.url}"
    if (await _control_state(pool, endpoint, "/is_paused")).get("is_paused"):
        yield Finding(
            "FAILED", name, "it is paused, and would hold every request; POST /resume, after whoever paused it is done"
        )
        return
    facts["version"] = (await _control_state(pool, endpoint, "/weight_info")).get("weight_version")
    if urlsplit(endpoint.url).hostname not in LOOPBACK and await _is_open_to_all(endpoint):
        yield Finding(
            "warn",
            name,
            "its control routes (/pause, /collective_rpc …) answer anyone who reaches it, for --api-key does not guard "
            "them: bind it to 127.0.0.1, or keep strangers out by a firewall",
        )
    await check_endpoint(pool, endpoint, training=True, temperature=config.rollout.sampling.temperature)
    if config.learner.transfer == "lora":
        config.run.root.mkdir(parents=True, exist_ok=True)
        await check_adapters(pool, endpoint, config, config.run.root)


async def _fetch(endpoint: Endpoint, path: str, headers: dict[str, str]) -> RawReply:
    """One answer as it came; an endpoint that takes no connection is given up sooner than a run would. Raises
    EndpointError."""
    async with Transport(CONNECT_WITHIN_S) as transport:
        return await transport.fetch("GET", endpoint.at(path), headers)


async def _control_state(pool: InferenceClient, endpoint: Endpoint, path: str) -> dict[str, Any]:
    """The answer of a control route; empty where there is none (`check_endpoint` names that)."""
    try:
        answer = await pool.get(endpoint, path, 10.0)
    except EndpointError:
        return {}
    return answer if isinstance(answer, dict) else {}


async def _is_open_to_all(endpoint: Endpoint) -> bool:
    """Whether a control route answers a request without a key."""
    try:
        async with asyncio.timeout(10.0):
            return (await _fetch(endpoint, "/weight_info", {})).status == 200
    except (EndpointError, TimeoutError):
        return False


def _skew_s(date: str) -> float:
    try:
        return parsedate_to_datetime(date).timestamp() - time.time()
    except (ValueError, TypeError):
        return 0.0


def _together(facts: list[dict[str, Any]]) -> list[Finding]:
    """What is odd about the endpoints as a set."""
    found = []
    for key, meaning in (("version", "weights of different versions"), ("max_model_len", "different max_model_len")):
        values = {fact["url"]: fact[key] for fact in facts if fact.get(key) is not None}
        if len(set(values.values())) > 1:
            shown = ", ".join(f"{url}: {value}" for url, value in values.items())
            found.append(
                Finding(
                    "warn",
                    "endpoints together",
                    f"they serve {meaning} ({shown}); the run will use the least they share",
                )
            )
    return found
