"""Sets of templates: `compact`, `full`, `legacy`, or a folder of the user's, checked before anything is asked.

A set is the texts of its folder beside those that all sets share; what a user's folder lacks is taken from `full`.
Invariant: of a set that was read, every template has the placeholders that it needs and no unknown one, and no text
that is filled in can make a control token with what stands around it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from prompts.filling import completions, control_tokens, placeholders
from prompts.schemas import SIZE_SETTINGS

FOLDER = Path(__file__).parent / "templates"
SHIPPED = ("compact", "full", "legacy")
AUTO = "auto"
"""As what is not settled yet is rendered: compactly."""
FULL_PARAMETERS, FULL_CONTEXT = 1_000_000_000, 8192
"""From these on a model is given the full templates."""
LIMITS = frozenset(SIZE_SETTINGS.values())
NEEDED: Mapping[str, frozenset[str]] = {
    "scratch": frozenset({"problem", "answer_form"}),
    "inter": frozenset({"lessons", "problem", "answer_form"}),
    "intra": frozenset({"problem", "attempt", "answer_form"}),
    "rescue_intra": frozenset({"problem", "attempt", "answer_form"}),
    "lesson": frozenset({"points"}),
    "abstract": frozenset({"problem", "trajectory"}),
    "contrast": frozenset({"problem", "right", "wrong"}),
    "form_boxed": frozenset(),
    "form_code": frozenset(),
    "outcome_right": frozenset(),
    "outcome_wrong": frozenset(),
}
"""The templates of a set, each with the placeholders that it must have."""
ALLOWED: Mapping[str, frozenset[str]] = {
    "lesson": frozenset({"number", "source"}),
    "abstract": LIMITS | {"outcome"},
    "contrast": LIMITS,
}
"""Those that it may have beside."""


CAME_LATER = frozenset({"rescue_intra"})
"""Templates that runs, lessons and SFT pairs of before were made without: no part of a set's identity."""


class TemplateError(ValueError):
    """A folder of templates that cannot be used: each line names a file, what is wrong with it, and the remedy."""


@dataclass(frozen=True)
class Templates:
    """`texts` by name; `name` is that of the set, or the path of a user's folder, which lacks those of `lacking`."""

    name: str
    texts: Mapping[str, str]
    lacking: tuple[str, ...] = ()

    def __getitem__(self, name: str) -> str:
        return self.texts[name]

    def hash(self, name: str) -> str:
        """Identity of one template: 12 hex digits of its SHA-256."""
        return _digest(self.texts[name])

    @property
    def identity(self) -> str:
        """Name and hash of the set, as an entry of the pool keeps them."""
        texts = sorted((name, text) for name, text in self.texts.items() if name not in CAME_LATER)
        whole = "\0".join(f"{name}\0{text}" for name, text in texts)
        return f"{self.name}@{_digest(whole)}"

    @property
    def note(self) -> str:
        """What a user's folder does not say itself; empty where it says all."""
        files = ", ".join(f"{name}.txt" for name in self.lacking)
        return f"rollout.templates = {self.name!r} has no {files}; 'full' fills in" if files else ""

    @property
    def can_tell_outcomes(self) -> bool:
        """Whether a summarizer can be told what was right and wrong."""
        return "contrast" in self.texts and "outcome" in placeholders(self.texts["abstract"])


def suited(num_parameters: int | None, context: int | None) -> tuple[str, str]:
    """The set that suits a model, and why; None for what is not known of it."""
    if num_parameters is not None and num_parameters < FULL_PARAMETERS:
        return "compact", f"{num_parameters / 1e6:,.0f} million parameters follow short prompts better"
    if context is not None and context < FULL_CONTEXT:
        return "compact", f"{context:,} tokens of context are few for long prompts"
    return "full", "the model has the size and the context for prompts that explain what is asked"


@cache
def templates_of(name: str) -> Templates:
    """The set that `rollout.templates` names. Raises TemplateError for a folder that is none, or that is wrong."""
    name = "compact" if name == AUTO else name
    shared = {one: text for one, text in _read(FOLDER).items() if one in NEEDED}
    if name in SHIPPED:
        return Templates(name, shared | _read(FOLDER / name))
    folder = Path(name).expanduser()
    if not folder.is_dir():
        raise TemplateError(f"{name!r}: no such folder; give one of {', '.join((AUTO, *SHIPPED))}, or a folder")
    own = _read(folder)
    lacking = tuple(one for one in NEEDED if one not in own)
    found = Templates(name, shared | _read(FOLDER / "full") | own, lacking)
    if faults := [*_unknown(own), *(fault for one in own if one in NEEDED for fault in faults_of(one, own[one]))]:
        raise TemplateError("\n".join(f"{folder / fault}" for fault in faults))
    if not own:
        raise TemplateError(f"{folder}: holds no template; it may hold {', '.join(f'{one}.txt' for one in NEEDED)}")
    return found


@cache
def template(name: str) -> str:
    """A template that belongs to no set: of judges, and of the measure of relevance."""
    return _text(FOLDER / f"{name}.txt")


def template_hash(name: str) -> str:
    """Identity of such a template."""
    return _digest(template(name))


def _read(folder: Path) -> dict[str, str]:
    return {file.stem: _text(file) for file in sorted(folder.glob("*.txt"))}


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8").rstrip("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise TemplateError(f"{file}: cannot be read as UTF-8 text ({error})") from error


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _unknown(own: Mapping[str, str]) -> list[str]:
    known = ", ".join(NEEDED)
    return [f"{name}.txt: no template has this name; there are {known}" for name in own if name not in NEEDED]


def faults_of(name: str, text: str) -> list[str]:
    """One line for each thing wrong with the template `name`: placeholders, control tokens of its own, and places where
    a text that is filled in becomes one."""
    needed, found = NEEDED[name], set(placeholders(text))
    allowed = needed | ALLOWED.get(name, frozenset())
    faults = [f"{name}.txt: lacks {{{{{one}}}}}" for one in sorted(needed - found)]
    known = ", ".join(f"{{{{{one}}}}}" for one in sorted(allowed)) or "none"
    faults += [f"{name}.txt: {{{{{one}}}}} is unknown; it may have {known}" for one in sorted(found - allowed)]
    if not text.strip():
        faults.append(f"{name}.txt: is empty")
    # That a model is to think in such tags is for a template to say.
    if own := [token for token in control_tokens(text) if not token.startswith(("<think>", "</think>"))]:
        faults.append(f"{name}.txt: holds {own[0]!r}, with which chat formats begin or end a turn; leave it out")
    faults += [
        f"{name}.txt: what is filled in at {{{{{one}}}}} can make a control token with what stands beside it; put a "
        "blank or a line break there"
        for one in (completions(text) if not faults else ())
    ]
    return faults
