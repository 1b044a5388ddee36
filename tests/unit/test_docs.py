"""What the documents name exists: paths, make targets, settings with their defaults, commands, modules, tests."""

from __future__ import annotations

import ast
import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from pipeline.commands.parser import COMMANDS, PROGRAM, build_parser, examples
from pipeline.config import Config
from pipeline.errors import UserError
from pipeline.orchestrate import main
from pipeline.run.folder import RunFolder
from pipeline.runtime.files import flat
from tests.documents import DOCUMENTS, ROOT, Document, promises

TOP = ("pipeline", "prompts", "servers", "trainer")
NAMES = [str(path.relative_to(ROOT)) for path in DOCUMENTS]
FILE = re.compile(r"[\w.*/-]+\.(py|md|toml|txt|ini|yaml|yml|sh)|Makefile|LICENSE")
DOTTED = re.compile(r"[a-z_]+(\.[A-Za-z_]\w*)+")
TARGET = re.compile(r"^([a-z][\w-]*):", re.MULTILINE)
SUBCOMMANDS = ("train", "eval", "sft", "stress", "doctor")


@pytest.fixture(params=NAMES)
def document(request: pytest.FixtureRequest) -> Document:
    return Document.read(ROOT / request.param)


def field(name: str) -> Any:
    """Default of the setting `name` ('rollout.sampling.top_p'). Raises KeyError when there is none."""
    value: Any = Config()
    for part in name.split("."):
        if not isinstance(value, BaseModel) or part not in type(value).model_fields:
            raise KeyError(name)
        value = getattr(value, part)
    return value


def is_setting(name: str) -> bool:
    try:
        field(name)
    except KeyError:
        return False
    return True


def is_code(name: str) -> bool:
    """Whether `name` is a module of ours ('pipeline.run.folder'), or something defined at the top of one."""
    parts = name.split(".")
    if parts[0] not in TOP:
        return False
    for length in range(len(parts), 0, -1):
        base = ROOT.joinpath(*parts[:length])
        source = base.with_suffix(".py") if base.with_suffix(".py").is_file() else base / "__init__.py"
        if source.is_file():
            rest = parts[length:]
            defined = {
                node.name
                for node in ast.parse(source.read_text(encoding="utf-8")).body
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
            }
            return not rest or (len(rest) == 1 and rest[0] in defined)
    return False


def run_folder_names(tmp_path: Path) -> set[str]:
    return {value.name for value in vars(RunFolder(tmp_path)).values() if isinstance(value, Path)}


def top_level() -> set[str]:
    return {path.name for path in ROOT.iterdir() if path.is_dir() and path.name not in (".git", ".venv", "runs")}


def test_paths_exist(document: Document) -> None:
    for span in document.spans:
        path = span.partition("::")[0]
        in_the_tree = "/" in path and path.split("/")[0] in top_level()
        if " " not in path and (in_the_tree or FILE.fullmatch(path)):
            assert list(ROOT.glob(path.rstrip("/"))), f"{document.path.name} names {path}, which does not exist"
    for target in document.links:
        assert (document.path.parent / target).exists(), f"{document.path.name} links to {target}"


def test_make_targets_exist(document: Document) -> None:
    targets = set(TARGET.findall((ROOT / "Makefile").read_text(encoding="utf-8")))
    for words in document.commands:
        if words[0] == "make":
            named = {word for word in words[1:] if "=" not in word and not word.startswith("-")}
            assert named <= targets, f"{document.path.name}: make has no {named - targets}"


def test_dotted_names_are_settings_or_code(document: Document, tmp_path: Path) -> None:
    files = run_folder_names(tmp_path)
    for span in document.spans:
        name = span.partition(" = ")[0].removeprefix("--")
        if DOTTED.fullmatch(name) and not FILE.fullmatch(name) and name not in files:
            ours = name.split(".")[0] in {*TOP, *Config.model_fields}
            known = is_setting(name) or is_code(name)
            outside = not ours and re.match(r"(asyncio|vllm|torch|wilson)\b", name)
            assert known or outside, f"{document.path.name} names {name}: neither a setting nor code of ours"


def test_toml_blocks_hold_settings_only(document: Document) -> None:
    for language, block in document.blocks:
        if language == "toml":
            for name in flat(tomllib.loads(block)):
                parents = [name.rsplit(".", cut)[0] for cut in range(name.count("."))]
                # Below a free-form setting (families, chat_template_kwargs) any key may stand.
                assert is_setting(name) or any(
                    is_setting(p) and not isinstance(field(p), BaseModel) for p in parents
                ), name


def orchestrate_arguments(words: list[str]) -> list[str] | None:
    """What `words` pass to the root command, or None if they call something else."""
    if words[0] in SUBCOMMANDS:
        return words
    if words[0] == "lanpo":
        return words[1:]
    if Path(words[0]).name == "python" and words[1:3] == ["-m", "pipeline.orchestrate"]:
        return words[3:]
    return None


def test_modules_started_exist(document: Document) -> None:
    for words in document.commands:
        if Path(words[0]).name == "python" and "-m" in words:
            module = words[words.index("-m") + 1]
            if module.split(".")[0] in {*TOP, "benchmarks"}:
                path = ROOT.joinpath(*module.split("."))
                assert path.with_suffix(".py").is_file() or (path / "__main__.py").is_file(), module


def test_commands_parse(
    document: Document, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each command is accepted by the real parser; a `train` that needs no earlier run also passes its dry run."""
    monkeypatch.chdir(tmp_path)
    for language, block in document.blocks:
        if language == "toml":
            (tmp_path / "my.toml").write_text(block, encoding="utf-8")
    for words in document.commands:
        arguments = orchestrate_arguments(words)
        if not arguments:
            continue
        if {"--help", "--help-all"} & set(arguments):
            with pytest.raises(SystemExit) as end:
                build_parser(arguments).parse_args(arguments)
            assert end.value.code in (0, None), words
        elif arguments[0] == "train" and not {"--resume", "--fork"} & set(arguments) and len(words) > 1:
            dry = arguments if "--dry-run" in arguments else [*arguments, "--dry-run"]
            assert main(dry) in (0, None), f"{' '.join(words)}\n{capsys.readouterr().err}"
        else:
            build_parser(arguments).parse_args(arguments)


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_examples_of_the_help_parse(command: str) -> None:
    lines = [shlex.split(line, comments=True) for line in examples(f"{PROGRAM} {command}", COMMANDS[command])]
    assert lines
    for words in lines:
        arguments = orchestrate_arguments(words)
        assert arguments
        assert build_parser(arguments).parse_args(arguments).command == command


@pytest.mark.parametrize(
    "arguments", [["train", "--no.such_field", "1", "--dry-run"], ["train", "--recipe", "none", "--dry-run"]]
)
def test_a_wrong_command_does_not_pass(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """The check above can fail: the root command answers with status 2 or raises."""
    try:
        status: object = main(arguments)
    except SystemExit as end:
        status = end.code
    except UserError:
        status = 2
    assert status == 2


def test_method_states_the_defaults() -> None:
    """The table of symbols in docs/method.md: `| symbol | `field` | default | meaning |`."""
    rows = re.findall(
        r"^\|[^|]*\| `([a-z_.]+)` \| ([^|]+) \|",
        (ROOT / "docs" / "method.md").read_text(encoding="utf-8"),
        re.MULTILINE,
    )
    assert len(rows) >= 10
    for name, stated in rows:
        default = field(name)
        assert stated.strip().strip('`"') == (str(default).lower() if isinstance(default, bool) else str(default)), name


def test_the_map_has_every_package() -> None:
    spans = set(Document.read(ROOT / "CONTRIBUTING.md").spans)
    below = [path for path in (ROOT / "pipeline").iterdir() if not path.name.startswith("__")]
    parts = {f"pipeline/{path.name}{'/' * path.is_dir()}" for path in below} | {f"{top}/" for top in TOP[1:]}
    assert parts <= spans, f"CONTRIBUTING.md does not name {sorted(parts - spans)}"


def test_promises_are_held_by_tests_that_exist() -> None:
    table = promises()
    assert sorted(table) == list(range(1, len(table) + 1))
    for number, (state, tests) in table.items():
        assert tests or state == "not yet tested", f"promise {number}: {state}"
        for test in tests:
            path, _, name = test.partition("::")
            assert (ROOT / path).is_file(), f"promise {number} cites {path}"
            assert re.search(rf"^(async )?def {name}\(", (ROOT / path).read_text(encoding="utf-8"), re.MULTILINE), test


def test_documents_stand_alone(document: Document) -> None:
    for foreign in ("../shared", "/work/", "/root/", "issue #"):
        assert foreign not in document.text
