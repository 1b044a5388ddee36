"""The embeddings server with its real model, asked by the openai client, by the pool, and wrongly."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from openai import OpenAI

from pipeline.config.endpoints import EndpointSettings, RequestsSection
from pipeline.errors import EndpointSetupError
from pipeline.experience.similarity import Embedding
from pipeline.inference.capabilities import check_embeddings
from pipeline.inference.client import InferenceClient
from servers.embed import EmbeddingServer
from tests.builders import candidates
from tests.integration.conftest import StartMock

TEXTS = ["What is 4 + 3?", "What is 9 + 1?", "How many legs has a spider?", "How many legs do spiders have?"]


@pytest.fixture(scope="module")
def url(repository: Path) -> Iterator[str]:
    command = [sys.executable, "-m", "servers.embed", "--threads", "1"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=repository)
    assert process.stdout is not None
    yield process.stdout.readline().strip()
    process.terminate()
    process.wait()


async def test_like_problems_are_nearer_than_others_and_both_encodings_agree(url: str) -> None:
    client = OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
    # The client asks for base64 by itself and decodes it.
    by_base64 = [item.embedding for item in client.embeddings.create(model="m", input=TEXTS).data]
    as_floats = client.embeddings.create(model="m", input=TEXTS, encoding_format="float").data
    for one, other in zip(by_base64, (item.embedding for item in as_floats), strict=True):
        assert len(one) == 384
        assert sum(value * value for value in one) == pytest.approx(1.0, abs=1e-5)
        assert one == pytest.approx(other, abs=1e-6)
    async with InferenceClient((EndpointSettings(url=url),), "m", RequestsSection()) as pool:
        await check_embeddings(pool, pool.endpoints[0])
        measure = Embedding(pool)
        same, twin, far, _ = await measure(TEXTS[0], candidates(TEXTS))
        paraphrase = (await measure(TEXTS[2], candidates(TEXTS)))[3]
    assert same == pytest.approx(1.0, abs=1e-5)
    assert far < 0.3 < twin < 0.9 < paraphrase


def test_texts_of_any_length_come_back_in_order(url: str) -> None:
    texts = [f"{word} " * length for length in (1, 400, 3, 90) for word in ("apple", "train")]
    with httpx.Client(base_url=url, timeout=60.0) as client:
        together = client.post("/v1/embeddings", json={"input": texts}).json()["data"]
        alone = [client.post("/v1/embeddings", json={"input": text}).json()["data"][0] for text in texts]
    assert [item["index"] for item in together] == list(range(8))
    for one, other in zip(together, alone, strict=True):
        assert one["embedding"] == pytest.approx(other["embedding"], abs=1e-5)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"not JSON", "JSON object"),
        (b"[]", "JSON object"),
        (b"{}", "JSON object"),
        (b'{"input": []}', "none of them empty"),
        (b'{"input": ["a", ""]}', "none of them empty"),
        (b'{"input": [1, 2]}', "a text or a list of texts"),
        (b'{"input": "a", "encoding_format": "hex"}', "neither float nor base64"),
    ],
)
def test_a_bad_request_is_told_what_is_wrong(url: str, body: bytes, words: str) -> None:
    reply = httpx.post(f"{url}/v1/embeddings", content=body, timeout=60.0)
    assert reply.status_code == 400
    assert words in reply.json()["error"]["message"]


async def test_an_endpoint_that_does_not_embed_is_named(start_mock: StartMock) -> None:
    mock = await start_mock()
    async with InferenceClient((mock,), "policy", RequestsSection()) as pool:
        await check_embeddings(pool, pool.endpoints[0])
    async with InferenceClient((EndpointSettings(url="http://127.0.0.1:9"),), "m", RequestsSection()) as pool:
        with pytest.raises(EndpointSetupError, match=r"127\.0\.0\.1:9 does not embed texts \(refused"):
            await check_embeddings(pool, pool.endpoints[0])


async def test_a_model_that_fails_is_an_error_of_its_request_and_the_server_goes_on() -> None:
    from aiohttp.test_utils import TestClient, TestServer

    class Sometimes:
        def embed(self, texts: list[str]) -> tuple[list[list[float]], int]:
            if "boom" in texts:
                raise ValueError("no")
            return [[1.0]] * len(texts), len(texts)

    app = EmbeddingServer(Sometimes(), "m").application()  # type: ignore[arg-type]
    async with TestClient(TestServer(app)) as client:
        assert (await client.post("/v1/embeddings", json={"input": "boom"})).status == 500
        assert (await client.post("/v1/embeddings", json={"input": "fine"})).status == 200
