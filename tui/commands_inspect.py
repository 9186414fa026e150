"""`loracle inspect`: the facts about this machine, a model or a data set, for people or as JSON."""

import argparse
import json
import sys
from typing import Any

from engine import inspect as inspection
from engine import runs as engine_runs
from recommender.base import Fact
from recommender.errors import Exit
from tui import show_facts
from tui.show import Screen


def machine(given: argparse.Namespace) -> int:
    """What this machine has now."""
    from engine.inspection.machine import calibrate

    if given.try_nf4 and not given.json:
        print("Trying 4-bit kernels …", file=sys.stderr)
    found = inspection.inspect_machine(engine_runs.runs_root(given.runs), try_nf4=given.try_nf4)
    speed = calibrate() if found.backend == "cpu" else {}
    if given.json:
        _print_json({"machine": found}, {"measured": {"matmul_flops": speed}} if speed else {})
    else:
        show_facts.machine(found, speed, Screen())
    return Exit.DONE


def model(given: argparse.Namespace) -> int:
    """What a model is."""
    found = inspection.inspect_model(given.model)
    if given.json:
        _print_json({"model": found.facts})
    else:
        show_facts.model(found.facts, found.path, found.revision, Screen())
    return Exit.DONE


def data(given: argparse.Namespace) -> int:
    """What a data set is."""
    tokenizer = inspection.inspect_model(given.model).path if given.model is not None else None
    found = inspection.inspect_data(
        given.data,
        eval=given.eval,
        text_column=given.text_column,
        label_column=given.label_column,
        train_rows=given.train_rows,
        eval_rows=given.eval_rows,
        model_path=tokenizer,
    )
    if given.json:
        _print_json({"data": found.facts})
    else:
        show_facts.data(found.facts, found.path, found.columns, found.preview, Screen())
    return Exit.DONE


def _print_json(facts: dict[str, Fact], more: dict[str, Any] | None = None) -> None:
    """One object with the names of a facts file; the objects of machine, model and data together are one."""
    print(json.dumps({name: fact.model_dump(mode="json") for name, fact in facts.items()} | (more or {}), ensure_ascii=False))
