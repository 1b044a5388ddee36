"""Templates are checked before anything is asked, and a run keeps those that it began with."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pipeline.config import Config
from pipeline.errors import ConfigError, RunFolderError
from pipeline.experience.wording import checked, keep
from pipeline.run.folder import RunFolder
from prompts.sets import templates_of


def config(templates: str, **abstraction: object) -> Config:
    return Config.model_validate({"rollout": {"templates": templates}, "abstraction": abstraction})


def test_what_is_wrong_with_the_templates_names_the_setting(tmp_path: Path) -> None:
    (tmp_path / "scratch.txt").write_text("Solve {{problem}} and {{win}}")
    with pytest.raises(ConfigError) as caught:
        checked(config(str(tmp_path)))
    lines = str(caught.value).splitlines()
    assert [line.startswith(f"rollout.templates: {tmp_path}/scratch.txt: ") for line in lines] == [True, True]


def test_outcomes_need_templates_that_tell_them(tmp_path: Path) -> None:
    assert checked(config("legacy")).name == "legacy"
    with pytest.raises(ConfigError, match=r"abstraction\.outcomes = 'shown', but the templates 'legacy' tell the summ"):
        checked(config("legacy", outcomes="shown"))
    assert checked(config("legacy", outcomes="shown", enabled=False))
    for name in ("compact", "full"):
        assert checked(config(name, outcomes="contrast"))
    (tmp_path / "abstract.txt").write_text("{{problem}}\n{{trajectory}}\nAnswer in JSON.")
    with pytest.raises(ConfigError, match=r"abstract\.txt has no"):
        checked(config(str(tmp_path), outcomes="contrast"))


def test_a_run_keeps_its_templates_and_a_resume_with_others_is_refused(tmp_path: Path) -> None:
    run, folder = RunFolder(tmp_path / "run"), tmp_path / "own"
    run.path.mkdir()
    shutil.copytree(Path("prompts/templates/compact").resolve(), folder)
    begun = templates_of(str(folder))
    keep(run, begun)
    keep(run, begun)
    assert sorted(file.stem for file in run.templates.iterdir()) == sorted(begun.texts)

    intra = folder / "intra.txt"
    intra.write_text(intra.read_text().replace("First", "At first"))
    templates_of.cache_clear()
    with pytest.raises(RunFolderError) as caught:
        keep(run, templates_of(str(folder)))
    assert ": intra.txt: other text than the run began with" in str(caught.value)
    assert f"--rollout.templates {run.templates}" in str(caught.value)
    keep(run, templates_of(str(run.templates)))


def test_templates_of_before_are_kept_too(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    keep(run, templates_of("legacy"))
    keep(run, templates_of("legacy"))
    with pytest.raises(
        RunFolderError, match=r"abstract\.txt, contrast\.txt, inter\.txt, intra\.txt, lesson\.txt: other"
    ):
        keep(run, templates_of("compact"))


def test_a_run_of_before_a_template_goes_on_and_keeps_it_from_then_on(tmp_path: Path) -> None:
    run, templates = RunFolder(tmp_path), templates_of("compact")
    keep(run, templates)
    later = run.templates / "rescue_intra.txt"
    later.unlink()
    keep(run, templates)
    assert later.read_text().rstrip("\n") == templates["rescue_intra"]
    later.write_text("another text")
    with pytest.raises(RunFolderError, match=r": rescue_intra\.txt: other text"):
        keep(run, templates)
    (run.templates / "intra.txt").unlink()
    with pytest.raises(RunFolderError, match=r"intra\.txt, rescue_intra\.txt: other text"):
        keep(run, templates)
