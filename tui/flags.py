"""Flags that several commands share. Imports nothing but the parser's own library."""

import argparse
import math
from pathlib import Path

from recommender.kinds import METHODS, PURPOSES, TASKS
from tui.i18n import _

GOAL_FLAGS: dict[str, str] = {
    "purpose": "--purpose",
    "time_budget_hours": "--hours",
    "forgetting": "--forgetting",
    "adapters_wanted": "--adapters",
    "sequential_updates": "--updates",
    "ship_in_4_bit": "--ship-4bit",
    "continued_pretraining": "--continued-pretraining",
    "note": "--note",
}
"""The flag of each field of the goal."""


def data_help() -> str:
    """What may stand for rows."""
    return _("training rows: a file (csv, json, parquet, text and more), a folder, or a hub id")


def situation(parser: argparse.ArgumentParser) -> None:
    """Model, data, method and what may be sampled or set."""
    parser.add_argument("--model", metavar="ID", help=_("a model folder, a hub id, or `demo`"))
    parser.add_argument("--data", metavar="FILE", help=data_help())
    parser.add_argument("--method", choices=METHODS, help=_("use this method, whatever is recommended"))
    rows(parser)
    parser.add_argument("--seed", type=seed, default=1, metavar="N", help=_("the random seed (default 1)"))
    assignments(parser)
    parser.add_argument("--anyway", action="store_true", help=_("run against the advice; the plan records that"))


def rows(parser: argparse.ArgumentParser) -> None:
    """What the rows are and which of them are taken."""
    parser.add_argument("--eval", metavar="FILE", help=_("held-out rows; without it some are held out"))
    tasks = _("what the rows are for: {tasks}").format(tasks=", ".join(TASKS))
    parser.add_argument("--task", choices=TASKS, metavar="TASK", help=tasks)
    parser.add_argument("--text-column", metavar="NAME", help=_("the column with the texts; subject+body joins two"))
    parser.add_argument("--label-column", metavar="NAME", help=_("the column with the labels"))
    parser.add_argument(
        "--column", action="append", default=[], type=_column, metavar="ROLE=NAME", dest="columns",
        help=_("the column for another role: prompt, completion, messages, tags, ..., or group (rows kept together); repeatable"),
    )  # fmt: skip
    parser.add_argument("--drop-conflicts", action="store_true", help=_("leave out rows whose text also has another label"))
    parser.add_argument("--train-rows", type=int, metavar="N", help=_("a seeded sample of the training rows"))
    parser.add_argument("--eval-rows", type=int, metavar="N", help=_("a sample of --eval; without it, hold out that many"))


def goal(parser: argparse.ArgumentParser) -> None:
    """What the person wants. A flag that is not given keeps its default and counts as not said."""
    wanted = parser.add_argument_group(_("goal"), _("all optional; `plan` names those that would change the advice"))
    wanted.add_argument("--purpose", choices=PURPOSES, help=_("what the fine-tune is for (default task)"))
    wanted.add_argument("--hours", type=_hours, metavar="H", help=_("how long the run may take, in hours"))
    levels = ("low", "medium", "high")
    wanted.add_argument("--forgetting", choices=levels, help=_("how much forgetting existing skills would hurt (default low)"))
    wanted.add_argument("--adapters", type=count, metavar="N", help=_("how many variants of the model are wanted (default 1)"))
    wanted.add_argument(
        "--updates", type=count, metavar="N", help=_("how many rounds of training, one on top of another (default 1)")
    )
    wanted.add_argument("--ship-4bit", action="store_true", default=None, help=_("the model will be used in 4 bits"))
    wanted.add_argument("--continued-pretraining", action="store_true", default=None, help=_("learn raw text as it is"))
    wanted.add_argument("--note", metavar="TEXT", help=_("a note to keep with the run"))


def said_goal(given: argparse.Namespace) -> dict[str, object]:
    """The fields of the goal that were given as flags."""
    typed = {name: getattr(given, flag.lstrip("-").replace("-", "_"), None) for name, flag in GOAL_FLAGS.items()}
    return {name: value for name, value in typed.items() if value is not None}


def assignments(parser: argparse.ArgumentParser) -> None:
    """`--set NAME=VALUE`."""
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        dest="assignments",
        help=_("set a field of the plan, as in epochs=3 (a plan file names them all); repeatable"),
    )


def as_json(parser: argparse.ArgumentParser) -> None:
    """`--json`."""
    parser.add_argument("--json", action="store_true", help=_("print one JSON object per line, and nothing else"))


def runs(parser: argparse.ArgumentParser) -> None:
    """`--runs`."""
    parser.add_argument("--runs", type=Path, metavar="DIR", help=_("where runs go (default $LORACLE_RUNS, else ./runs)"))


def _column(text: str) -> tuple[str, str]:
    role, _sign, name = text.partition("=")
    if not role or not name:
        raise argparse.ArgumentTypeError(_("{text!r} is not ROLE=NAME, as in prompt=question").format(text=text))
    return role, name


def _hours(text: str) -> float:
    try:
        hours = float(text)
    except ValueError:
        hours = math.nan
    if not 0 < hours <= 1e6:
        raise argparse.ArgumentTypeError(_("{text!r} is not a number of hours above 0").format(text=text))
    return hours


def count(text: str) -> int:
    """A whole number of at least 1."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if not 1 <= number <= 1_000_000:
        raise argparse.ArgumentTypeError(_("{text!r} is not a whole number of at least 1").format(text=text))
    return number


def seed(text: str) -> int:
    """A seed that a plan can have."""
    if not (text.isascii() and text.isdigit() and int(text) < 2**31):
        raise argparse.ArgumentTypeError(_("{text!r} is not a whole number from 0 to 2147483647").format(text=text))
    return int(text)
