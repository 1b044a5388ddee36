"""The program in a model's answer. Pure functions of text, linear in its length."""

from __future__ import annotations

import re

from pipeline.answers import strip_think

_FENCE = re.compile(r"^[ \t]*```[ \t]*([\w+-]*)[^\n`]*$", re.MULTILINE)
_PYTHON = ("python", "python3", "py", "")


def code_blocks(text: str) -> list[str]:
    """What stands in fences named python, python3, py or nothing, in order; one that never closes runs to the end."""
    blocks: list[str] = []
    start, language = -1, ""
    for fence in _FENCE.finditer(text):
        if start < 0:
            start, language = fence.end() + 1, fence[1].lower()
        else:
            if language in _PYTHON:
                blocks.append(text[start : fence.start()])
            start = -1
    if start >= 0 and language in _PYTHON:
        blocks.append(text[start:])
    return [block for block in blocks if block.strip()]


def defines(code: str, name: str) -> bool:
    """Whether `code` has `name` at its top level, as far as a look at the lines tells."""
    word = re.escape(name)
    pattern = rf"^(?:(?:async[ \t]+)?def[ \t]+{word}\b|class[ \t]+{word}\b|{word}[ \t]*=)"
    return bool(name) and re.search(pattern, code, re.MULTILINE) is not None


def extract_code(text: str, entry_point: str = "") -> str | None:
    """The code that `text` answers with: its last fenced block, but rather the last that defines `entry_point` (an
    example of use often follows); without fences the whole text. None if there is none."""
    if "<think>" in text or "</think>" in text:  # not always: stripping would cost a completion its indentation
        text = strip_think(text)
    blocks = code_blocks(text)
    if blocks:
        return next((block for block in reversed(blocks) if defines(block, entry_point)), blocks[-1])
    return None if not text.strip() or _FENCE.search(text) else text


def as_program(code: str, prompt: str = "", entry_point: str = "") -> str:
    """`code` as a whole program. With a `prompt` that ends in the head of a function, as HumanEval's do: code that
    defines the function gets the imports and helpers that precede that head; other code is its body."""
    if not prompt:
        return code
    if defines(code, entry_point):
        head = re.search(rf"^def[ \t]+{re.escape(entry_point)}\b", prompt, re.MULTILINE)
        return (prompt[: head.start()] if head else "") + code
    return prompt + ("" if prompt.endswith("\n") else "\n") + _body(code)


def _body(code: str) -> str:
    """The indented lines that `code` begins with; what a base model goes on with after the function is left out."""
    lines = code.splitlines(keepends=True)
    for index, line in enumerate(lines):
        if line.strip() and not line[0].isspace() and any(before.strip() for before in lines[:index]):
            return "".join(lines[:index])
    return code
