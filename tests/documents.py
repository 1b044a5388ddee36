"""What the documents say, in pieces that a test can check: code spans, fenced blocks, the table of promises."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROMISES = ROOT / "docs" / "promises.md"
DOCUMENTS = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")))

_FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
_LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)\s]*)?\)")
_TEST = re.compile(r"tests/[\w/]+\.py::\w+")


@dataclass(frozen=True)
class Document:
    """One Markdown file. `blocks` are (language, text) of its fences, `spans` its inline code outside of them."""

    path: Path
    text: str

    @classmethod
    def read(cls, path: Path) -> Document:
        return cls(path, path.read_text(encoding="utf-8"))

    @property
    def blocks(self) -> list[tuple[str, str]]:
        return _FENCE.findall(self.text)

    @property
    def spans(self) -> list[str]:
        return _SPAN.findall(_FENCE.sub("", self.text))

    @property
    def links(self) -> list[str]:
        """Targets of links to files; web addresses are left out."""
        return [target for target in _LINK.findall(_FENCE.sub("", self.text)) if "://" not in target]

    @property
    def commands(self) -> list[list[str]]:
        """Command lines, split into words, of shell blocks and of spans that start with a command we know."""
        lines = []
        for language, block in self.blocks:
            if language in ("bash", "sh", "shell"):
                lines += block.replace("\\\n", " ").splitlines()
        lines += [
            span for span in self.spans if span.split()[0] in ("make", "python", "train", "eval", "sft", "doctor")
        ]
        words = [shlex.split(line, comments=True) for line in lines]
        return [line for line in words if line]


def promises() -> dict[int, tuple[str, list[str]]]:
    """The table of docs/promises.md: number → (its state in words, the tests that hold it as 'path::function')."""
    rows = {}
    for line in PROMISES.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if cells[0].isdigit():
            rows[int(cells[0])] = (cells[-1], _TEST.findall(cells[-1]))
    return rows
