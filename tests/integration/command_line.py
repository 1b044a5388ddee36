"""Commands in processes of their own."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path


class Command:
    """A command of `pipeline.orchestrate` with these words, in a folder."""

    def __init__(self, cwd: Path, repository: Path, *words: str) -> None:
        self._options = {"cwd": cwd, "env": {**os.environ, "PYTHONPATH": str(repository)}}
        self._words = words

    async def start(self, *more: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", "pipeline.orchestrate", *self._words, *more,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, **self._options,  # type: ignore[arg-type]
        )  # fmt: skip

    async def run(self, *more: str) -> tuple[int, str, str]:
        """Status, standard output, standard error."""
        process = await self.start(*more)
        out, err = await process.communicate()
        assert process.returncode is not None
        return process.returncode, out.decode(), err.decode()


async def lanpo(folder: Path, repository: Path, *words: str) -> tuple[int, str]:
    """Exit status and whole output of a command that is given in a user's own folder, which has modules and a cache."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "pipeline.orchestrate", *words, cwd=folder,
        env={**os.environ, "PYTHONPATH": f"{repository}{os.pathsep}{folder}", "LANPO_CACHE": str(folder / "cache")},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    out, _ = await process.communicate()
    return process.returncode or 0, out.decode()
