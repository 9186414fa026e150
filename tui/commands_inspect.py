"""`loracle inspect`: the facts about this machine, a model or a data set, for people or as JSON."""

import argparse
import sys
from collections.abc import Callable
from typing import Any

from engine import inspect as inspection
from engine import runs as engine_runs
from engine.text import json_line, one_line
from recommender.base import Fact
from recommender.errors import Exit, InputError
from tui import show_facts, show_learned
from tui.i18n import _
from tui.progress import ProgressLine
from tui.show import Screen


def machine(given: argparse.Namespace) -> int:
    """What this machine has now."""
    from engine.prediction.calibration import fastest_reading

    if given.try_nf4 and not given.json:
        print(_("Trying 4-bit kernels …"), file=sys.stderr)
    found = inspection.inspect_machine(engine_runs.runs_root(given.runs), try_nf4=given.try_nf4)
    speed = fastest_reading(found) if found.backend == "cpu" else {}
    if given.json:
        _print_json({"machine": found}, {"measured": {"matmul_flops": speed}} if speed else {})
    else:
        show_facts.machine(found, speed, Screen())
    return Exit.DONE


def model(given: argparse.Namespace) -> int:
    """What a model is; of one on the hub only its description is fetched."""
    found = inspection.inspect_model(given.model, weights=False)
    if given.json:
        _print_json({"model": found.facts})
    else:
        show_facts.model(found, Screen())
    return Exit.DONE


def data(given: argparse.Namespace) -> int:
    """What a data set is; with `--tokens` also how its first rows are read and what of them is learned.

    Raises:
        InputError: `--tokens` without `--model`.
    """
    if given.tokens is not None and given.model is None:
        raise InputError("--tokens N shows the first N rows as a model reads them; name it with --model.")
    tokenizer = inspection.inspect_model(given.model, weights=False).path if given.model is not None else None
    found = rows_of(given, given.data, tokenizer)
    shown = None if given.tokens is None else inspection.learned_rows(found, str(tokenizer), given.tokens)
    if given.json:
        _print_json({"data": found.facts}, {"tokens": shown["rows"]} if shown else {})
    else:
        show_facts.data(found, Screen())
        if shown is not None:
            show_learned.rows(shown, Screen())
    return Exit.DONE


def rows_of(
    given: argparse.Namespace, data: str, tokenizer: str | None, *, begun: Callable[[], None] | None = None
) -> inspection.DataInspection:
    """Facts about rows by the flags that say which; a terminal is told how far reading them has come. `begun` is called once they
    are really read: what is known of them is remembered.

    Raises:
        InputError: they cannot be used.
    """
    with ProgressLine(_("Reading {name}").format(name=one_line(data, 60)), begun=begun) as progress:
        return inspection.inspect_data(
            data,
            eval=given.eval,
            text_column=given.text_column,
            label_column=given.label_column,
            columns=dict(given.columns),
            task=given.task,
            train_rows=given.train_rows,
            eval_rows=given.eval_rows,
            drop_conflicts=given.drop_conflicts,
            model_path=tokenizer,
            progress=progress,
        )


def _print_json(facts: dict[str, Fact], more: dict[str, Any] | None = None) -> None:
    """One object with the names of a facts file; the objects of machine, model and data together are one."""
    print(json_line({name: fact.model_dump(mode="json") for name, fact in facts.items()} | (more or {})))
