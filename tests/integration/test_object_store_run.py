"""A whole run with its store in an object store, killed once and resumed, equals one that was left alone with its store
in its folder.

The command with the real learner on a tiny model, as in `test_crash.py`. Neither folder nor output nor bucket holds the
keys."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pipeline.run.folder import RunFolder
from tests.integration.crash_driver import Driver, assert_equal, client_of, mock_endpoint
from tests.integration.test_object_store import objects

if TYPE_CHECKING:
    from tests.s3_server import S3Server

NUM_STEPS = 4


@pytest.mark.slow
def test_a_run_in_an_object_store_that_is_killed_equals_one_in_a_folder(
    tmp_path: Path, repository: Path, s3: str, s3_server: S3Server
) -> None:
    for name in ("local", "stored"):
        (tmp_path / name).mkdir()
    with mock_endpoint(repository) as url:
        local = Driver(tmp_path / "local", repository, url, learner__num_steps=NUM_STEPS).finish("local", often=False)
        elsewhere = {"run__store": f"{s3}/runs", "operations__log_level": "debug"}
        driver = Driver(tmp_path / "stored", repository, url, learner__num_steps=NUM_STEPS, **elsewhere)  # type: ignore[arg-type]
        driver.die("stored", {"step trained": 3})
        stored = driver.finish("stored", often=False)

    assert stored.store == f"{s3}/runs/stored"
    assert not (stored.path / "store").exists()
    assert client_of(local)
    assert_equal(stored, local)
    assert keys_in(stored, tmp_path / "stored" / "stored.txt", s3, s3_server) == []


def keys_in(run: RunFolder, output: Path, store: str, server: S3Server) -> list[str]:
    """Files and objects that hold a key of the object store."""
    bucket, client = store.removeprefix("s3://"), server.client()
    contents = {str(path): path.read_bytes() for path in (output, *run.path.rglob("*")) if path.is_file()}
    contents |= {key: client.get_object(Bucket=bucket, Key=key)["Body"].read() for key in objects(server, store)}
    assert len(contents) > 20
    secrets = [server.environment[name].encode() for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")]
    return [name for name, content in contents.items() if any(secret in content for secret in secrets)]
