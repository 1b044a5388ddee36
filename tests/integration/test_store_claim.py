"""Whose object store it is, what is said when it cannot be had, and forks of runs that have one."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pipeline.commands.fork import fork_run
from pipeline.commands.opened_run import make_tables, open_run
from pipeline.config import Config
from pipeline.errors import RunFolderError, StoreError
from pipeline.experience.pool import Pool
from pipeline.experience.pool_snapshots import rollback
from pipeline.run.checkpoints import checkpoint_path, newest_whole, write_manifest
from pipeline.run.folder import RunFolder
from pipeline.storage.claim import check_claim, check_reachable, new_run, release
from pipeline.storage.journal import Journal
from pipeline.storage.object_store import LOOKING
from pipeline.weights.publishing import publish
from tests.builders import experience, group, saving, version
from tests.integration.test_object_store import objects

if TYPE_CHECKING:
    from tests.s3_server import S3Server

PATIENCE_S = 90.0
"""A start that ends with an error ends sooner: half a minute, and the slowness of a machine that does much else."""


def config(root: Path, name: str, store: str = "", **sections: Any) -> Config:
    return Config.model_validate({"run": {"root": root, "name": name, "store": store}, **sections})


def test_a_run_has_its_place_below_the_store_and_another_one_is_refused_by_name(tmp_path: Path, s3: str) -> None:
    first = new_run(config(tmp_path / "here", "one", f"{s3}/runs/"))
    assert first.store == f"{s3}/runs/one"
    check_claim(first)
    other = new_run(config(tmp_path / "here", "two", f"{s3}/runs"))
    make_tables(other, other.config())
    assert other.store == f"{s3}/runs/two"
    with pytest.raises(
        StoreError, match=rf"{s3}/runs/one is the store of the run {first.path} on .*choose another run.name"
    ):
        new_run(config(tmp_path / "there", "one", f"{s3}/runs"))
    assert not (tmp_path / "there" / "one").exists()
    check_claim(first)
    with pytest.raises(RunFolderError, match="exists already"):
        new_run(config(tmp_path / "here", "one", f"{s3}/elsewhere"))


def test_who_lost_its_place_to_another_run_learns_so_before_it_writes(tmp_path: Path, s3: str) -> None:
    first = new_run(config(tmp_path / "here", "one", s3))
    release(first)
    second = new_run(config(tmp_path / "there", "one", s3))
    with pytest.raises(StoreError, match=f"is the store of the run {second.path}"):
        check_claim(first)
    release(first)
    check_claim(second)


def test_a_store_that_was_emptied_is_not_begun_anew(tmp_path: Path, s3: str, s3_server: S3Server) -> None:
    run = new_run(config(tmp_path, "one", s3))
    release(run)
    for opened in (check_claim, lambda run: open_run(run.path)):
        with pytest.raises(StoreError, match=f"{s3}/one holds nothing of the run {run.path}: it was emptied"):
            opened(run)
    assert objects(s3_server, s3) == []


def test_tables_that_no_run_claimed_are_left_alone(tmp_path: Path, s3: str) -> None:
    Journal(f"{s3}/one").append([group()])
    with pytest.raises(StoreError, match=r"holds tables of something else \(journal\); choose another run.store"):
        new_run(config(tmp_path, "one", s3))
    assert Journal(f"{s3}/one").num_groups() == 1


def test_a_folder_elsewhere_is_claimed_as_well(tmp_path: Path) -> None:
    run = new_run(config(tmp_path / "here", "one", str(tmp_path / "stores")))
    make_tables(run, run.config())
    assert run.store == str(tmp_path / "stores" / "one")
    assert open_run(run.path).pool.num_entries() == 0
    with pytest.raises(StoreError, match="is the store of the run"):
        new_run(config(tmp_path / "there", "one", str(tmp_path / "stores")))
    assert not (run.path / "store").exists()


def test_a_store_that_loses_commits_is_refused(tmp_path: Path, s3: str, s3_server: S3Server) -> None:
    with (
        s3_server.failing(lambda method, path: "unconditional"),
        pytest.raises(StoreError, match=r"of 6 commits made at once, \d were lost: .*If-None-Match"),
    ):
        new_run(config(tmp_path, "one", s3))
    assert not (tmp_path / "one").exists()
    assert objects(s3_server, s3) == []
    new_run(config(tmp_path, "one", s3))


def read_only(s3_server: S3Server, bucket: str) -> None:
    """Lets everyone do all but put objects into `bucket`."""
    rule = {"Effect": "Deny", "Principal": "*", "Action": "s3:PutObject", "Resource": f"arn:aws:s3:::{bucket}/*"}
    s3_server.client().put_bucket_policy(
        Bucket=bucket, Policy=json.dumps({"Version": "2012-10-17", "Statement": [rule]})
    )


def test_a_bucket_that_is_not_there_or_may_not_be_written_is_named(
    tmp_path: Path, s3: str, s3_server: S3Server
) -> None:
    with pytest.raises(
        StoreError, match=r"run.store: s3://no-such-bucket/x/one at 127.0.0.1:\d+: there is no such bucket; make it"
    ):
        new_run(config(tmp_path, "one", "s3://no-such-bucket/x"))
    read_only(s3_server, s3.removeprefix("s3://"))
    check_reachable(s3)
    with pytest.raises(StoreError, match=r"access is refused; check AWS_ACCESS_KEY_ID") as refused:
        new_run(config(tmp_path, "one", s3))
    assert not (tmp_path / "one").exists()
    assert s3_server.environment["AWS_ACCESS_KEY_ID"] not in str(refused.value)
    with s3_server.failing(lambda method, path: "refused"), pytest.raises(StoreError, match="access is refused"):
        check_reachable(s3)


def closed_port(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("AWS_ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")


def no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, "/dev/null")


def no_http(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ALLOW_HTTP")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (closed_port, r"at 127.0.0.1:\d+: it does not answer; check AWS_ENDPOINT"),
        (no_credentials, "no credentials were found; set AWS_ACCESS_KEY_ID"),
        (no_http, "set AWS_ALLOW_HTTP=true"),
    ],
)
def test_what_is_wrong_with_the_environment_is_named_soon(
    s3: str, monkeypatch: pytest.MonkeyPatch, spoil: Callable[[pytest.MonkeyPatch], None], words: str
) -> None:
    spoil(monkeypatch)
    begun_s = time.monotonic()
    with pytest.raises(StoreError, match=rf"run.store: {s3}.*{words}"):
        check_reachable(s3)
    assert time.monotonic() - begun_s < PATIENCE_S


def test_an_endpoint_that_never_answers_is_given_up(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("AWS_ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
        monkeypatch.setitem(LOOKING, "timeout", "1s")
        begun_s = time.monotonic()
        with pytest.raises(StoreError, match="it does not answer"):
            check_reachable(s3)
        assert time.monotonic() - begun_s < PATIENCE_S


def make_source(root: Path, store: str) -> RunFolder:
    """A run of 4 steps with checkpoints at 2 and 4, and a lesson of each step."""
    run = new_run(config(root, "source", store))
    make_tables(run, run.config())
    publish(run, version(0), saving(b"reference"))
    journal, pool = Journal(run.store), Pool(run.store)
    for step in range(4):
        journal.append([group(step=step, oldest=step, pool_version=pool.pin(f"step-{step:06d}"))])
        pool.add([experience(step, problem_id=f"p{step}")])
        if step % 2:
            folder = checkpoint_path(run, step + 1)
            folder.mkdir()
            (folder / "model.safetensors").write_bytes(b"model %d" % step)
            write_manifest(folder)
    pool.compact()
    return run


@pytest.mark.parametrize(
    ("old", "new"), [(True, True), (False, True), (True, False)], ids=["s3-s3", "folder-s3", "s3-folder"]
)
def test_a_fork_needs_nothing_of_the_other_run_and_changes_nothing_of_it(
    tmp_path: Path, s3: str, s3_server: S3Server, old: bool, new: bool
) -> None:
    source = make_source(tmp_path, f"{s3}/old" if old else "")
    before = sorted(objects(s3_server, f"{s3}/old"))
    run = fork_run(source, config(tmp_path, "fork", f"{s3}/new" if new else ""), 2)
    make_tables(run, run.config())
    assert newest_whole(run) == 2
    journal, pool, lineages = Journal(run.store), Pool(run.store), run.lineages()
    rollback(pool, 2)
    assert sorted(entry.id for entry in pool.entries()) == ["x0", "x1"]
    assert [len(journal.read_step(step, lineages)) for step in range(4)] == [1, 1, 0, 0]
    assert sorted(objects(s3_server, f"{s3}/old")) == before

    release(source)
    if not old:
        for path in (source.path / "store").rglob("*.lance"):
            if path.is_file():
                path.unlink()
    journal.append([group(step=2, oldest=2, lineage=1)])
    pool.add([experience(1, problem_id="p1"), experience(7)])
    journal.compact()
    pool.compact()
    assert [len(Journal(run.store).read_step(step, lineages)) for step in range(4)] == [1, 1, 1, 0]
    assert sorted(found.id for found in Pool(run.store).search("What is 4 + 3?", 9)) == ["x0", "x1", "x7"]


def test_a_fork_that_fails_leaves_no_tables(tmp_path: Path, s3: str, s3_server: S3Server) -> None:
    source = make_source(tmp_path, f"{s3}/old")
    before = sorted(objects(s3_server, s3))

    def refuse(method: str, path: str) -> str | None:
        return "refused" if method == "PUT" and "/new/fork/pool.lance/" in path else None

    with s3_server.failing(refuse), pytest.raises(StoreError, match="access is refused"):
        fork_run(source, config(tmp_path, "fork", f"{s3}/new"), 2)
    assert not (tmp_path / "fork").exists()
    assert sorted(objects(s3_server, s3)) == before
