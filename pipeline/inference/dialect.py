"""The request parameters that one endpoint renames or refuses, learned from its refusals.

OpenAI's reasoning models answer HTTP 400 to `max_tokens` and to any temperature but their own; other servers refuse
what they do not know. A refusal costs nothing, so the first request of a session learns, and what was dropped is
logged: the answers are then sampled with the endpoint's own value. A prompt that is too long is refused as well, and
teaches nothing."""

from __future__ import annotations

import re
from typing import Any

from pipeline.errors import EndpointError
from pipeline.inference.structured_output import refuses_schema

Json = dict[str, Any]
LIMIT, NEW_LIMIT, FORMAT = "max_tokens", "max_completion_tokens", "response_format"
OPTIONAL = ("temperature", "top_p", "seed", "chat_template_kwargs", FORMAT)
"""Parameters that an answer can be had without."""
_REFUSED = re.compile(
    r"unsupported|not supported|(?:does|do|is|are) ?n[o']t "
    r"(?:support|permit|allow|accept|available)|unrecogni[sz]ed|unknown|deprecated"
    r"|not (?:permitted|allowed|accepted)|unexpected|extra[_ ](?:inputs?|forbidden|fields?)",
    re.IGNORECASE,
)
_TOO_LONG = re.compile(r"context|too (?:large|long)", re.IGNORECASE)


class Dialect:
    """Of one endpoint. Empty until something was refused."""

    def __init__(self) -> None:
        self.dropped: set[str] = set()
        self.renames_limit = False

    def spoken(self, body: Json) -> Json:
        """`body` with the parameters that the endpoint takes."""
        if not self.dropped and not self.renames_limit:
            return body
        kept = {name: value for name, value in body.items() if name not in self.dropped}
        if self.renames_limit and LIMIT in kept:
            kept[NEW_LIMIT] = kept.pop(LIMIT)
        return kept

    def learn(self, error: EndpointError, body: Json) -> bool:
        """Learn from `error`, met by `body`; return whether it was about a parameter that can be left out or renamed:
        then the request is worth repeating.

        Also true when another request has learned it meanwhile."""
        text = str(error)
        if FORMAT in body and refuses_schema(error):
            self.dropped.add(FORMAT)
            return True
        if error.kind not in ("http_400", "http_422") or not _REFUSED.search(text) or _TOO_LONG.search(text):
            return False
        if LIMIT in body and NEW_LIMIT in text:
            self.renames_limit = True
            return True
        named = [name for name in OPTIONAL if name in body and re.search(rf"(?<![\w.]){name}(?!\w)", text)]
        self.dropped.update(named)
        return bool(named)
