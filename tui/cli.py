"""The command line: what may be typed, and who answers. Imports nothing but the parser's own library."""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from recommender.errors import Exit, LoracleError

DESCRIPTION = """\
Choose and run a fine-tune: full, LoRA or QLoRA, with reasons.

  loracle                                     the app
  loracle --auto --model ID --data FILE       recommend, train, report; no questions
  loracle plan --model ID --data FILE         recommend and write a plan file
  loracle run plan.yaml                       run it
"""
EXITS = """\
exit codes: 0 done · 2 bad usage or input · 3 refused before training · 4 training failed
            5 stopped, `loracle resume` goes on · 130/143 interrupted before anything could be saved
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit code."""
    parser = _parser()
    typed = sys.argv[1:] if arguments is None else arguments
    given = parser.parse_args(typed)
    # The command has defaults of its own, so that what stands before it would be lost without a word.
    if given.command is not None and typed[0] != given.command:
        if given.auto:
            parser.error("--auto is a way of its own and takes no command; leave one of the two away")
        parser.error(f"options go after the command: loracle {given.command} ...")
    try:
        code = int(_answer(given, parser))
        sys.stdout.flush()
        return code
    except LoracleError as error:
        from engine.text import clean

        print(f"loracle: {clean(error.message)}", file=sys.stderr)
        return int(error.exit)
    except KeyboardInterrupt:
        print("loracle: interrupted; nothing was started.", file=sys.stderr)
        return int(Exit.INTERRUPTED)
    except BrokenPipeError:
        # Whoever read our output went away; Python would complain once more when it flushes at the end.
        sys.stdout = None
        return int(Exit.DONE)


def _answer(given: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    if given.command is not None:
        answer: Callable[[argparse.Namespace], int] = given.answer
        return answer(given)
    if given.auto:
        if given.model is None or given.data is None:
            parser.error("--auto needs --model and --data")
        from tui.commands import auto

        return auto(given)
    for name in ("json", "dry_run", "detach"):
        if getattr(given, name):
            parser.error(f"--{name.replace('_', '-')} belongs to --auto")
    from tui.app import run_app

    return run_app(model=given.model, data=given.data, runs=given.runs)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="loracle", description=DESCRIPTION, epilog=EXITS, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action="version", version=f"loracle {_version()}" if "--version" in sys.argv else "")
    parser.add_argument("--auto", action="store_true", help="recommend, train and report without questions")
    parser.add_argument("--dry-run", action="store_true", help="with --auto: stop after the recommendation")
    parser.add_argument("--detach", action="store_true", help="with --auto: start the run and leave it running")
    _situation(parser)
    _json(parser)
    _runs(parser)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    _plan_command(commands)
    _run_commands(commands)
    return parser


def _plan_command(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    plan = commands.add_parser("plan", help="recommend, and write a plan file")
    _situation(plan)
    _json(plan)
    _runs(plan)
    plan.add_argument("--facts", type=Path, metavar="FILE", help="decide on the facts in a JSON file instead of looking")
    plan.add_argument("-o", "--output", type=Path, metavar="FILE", help="the plan file (default plan.yaml); - for none")
    plan.add_argument("--force", action="store_true", help="overwrite the plan file")
    plan.set_defaults(answer=_deferred("plan"))


def _run_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    run = commands.add_parser("run", help="run a plan file")
    run.add_argument("plan", type=Path, help="the plan file")
    run.add_argument("--model", help="use this model instead")
    run.add_argument("--data", metavar="FILE", help="use these training rows instead")
    run.add_argument("--eval", metavar="FILE", help="use these held-out rows instead")
    run.add_argument("--seed", type=int, metavar="N", help="use this seed instead")
    _assignments(run)
    run.add_argument("--detach", action="store_true", help="start the run and leave it running")
    _json(run)
    _runs(run)
    run.set_defaults(answer=_deferred("run"))

    listing = commands.add_parser("runs", help="list runs with their state")
    _json(listing)
    _runs(listing)
    listing.set_defaults(answer=_deferred("runs"))

    for name, text in (
        ("attach", "watch a run; leaving it (Ctrl-C) does not stop it"),
        ("resume", "go on with a run from its newest sound checkpoint"),
        ("stop", "stop a run after its current step, with a checkpoint"),
        ("report", "show what a run brought"),
    ):
        one = commands.add_parser(name, help=text)
        one.add_argument("run", metavar="RUN", help="a path, a name, the start of a name, or `last`")
        if name == "stop":
            one.add_argument("--now", action="store_true", help="at once, without a new checkpoint")
        else:
            _json(one)
        if name == "resume":
            one.add_argument("--detach", action="store_true", help="leave it running")
        _runs(one)
        one.set_defaults(answer=_deferred(name))


def _situation(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", metavar="ID", help="a model folder, a hub id, or `demo`")
    parser.add_argument("--data", metavar="FILE", help="training rows: csv, tsv, jsonl, json or parquet")
    parser.add_argument("--eval", metavar="FILE", help="held-out rows; without it some are set aside")
    parser.add_argument("--method", choices=("full", "lora", "qlora"), help="take this method whatever is recommended")
    parser.add_argument("--text-column", metavar="NAME")
    parser.add_argument("--label-column", metavar="NAME")
    parser.add_argument("--train-rows", type=int, metavar="N", help="a seeded sample of the training rows")
    parser.add_argument("--eval-rows", type=int, metavar="N", help="a seeded sample of the held-out rows")
    parser.add_argument("--seed", type=int, default=1, metavar="N")
    _assignments(parser)
    parser.add_argument("--anyway", action="store_true", help="run against the advice; it is written into the plan")


def _assignments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", dest="assignments", help="set a field of the plan; repeatable"
    )


def _json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="one JSON object a line, and nothing else")


def _runs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--runs", type=Path, metavar="DIR", help="where runs go (default $LORACLE_RUNS, else ./runs)")


def _deferred(name: str) -> Callable[[argparse.Namespace], int]:
    """The command of that name, imported when it is called."""

    def call(given: argparse.Namespace) -> int:
        from importlib import import_module

        answer: Callable[[argparse.Namespace], int] = getattr(import_module("tui.commands"), name)
        return answer(given)

    return call


def _version() -> str:
    from importlib.metadata import version

    return version("loracle")


if __name__ == "__main__":
    sys.exit(main())
