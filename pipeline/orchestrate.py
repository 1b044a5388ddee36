"""The command line: `python -m pipeline.orchestrate [train | eval | sft | pool | audit | stress | doctor]`; bare, it trains the quickstart
recipe.

Exit status: 0 done; 1 a failure that needs a look at the logs; 2 something the user can mend; 130 stopped by Ctrl-C or
SIGTERM after draining."""

from __future__ import annotations

import argparse
import sys
from importlib import import_module
from pathlib import Path

from pipeline.config.loading import DEFAULT_RECIPE, FieldOptions, Parser, load_config, merged
from pipeline.errors import ConfigError, LanpoError, UserError

PROGRAM = "python -m pipeline.orchestrate"
# These have options of their own: no recipe and no settings.
WITHOUT_RECIPE = ("pool", "audit", "stress")

EXAMPLES = {
    "train": f"""examples:
  {PROGRAM} train                                    # the quickstart recipe
  {PROGRAM} train --recipe grpo --run.seed 1         # plain GRPO by the same code
  {PROGRAM} train --config my.toml --rollout.group_size 16
  {PROGRAM} train --config my.toml --dry-run         # validate, print, start nothing
  {PROGRAM} train --resume runs/my-run               # continue after Ctrl-C or a crash
  {PROGRAM} train --fork runs/my-run --learner.learning_rate 1e-6   # a new run from its newest checkpoint""",
    "eval": f"""examples:
  {PROGRAM} eval --run-folder runs/my-run             # the final model of a run, held-out, zero-shot
  {PROGRAM} eval --run-folder runs/my-run --mode zero-shot,retrieval,reflect --n 8
  {PROGRAM} eval --endpoint http://127.0.0.1:8000 --benchmark gsm8k,aime25 --n 32   # again to go on, or with more
  {PROGRAM} eval --endpoint http://127.0.0.1:8000 --benchmark my.jsonl --mode zero-shot,retrieval --pool runs/my-run
  {PROGRAM} eval --endpoint http://127.0.0.1:8000 --benchmark humaneval --compare evals/other-model
  {PROGRAM} eval --endpoint https://api.example.com --api-key-env MY_KEY --model m --benchmark math500 --prompt-price 0.5
  {PROGRAM} eval --model.path ./my-model --limit 512""",
    "sft": f"""examples:
  {PROGRAM} sft                                      # seed the embedded model with the quickstart's pairs
  {PROGRAM} sft --sft.num_pairs 3000 --out my-seeded-model
  {PROGRAM} sft --teacher http://127.0.0.1:8000 --teacher-model my-teacher --n 3000   # again to go on""",
    "pool": f"""examples:
  {PROGRAM} pool stats runs/my-run
  {PROGRAM} pool search runs/my-run "What is 4 + 3?"
  {PROGRAM} pool export runs/my-run lessons.jsonl    # or lessons.parquet
  {PROGRAM} pool import runs/other-run lessons.jsonl
  {PROGRAM} pool verify runs/my-run""",
    "audit": f"""examples:
  {PROGRAM} audit runs/my-run                        # 50 entries, beside their sources
  {PROGRAM} audit runs/my-run --n 200 --judge http://127.0.0.1:8000 --judge-model my-model""",
    "stress": f"""examples:
  {PROGRAM} stress                                   # the mock endpoint, to see what there is to see
  {PROGRAM} stress --endpoint http://127.0.0.1:8000 --model my-model --concurrency 1024 --requests 20000
  {PROGRAM} stress --endpoint http://127.0.0.1:8000 --stream --max-p99-s 30 --max-error-rate 0.001
  {PROGRAM} stress --faults 7 --concurrency 256      # the mock endpoint with seeded faults""",
    "doctor": f"""examples:
  {PROGRAM} doctor                                   # is this machine ready for the quickstart?
  {PROGRAM} doctor --config my.toml""",
}


def build_parser(command: str | None = None) -> Parser:
    """The parser. The options of one subcommand are built only when `command` names it: there are a hundred of them."""
    parser = Parser(
        prog=PROGRAM,
        description="Reinforcement learning for language models that learns from words as well as from scores.",
    )
    subcommands = parser.add_subparsers(
        dest="command", parser_class=Parser, metavar="{train,eval,sft,pool,audit,stress,doctor}"
    )
    for name, brief in (
        ("train", "train a policy with LANPO (the default)"),
        ("eval", "evaluate a model or any endpoint: benchmarks, three inference modes, intervals and comparisons"),
        ("sft", "seed the three skills by supervised fine-tuning, without reinforcement learning"),
        ("pool", "look at the experience pool of a run, take it elsewhere, keep it in order"),
        ("audit", "judge a sample of a run's lessons: transferable or specific, used or not, leaking or not"),
        ("stress", "put load on an OpenAI-compatible endpoint and report throughput, latency and errors"),
        ("doctor", "check this machine and configuration before a run"),
    ):
        sub = subcommands.add_parser(
            name,
            help=brief,
            description=f"{brief[0].upper()}{brief[1:]}.",
            usage=f"{PROGRAM} {name} [OPTIONS]"
            if name in WITHOUT_RECIPE
            else f"{PROGRAM} {name} [--config FILE] [--SECTION.FIELD VALUE ...]",
            epilog=EXAMPLES[name],
            formatter_class=argparse.RawDescriptionHelpFormatter,
            # The --model and --pool of `eval` take the place of those that set a whole section by JSON.
            conflict_handler="resolve" if name == "eval" else "error",
        )
        if name in WITHOUT_RECIPE:
            if name == command:
                import_module(f"pipeline.commands.{name}").add_options(sub)
            continue
        sub.add_argument(
            "--config", type=Path, metavar="FILE", help="TOML file over the defaults, or a run's config.json"
        )
        if name == "train":
            begin = sub.add_mutually_exclusive_group()
            begin.add_argument("--resume", type=Path, metavar="RUN", help="continue the run in this folder")
            begin.add_argument(
                "--fork",
                type=Path,
                metavar="RUN",
                help="begin a new run where this one is, with its settings or others",
            )
            sub.add_argument(
                "--at-step", type=int, metavar="K", help="--fork: at the checkpoint of this step; default: the newest"
            )
            sub.add_argument(
                "--dry-run", action="store_true", help="validate, print the resolved configuration, start nothing"
            )
        if name == "sft":
            sub.add_argument("--out", type=Path, metavar="DIR", help="where the seeded model goes; default: the cache")
            sub.add_argument("--teacher", metavar="URL", help="learn from this endpoint's answers too (sft.teacher)")
            sub.add_argument("--teacher-model", metavar="M", help="its model; default: model.name")
            sub.add_argument("--teacher-key-env", metavar="NAME", help="environment variable that holds its key")
            sub.add_argument("--n", type=int, metavar="N", help="pairs to have from it; default: sft.num_teacher_pairs")
        if name == command:
            sub.set_defaults(field_options=FieldOptions(sub))
            if name == "eval":
                import_module("pipeline.commands.evaluate").add_options(sub)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run one command; return its exit status."""
    arguments = sys.argv[1:] if argv is None else argv
    if not arguments:
        print(
            f"No subcommand given: training with the recipe {DEFAULT_RECIPE!r} ({PROGRAM} --help shows more).",
            flush=True,
        )
        arguments = ["train"]
    parsed = build_parser(arguments[0]).parse_args(arguments)
    if parsed.command is None:
        build_parser().print_help()
        return 2
    try:
        return _run(parsed)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except LanpoError as error:
        print(f"failed: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    except BaseExceptionGroup as group:
        known = _first_known(group)
        if known is None:
            raise
        print(f"{'error' if isinstance(known, UserError) else 'failed'}: {known}", file=sys.stderr)
        return 2 if isinstance(known, UserError) else 1


def _first_known(group: BaseExceptionGroup[BaseException]) -> LanpoError | None:
    """The project's failure within a task group's exception, when it holds nothing but such failures."""
    known, unknown = group.split(LanpoError)
    if known is None or unknown is not None:
        return None
    error: BaseException = known
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error if isinstance(error, LanpoError) else None


def _run(parsed: argparse.Namespace) -> int:
    if parsed.command in WITHOUT_RECIPE:
        module = import_module(f"pipeline.commands.{parsed.command}")
        return int(getattr(module, f"{parsed.command}_command")(parsed))
    overrides = parsed.field_options.overrides(parsed)
    match parsed.command:
        case "train":
            from pipeline.commands import train

            if parsed.fork:
                return train.fork(parsed.fork, parsed.at_step, parsed.config, overrides, dry_run=parsed.dry_run)
            if parsed.at_step is not None:
                raise ConfigError("--at-step says where --fork begins; it goes with --fork RUN")
            if parsed.resume:
                return train.resume(parsed.resume, parsed.config, overrides, dry_run=parsed.dry_run)
            return train.train(load_config(parsed.config, overrides), dry_run=parsed.dry_run)
        case "eval":
            from pipeline.commands import evaluate

            return evaluate.evaluate_command(parsed, overrides)
        case "sft":
            from pipeline.commands import sft

            return sft.sft_command(load_config(parsed.config, merged(overrides, sft.teacher_of(parsed))), parsed.out)
        case _:
            from pipeline.commands import doctor

            return doctor.doctor_command(load_config(parsed.config, overrides))


if __name__ == "__main__":
    sys.exit(main())
