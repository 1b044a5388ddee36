"""The entry: `python -m pipeline.orchestrate [train | eval | grade | sft | pretrain | pool | audit | stress | doctor]`;
bare, it trains the quickstart recipe.

Exit status: 0 done; 1 a failure that needs a look at the logs; 2 something the user can mend; 130 stopped by Ctrl-C or
SIGTERM after draining."""

from __future__ import annotations

import logging
import sys

from pipeline.commands.parser import PROGRAM, build_parser, run
from pipeline.config.loading import DEFAULT_RECIPE
from pipeline.errors import LanpoError, UserError


def main(argv: list[str] | None = None) -> int:
    """Run one command; return its exit status."""
    arguments = sys.argv[1:] if argv is None else argv
    if not arguments:
        print(
            f"No subcommand given: training with the recipe {DEFAULT_RECIPE!r} ({PROGRAM} --help shows more).",
            flush=True,
        )
        arguments = ["train"]
    # Every command says in its own words what it meets at endpoints: without a log file it would be there twice.
    logging.getLogger("pipeline.inference").addHandler(logging.NullHandler())
    parser = build_parser(arguments)
    parsed = parser.parse_args(arguments)
    if parsed.command is None:
        parser.print_help()
        return 2
    try:
        return run(parsed)
    except LanpoError as error:
        return _report(error)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    except BaseExceptionGroup as group:
        known = _first_known(group)
        if known is None:
            raise
        return _report(known)


def _report(error: LanpoError) -> int:
    """Print what went wrong; return the exit status."""
    mendable = isinstance(error, UserError)
    print(f"{'error' if mendable else 'failed'}: {error}", file=sys.stderr)
    return 2 if mendable else 1


def _first_known(group: BaseExceptionGroup[BaseException]) -> LanpoError | None:
    """The project's failure within a task group's exception, when it holds nothing but such failures."""
    known, unknown = group.split(LanpoError)
    if known is None or unknown is not None:
        return None
    error: BaseException = known
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error if isinstance(error, LanpoError) else None


if __name__ == "__main__":
    sys.exit(main())
