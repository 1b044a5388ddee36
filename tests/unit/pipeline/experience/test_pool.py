"""The pool on a real LanceDB in a temporary folder."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from pipeline.config.experience import EvictionPolicy, PoolSection
from pipeline.config.problems import ProblemsSection
from pipeline.errors import DataError, DiskError
from pipeline.experience import pool_schema
from pipeline.experience.eviction import Holding, evicted
from pipeline.experience.pool import Pool
from pipeline.experience.usefulness import Use
from pipeline.problems.dataset import load_problems
from pipeline.storage.maintenance import index
from pipeline.text import text_hash
from pipeline.types import Origin
from tests.builders import experience, tear_index


def test_the_oldest_entries_of_a_problem_go_first(tmp_path: Path) -> None:
    pool = Pool(tmp_path, PoolSection(max_entries_per_problem=3))
    pool.add([experience(number) for number in (5, 1, 4, 2, 3)])
    pool.add([experience(9, problem_id="other")])
    found = {candidate.id for candidate in pool.search("What is 4 + 3?", 32)}
    assert found == {"x3", "x4", "x5", "x9"}


def test_equals_come_in_the_same_order_however_they_were_stored(tmp_path: Path) -> None:
    """Twenty entries of equal score and three better ones; stored at once, or one by one, backwards, merged and resumed
    between."""
    entries = [experience(number, problem_id=f"p{number}", text=f"What is {number} plus?") for number in range(20)]
    entries += [
        experience(number, problem_id=f"p{number}", text=f"What is {number} plus plus?") for number in (20, 21, 22)
    ]
    entries = [entry.model_copy(update={"id": f"x-l0-{entry.step:06d}-{n:04d}-000"}) for n, entry in enumerate(entries)]
    together, one_by_one = Pool(tmp_path / "a", ordered=True), Pool(tmp_path / "b", ordered=True)
    together.add(entries)
    for number, entry in enumerate(reversed(entries)):
        later = entry.id.replace("-l0-", "-l9-" if number % 2 else "-l10-")
        one_by_one.add([entry.model_copy(update={"id": later})])
        if number in (5, 15):
            one_by_one.compact()
    assert one_by_one.num_unindexed() > 0
    one_by_one.index()
    assert one_by_one.num_unindexed() == 0

    def found(pool: Pool, num: int) -> list[str]:
        return [candidate.problem_id for candidate in pool.search("plus", num)]

    for num in (1, 2, 5, 10, 23, 50):
        assert found(one_by_one, num) == found(together, num)
        assert len(found(together, num)) == min(num, 23)


def test_a_search_ranks_by_the_text_and_yields_no_reward(tmp_path: Path) -> None:
    pool = Pool(tmp_path)
    assert pool.search("anything", 4) == []
    pool.add([experience(1, text="How many legs has a spider?"), experience(2, text="What is 4 + 3?")])
    best = pool.search("legs of a spider", 4)
    assert best[0].id == "x1"
    assert "reward" not in best[0]._fields
    assert best[0].lesson == experience(1).lesson


def test_text_that_looks_like_a_query_is_only_text(tmp_path: Path) -> None:
    pool = Pool(tmp_path)
    pool.add([experience(1)])
    assert [c.id for c in pool.search('4 AND ("3" OR problem_text:*) + - ? \\', 4)] in ([], ["x1"])


def test_a_held_out_entry_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="held out"):
        Pool(tmp_path).add([experience(1).model_copy(update={"split": "heldout"})])


def test_the_pool_returns_to_an_earlier_version(tmp_path: Path) -> None:
    pool = Pool(tmp_path)
    pool.add([experience(1)])
    version = pool.version
    pool.add([experience(2), experience(3)])
    pool.restore(version)
    assert pool.num_entries() == 1
    pool.add([experience(4)])
    assert Pool(tmp_path).num_entries() == 2


@pytest.mark.parametrize("num", [10, pytest.param(150, marks=pytest.mark.slow)])
def test_concurrent_upserts_of_one_key_make_one_row(tmp_path: Path, num: int) -> None:
    pools = [Pool(tmp_path), Pool(tmp_path)]
    for number in range(num):
        threads = [
            threading.Thread(target=pool.add, args=([experience(number, problem_id=f"p{number}")],)) for pool in pools
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(entry.id for entry in Pool(tmp_path).entries()) == sorted(f"x{number}" for number in range(num))


def test_a_held_out_problem_is_refused_by_its_text_too_and_nothing_of_the_batch_is_stored(tmp_path: Path) -> None:
    pool = Pool(tmp_path)
    pool.set_heldout({text_hash("What is 9 + 9?")})
    with pytest.raises(DataError, match="experience x2: problem p is held out"):
        pool.add([experience(1), experience(2, text="what is  9 + 9?")])
    assert pool.num_entries() == 0


def test_100_planted_held_out_problems_are_refused_100_times(tmp_path: Path) -> None:
    problems = load_problems(ProblemsSection(num_train=20, num_heldout=100), seed=0)
    pool = Pool(tmp_path)
    pool.set_heldout(problems.heldout_hashes)
    variants: list[Callable[[str], str]] = [
        str.upper,
        lambda text: f"  {text}\n",
        lambda text: text.replace(" ", "\t "),
    ]
    num_refused = 0
    for number, task in enumerate(problems.heldout):
        planted = experience(number, problem_id="innocent", text=variants[number % 3](task.problem.text))
        with pytest.raises(DataError, match=f"experience x{number}: problem innocent is held out"):
            pool.add([planted])
        num_refused += 1
    pool.add([experience(number, text=task.problem.text) for number, task in enumerate(problems.train)])
    assert (num_refused, pool.num_entries()) == (100, 20)


def test_an_entry_that_is_there_already_stays_single_after_a_restart_and_beside_another_writer(tmp_path: Path) -> None:
    Pool(tmp_path).add([experience(1), experience(1)])
    first, second = Pool(tmp_path), Pool(tmp_path)
    first.add([experience(1), experience(2)])
    second.add([experience(2), experience(3)])
    first.add([experience(3)])
    assert sorted(entry.id for entry in Pool(tmp_path).entries()) == ["x1", "x2", "x3"]


def test_a_turn_that_was_cut_short_makes_the_next_writer_look(tmp_path: Path) -> None:
    Pool(tmp_path).add([experience(1)])
    (tmp_path / "pool.lock").write_text("")
    pool = Pool(tmp_path)
    pool.add([experience(1)])
    assert pool.num_entries() == 1


def test_a_store_of_another_version_is_named(tmp_path: Path) -> None:
    import lancedb
    import pyarrow as pa

    lancedb.connect(tmp_path).create_table("pool", schema=pa.schema([pa.field("id", pa.string())]))
    with pytest.raises(DataError, match=r"'pool' without created_s, family, .*another version of lanpo"):
        Pool(tmp_path)


def test_a_pinned_version_survives_maintenance_and_opens_read_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.experience.pool.KEEP_VERSIONS", timedelta(0))
    pool = Pool(tmp_path)
    pool.add([experience(1)])
    version = pool.pin("then")
    pool.add([experience(2)])
    unpinned = pool.version
    pool.add([experience(3)])
    pool.compact()
    pool.compact()
    then = Pool(tmp_path, version="then")
    assert (then.version, then.num_entries(), pool.num_entries()) == (version, 1, 3)
    assert [candidate.id for candidate in then.search("What is 4", 9)] == ["x1"]
    with pytest.raises(DataError, match="read-only"):
        then.add([experience(4)])
    with pytest.raises(Exception, match="no longer exists"):
        Pool(tmp_path, version=unpinned)
    pool.unpin("then")
    assert pool.pins == {}
    pool.restore(pool.version)


def test_maintenance_indexes_what_was_added(tmp_path: Path) -> None:
    pool = Pool(tmp_path)
    pool.add([experience(number, problem_id=f"p{number}") for number in range(40)])
    assert pool.num_unindexed() == 40
    pool.compact()
    assert pool.num_unindexed() == 0
    assert pool.get("x7") == experience(7, problem_id="p7")
    assert pool.get("it's not there") is None
    assert [entry.id for entry in pool.of_problem("p7")] == ["x7"]


def test_an_entry_is_added_while_the_indices_are_brought_up_to_date(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = Pool(tmp_path)
    pool.add([experience(number, problem_id=f"p{number}") for number in range(40)])

    def index_beside_an_add(table: object, *turn: Any) -> None:
        add_aside(pool, 40)
        index(table, *turn)

    monkeypatch.setattr("pipeline.storage.maintenance.index", index_beside_an_add)
    pool.compact()
    assert pool.num_entries() == 41


def add_aside(pool: Pool, number: int) -> None:
    """Add an entry in another thread, as the writer does; it must not have to wait."""
    adding = threading.Thread(target=pool.add, args=([experience(number, problem_id=f"p{number}")],), daemon=True)
    adding.start()
    adding.join(timeout=30)
    assert not adding.is_alive()


def test_two_that_maintain_one_pool_lose_nothing(tmp_path: Path) -> None:
    """A run, and `pool compact` beside it: whose commit comes second makes it anew."""
    pools = [Pool(tmp_path), Pool(tmp_path)]

    def maintain(pool: Pool, first: int) -> None:
        for number in range(first, first + 15):
            pool.add([experience(number, problem_id=f"p{number}")])
            pool.index() if number % 2 else pool.compact()

    with ThreadPoolExecutor(2) as threads:
        list(threads.map(maintain, pools, (0, 100)))
    pools[0].index()
    assert pools[0].num_unindexed() == 0
    assert len({entry.id for entry in Pool(tmp_path).entries()}) == 30


def holding(number: int, reward: float = 0.0, text: str = "", usefulness: float | None = None) -> Holding:
    return Holding(f"x{number}", float(number), reward, text or f"{number}" * 20, usefulness)


@pytest.mark.parametrize(
    ("policy", "holdings", "expected"),
    [
        ("oldest", [holding(3), holding(1), holding(2)], ["x1"]),
        ("worst", [holding(1, 1.0), holding(2, 0.5), holding(3, 0.5)], ["x2"]),
        ("least_useful", [holding(1), holding(2, usefulness=0.9), holding(3, usefulness=0.1)], ["x3"]),
        ("least_useful", [holding(2), holding(1), holding(3)], ["x1"]),
        ("most_redundant", [holding(1, text="add"), holding(2, text="carry"), holding(3, text="carry")], ["x2"]),
    ],
)
def test_which_entry_goes(policy: EvictionPolicy, holdings: list[Holding], expected: list[str]) -> None:
    assert evicted(holdings, 2, policy) == expected
    assert evicted(holdings, 3, policy) == []
    assert len(evicted(holdings, 0, policy)) == 3


def test_the_cap_follows_its_policy_by_what_became_of_those_who_saw_an_entry(tmp_path: Path) -> None:
    uses = {"x1": Use(1, 8, 8.0), "x2": Use(1, 8, 0.0), "x3": Use(2, 16, 8.0)}
    pool = Pool(tmp_path, PoolSection(max_entries_per_problem=2, eviction="least_useful"), uses=lambda i: uses[i])
    pool.add([experience(1), experience(2), experience(3)])
    assert {entry.id for entry in pool.entries()} == {"x1", "x3"}


def test_what_another_run_made_is_kept_beside_what_this_one_makes(tmp_path: Path) -> None:
    """Every run numbers its rollouts from the first step on, so their entries bear the same ids."""
    pool = Pool(tmp_path)
    own = experience(1, problem_id="own", text="How many legs has a spider?")
    foreign = experience(1, problem_id="foreign", text="How far does the train get?")
    assert pool.import_entries([foreign]) == 1
    assert pool.add([own]) == 1
    assert pool.import_entries([foreign, own, foreign.as_imported()]) == 0
    stored = {entry.problem_id: entry for entry in pool.entries()}
    assert stored["own"] == own
    assert stored["foreign"] == foreign.as_imported()
    assert stored["foreign"].is_imported
    assert stored["foreign"].step == 0


def test_a_resume_keeps_what_was_imported(tmp_path: Path) -> None:
    pool = Pool(tmp_path)
    pool.add([experience(1)])
    version = pool.version
    pool.add([experience(2)])
    pool.import_entries([experience(7, problem_id="foreign")])
    pool.restore(version)
    assert sorted(entry.problem_id for entry in pool.entries()) == ["foreign", "p"]
    assert pool.get("x2") is None


def test_a_return_that_was_killed_before_it_put_imports_back_is_made_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = Pool(tmp_path)
    pool.add([experience(1)])
    version = pool.version
    pool.add([experience(2)])
    pool.import_entries([experience(7, problem_id="foreign")])
    with monkeypatch.context() as killed:
        killed.setattr(Pool, "_insert", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            pool.restore(version)
    again = Pool(tmp_path)
    again.import_entries([experience(8, problem_id="foreign")])
    again.restore(version)
    assert sorted(entry.problem_id for entry in again.entries()) == ["foreign", "foreign", "p"]
    assert again.pins == {}


def test_what_is_imported_while_a_return_waits_for_its_turn_stays(tmp_path: Path) -> None:
    pool, importer = Pool(tmp_path), Pool(tmp_path)
    pool.add([experience(1)])
    version = pool.version
    pool.add([experience(2)])
    importer.import_entries([experience(7, problem_id="foreign")])
    pool.restore(version)
    assert sorted(entry.problem_id for entry in Pool(tmp_path).entries()) == ["foreign", "p"]


@pytest.mark.parametrize("column", ["problem_text", "id", "problem_id"])
def test_a_torn_index_is_made_anew_by_who_opens_the_pool(tmp_path: Path, column: str) -> None:
    """One write failed while it was written, and Lance committed it."""
    pool = Pool(tmp_path)
    pool.add([experience(number, problem_id=f"p{number}", text=f"{number} apples") for number in range(20)])
    pool.index()
    tear_index(pool._table, column)
    again = Pool(tmp_path)
    assert len(again.search("apples", 20)) == 20
    assert again.get("x3") is not None
    assert [entry.id for entry in again.of_problem("p4")] == ["x4"]
    assert again.num_unindexed() == 0


def test_an_index_that_is_torn_while_it_is_brought_up_to_date_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lance.dataset import DatasetOptimizer

    pool = Pool(tmp_path)
    pool.add([experience(1, text="Two apples and two apples")])
    update = DatasetOptimizer.optimize_indices

    def torn(optimizer: DatasetOptimizer, *arguments: object, **options: object) -> None:
        update(optimizer, *arguments, **options)
        tear_index(Pool(tmp_path, version=pool._table.to_lance().latest_version)._table, "problem_text")

    with monkeypatch.context() as failing:
        failing.setattr(DatasetOptimizer, "optimize_indices", torn)
        with pytest.raises(DiskError, match="fails"):
            pool.index()
    assert len(Pool(tmp_path).search("apples", 5)) == 1


def test_indices_that_a_start_did_not_come_to_are_made_by_the_next_one(tmp_path: Path) -> None:
    pool = Pool(tmp_path)
    pool._table.drop_index("id_idx")
    assert {name.columns[0] for name in Pool(tmp_path)._table.list_indices()} == {"id", "problem_id", "problem_text"}


def test_a_pool_of_before_origins_were_kept_is_read_and_added_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also after a return to a version of then, which has no such column again."""
    with_origin = pool_schema.schema()
    without = with_origin.remove(with_origin.get_field_index("origin"))
    monkeypatch.setattr("pipeline.experience.pool.schema", lambda: without)
    monkeypatch.setattr(pool_schema, "schema", lambda: without)
    pool = Pool(tmp_path)
    pool.add([experience(1)])
    version = pool.version
    monkeypatch.undo()

    made = [
        experience(number).model_copy(update={"origin": Origin(templates="full@0", outcomes="contrast", critique="c")})
        for number in (2, 3)
    ]
    pool = Pool(tmp_path)
    assert [entry.origin for entry in pool.entries()] == [Origin()]
    pool.add(made[:1])
    assert {entry.id: entry.origin for entry in pool.entries()} == {"x1": Origin(), "x2": made[0].origin}
    assert Pool(tmp_path, version=version).get("x1") == experience(1)
    pool.restore(version)
    assert [entry.id for entry in pool.entries()] == ["x1"]
    pool.add(made[1:])
    assert pool.get("x3") == made[1]
    pool.compact()
    assert {entry.id for entry in Pool(tmp_path).entries()} == {"x1", "x3"}
