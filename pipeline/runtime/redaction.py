"""Masks secrets in text: the keys of a run, and anything that is shaped like a key.

Redaction works on finished text, after messages, arguments and tracebacks were put together, so that nothing reaches a
file past it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from functools import lru_cache
from urllib.parse import quote

MASK = "***"
# Shorter ones would blank out what is no key; those below WHOLE_WORD are found as whole words only.
MIN_LENGTH, WHOLE_WORD = 4, 8
SHAPES = re.compile(
    r"""(\b[Bb]earer(?:\s|%20|\+)+)[^\s"'\\,;<>()\[\]{}]+"""  # an Authorization header, whatever the key looks like
    r"""|\bsk-[A-Za-z0-9_-]{8,}"""  # OpenAI and those who follow it
    r"""|\bhf_[A-Za-z0-9]{16,}"""  # Hugging Face
)


def redact(text: str, secrets: Iterable[str] = ()) -> str:
    """`text` with `***` for each of `secrets`, as it is or escaped for JSON, Python or a URL, and for what looks like a
    key.

    A secret of fewer than four characters is left: it would be found everywhere."""
    text = SHAPES.sub(_masked, text)
    pattern = _pattern(tuple(secrets))
    return pattern.sub(MASK, text) if pattern else text


def _masked(match: re.Match[str]) -> str:
    return (match[1] or "") + MASK


@lru_cache(maxsize=16)
def _pattern(secrets: tuple[str, ...]) -> re.Pattern[str] | None:
    forms = {form for secret in secrets for form in _forms(secret.strip()) if len(form) >= MIN_LENGTH}
    # The longest first: a key that begins with another one must not leave its end behind.
    ordered = sorted(forms, key=lambda form: (-len(form), form))
    return re.compile("|".join(map(_searched, ordered))) if ordered else None


def _forms(secret: str) -> set[str]:
    """As text, in Python's notation, in a URL, and each of them within JSON."""
    texts = {secret, repr(secret)[1:-1], quote(secret, safe=""), quote(secret)}
    return texts | {json.dumps(text, ensure_ascii=ascii_only)[1:-1] for text in texts for ascii_only in (True, False)}


def _searched(form: str) -> str:
    found = re.escape(form)
    return found if len(form) >= WHOLE_WORD else rf"(?<![\w.]){found}(?![\w.])"
