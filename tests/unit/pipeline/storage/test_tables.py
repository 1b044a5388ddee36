"""What is said of a store that cannot be had; those in object stores are in `tests/integration/test_store_claim.py`."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.config import Config
from pipeline.config.loading import validated
from pipeline.errors import ConfigError, DiskError, StoreError
from pipeline.observability.secrets import secrets_of
from pipeline.preflight.machine import CHECKS
from pipeline.run.folder import RunFolder
from pipeline.run.resume import check_resume_config
from pipeline.runtime.redaction import redact
from pipeline.storage.tables import failures_named


@pytest.mark.parametrize("number", [1, 38, 95])
def test_a_file_system_without_hard_links_is_named(tmp_path: Path, number: int) -> None:
    """The words of Lance 13 when link(2) fails (seen with a library in front of libc that refuses it)."""
    words = (
        "lance error: LanceError(IO): Generic LocalFileSystem error: Unable to rename file: Refused (os error "
        f"{number}), commit.rs"
    )
    with pytest.raises(StoreError, match=r"without hard links.*run\.store"), failures_named(tmp_path):
        raise RuntimeError(words)


def test_a_full_disk_is_named_and_a_bug_escapes_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(DiskError), failures_named(tmp_path):
        raise RuntimeError("LanceError(IO): No space left on device (os error 28)")
    for location in (tmp_path, "s3://bucket/run"):
        with pytest.raises(ValueError, match=r"^a bug$") as escaped, failures_named(location):
            raise ValueError("a bug")
        assert escaped.value.__cause__ is None


@pytest.mark.parametrize(
    ("store", "words"),
    [
        ("s3://canary:secret@bucket/x", "run.store: a URI of bucket and prefix only"),
        ("s3://bucket/x?secret=canary", "run.store: a URI of bucket and prefix only"),
        (
            "ftp://bucket/x",
            "run.store = 'ftp://bucket/x': a folder, or a URI as s3://bucket/prefix; the stores known are s3, gs, az",
        ),
        ("s3:///x", "run.store = 's3:///x': a folder, or a URI"),
    ],
)
def test_a_place_that_is_none_is_refused_and_no_secret_is_repeated(store: str, words: str) -> None:
    with pytest.raises(ConfigError) as refused:
        validated({"run": {"store": store}})
    assert words in str(refused.value)
    assert "secret@" not in str(refused.value)
    assert "canary" not in str(refused.value)


def test_the_credentials_of_an_object_store_are_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary/secret+1")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "canary-token")
    config = Config.model_validate({"run": {"store": "s3://bucket/x"}})
    assert (
        redact("signed with canary/secret+1, canary%2Fsecret%2B1 and canary-token", secrets_of(config))
        == "signed with ***, *** and ***"
    )
    assert secrets_of(Config()) == ()


def test_a_resume_keeps_its_store_and_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    config = Config.model_validate({"run": {"root": tmp_path, "name": "r", "store": str(tmp_path / "stores")}})
    run = RunFolder.create(config)
    assert run.store == str(tmp_path / "stores" / "r")
    assert not (run.path / "store").exists()
    with pytest.raises(Exception, match=r"run.store: .* in the run, 's3://bucket/x' now"):
        check_resume_config(config, Config.model_validate({"run": {"store": "s3://bucket/x"}}))
    check = dict(CHECKS)["store"]
    assert check(Config()) is None
    assert check(config) == str(tmp_path / "stores")
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"run.store = .*/file/stores': cannot write there; choose another folder"):
        check(Config.model_validate({"run": {"store": str(tmp_path / "file" / "stores")}}))
