"""Texts filled into a template, so that they stay texts.

Substitution is a single pass, so inserted text that looks like a placeholder stays text; the opening of chat control
tokens (`<|`) and of the blocks of our own formats in inserted text is broken up, so stored text cannot open a turn or
close a block."""

from __future__ import annotations

import re

_PLACEHOLDER = re.compile(r"\{\{(\w+)\}\}")
_ALONE = re.compile(r"^\{\{(\w+)\}\}\n+", re.MULTILINE)
# Openings of the control tokens of the chat formats in use: ChatML, Llama 2 to 4, Mistral, Gemma, DeepSeek, Qwen, Phi.
_NAMED = (
    "s|bos|eos|pad|unk|mask|cls|sep|think|tool_call|tool_response|start_of_turn|end_of_turn|start_of_image|end_of_image"
)
_OWN = "analysis|attempt"
_TOKENS = (
    r"<(?=\s*\||\s*/?\s*(?:{named})\s*>|<\s*/?\s*SYS\s*>>|\uff5c)|[|\uff5c](?=>)"
    r"|\[(?=\s*/?\s*(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS)\s*\])"
)
_CONTROL = re.compile(_TOKENS.format(named=f"{_NAMED}|{_OWN}"), re.IGNORECASE)
_OF_CHATS = re.compile(_TOKENS.format(named=_NAMED), re.IGNORECASE)


def placeholders(text: str) -> list[str]:
    """The names of the placeholders in a template, each as often as it stands there."""
    return _PLACEHOLDER.findall(text)


def control_tokens(text: str) -> list[str]:
    """What of `text` a tokenizer could take for the beginning or end of a turn, with a few characters behind it."""
    return [text[found.start() : found.start() + 12] for found in _OF_CHATS.finditer(text)]


def neutralised(text: str) -> str:
    """`text` with chat control tokens broken by a space; everything else unchanged."""
    return _CONTROL.sub(lambda match: match[0] + " ", text).strip()


def filled(text: str, **values: str) -> str:
    """`text` with each `{{name}}` replaced by that value, neutralised, in a single pass. A line that is one placeholder
    goes where its value is empty."""
    kept = _ALONE.sub(lambda match: match[0] if values[match[1]].strip() else "", text)
    return _PLACEHOLDER.sub(lambda match: neutralised(values[match[1]]), kept)
