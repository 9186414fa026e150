"""Settings that cannot go together, or not with this model or machine: told before anything is read, tried or loaded."""

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any, get_args

from engine.prediction import library
from engine.text import one_line
from recommender import plan_file
from recommender.assignment import field_of
from recommender.counting import answers_behind
from recommender.errors import InputError
from recommender.facts import DataFacts, Machine, ModelFacts, Task
from recommender.hyper import LAST_LAYERS
from recommender.plan import Plan
from recommender.recommendation import Method
from recommender.shape import shape_of

ANY: dict[str, Any] = {
    "version": 1,
    "model": {"id": "any"},
    "data": {"train": "any"},
    "learning_rate": 1e-5,
    "epochs": 1,
    "effective_batch": 1,
    "max_length": 2,
    "rank": 1,
    "alpha": 1,
}
"""What a plan must have; of values that contradict nothing."""
METHODS: tuple[Method, ...] = ("lora", "qlora", "full")
"""In the order in which they know most settings."""
MOST_NAMED = 20


def plan_of_settings(assignments: Sequence[str], method: Method | None = None, task: Task | None = None) -> Plan:
    """A plan of those settings (NAME=VALUE) and nothing else of weight, of the first method and task that can have them.

    Raises:
        InputError: no plan can have them.
    """
    wrong: InputError | None = None
    tasks: tuple[Task, ...] = get_args(Task) if task is None else (task,)
    for way, work, precision in product(METHODS if method is None else (method,), tasks, ("fp32", "bf16-mixed")):
        content = plan_file.set_fields({**ANY, "method": way, "task": work, "precision": precision}, list(assignments))
        try:
            return plan_file.validate(with_what_follows(content, assignments), "--set")
        except InputError as error:
            wrong = wrong or error
    assert wrong is not None
    raise wrong


def with_what_follows(content: Mapping[str, Any], assignments: Sequence[str]) -> dict[str, Any]:
    """A plan's content with what its assigned settings ask of those that nobody assigned."""
    changed = dict(content)
    own = {field_of(assignment) for assignment in assignments}
    follows: dict[str, Any] = {}
    if "pissa" in own and changed.get("pissa") is True:
        follows["dropout"] = 0.0
    if "compile" in own and changed.get("compile") is True:
        follows["kernels"] = "torch"
    elif "kernels" in own and changed.get("kernels") == "liger":
        follows["compile"] = False
    if "last_layers" in own and changed.get("last_layers") is not None:
        follows["trained"] = "last_layers"
    elif "trained" in own:
        kept = changed.get("last_layers") or LAST_LAYERS
        follows["last_layers"] = kept if changed["trained"] == "last_layers" else None
    return changed | {name: value for name, value in follows.items() if name not in own}


def check_here(plan: Plan, model: ModelFacts, machine: Machine | None = None) -> None:
    """Refuse settings that this model has not, or that this machine, where it is known, cannot compute in.

    Raises:
        InputError: naming the first of them.
    """
    name = plan.model.id if plan.model.id != ANY["model"]["id"] else model.id or "the model"
    if model.max_positions and plan.max_length > model.max_positions:
        raise InputError(f"max_length is {plan.max_length}, and {name} reads {model.max_positions} tokens at most.")
    layers = max(model.layers or 0, model.decoder_layers or 0)
    if layers and (plan.last_layers or 0) > layers:
        raise InputError(f"last_layers is {plan.last_layers}, and {name} has {layers} layers.")
    if plan.pissa and plan.rank and model.hidden_size:
        shape = shape_of(model, plan.task)
        narrowest = min(shape.hidden, shape.key_value_width)
        if plan.rank > narrowest:
            raise InputError(
                f"pissa needs a rank no larger than its layers: rank is {plan.rank}, and {name} has layers of width {narrowest}."
            )
    _check_targets(plan, model, name)
    if machine is not None:
        _check_precision(plan, machine)


def _check_precision(plan: Plan, machine: Machine) -> None:
    if plan.precision == "fp16-mixed" and machine.backend == "cpu":
        raise InputError("precision fp16-mixed needs a GPU, and there is none; use `--set precision=fp32`.")
    device = machine.device
    if plan.precision in ("bf16", "bf16-mixed") and device is not None and device.bf16 is False:
        card = device.name or "this GPU"
        raise InputError(f"precision {plan.precision}: {card} has no bf16; use `--set precision=fp16-mixed` or fp32.")


def _check_targets(plan: Plan, model: ModelFacts, name: str) -> None:
    """By the names in transformers' own file of such models; the worker looks at the model itself (`adapters.check_targets`)."""
    if plan.target_modules in (None, "all-linear"):
        return
    for target in (t.strip() for t in (plan.target_modules or "").split(",")):
        instead = library.lacks(str((model.config or {}).get("model_type", "")), [target])
        if instead:
            known = ", ".join(sorted(instead)[:MOST_NAMED])
            raise InputError(f"target_modules {one_line(target, 60)}: {name} has no module of that name; it has {known}.")


def check_rows(plan: Plan, data: DataFacts) -> None:
    """Refuse labels that the plan does not name, and a length behind which the answers of too many rows begin; a plan of nothing
    but settings says neither.

    Raises:
        InputError: naming the labels, or saying how many rows.
    """
    named = plan.data.labels or data.labels or ()
    seen = [label for label, n in zip(data.labels or (), data.label_counts or (), strict=False) if n]  # of a sample, not all are
    if strange := [label for label in seen if label not in named]:
        listed, known = (", ".join(one_line(label, 40) for label in labels[:10]) for labels in (strange, named))
        place = plan.data.train if plan.data.train != ANY["data"]["train"] else "--set"
        raise InputError(
            f"{place}: labels that the plan does not name (data.labels): {listed}; the known ones are {known}."
        )
    cut = answers_behind(data, plan.max_length) if plan.max_length > ANY["max_length"] else None
    if cut is None:
        return
    many = f"{'' if cut.length == plan.max_length else 'at least '}{cut.rows_untrained:,} of {data.rows:,}"
    raise InputError(
        f"max_length is {plan.max_length}, and the answers of {many} rows begin after that: nothing would be learned from "
        "them. Raise max_length if the model reads more, or shorten the prompts."
    )
