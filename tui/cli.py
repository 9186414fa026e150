"""The command line: what may be typed, and who answers. Imports nothing but the parser's own library."""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from recommender.errors import Exit, LoracleError
from tui import flags, flags_group, i18n, settings, streams
from tui.i18n import _
from tui.parser import Parser, command
from tui.streams import complain


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit code."""
    streams.have()
    streams.write_anything()
    if sys.platform == "win32":  # locks, signals and limits of processes are of another kind there
        complain(_("loracle: Windows is not supported; install Loracle below it in WSL, which reaches the GPU too."))
        return int(Exit.REFUSED)
    try:
        code = _obey(sys.argv[1:] if arguments is None else arguments)
        sys.stdout.flush()
        return code
    except LoracleError as error:
        from engine.text import clean
        from tui.error_words import in_words

        complain(f"loracle: {in_words(clean(error.message))}")
        return int(error.exit)
    except KeyboardInterrupt:
        complain(_("loracle: interrupted; nothing was started."))
        return int(Exit.INTERRUPTED)
    except BrokenPipeError:
        # Whoever read our output went away; Python would complain once more when it flushes at the end.
        sys.stdout = None
        return int(Exit.DONE)
    except OSError as error:  # a folder that may not be read, a disk that is full
        from engine.files import DISK_FULL

        if error.filename is None and error.errno not in DISK_FULL:
            raise
        from engine.text import one_line
        from tui.error_words import in_words

        if error.filename is None:  # what is printed goes into a file; Python would complain once more at the end
            sys.stdout = None
        file = one_line(error.filename, 1_000) if error.filename is not None else _("what is printed")
        why = in_words(error.strerror or type(error).__name__)
        complain(_("loracle: {file}: {why}.").format(file=file, why=why))
        return int(Exit.USAGE)


def _obey(typed: Sequence[str]) -> int:
    problem = _speak()
    parser = _parser()
    try:
        given = parser.read(typed)
        # The command has defaults of its own, so that what stands before it would be lost without a word.
        if given.command is not None and typed[0] != given.command:
            if given.auto:
                parser.error(_("--auto takes no command; leave out one of the two"))
            parser.error(_("options go after the command, as in `loracle {command} --help`").format(command=given.command))
        if getattr(given, "json", False):
            streams.write_anything("utf-8")
        if problem is not None:
            raise problem
        return int(_answer(given, parser))
    except SystemExit as end:  # after `--help`, or what is wrong with the words
        return end.code if isinstance(end.code, int) else int(Exit.DONE)


def _speak() -> LoracleError | None:
    """Read config.toml and speak the reader's language; what is wrong with the file, to be said once `--help` had its turn."""
    problem = None
    try:
        settings.load()
    except LoracleError as error:
        problem = error
    i18n.speak(i18n.chosen())
    return problem


def _answer(given: argparse.Namespace, parser: Parser) -> int:
    if given.command is None and not given.auto:
        return _ask(given, parser)
    if hasattr(given, "assignments"):
        given.assignments = settings.assignments(given.assignments, has_plan=given.command == "run")
    if given.command is not None:
        answer: Callable[[argparse.Namespace], int] = given.answer
        return answer(given)
    if given.model is None or given.data is None:
        parser.error(_("--auto needs --model and --data"))
    from tui.commands_advice import auto

    return auto(given)


def _ask(given: argparse.Namespace, parser: Parser) -> int:
    """The app, or prompts, beginning with what the flags say."""
    for name in ("json", "dry_run", "detach", "anyway"):
        if getattr(given, name):
            parser.error(_("{flag} belongs to --auto").format(flag=f"--{name.replace('_', '-')}"))
    of_a_plan = {"--method": given.method is not None, "--seed": given.seed != 1, "--set": bool(given.assignments)}
    if (given.model is None or given.data is None) and any(of_a_plan.values()):
        flag = next(flag for flag, said in of_a_plan.items() if said)
        parser.error(_("{flag} needs --model and --data beside it").format(flag=flag))
    from tui import plain
    from tui.draft import of_flags

    if plain.wanted(given.plain):
        return plain.ask(of_flags(given), given.runs, main)
    from tui.start import run_app

    return run_app(draft=of_flags(given), runs=given.runs)


def _parser() -> Parser:
    raw = argparse.RawDescriptionHelpFormatter
    parser = Parser(prog="loracle", description=_description(), epilog=_exits(), formatter_class=raw)
    parser.add_argument("--version", action="version", help=_("show the version and exit"),
                        version=f"loracle {_version()}" if "--version" in sys.argv else "")  # fmt: skip
    parser.add_argument("--auto", action="store_true", help=_("recommend, train and report without questions"))
    parser.add_argument("--plain", action="store_true", help=_("ask with ordinary prompts instead of the app (ACCESSIBLE=1 too)"))
    parser.add_argument("--dry-run", action="store_true", help=_("with --auto: stop after the recommendation"))
    parser.add_argument("--detach", action="store_true", help=_("with --auto: start the run and leave it running"))
    parser.set_defaults(explain=False)
    flags.situation(parser)
    flags.goal(parser)
    flags.as_json(parser)
    flags.runs(parser)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title=_("commands"))
    _plan_command(commands)
    _estimate_command(commands)
    _inspect_command(commands)
    _run_commands(commands)
    return parser


def _description() -> str:
    return _("""\
Choose and run a fine-tune: full, LoRA or QLoRA, with reasons.

  loracle                                     the app, or prompts with --plain
  loracle --auto --model ID --data FILE       recommend, train, report; no questions
  loracle plan --model ID --data FILE         recommend and write a plan file
  loracle inspect machine | model | data      what is known about one of them
  loracle estimate --facts FILE               memory and time of a step, on any NVIDIA card
  loracle run plan.yaml                       run it
""")


def _exits() -> str:
    return _("""\
exit codes: 0 done · 2 bad usage or input · 3 refused before training · 4 training failed
            5 stopped, `loracle resume` continues · 130/143 interrupted before anything could be saved
""")


def _plan_command(commands: "argparse._SubParsersAction[Parser]") -> None:
    plan = command(
        commands, "plan", _("recommend, and write a plan file"),
        "loracle plan --model bert-base-uncased --data reviews.csv",
        "loracle plan --model ./my-model --data train.jsonl --eval test.jsonl --explain -o my-plan.yaml",
        "loracle plan --facts facts.json --json",
    )  # fmt: skip
    flags.situation(plan)
    flags.goal(plan)
    flags.as_json(plan)
    flags.runs(plan)
    plan.add_argument("--facts", type=Path, metavar="FILE", help=_("decide from facts in a JSON file (- reads them from stdin)"))
    plan.add_argument("--trace", action="store_true", help=_("with --facts: count the memory of every step"))
    plan.add_argument("--explain", action="store_true", help=_("print the whole decision: every rule with its points and source"))
    plan.add_argument("-o", "--output", type=Path, metavar="FILE", help=_("the plan file (default plan.yaml); - for none"))
    plan.add_argument("--force", action="store_true", help=_("overwrite the plan file"))
    plan.set_defaults(answer=_deferred("plan", "tui.commands_advice"))


def _estimate_command(commands: "argparse._SubParsersAction[Parser]") -> None:
    estimate = command(
        commands, "estimate", _("memory and time of one training step on any NVIDIA card, without having it"),
        "loracle inspect model ID --json > facts.json",
        """jq '.machine.devices = [{name: "RTX 4090"}] | .step = {method: "lora", micro_batch_rows: 4}' facts.json > step.json""",
        "loracle estimate --facts step.json",
    )  # fmt: skip
    facts_help = _("facts with a `step`, whose fields docs/memory.md lists (- reads them from stdin)")
    estimate.add_argument("--facts", type=Path, required=True, metavar="FILE", help=facts_help)
    flags.as_json(estimate)
    estimate.set_defaults(answer=_deferred("command", "tui.commands_estimate"))
    calibrate = command(
        commands, "calibrate", _("measure this device for predictions of memory and time (takes seconds)"), "loracle calibrate"
    )
    flags.as_json(calibrate)
    flags.runs(calibrate)
    calibrate.set_defaults(answer=_deferred("calibrate", "tui.commands_estimate"))


def _inspect_command(commands: "argparse._SubParsersAction[Parser]") -> None:
    inspect = command(
        commands, "inspect", _("show the facts about this machine, a model or a data set"),
        "loracle inspect machine",
        "loracle inspect model bert-base-uncased",
        "loracle inspect data reviews.csv --model bert-base-uncased",
    )  # fmt: skip
    things = inspect.add_subparsers(dest="thing", metavar="THING", required=True)
    machine = command(
        things, "machine", _("accelerators, memory, processor, disk"),
        "loracle inspect machine", "loracle inspect machine --json > machine.json",
    )  # fmt: skip
    machine.add_argument("--try-nf4", action="store_true", help=_("find out whether 4-bit kernels run here (takes seconds)"))
    flags.runs(machine)
    of_model = _("size, shape and kind, from its configuration and headers; no weights are loaded")
    model = command(things, "model", of_model, "loracle inspect model bert-base-uncased", "loracle inspect model ./my-model")
    model.add_argument("model", metavar="MODEL", help=_("a model folder, a hub id, or `demo`"))
    data = command(
        things, "data", _("task, columns, rows, tokens, and what is wrong with them"),
        "loracle inspect data reviews.csv",
        "loracle inspect data chats.jsonl --model Qwen/Qwen3-0.6B --tokens 3",
    )  # fmt: skip
    data.add_argument("data", metavar="FILE", help=flags.data_help())
    data.add_argument("--model", metavar="ID", help=_("count tokens with this model's tokenizer"))
    data.add_argument(
        "--tokens", type=flags.count, metavar="N", help=_("show N rows as --model reads them, and what it learns from them")
    )
    flags.rows(data)
    for name, one in (("machine", machine), ("model", model), ("data", data)):
        one.add_argument("--json", action="store_true", help=_("print one JSON object; those of all three make a facts file"))
        one.set_defaults(answer=_deferred(name, "tui.commands_inspect"))


def _run_commands(commands: "argparse._SubParsersAction[Parser]") -> None:
    run = command(
        commands, "run", _("run a plan file"),
        "loracle run plan.yaml",
        "loracle run plan.yaml --seed 2 --set epochs=5",
    )  # fmt: skip
    run.add_argument("plan", metavar="PLAN", type=Path, help=_("the plan file"))
    run.add_argument("--model", metavar="ID", help=_("use this model instead"))
    run.add_argument("--data", metavar="FILE", help=_("use these training rows instead"))
    run.add_argument("--eval", metavar="FILE", help=_("use these held-out rows instead"))
    run.add_argument("--seed", type=flags.seed, metavar="N", help=_("use this seed instead"))
    flags.assignments(run)
    run.add_argument("--detach", action="store_true", help=_("start the run and leave it running"))
    flags.as_json(run)
    flags.runs(run)
    run.set_defaults(answer=_deferred("run"))

    listing = command(commands, "runs", _("list runs with their state"), "loracle runs", "loracle runs --runs ~/runs --json")
    flags.as_json(listing)
    flags.runs(listing)
    listing.set_defaults(answer=_deferred("runs"))

    flags_group.add(commands, _deferred)

    serve = command(commands, "serve", _("show the app in a browser on this machine"), "loracle serve --port 9000")
    serve.add_argument("--port", type=int, default=8765, metavar="N", help=_("the port, of 127.0.0.1 (default 8765)"))
    flags.runs(serve)
    serve.set_defaults(answer=_deferred("serve", "tui.serve"))

    for name, does, example in (
        ("attach", _("watch a run; leaving it (Ctrl-C) does not stop it"), ""),
        ("resume", _("resume a run from its newest intact checkpoint"), ""),
        ("stop", _("stop a run after its current step, with a checkpoint"), ""),
        ("report", _("show the report of a run"), ""),
        ("merge", _("merge a finished run's adapter into its base, as a standalone model"), " --to ./my-model"),
    ):
        one = command(commands, name, does, f"loracle {name} last{example}")
        alone, any_of_them = (
            _("a run by its path, its name, the start of its name, or `last` (the default)"),
            _("a run, comparison or pilot by its path, its name, the start of its name, or `last` (the default)"),
        )
        one.add_argument("run", metavar="RUN", nargs="?", default="last", help=alone if name == "merge" else any_of_them)
        if name == "stop":
            one.add_argument("--now", action="store_true", help=_("stop at once; steps since the last checkpoint are lost"))
        else:
            flags.as_json(one)
        if name == "merge":
            folder_help = _("a new folder for the model (default: merged, in the run's)")
            one.add_argument("--to", type=Path, metavar="DIR", help=folder_help)
        if name == "resume":
            one.add_argument("--detach", action="store_true", help=_("leave it running"))
        flags.runs(one)
        one.set_defaults(answer=_deferred(name))


def _deferred(name: str, module: str = "tui.commands") -> Callable[[argparse.Namespace], int]:
    """The command of that name in that module, imported when it is called."""

    def call(given: argparse.Namespace) -> int:
        from importlib import import_module

        answer: Callable[[argparse.Namespace], int] = getattr(import_module(module), name)
        return answer(given)

    return call


def _version() -> str:
    from importlib.metadata import version

    return version("loracle")


if __name__ == "__main__":
    sys.exit(main())
