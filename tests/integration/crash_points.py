"""Named crash points: where in the program dying between two effects matters, and why.

A point is a function of the program, by its dotted name, and the moment before it is called or after it returned. They
are passed and killed at by `crash_child`; that each name still exists is tested."""

from __future__ import annotations

from typing import Literal, NamedTuple


class Point(NamedTuple):
    """A process of the kind `who` dies `when` it calls `target` for the n-th time (`passing`), counting in each process
    the calls that have `only` in the text of an argument. A session before it ends at the point `first`; in the same
    session a process dies at `beside`. A session that needs the process no longer is not `broken` by its death. Some
    are passed only where groups are `rescued`."""

    target: str
    when: Literal["before", "after"]
    who: Literal["orchestrator", "learner"]
    reason: str
    only: str = ""
    passing: int = 1
    first: str = ""
    beside: str = ""
    broken: bool = True
    rescued: bool = False


POINTS: dict[str, Point] = {
    # A run begins.
    "config written": Point(
        "pathlib.Path.replace", "after", "orchestrator", "a run's first file is there", only="config.json"
    ),
    "run folder made": Point(
        "pathlib.Path.rename", "after", "orchestrator", "the folder is a run now, and has nothing but its settings"
    ),
    "reference written": Point(
        "pipeline.weights.publishing.name_latest", "before", "orchestrator", "the first weights are there, and nothing names them"
    ),
    "first evaluation written": Point(
        "pipeline.run.state.RunState.save", "before", "orchestrator",
        "its answers are in a file, its result is not in state.json",
    ),
    "learner started": Point(
        "pipeline.commands.session.LearnerLink", "before", "orchestrator",
        "a learner that has only begun outlives its orchestrator, and another one is started beside it",
    ),
    # Journal.
    "before a journal commit": Point(
        "pipeline.storage.journal.Journal.append", "before", "orchestrator", "groups were paid for, and are not there",
        passing=6,
    ),
    "after a journal commit": Point(
        "pipeline.storage.journal.Journal.append", "after", "orchestrator", "groups are there, and nobody was told", passing=6
    ),
    "after an acknowledgement": Point(
        "pipeline.loop.scheduler._Step.add", "before", "orchestrator", "a group was acknowledged, and its step knows nothing of it",
        passing=11,
    ),
    "after a step's last group": Point(
        "pipeline.loop.lessons.LessonStage._store", "before", "orchestrator",
        "the learner can train the step, its lessons do not exist", passing=3,
    ),
    "journal merged": Point(
        "lance.optimize.Compaction.commit", "before", "orchestrator", "merged files are there, and no version has them",
        only="/journal.lance",
    ),
    "journal merge committed": Point(
        "pipeline.storage.maintenance.index", "before", "orchestrator", "files were swapped, and the indices know the old ones",
        only="name='journal'",
    ),
    # Rescues of groups that are all wrong.
    "rescue's context found": Point(
        "pipeline.loop.rollouts.GroupSampler.rescue_context", "after", "orchestrator",
        "a group was paid for that the slot may not take, and is not there", passing=2, rescued=True,
    ),
    "before a rescue is claimed": Point(
        "pipeline.loop.rescue_budget.RescueBudget.claim", "before", "orchestrator", "nobody knows that the slot wants one",
        passing=2, rescued=True,
    ),
    "rescue claimed": Point(
        "pipeline.loop.rescue_budget.RescueBudget.claim", "after", "orchestrator", "the step has one less, in memory alone",
        passing=2, rescued=True,
    ),
    "rescue sampled": Point(
        "pipeline.loop.rollouts.GroupSampler.rescue", "after", "orchestrator", "it was paid for as well, and is not there",
        passing=2, rescued=True,
    ),
    "rescue journalled": Point(
        "pipeline.storage.journal.Journal.append", "after", "orchestrator", "it is there, and nobody was told",
        only="kind='rescue_intra'", rescued=True,
    ),
    # Pool.
    "before a pool commit": Point(
        "pipeline.experience.pool.Pool.add", "before", "orchestrator", "lessons were paid for, and are not there", passing=3
    ),
    "after a pool commit": Point(
        "pipeline.experience.pool.Pool.add", "after", "orchestrator", "lessons are there, and their step has no numbers", passing=3
    ),
    "pool indexed": Point(
        "pipeline.experience.pool.Pool.pin", "before", "orchestrator", "the index knows new lessons, no step has this version",
        passing=4,
    ),
    "pool pinned": Point(
        "pipeline.experience.pool.Pool.pin", "after", "orchestrator", "the step's pool has a name, nothing was sampled with it",
        passing=4,
    ),
    "pool merged": Point(
        "lance.optimize.Compaction.commit", "before", "orchestrator", "merged files are there, and no version has them",
        only="/pool.lance",
    ),
    "pool merge committed": Point(
        "lance.optimize.Compaction.commit", "after", "orchestrator", "files were swapped, and the index knows the old ones",
        only="/pool.lance",
    ),
    "a table compacted": Point(
        "pipeline.storage.maintenance.call_libc", "before", "orchestrator", "old versions are gone, the writer knows nothing of it"
    ),
    # Training and publication.
    "batch read": Point(
        "trainer.batches.JournalReader.wait_for", "after", "learner", "a step was read, and not trained", passing=4
    ),
    "step trained": Point(
        "trainer.step_log.StepLog.write", "after", "learner", "a step was trained and reported, and not saved", passing=4
    ),
    "weights saved": Point(
        "pipeline.weights.publishing._checksums", "before", "learner", "weights lie in a folder that nothing describes", only="/.l0-", passing=2
    ),
    "weights published": Point(
        "pipeline.weights.publishing.name_latest", "before", "learner", "a version is whole, and LATEST names the one before", passing=2
    ),
    "weights named": Point(
        "pipeline.weights.publishing.name_latest", "after", "learner", "LATEST names a version that no server has", passing=2
    ),
    "server paused": Point(
        "pipeline.weights.sync._WholeModel._from_files", "before", "learner", "a server is paused", passing=3
    ),
    "server loaded": Point(
        "pipeline.weights.sync._WholeModel._from_files", "after", "learner", "a server is paused, and has weights that it does not name",
        passing=3,
    ),
    "server resumed": Point(
        "pipeline.weights.sync._check", "before", "learner", "a server samples by weights that nobody has checked", passing=3
    ),
    "servers reloaded": Point(
        "pipeline.weights.publishing.prune", "before", "learner", "every server has a version that the status file does not name",
        passing=3,
    ),
    "old weights removed": Point(
        "pipeline.weights.publishing.prune", "after", "learner", "old weights are gone, and the status file names them", passing=4
    ),
    # Checkpoints.
    "checkpoint saved": Point(
        "pipeline.run.checkpoints.write_manifest", "before", "learner", "a checkpoint is there, and was not declared whole",
        passing=2,
    ),
    "first checkpoint saved": Point(
        "pipeline.run.checkpoints.write_manifest", "before", "learner", "there is no other one to go back to"
    ),
    "checkpoint whole": Point(
        "pipeline.run.checkpoints.prune", "before", "learner", "a checkpoint is whole, and old ones are still there", passing=3
    ),
    "checkpoint half removed": Point(
        "os.unlink", "after", "learner", "an old checkpoint lacks a file that its manifest names", only="optimizer.pt"
    ),
    "checkpoints removed": Point(
        "pipeline.run.checkpoints.prune", "after", "learner", "a checkpoint is the newest one, and its weights are not published",
        passing=3,
    ),
    # The end of a run.
    "before the final model": Point(
        "trainer.publisher.link_final_model", "before", "learner", "the last step was trained, and no final model is named"
    ),
    "final model made": Point(
        "pathlib.Path.replace", "before", "learner", "its link is there under another name", only=".final_model"
    ),
    "final model linked": Point(
        "trainer.publisher.link_final_model", "after", "learner", "the final model is there, and nobody knows that it is done"
    ),
    "learner done": Point(
        "trainer.status.LearnerStatus.update", "after", "learner", "it waits for the orchestrator's last numbers", only="done",
        broken=False,
    ),
    "before the last evaluation": Point(
        "pipeline.commands.stages.Stages.keep_totals", "before", "orchestrator", "training is over, totals are not kept"
    ),
    "after the last evaluation": Point(
        "pipeline.commands.stages.Stages.keep_costs", "before", "orchestrator", "everything is there but the summary"
    ),
    # A resume.
    "resume: config kept": Point(
        "pathlib.Path.replace", "before", "orchestrator", "the settings of this session are in a file beside",
        only="config.json", first="step trained",
    ),
    "resume: lineage written": Point(
        "pathlib.Path.replace", "before", "orchestrator", "the new lineage is in a file beside",
        only="lineages.json", first="step trained",
    ),
    "resume: lineage begun": Point(
        "pipeline.run.folder.RunFolder.begin_lineage", "after", "orchestrator", "a lineage without a learner, with the old pool",
        first="step trained",
    ),
    "resume: pool checked out": Point(
        "lancedb.table.LanceTable.restore", "before", "orchestrator", "the table is read at its old version, and not set back",
        first="step trained",
    ),
    "resume: pool restored": Point(
        "pipeline.experience.pool.Pool.restore", "after", "orchestrator", "the pool is that of the checkpoint, and nothing was sampled",
        first="step trained",
    ),
    "resume: step begun again": Point(
        "pipeline.experience.pool.Pool.pin", "after", "orchestrator", "the restored pool has the step's name, the journal another version",
        first="step trained",
    ),
    "resume: lessons made again": Point(
        "pipeline.experience.pool.Pool.add", "before", "orchestrator", "lessons of the step before are not there for the second time",
        first="before a pool commit",
    ),
    "resume: weights published": Point(
        "pipeline.weights.publishing.prune", "before", "learner", "a resumed learner has published, and trained nothing",
        first="step trained",
    ),
    "resume: trained again": Point(
        "trainer.step_log.StepLog.write", "after", "learner", "a step was trained for the second time, and not saved",
        first="step trained", passing=2,
    ),
    # One process outlives the other.
    "an orphan's checkpoint saved": Point(
        "pipeline.run.checkpoints.write_manifest", "before", "learner",
        "its orchestrator is dead, and the checkpoint of its last step was not declared whole",
        only="checkpoint-3", beside="step 3 begun",
    ),
    "an orphan's checkpoint whole": Point(
        "trainer.checkpoints.save_now", "after", "learner", "its orchestrator is dead, its last checkpoint is whole",
        beside="step 3 begun",
    ),
    "step 3 begun": Point(
        "pipeline.loop.scheduler._Step.add", "before", "orchestrator", "the learner waits for the other groups", passing=14
    ),
    "both ended": Point(
        "pipeline.commands.stages.Stages.keep_costs", "before", "orchestrator", "its learner died, it closes",
        beside="server paused",
    ),
}  # fmt: skip


def sessions_to(name: str) -> list[dict[str, int]]:
    """What dies in each session, at which passing, so that the run dies at the point `name` in the last one."""
    point = POINTS[name]
    last = {one: POINTS[one].passing for one in (name, point.beside) if one}
    return [*(sessions_to(point.first) if point.first else []), last]
