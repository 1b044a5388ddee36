"""Conversations in rows: who asks what, and the reply that solves it, in the shapes of OpenAI and ShareGPT."""

from __future__ import annotations

from typing import Any, NamedTuple

ROLES = {
    "system": "system", "developer": "system", "user": "user", "human": "user", "assistant": "assistant",
    "gpt": "assistant", "model": "assistant",
}  # fmt: skip


class ChatError(ValueError):
    """Messages that ask no single question; the message follows the name of their column."""


class Chat(NamedTuple):
    """`question` is the system's words and the user's; `reply` the assistant's, empty where there is none."""

    question: str
    reply: str


def is_chat(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(message, dict) for message in value)


def read_chat(messages: list[dict[str, Any]]) -> Chat:
    """One question, with the system's words before it, and perhaps one reply. Raises ChatError for any other
    conversation."""
    turns = [_turn(message) for message in messages]
    roles = [role for role, _ in turns if role != "system"]
    if roles not in (["user"], ["user", "assistant"]):
        raise ChatError(
            f"has turns of {', '.join(roles) or 'the system'}; a problem is one message of the user, and perhaps one "
            "reply: make a row of each question"
        )
    question = "\n".join(text.strip() for role, text in turns if role != "assistant" and text.strip())
    return Chat(question, next((text for role, text in turns if role == "assistant"), ""))


def _turn(message: dict[str, Any]) -> tuple[str, str]:
    role, content = message.get("role", message.get("from")), message.get("content", message.get("value"))
    if role not in ROLES:
        raise ChatError(f"has a message of the role {role!r}; use system, user and assistant")
    if isinstance(content, list) and all(isinstance(part, dict) and part.get("type") == "text" for part in content):
        content = "\n".join(str(part.get("text", "")) for part in content)
    if not isinstance(content, str) or (ROLES[role] == "user" and not content.strip()):
        raise ChatError(f"has a message of {role} whose content is no text: {str(content)[:80]!r}")
    return ROLES[role], content
