"""Answers that depend only on the prompt and a random generator: sums and formulas solved with a given accuracy, JSON
that fits a schema.

A token is a byte of UTF-8 (id = byte + 3, end of text = 2), so that text and ids agree without a tokenizer.
"""

from __future__ import annotations

import random
import re
from typing import Any

END_ID = 2
BYTE_OFFSET = 3
Json = dict[str, Any]
_FUNCTION = re.compile(r"function `(\w+\([\w, ]*\))` that returns `([^`\n]+)`")


def encode(text: str) -> list[int]:
    return [byte + BYTE_OFFSET for byte in text.encode()]


def decode(token_ids: list[int]) -> str:
    return bytes(token - BYTE_OFFSET for token in token_ids if BYTE_OFFSET <= token < BYTE_OFFSET + 256).decode(
        errors="replace"
    )


def chat_text(messages: list[Json]) -> str:
    """ChatML, as the embedded model's template writes it."""
    turns = "".join(f"<|im_start|>{message['role']}\n{message['content']}<|im_end|>\n" for message in messages)
    return turns + "<|im_start|>assistant\n"


def calculate(expression: str) -> int:
    """Value of whole numbers joined by +, - and *."""
    total, sign = 0, 1
    for term in re.findall(r"[-+]|[^-+]+", expression.replace(" ", "")):
        if term in "+-":
            sign = sign if term == "+" else -sign
            continue
        product = 1
        for factor in term.split("*"):
            product *= int(factor)
        total, sign = total + sign * product, 1
    return total


def answer(prompt: str, rng: random.Random, accuracy: float) -> str:
    """An answer to the prompt's last sum, right with probability `accuracy`; an empty box when there is none. Where a
    function is asked for that returns a formula, a program."""
    if functions := _FUNCTION.findall(prompt):
        head, formula = functions[-1]
        return f"```python\ndef {head}:\n    return {formula}{'' if rng.random() < accuracy else ' + 1'}\n```"
    sums = re.findall(r"\d+(?:\s*[-+*]\s*\d+)+", prompt)
    if not sums:
        return "I do not know. The answer is \\boxed{}."
    value = calculate(sums[-1]) + (0 if rng.random() < accuracy else rng.randint(1, 9))
    return f"{sums[-1]} = {value}. The answer is \\boxed{{{value}}}."


def conforming(schema: Json, rng: random.Random, root: Json | None = None) -> Any:
    """A value that a JSON schema accepts: bounds of strings, arrays and numbers, enums, references and unions."""
    root = schema if root is None else root
    if "$ref" in schema:
        target: Any = root
        for part in schema["$ref"].removeprefix("#/").split("/"):
            target = target[part]
        return conforming(target, rng, root)
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return rng.choice(schema["enum"])
    for union in ("anyOf", "oneOf"):
        if union in schema:
            return conforming(schema[union][0], rng, root)
    match schema.get("type", "object"):
        case "object":
            return {name: conforming(item, rng, root) for name, item in schema.get("properties", {}).items()}
        case "array":
            return [
                conforming(schema.get("items", {"type": "string"}), rng, root)
                for _ in range(max(1, schema.get("minItems", 1)))
            ]
        case "string":
            words = ("check", "each", "step", "before", "the", "answer", "keep", "signs", "apart")
            text = " ".join(rng.choice(words) for _ in range(6)).ljust(schema.get("minLength", 0), ".")
            return text[: schema.get("maxLength", len(text))]
        case "integer" | "number":
            return schema.get("minimum", 0)
        case "boolean":
            return rng.random() < 0.5
        case _:
            return None
