"""SFT pairs of the user's own, from a JSONL file: conversations that end in what the model should answer.

Invariant: what is asked in a pair is no held-out problem, whole or as a line of it."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from pipeline.errors import DataError
from pipeline.problems.chat import ROLES, is_chat
from pipeline.problems.rows import jsonl_rows
from pipeline.text import is_among

Json = dict[str, Any]
EXPECTED = (
    'expected a line such as {"messages": [{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}]}, '
    'or {"prompt": "…", "completion": "…"}'
)


def own_pairs(file: str, heldout_keys: Collection[str]) -> list[Json]:
    """The pairs of `file` as they are trained on. Raises DataError naming file and line, also for a held-out problem
    (`pipeline.text.is_among`)."""
    pairs = []
    for row in jsonl_rows(str(Path(file).expanduser()), "sft.pairs_file"):
        messages = _messages(row.values)
        if messages is None or not all(message["content"].strip() for message in messages):
            raise DataError(f"{row.where}: is no pair of prompt and answer; {EXPECTED}")
        for message in messages[:-1]:
            text = message["content"]
            if any(is_among(part, heldout_keys) for part in (text, *text.splitlines()) if part.strip()):
                raise DataError(
                    f"{row.where}: asks a held-out problem, on which results are measured, or a near-duplicate of one; "
                    "leave it out"
                )
        pairs.append({"messages": messages, "skill": "own", "problem_id": ""})
    if not pairs:
        raise DataError(f"sft.pairs_file = {file!r}: is empty; {EXPECTED}")
    return pairs


def _messages(values: Json) -> list[Json] | None:
    """The conversation of a row, whose last word is the assistant's; None for anything else."""
    prompt, completion = values.get("prompt"), values.get("completion")
    if (turns := values.get("messages", values.get("conversations"))) is None:
        turns = [*_turns(prompt, "user"), *_turns(completion, "assistant")]
    if not is_chat(turns):
        return None
    messages = [
        {
            "role": ROLES.get(str(turn.get("role", turn.get("from")))),
            "content": turn.get("content", turn.get("value")),
        }
        for turn in turns
    ]
    roles = [message["role"] for message in messages]
    is_pair = roles[-1] == "assistant" and "user" in roles and None not in roles
    return messages if is_pair and all(isinstance(message["content"], str) for message in messages) else None


def _turns(value: Any, role: str) -> list[Json]:
    return [{"role": role, "content": value}] if isinstance(value, str) else value if isinstance(value, list) else []
