"""vLLM's control routes, as calls that fail by name. The client has the server's address as its base URL.

An adapter goes by the name of the folder that holds it. vLLM keys its prefix cache by an adapter's name and path, and a
request keeps the adapter that it was asked of, whatever is loaded or unloaded meanwhile: adapters come and go without a
pause."""

from __future__ import annotations

from pathlib import Path

import httpx

from pipeline.errors import WeightSyncError
from pipeline.types import WeightVersion

LOAD_ADAPTER, UNLOAD_ADAPTER = "/v1/load_lora_adapter", "/v1/unload_lora_adapter"


async def post(client: httpx.AsyncClient, path: str, **kwargs: object) -> httpx.Response:
    reply = await client.post(path, **kwargs)  # type: ignore[arg-type]
    if reply.is_error:
        raise WeightSyncError(f"POST {path} answered {reply.status_code}: {reply.text[:300]}")
    return reply


async def server_version(client: httpx.AsyncClient) -> str:
    """The version label that a server reports; a fresh vLLM says 'default'."""
    reply = await client.get("/weight_info")
    reply.raise_for_status()
    return str(reply.json().get("weight_version", ""))


async def set_label(client: httpx.AsyncClient, label: str) -> None:
    await post(client, "/update_weight_version", json={"new_version": label})


async def reset_prefix_cache(client: httpx.AsyncClient) -> None:
    """Drop blocks computed by the old weights. vLLM answers HTTP 200 with success false while blocks are held."""
    reply = await post(client, "/reset_prefix_cache", params={"reset_running_requests": "true"})
    answer = reply.json() if reply.content else {}
    if isinstance(answer, dict) and answer.get("success") is False:
        raise WeightSyncError("the server did not reset its prefix cache: blocks of the old weights are still held")


async def adapters_of(client: httpx.AsyncClient) -> dict[str, Path]:
    """The adapters that a server answers for: name → folder."""
    reply = await client.get("/v1/models")
    reply.raise_for_status()
    return {str(model["id"]): Path(str(model["root"])) for model in reply.json()["data"] if model.get("parent")}


async def load_adapter(client: httpx.AsyncClient, folder: Path) -> None:
    """Make the server answer for the adapter in `folder`, as it is on disk now, and no longer for those whose folders
    are gone.

    One that is there by that name was not verified under it, or is another run's: it goes first, with the cache that it
    filled."""
    for name, other in (await adapters_of(client)).items():
        if name == folder.name:
            await post(client, UNLOAD_ADAPTER, json={"lora_name": name})
            await reset_prefix_cache(client)
        elif WeightVersion.parse(name) is not None and not other.exists():
            await post(client, UNLOAD_ADAPTER, json={"lora_name": name})
    await post(client, LOAD_ADAPTER, json={"lora_name": folder.name, "lora_path": str(folder)})
