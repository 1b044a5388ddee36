"""The command line: every command with its options, those for settings included.

Options are exact: no prefix of one stands for it. A mistyped one is answered with the option that is most like it, and
exit status 2."""

from __future__ import annotations

import argparse
import tomllib
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

from pydantic import BaseModel

from pipeline.commands.setting_options import add_setting_options
from pipeline.config.renamed import RENAMED
from pipeline.text import did_you_mean

PROGRAM = "python -m pipeline.orchestrate"


class Command(BaseModel):
    """A command, or one of its `actions`, as commands.toml describes it; `module` has its function. A command without
    `settings` takes none."""

    brief: str
    examples: list[str]
    notes: str = ""
    module: str = ""
    settings: list[str] = []
    own: list[str] = []
    either: list[str] = []
    options: dict[str, dict[str, Any]] = {}
    actions: dict[str, Command] = {}


COMMANDS = {
    name: Command.model_validate(table)
    for name, table in tomllib.loads((Path(__file__).parent / "commands.toml").read_text(encoding="utf-8")).items()
}
TYPES = {"int": int, "float": float, "path": Path}


class Parser(argparse.ArgumentParser):
    """An argparse parser of exact options, which reports unknown ones itself: it knows its own best."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter, **settings)

    def parse_known_args(self, args=None, namespace=None):  # type: ignore[no-untyped-def]
        parsed, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self._refuse(unknown[0].partition("=")[0])
        return parsed, []

    def _refuse(self, word: str) -> NoReturn:
        if word.removeprefix("--") in RENAMED:
            self.error(f"option {word} was renamed; write --{RENAMED[word.removeprefix('--')]}")
        if not word.startswith("-"):
            self.error(f"unexpected argument {word!r}")
        known = [option for action in self._actions for option in action.option_strings if option.startswith("--")]
        self.error(f"unknown option {word}{did_you_mean(word, known)}")

    def error(self, message: str) -> NoReturn:
        if message.endswith("expected one argument"):
            message += " (a value that begins with - is written --option=VALUE)"
        self.exit(2, f"{self.prog}: error: {message}\nTry {self.prog} --help.\n")


def build_parser(arguments: list[str]) -> Parser:
    """The parser for `arguments`: only the command that they name gets its options, which are many."""
    parser = Parser(
        prog=PROGRAM,
        description="Reinforcement learning for language models that learns from words as well as from scores.",
    )
    commands = parser.add_subparsers(dest="command", parser_class=Parser, metavar=f"{{{','.join(COMMANDS)}}}")
    for name, command in COMMANDS.items():
        sub = _add_parser(commands, f"{PROGRAM} {name}", name, command)
        operands = [f"{option['metavar']} " for key, option in command.options.items() if not key.startswith("-")]
        sub.usage = (
            f"{sub.prog} {''.join(operands)}[OPTIONS]{' [--SECTION.FIELD VALUE ...]' if command.settings else ''}"
        )
        if [name] == arguments[:1]:
            _add_options(sub, command, show_all="--help-all" in arguments)
            if command.actions:
                _add_actions(sub, command)
    return parser


def _add_parser(parsers: Any, prog: str, name: str, command: Command) -> Parser:
    added: Parser = parsers.add_parser(
        name,
        help=command.brief,
        description=f"{command.brief[0].upper()}{command.brief[1:]}.",
        epilog="\n".join((*command.notes.splitlines(), "examples:", *examples(prog, command))),
    )
    return added


def _add_actions(parser: Parser, command: Command) -> None:
    names = f"{{{','.join(command.actions)}}}"
    parser.usage = f"{parser.prog} {names} RUN ..."
    actions = parser.add_subparsers(dest="action", required=True, prog=parser.prog, metavar=names)
    for name, action in command.actions.items():
        _add_options(_add_parser(actions, f"{parser.prog} {name}", name, action), action)


def _add_options(parser: Parser, command: Command, *, show_all: bool = False) -> None:
    if command.settings:
        parser.add_argument("--help-all", action="help", help="show this help with every setting, its type and default")
        parser.add_argument(
            "--config",
            type=Path,
            metavar="FILE",
            help="TOML file over the defaults, or over the recipe or file that it extends (a line at its top, such as "
            'extends = "quickstart"); or a run\'s config.json',
        )
    either = parser.add_mutually_exclusive_group() if command.either else parser
    for name, option in command.options.items():
        typed = {"type": TYPES[option["type"]]} if "type" in option else {}
        (either if name in command.either else parser).add_argument(name, **{**option, **typed})
    if command.settings:
        add_setting_options(parser, command.settings, own=command.own, show_all=show_all)


def examples(prog: str, command: Command) -> list[str]:
    """Whole command lines of the command or action `prog`."""
    return [f"  {prog} {words}" for words in command.examples]


def run(arguments: argparse.Namespace) -> int:
    """Run the command that was parsed; return its exit status."""
    module = COMMANDS[arguments.command].module
    function = getattr(import_module(module), f"{module.rpartition('.')[2]}_command")
    return int(function(arguments))
