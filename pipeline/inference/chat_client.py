"""What judges, summarizers, teachers and measures of similarity need of an InferenceClient."""

from __future__ import annotations

from typing import Any, Protocol

from pipeline.inference.protocol import Reply
from pipeline.types import Message


class ChatClient(Protocol):
    """Answers messages."""

    async def chat(
        self,
        messages: tuple[Message, ...],
        *,
        max_tokens: int,
        temperature: float,
        stage: str,
        schema: dict[str, Any] | None = None,
        seed: int | None = None,
        affinity: str = "",
    ) -> Reply:
        """One text answer, of the JSON `schema` where one is given. Raises EndpointError."""
        ...


class EmbeddingClient(ChatClient, Protocol):
    """Answers messages, and embeds texts."""

    async def embed(self, texts: list[str]) -> list[list[float]]:
        """One embedding for each text. Raises EndpointError."""
        ...
