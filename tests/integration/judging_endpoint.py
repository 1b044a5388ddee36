"""An endpoint whose model judges as it is told to: it knows the labelled answers, compares boxes with the reference,
grades by length, and fails as planned."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from typing import Any

from aiohttp import web

from pipeline.config.endpoints import EndpointSettings
from pipeline.rewards.extraction import extract_answer
from pipeline.rewards.judge.agreement import labelled_answers
from tests.scripted_endpoint import ScriptedEndpoint, completion

MODEL = "a-judge"
_FENCE = re.compile(r"^(----- [0-9a-f]{16} -----)\n(.*?)\n\1$", re.MULTILINE | re.DOTALL)
_REFERENCE = re.compile(r"^Reference answer:\n(.*)$", re.MULTILINE)


class Judging(ScriptedEndpoint):
    """`faults` are what the next requests meet, one each: a status, or a text in place of a verdict. While `down`,
    every request is answered 503; `broken` says for which responses no verdict is ever given; `decide` replaces
    honesty."""

    model = MODEL

    def __init__(self) -> None:
        self.faults: list[int | str] = []
        self.down = False
        self.broken: Callable[[str], bool] = lambda response: False
        self.decide: Callable[[str, str], bool] | None = None
        self.asked: Counter[tuple[str, str]] = Counter()
        """Reference and response of every request that was given a verdict."""
        self.keys: set[str] = set()
        self._labels = {item.text.strip(): item.correct for item in labelled_answers()}

    async def _chat(self, request: web.Request) -> web.Response:
        self.keys.add(request.headers.get("Authorization", ""))
        prompt = (await request.json())["messages"][-1]["content"]
        found, reference = _FENCE.search(prompt), _REFERENCE.search(prompt)
        if found is None or reference is None:
            return _reply("Hello.")  # a probe
        if self.down:
            return web.json_response({"error": "down"}, status=503)
        response = found[2]
        if self.faults:
            fault = self.faults.pop(0)
            return _reply(fault) if isinstance(fault, str) else web.json_response({"error": "planned"}, status=fault)
        if self.broken(response):
            return _reply("I would rather not say.")
        self.asked[reference[1], response] += 1
        if "Rubric:" in prompt:
            return _reply(json.dumps({"score": min(10, len(response) // 10)}))
        decide = self.decide or self.honest
        return _reply(json.dumps({"verdict": "correct" if decide(reference[1], response) else "incorrect"}))

    def honest(self, reference: str, response: str) -> bool:
        known = self._labels.get(response.strip())
        return extract_answer(response) == reference if known is None else known


def _reply(text: str) -> web.Response:
    return web.json_response(completion(text, num_prompt_tokens=100))


def settings_at(url: str, **more: Any) -> dict[str, Any]:
    """`reward.judge.endpoint` for an endpoint at `url`."""
    settings = EndpointSettings(url=url, model=MODEL, prompt_price=1.0, completion_price=2.0, **more)
    return settings.model_dump(mode="json")
