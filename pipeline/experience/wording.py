"""The templates that a configuration names: checked before anything is asked, and the same at each resume of a run.

A run keeps the texts that it began with in `templates/`: the set that it names may have other texts when it is resumed,
of another version of lanpo, or of the user's. Then the resume is refused, and the files that differ are named."""

from __future__ import annotations

from pathlib import Path

from pipeline.config import Config
from pipeline.errors import ConfigError, RunFolderError
from pipeline.run.folder import RunFolder
from pipeline.runtime.files import write_atomic
from prompts.sets import CAME_LATER, TemplateError, Templates, templates_of


def checked(config: Config) -> Templates:
    """The templates of `config`. Raises ConfigError for a folder that cannot be used, each line naming a file, what is
    wrong and the remedy; and for a set that cannot tell the outcomes that are to be told."""
    name, outcomes = config.rollout.templates, config.abstraction.outcomes
    try:
        found = templates_of(name)
    except TemplateError as error:
        raise ConfigError("\n".join(f"rollout.templates: {line}" for line in str(error).splitlines())) from None
    if config.abstraction.enabled and outcomes != "hidden" and not found.can_tell_outcomes:
        raise ConfigError(
            f"abstraction.outcomes = {outcomes!r}, but the templates {name!r} tell the summarizer none: abstract.txt "
            "has no {{outcome}}, or contrast.txt is missing; add them, choose other templates in a new run, or set "
            "abstraction.outcomes = 'hidden'"
        )
    return found


def keep(run: RunFolder, templates: Templates) -> None:
    """Store the templates in the folder of a run that begins; of one that goes on, raise RunFolderError where they are
    not those that it began with."""
    folder = run.templates
    is_new = not folder.is_dir()
    folder.mkdir(exist_ok=True)
    for name, text in templates.texts.items():
        # Of a run that began before a template came, nothing was asked by it.
        if is_new or (name in CAME_LATER and not (folder / f"{name}.txt").exists()):
            write_atomic(folder / f"{name}.txt", f"{text}\n")
    differing = [name for name, text in templates.texts.items() if _stored(folder / f"{name}.txt") != text]
    if differing:
        raise RunFolderError(
            f"rollout.templates = {templates.name!r}: {', '.join(f'{name}.txt' for name in sorted(differing))}: other "
            f"text than the run began with, which is kept in {folder}. Go on with that: train --resume {run.path} "
            f"--rollout.templates {folder}; or start a new run"
        )


def _stored(file: Path) -> str:
    return file.read_text(encoding="utf-8").rstrip("\n") if file.is_file() else ""
