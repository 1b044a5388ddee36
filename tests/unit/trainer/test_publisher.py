"""When weights are published, what the status says, and how unreachable servers are met."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import RunFolderError, WeightsRefusedError, WeightSyncError
from pipeline.run.folder import RunFolder
from pipeline.run.metrics_log import MetricsWriter, read_metrics
from pipeline.runtime.written import LIST
from pipeline.types import WeightVersion
from pipeline.weights import publishing, sync
from tests.unit.trainer.groups import tiny_config
from trainer.publisher import Publisher, link_final_model
from trainer.status import LearnerStatus
from trainer.stop import StopRequested, StopSignal


class Fixture:
    """A publisher over a run whose servers are this object."""

    def __init__(
        self,
        folder: Path,
        monkeypatch: pytest.MonkeyPatch,
        *,
        every: int = 1,
        lineage: int = 0,
        send: sync.Send | None = None,
    ) -> None:
        config = tiny_config(folder, num_weights_kept=2)
        learner = config.learner.model_copy(update={"publish_every": every})
        servers = config.servers.model_copy(update={"startup_timeout_s": 0.0 if every == 1 else 60.0})
        config = config.model_copy(update={"learner": learner, "servers": servers})
        self.run = RunFolder.create(config)
        publishing.publish(self.run, WeightVersion(lineage=0, step=0), self.save)
        self.saved: list[str] = []
        self.brought: list[str] = []
        self.ways: list[str] = []
        self.failures = 0
        self.failure = WeightSyncError("http://127.0.0.1:1: ConnectError")
        self.stop = StopSignal()
        self.status = LearnerStatus(self.run)
        self.publisher = Publisher(
            self.run,
            config,
            lineage,
            self.save,
            self.status,
            MetricsWriter(self.run.metrics_file, "learner"),
            self.stop,
            send,
        )
        monkeypatch.setattr(sync, "sync_all", self.sync_all)
        monkeypatch.setattr("trainer.publisher.RETRY_S", 0.0)

    def save(self, folder: Path) -> None:
        if hasattr(self, "saved"):
            self.saved.append(folder.name)
        (folder / "model.safetensors").write_bytes(b"weights")

    def sync_all(self, run: RunFolder, version: WeightVersion, send: sync.Send | None = None) -> sync.ReloadReport:
        self.ways.append("sent" if send else "files")
        if self.failures:
            self.failures -= 1
            raise self.failure
        self.brought.append(version.label)
        return sync.ReloadReport(reload_s=0.5, paused_s=0.1)

    def read_status(self) -> dict[str, Any]:
        return json.loads(self.run.learner_file.read_text())


def test_the_initial_policy_is_served_but_not_saved_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fixture = Fixture(tmp_path, monkeypatch)
    fixture.publisher.publish(0)
    assert fixture.saved == []
    assert fixture.brought == ["l0-s000000"]
    assert fixture.read_status()["version"] == "l0-s000000"


def test_a_resumed_learner_publishes_under_its_own_lineage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fixture = Fixture(tmp_path, monkeypatch, every=4, lineage=2)
    fixture.publisher.publish(3)
    assert fixture.brought == ["l2-s000003"]
    assert publishing.latest(fixture.run) == WeightVersion(lineage=2, step=3)


def test_only_due_steps_and_the_last_are_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fixture = Fixture(tmp_path, monkeypatch, every=2)
    for step in range(4):
        fixture.publisher.publish(step)
    folder = fixture.publisher.publish(5, final=True)
    assert fixture.brought == ["l0-s000000", "l0-s000002", "l0-s000005"]
    assert folder == fixture.run.weights / "l0-s000005"


def test_a_last_version_that_is_served_already_is_not_served_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fixture = Fixture(tmp_path, monkeypatch)
    fixture.publisher.publish(1)
    assert fixture.publisher.publish(1, final=True) == fixture.run.weights / "l0-s000001"
    assert fixture.brought == ["l0-s000001"]


def test_servers_that_come_back_are_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fixture = Fixture(tmp_path, monkeypatch, every=2)
    fixture.failures = 3
    fixture.publisher.publish(0)
    assert fixture.brought == ["l0-s000000"]
    assert fixture.read_status()["error"] is None
    alerts = [line for line in read_metrics(fixture.run.metrics_file)[0] if line["event"] == "alert"]
    assert [alert["message"] for alert in alerts] == ["http://127.0.0.1:1: ConnectError; trying again"], "told once"


def test_servers_that_stay_away_end_the_learner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fixture = Fixture(tmp_path, monkeypatch)
    fixture.failures = 1_000_000
    with pytest.raises(WeightSyncError, match="ConnectError"):
        fixture.publisher.publish(0)
    assert fixture.read_status()["version"] is None


def test_a_server_that_is_refused_again_and_again_is_not_waited_for_like_one_that_is_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fixture = Fixture(tmp_path, monkeypatch, every=2)  # patient with servers that are away
    fixture.failures, fixture.failure = 1_000_000, WeightsRefusedError("it answers as other weights")
    monkeypatch.setattr("trainer.publisher.REFUSED_PATIENCE_S", 0.0)
    with pytest.raises(WeightsRefusedError, match="other weights"):
        fixture.publisher.publish(0)


def test_a_stop_request_ends_the_retries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fixture = Fixture(tmp_path, monkeypatch, every=2)
    fixture.failures = 1_000_000
    fixture.stop.request()
    with pytest.raises(StopRequested):
        fixture.publisher.publish(0)


def test_old_versions_go_but_the_reference_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fixture = Fixture(tmp_path, monkeypatch)
    for step in range(5):
        fixture.publisher.publish(step)
    kept = sorted(folder.name for folder in fixture.run.weights.iterdir() if folder.is_dir())
    assert kept == ["l0-s000000", "l0-s000003", "l0-s000004"]


def test_the_model_of_a_finished_run_outlives_its_continuation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fixture = Fixture(tmp_path, monkeypatch)
    fixture.publisher.publish(1)
    link_final_model(fixture.run, fixture.run.weights / "l0-s000001")
    for step in range(2, 7):
        fixture.publisher.publish(step)
    kept = sorted(folder.name for folder in fixture.run.weights.iterdir() if folder.is_dir())
    assert kept == ["l0-s000000", "l0-s000001", "l0-s000005", "l0-s000006"]


def test_the_final_model_is_a_relative_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Fixture(tmp_path, monkeypatch).run
    for _ in range(2):
        link_final_model(run, run.weights / "l0-s000000")
        assert str(run.final_model.readlink()) == "weights/l0-s000000"
        assert (run.final_model / "model.safetensors").exists()


def test_who_was_not_reached_by_a_transfer_loads_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fixture = Fixture(tmp_path, monkeypatch, every=2, send=lambda server: None)
    fixture.failures = 2
    fixture.publisher.publish(2)
    assert fixture.ways == ["sent", "files", "files"]
    fixture.publisher.publish(4)
    assert fixture.ways[3:] == ["sent"], "the next version is sent again"


def test_what_a_publication_that_was_killed_left_behind_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(folder: Path) -> dict[str, str]:
        raise KeyboardInterrupt

    fixture = Fixture(tmp_path, monkeypatch)
    with monkeypatch.context() as killed:
        killed.setattr(publishing.Written, "remove_folder", lambda *_: False)  # a SIGKILL cleans nothing up
        killed.setattr(publishing, "_checksums", interrupted)
        with pytest.raises(KeyboardInterrupt):
            fixture.publisher.publish(1)
    assert len(list(fixture.run.weights.glob(".l0-s000001.*"))) == 1
    others = fixture.run.weights / ".l0-s000001.backup"
    others.mkdir()
    fixture.publisher.publish(1)
    found = sorted(path.name for path in fixture.run.weights.iterdir())
    assert found == [others.name, "LATEST", "l0-s000000", "l0-s000001", LIST], (
        "what a publication left is gone, no other"
    )


@pytest.mark.parametrize("fill", ["folder", "with a manifest", "a link"])
def test_somebodys_folder_in_the_place_of_a_version_is_refused_before_anything_is_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fill: str
) -> None:
    fixture = Fixture(tmp_path, monkeypatch)
    theirs = fixture.run.weights / "l0-s000001"
    elsewhere = tmp_path / "elsewhere"
    (elsewhere if fill == "a link" else theirs).mkdir()
    if fill == "a link":
        theirs.symlink_to(elsewhere)
    (theirs / "mine.txt").write_text("mine")
    if fill != "folder":
        (theirs / "manifest.json").write_text(json.dumps({"version": "l0-s000001", "files": {"mine.txt": "0"}}))
    with pytest.raises(RunFolderError, match=r"l0-s000001 holds files that this run did not write; move it away"):
        fixture.publisher.publish(1)
    assert (theirs / "mine.txt").read_text() == "mine"
    assert fixture.saved == [] and fixture.brought == []


def test_old_versions_leave_what_is_not_as_their_manifest_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fixture = Fixture(tmp_path, monkeypatch)
    for step in range(1, 5):
        fixture.publisher.publish(step)
        if step == 1:
            (fixture.run.weights / "l0-s000001" / "notes.txt").write_text("mine")
        if step == 2:
            (fixture.run.weights / "l0-s000002" / "model.safetensors").write_bytes(b"edited!")
    elsewhere = tmp_path / "elsewhere"
    (fixture.run.weights / "l0-s000003").rename(elsewhere)
    (fixture.run.weights / "l0-s000003").symlink_to(elsewhere)
    for step in range(5, 8):
        fixture.publisher.publish(step)
    left = sorted(str(path.relative_to(fixture.run.weights)) for path in fixture.run.weights.glob("l0-s00000[1-5]/*"))
    assert left == [
        "l0-s000001/notes.txt", "l0-s000002/model.safetensors", "l0-s000003/manifest.json",
        "l0-s000003/model.safetensors",
    ]  # fmt: skip


def test_a_version_on_a_disk_that_is_away_ends_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fixture = Fixture(tmp_path, monkeypatch)
    for step in range(1, 7):
        fixture.publisher.publish(step)
        folder = fixture.run.weights / "l0-s000005"
        if step == 5:
            folder.rename(tmp_path / "elsewhere")
            folder.symlink_to(tmp_path / "away" / folder.name)
    assert folder.is_symlink() and publishing.is_published(fixture.run, WeightVersion(lineage=0, step=6))


def test_a_final_model_that_became_a_folder_is_found_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Fixture(tmp_path, monkeypatch).run
    publishing.check_final_model(run)
    link_final_model(run, run.weights / "l0-s000000")
    publishing.check_final_model(run)
    copy = RunFolder(tmp_path / "copy")
    shutil.copytree(run.path, copy.path)  # which follows links
    with pytest.raises(RunFolderError, match=r"final_model is no link.*move it away, then give `train --resume"):
        publishing.check_final_model(copy)


def test_a_run_of_a_version_without_lists_is_pruned_from_its_first_resume_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fixture = Fixture(tmp_path, monkeypatch)
    fixture.publisher.publish(1)
    (fixture.run.weights / LIST).unlink()
    for file in fixture.run.weights.glob("*/manifest.json"):  # which names no sizes
        file.write_text(
            json.dumps({key: value for key, value in json.loads(file.read_text()).items() if key != "sizes"})
        )
    publishing.adopt_old(fixture.run)
    for step in range(2, 5):
        fixture.publisher.publish(step)
    kept = sorted(folder.name for folder in fixture.run.weights.iterdir() if folder.is_dir())
    assert kept == ["l0-s000000", "l0-s000003", "l0-s000004"]
    shutil.copytree(fixture.run.weights / "l0-s000003", fixture.run.weights / "l0-s000002")
    publishing.adopt_old(fixture.run)
    assert not publishing.is_published(fixture.run, WeightVersion(lineage=0, step=2)), "it has a list now"
