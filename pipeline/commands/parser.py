"""The command line: every command with its options, those for settings included.

Options are exact: no prefix of one stands for it. A mistyped one is answered with the option that is most like it, and
exit status 2."""

from __future__ import annotations

import argparse
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from pipeline.commands.setting_options import add_setting_options
from pipeline.config.renamed import RENAMED
from pipeline.text import did_you_mean

PROGRAM = "python -m pipeline.orchestrate"


class Command(NamedTuple):
    """A command: `module` has its `add_options` and its function. `settings` are those that its help shows; a command
    without any takes none. `own` are sections whose name is that of an option of its own."""

    brief: str
    module: str
    examples: tuple[str, ...]
    settings: tuple[str, ...] = ()
    own: tuple[str, ...] = ()


COMMANDS = {
    "train": Command(
        brief="train a policy with LANPO (the default)",
        module="pipeline.commands.train",
        examples=(
            "  # the quickstart recipe",
            "--recipe grpo --run.seed 1  # plain GRPO by the same code",
            "--config my.toml --rollout.group_size 16",
            "--config my.toml --dry-run  # validate, print, start nothing",
            "--resume runs/my-run  # continue after Ctrl-C or a crash",
            "--fork runs/my-run --learner.learning_rate 1e-6  # a new run from its newest checkpoint",
        ),
        settings=(
            "recipe", "run.name", "run.seed", "model.path", "problems.source", "feedback.ratio", "rollout.group_size",
            "rollout.num_problems_per_step", "rollout.sampling.max_tokens", "learner.num_steps",
            "learner.learning_rate", "learner.kl_coef", "sft.enabled",
        ),
    ),
    "eval": Command(
        brief="evaluate a model or any endpoint: benchmarks, three inference modes, intervals and comparisons",
        module="pipeline.commands.evaluate",
        examples=(
            "--run-folder runs/my-run  # the final model of a run, held-out, zero-shot",
            "--run-folder runs/my-run --mode zero-shot,retrieval,reflect --n 8",
            "--endpoint http://127.0.0.1:8000 --benchmark gsm8k,aime25 --n 32  # again to go on, or with more",
            "--endpoint http://127.0.0.1:8000 --benchmark my.jsonl --mode zero-shot,retrieval --pool runs/my-run",
            "--endpoint http://127.0.0.1:8000 --benchmark humaneval --compare evals/other-model",
            "--endpoint https://api.example.com --api-key-env MY_KEY --model m --benchmark math500 --prompt-price 0.5",
            "--model.path ./my-model --limit 512",
        ),
        settings=(
            "recipe", "run.seed", "model.path", "servers.max_model_len", "endpoints", "feedback.similarity_threshold",
            "feedback.num_lessons", "rollout.system_prompt", "requests.timeout_s", "reward.num_workers", "eval.top_p",
            "eval.num_rounds",
        ),
        own=("model", "pool"),
    ),
    "sft": Command(
        brief="seed the three skills by supervised fine-tuning, without reinforcement learning",
        module="pipeline.commands.sft",
        examples=(
            "  # seed the embedded model with the quickstart's pairs",
            "--sft.num_pairs 3000 --out my-seeded-model",
            "--teacher http://127.0.0.1:8000 --teacher-model my-teacher --n 3000  # again to go on",
        ),
        settings=(
            "recipe", "model.path", "problems.source", "sft.num_pairs", "sft.respond_share", "sft.inspect_share",
            "sft.answer_only_share", "sft.num_epochs", "sft.learning_rate", "sft.batch_size", "sft.max_length",
            "sft.seed",
        ),
    ),
    "pool": Command(
        brief="look at the experience pool of a run, take it elsewhere, keep it in order",
        module="pipeline.commands.pool",
        examples=(
            "stats runs/my-run",
            'search runs/my-run "What is 4 + 3?"',
            "export runs/my-run lessons.jsonl  # or lessons.parquet",
            "import runs/other-run lessons.jsonl",
            "verify runs/my-run",
        ),
    ),
    "audit": Command(
        brief="judge a sample of a run's lessons: transferable or specific, used or not, leaking or not",
        module="pipeline.commands.audit",
        examples=(
            "runs/my-run  # 50 entries, beside their sources",
            "runs/my-run --n 200 --judge http://127.0.0.1:8000 --judge-model my-model",
        ),
    ),
    "stress": Command(
        brief="put load on an OpenAI-compatible endpoint and report throughput, latency and errors",
        module="pipeline.commands.stress",
        examples=(
            "  # the mock endpoint, to see what there is to see",
            "--endpoint http://127.0.0.1:8000 --model my-model --concurrency 1024 --requests 20000",
            "--endpoint http://127.0.0.1:8000 --stream --max-p99-s 30 --max-error-rate 0.001",
            "--faults 7 --concurrency 256  # the mock endpoint with seeded faults",
        ),
    ),
    "doctor": Command(
        brief="check this machine and configuration before a run",
        module="pipeline.commands.doctor",
        examples=("  # is this machine ready for the quickstart?", "--config my.toml"),
        settings=(
            "recipe", "run.root", "run.store", "model.path", "servers.num_servers", "endpoints",
            "learner.num_processes",
        ),
    ),
}  # fmt: skip


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
    """The parser for `arguments`: only the command that they name gets its options, which are imported and many."""
    parser = Parser(
        prog=PROGRAM,
        description="Reinforcement learning for language models that learns from words as well as from scores.",
    )
    commands = parser.add_subparsers(dest="command", parser_class=Parser, metavar=f"{{{','.join(COMMANDS)}}}")
    for name, command in COMMANDS.items():
        sub = commands.add_parser(
            name,
            help=command.brief,
            description=f"{command.brief[0].upper()}{command.brief[1:]}.",
            usage=f"{PROGRAM} {name} [OPTIONS]{' [--SECTION.FIELD VALUE ...]' if command.settings else ''}",
            epilog="\n".join(("examples:", *examples(name))),
        )
        if [name] == arguments[:1]:
            _add_options(sub, command, show_all="--help-all" in arguments)
    return parser


def _add_options(parser: Parser, command: Command, *, show_all: bool) -> None:
    if command.settings:
        parser.add_argument("--help-all", action="help", help="show this help with every setting, its type and default")
        parser.add_argument(
            "--config", type=Path, metavar="FILE", help="TOML file over the defaults, or a run's config.json"
        )
    import_module(command.module).add_options(parser)
    if command.settings:
        add_setting_options(parser, command.settings, own=command.own, show_all=show_all)


def examples(name: str) -> list[str]:
    """Whole command lines of the command `name`."""
    return [f"  {PROGRAM} {name} {words}" for words in COMMANDS[name].examples]


def run(arguments: argparse.Namespace) -> int:
    """Run the command that was parsed; return its exit status."""
    module = COMMANDS[arguments.command].module
    function = getattr(import_module(module), f"{module.rpartition('.')[2]}_command")
    return int(function(arguments))
