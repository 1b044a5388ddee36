"""A whole run with its store in an object store, killed once and resumed, equals one that was left alone with its store in its folder.

The command with the real learner on a tiny model, as in `test_crash.py`. Neither folder nor output nor bucket holds the keys."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pipeline.run import RunFolder
from tests.integration.test_crash import TOLERANCE, Driver, groups_of, losses_of, mock_url, pool_of
from tests.integration.test_object_store import objects

if TYPE_CHECKING:
    from tests.s3_server import S3Server

__all__ = ["mock_url"]
NUM_STEPS = 4


def test_a_run_in_an_object_store_that_is_killed_equals_one_in_a_folder(
    tmp_path: Path,
    repository: Path,
    mock_url: str,
    s3: str,
    s3_server: S3Server,
) -> None:
    driver = Driver(tmp_path, repository, mock_url, NUM_STEPS)
    local = driver.finished("local")
    driver.options += ["--run.store", f"{s3}/runs", "--operations.log_level", "debug"]
    stored = driver.finished("stored", num_kills=1, seed=4)

    assert stored.store == f"{s3}/runs/stored"
    assert not (stored.path / "store").exists()
    assert len(groups_of(stored, NUM_STEPS)) == 4 * NUM_STEPS
    assert groups_of(stored, NUM_STEPS) == groups_of(local, NUM_STEPS)
    assert pool_of(stored) == pool_of(local) != []
    assert losses_of(stored).keys() == losses_of(local).keys() == set(range(1, NUM_STEPS + 1))
    for step, numbers in losses_of(local).items():
        assert losses_of(stored)[step] == pytest.approx(numbers, rel=TOLERANCE, abs=TOLERANCE)
    assert keys_in(stored, tmp_path / "stored.txt", s3, s3_server) == []


def keys_in(run: RunFolder, output: Path, store: str, server: S3Server) -> list[str]:
    """Files and objects that hold a key of the object store."""
    bucket, client = store.removeprefix("s3://"), server.client()
    contents = {str(path): path.read_bytes() for path in (output, *run.path.rglob("*")) if path.is_file()}
    contents |= {key: client.get_object(Bucket=bucket, Key=key)["Body"].read() for key in objects(server, store)}
    assert len(contents) > 20
    secrets = [server.environment[name].encode() for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")]
    return [name for name, content in contents.items() if any(secret in content for secret in secrets)]
