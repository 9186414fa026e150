"""What may be typed after `compare` and `pilot`. Imports nothing but the parser's own library."""

import argparse
from collections.abc import Callable

from recommender.kinds import METHODS
from tui import flags
from tui.i18n import _
from tui.parser import Parser, command

Answer = Callable[[argparse.Namespace], int]


def add(commands: "argparse._SubParsersAction[Parser]", deferred: Callable[[str, str], Answer]) -> None:
    """The two commands; `deferred` finds who answers."""
    compare = command(
        commands, "compare", _("train several methods on the same rows and compare them"),
        "loracle compare --methods full,lora --model bert-base-uncased --data reviews.csv",
        "loracle compare --methods lora --seeds 1,2,3 --model bert-base-uncased --data reviews.csv --dry-run",
    )  # fmt: skip
    _situation(compare)
    compare.add_argument("--seeds", type=_seeds, default=[1], metavar="N,N", help=_("each method with each seed (default 1)"))
    compare.add_argument("--folds", type=_folds, metavar="N", help=_("cross-validate: hold out each of N parts in turn"))
    compare.set_defaults(answer=deferred("compare", "tui.commands_group"), seed=1)

    pilot = command(
        commands, "pilot", _("try candidates for a slice of their run, and go on with the winner"),
        "loracle pilot --model bert-base-uncased --data reviews.csv --dry-run",
    )  # fmt: skip
    _situation(pilot)
    pilot.add_argument("--seed", type=flags.seed, default=1, metavar="N", help=_("the random seed (default 1)"))
    pilot.add_argument("--share", type=_share, default=0.1, metavar="X",
                       help=_("the first slice, as a fraction of the run (default 0.1)"))  # fmt: skip
    pilot.set_defaults(answer=deferred("pilot", "tui.commands_group"))


def _situation(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", metavar="ID", required=True, help=_("a model folder, a hub id, or `demo`"))
    parser.add_argument("--data", metavar="FILE", required=True, help=flags.data_help())
    parser.add_argument("--methods", type=_methods, metavar="A,B", help=_("these methods (default: those that can run)"))
    flags.rows(parser)
    flags.assignments(parser)
    parser.add_argument("--anyway", action="store_true", help=_("run against the advice; the plans record that"))
    parser.add_argument("--detach", action="store_true", help=_("leave it running"))
    parser.add_argument("--dry-run", action="store_true", help=_("say what would run and for how long; start nothing"))
    flags.goal(parser)
    flags.as_json(parser)
    flags.runs(parser)
    parser.set_defaults(method=None)


def _methods(text: str) -> list[str]:
    named = [part.strip() for part in text.split(",")]
    for name in named:
        if name not in METHODS:
            words = _("{name!r} is not a method; the methods are {methods}")
            raise argparse.ArgumentTypeError(words.format(name=name, methods=", ".join(METHODS)))
        if named.count(name) > 1:
            raise argparse.ArgumentTypeError(_("{name!r} is named more than once").format(name=name))
    return named


def _seeds(text: str) -> list[int]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() and int(part) < 2**31 for part in parts) or len(set(parts)) < len(parts):
        raise argparse.ArgumentTypeError(_("{text!r} is not a list of different seeds like 1,2,3").format(text=text))
    return [int(part) for part in parts]


def _folds(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 2 <= int(text) <= 20):
        raise argparse.ArgumentTypeError(_("{text!r} is not a number of folds from 2 to 20").format(text=text))
    return int(text)


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = 0.0
    if not 0 < share <= 0.5:
        raise argparse.ArgumentTypeError(_("{text!r} is not a fraction above 0 and up to 0.5").format(text=text))
    return share
