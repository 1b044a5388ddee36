"""Texts filled into a template, so that they stay texts.

Substitution is a single pass, so inserted text that looks like a placeholder stays text; the opening of chat control
tokens (`<|`) and of the blocks of our own formats in inserted text is broken up, so stored text cannot open a turn or
close a block."""

from __future__ import annotations

import itertools
import re

_MAX_TOKEN_CHARS = 24
"""Longer than any token."""
_PLACEHOLDER = re.compile(r"\{\{(\w+)\}\}")
_ALONE = re.compile(r"^\{\{(\w+)\}\}\n+", re.MULTILINE)
# Control tokens of the chat formats in use: ChatML, Llama 2 to 4, Mistral, Gemma, DeepSeek, Qwen, Phi.
_NAMED = (
    *("s", "bos", "eos", "pad", "unk", "mask", "cls", "sep", "think", "tool_call", "tool_response", "start_of_turn"),
    *("end_of_turn", "start_of_image", "end_of_image"),
)
_OWN = ("analysis", "attempt")
_BRACKETED = ("INST", "SYSTEM_PROMPT", "AVAILABLE_TOOLS", "TOOL_CALLS", "TOOL_RESULTS")
_CONTROL = re.compile(
    rf"<(?=\s*\||\s*/?\s*(?:{'|'.join((*_NAMED, *_OWN))})\s*>|<\s*/?\s*SYS\s*>>|\uff5c)|[|\uff5c](?=>)"
    rf"|\[(?=\s*/?\s*(?:{'|'.join(_BRACKETED)})\s*\])",
    re.IGNORECASE,
)
_TOKENS = (
    *("<|", "|>", "<\uff5c", "\uff5c>", "<<SYS>>", "<</SYS>>"),
    *(f"<{slash}{name}>" for name in _NAMED for slash in ("", "/")),
    *(f"[{slash}{name}]" for name in _BRACKETED for slash in ("", "/")),
)
"""Of the first four the opening is the same in many tokens."""
_WHOLE = re.compile("|".join(map(re.escape, _TOKENS)), re.IGNORECASE)
_PARTS = sorted({token[i:j] for token in _TOKENS for i in range(len(token)) for j in range(i + 1, len(token) + 1)})
_APART = re.compile(rf"[^{re.escape(''.join(sorted(set(''.join(_TOKENS)))))}]", re.IGNORECASE)
"""A character that is in no token."""


def placeholders(text: str) -> list[str]:
    """The names of the placeholders in a template, each as often as it stands there."""
    return _PLACEHOLDER.findall(text)


def control_tokens(text: str) -> list[str]:
    """What of `text` a tokenizer could take for the beginning or end of a turn, with a few characters behind it."""
    return [text[found.start() : found.start() + 12] for found in _WHOLE.finditer(text)]


def completions(template: str) -> list[str]:
    """Placeholders of `template` at which a text that is filled in could make a control token with what stands beside.

    Exhaustive: a token reaches over one placeholder at most where a character that is in no token stands between any
    two, and then a part of the token is what is filled in, its beginning or its end."""
    found = list(_PLACEHOLDER.finditer(template))
    between = [template[one.end() : other.start()] for one, other in itertools.pairwise(found)]
    too_close = [one[1] for one, text in zip(found, between, strict=False) if not _APART.search(text)]
    begins = [0, *(one.end() for one in found)]
    ends = [*(one.start() for one in found), len(template)]
    literal = [template[begin:end] for begin, end in zip(begins, ends, strict=True)]
    for index, one in enumerate(found):
        before, after = literal[index][-_MAX_TOKEN_CHARS:], literal[index + 1][:_MAX_TOKEN_CHARS]
        num_own = len(control_tokens(before)) + len(control_tokens(after))
        if any(len(control_tokens(before + neutralised(part) + after)) > num_own for part in _PARTS):
            too_close.append(one[1])
    return list(dict.fromkeys(too_close))


def neutralised(text: str) -> str:
    """`text` with chat control tokens broken by a space; everything else unchanged."""
    return _CONTROL.sub(lambda match: match[0] + " ", text).strip()


def filled(text: str, **values: str) -> str:
    """`text` with each `{{name}}` replaced by that value, neutralised, in a single pass. A line that is one placeholder
    goes where its value is empty."""
    kept = _ALONE.sub(lambda match: match[0] if values[match[1]].strip() else "", text)
    return _PLACEHOLDER.sub(lambda match: neutralised(values[match[1]]), kept)
