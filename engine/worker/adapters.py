"""LoRA and its extras: rank-stabilised scale, DoRA, PiSSA, LoRA+."""

import math
import re
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from engine.files import read_json, write_json
from engine.text import first_line, one_line
from engine.worker.tasks.base import Task
from recommender.errors import InputError
from recommender.plan import Plan

MOST_NAMED = 20
WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
"""The two files of a saved adapter."""


def with_adapters(model: Any, task: Task, head: list[str]) -> Any:
    """A loaded model, for QLoRA already in 4 bit, with the plan's adapters; the modules of `head` are trained whole.

    Raises:
        InputError: it has no modules of the plan's names, or weights whose main part cannot be taken out (PiSSA).
    """
    from peft import LoraConfig, TaskType, get_peft_model

    plan = task.plan
    # Under QLoRA too embeddings and norms stay in the base's own type, as under LoRA. peft's k-bit preparation would make them
    # and with them the whole residual stream fp32: 2 bytes more for each embedding and over a third more activations.
    targets = plan.target_modules or "all-linear"
    try:
        adapted = get_peft_model(
            model,
            LoraConfig(
                task_type=TaskType[task.adapter_type],
                r=plan.rank or 8,
                lora_alpha=plan.alpha or 16,
                lora_dropout=plan.dropout or 0.0,
                target_modules=targets if targets == "all-linear" else [t.strip() for t in targets.split(",")],
                exclude_modules=[m for m in head if "." in m] or None,
                modules_to_save=list(head) or None,  # peft adds to the list it is given
                use_rslora=plan.rslora,
                use_dora=plan.dora,
                init_lora_weights="pissa" if plan.pissa else True,
            ),
        )
    except ValueError as error:
        raise of_experts(error) or InputError(f"target_modules {targets}: {first_line(error)}") from None
    except (TypeError, AttributeError) as error:
        raise InputError(f"pissa: {first_line(error)}") from None
    if plan.adapter_dtype == "bf16":
        narrow(adapted)
    if plan.pissa:
        for layer in _layers(adapted).values():
            # Beside what is trained, and not saved: what the base has lost to the adapter is given back at the end.
            layer.register_buffer("initial_a", layer.lora_A["default"].weight.detach().clone(), persistent=False)
            layer.register_buffer("initial_b", layer.lora_B["default"].weight.detach().clone(), persistent=False)
    return adapted


def of_experts(error: ValueError) -> InputError | None:
    """What is said of an extra that peft refuses for adapters of experts; `None` where it refuses something else."""
    said = re.search(r"ParamWrapper does not work with (?:`?lora_|`?use_)?(\w+)", str(error))
    if said is None:
        return None
    which = "set it to 0" if said[1] == "dropout" else "leave it out"
    return InputError(f"{said[1]}: the experts of a layer are stored as one weight, whose adapters do not support it; {which}.")


def check_targets(plan: Plan, config: Any, auto: Any) -> None:
    """Whether the model has every module that the plan names, before its weights are loaded: peft passes over the others.

    Raises:
        InputError: naming one that it lacks, and what maps it has.
    """
    wanted = [] if plan.target_modules in (None, "all-linear") else [t.strip() for t in plan.target_modules.split(",")]
    if not wanted:
        return
    with torch.device("meta"):
        modules = dict(auto.from_config(config).named_modules())
    for target in wanted:
        if not any(name == target or name.endswith(f".{target}") for name in modules):
            maps = {name.rpartition(".")[2] for name, m in modules.items() if getattr(m, "weight", None) is not None}
            known = ", ".join(sorted(m for m in maps if not m.isdigit())[:MOST_NAMED])
            named = one_line(target, 60)
            raise InputError(f"target_modules {named}: {plan.model.id} has no module of that name; it has {known}.")


def narrow(model: Any) -> None:
    """Hold the adapters in bf16; peft makes them fp32, and does so again whenever it has loaded some."""
    for name, p in model.named_parameters():
        if ".lora_" in name and p.requires_grad:
            p.data = p.data.to(torch.bfloat16)


def _layers(model: Any) -> dict[str, Any]:
    from peft.tuners.lora.layer import LoraLayer

    return {name: m for name, m in model.named_modules() if isinstance(m, LoraLayer) and "default" in m.lora_A}


def write_as_plain_lora(model: Any, folder: Path) -> None:
    """Rewrite a saved PiSSA adapter as one of twice the rank that belongs to the base as it is stored.

    PiSSA takes the main part B0 A0 of each weight out of the base and trains it, so its adapter fits a base that nobody else
    has. What was learned is B A - B0 A0 = [B | -B0] [A / A0] (Meng et al. 2024, appendix C). peft has the same conversion, but
    loses a head that was trained whole.
    """
    tensors = load_file(folder / WEIGHTS)
    for name, layer in _layers(model).items():
        a, b = f"{name}.lora_A.weight", f"{name}.lora_B.weight"
        tensors[a] = torch.cat([tensors[a], layer.initial_a.to(tensors[a])])
        tensors[b] = torch.cat([tensors[b], -layer.initial_b.to(tensors[b])], 1)
    save_file({n: t.contiguous() for n, t in tensors.items()}, folder / WEIGHTS, {"format": "pt"})
    config = read_json(folder / CONFIG)
    config["r"] *= 2
    config["lora_alpha"] *= math.sqrt(2) if config["use_rslora"] else 2  # so that the scale stays what it was
    config["init_lora_weights"] = True
    write_json(folder / CONFIG, config)


def needs_config(task: Task) -> bool:
    """Whether a `config.json` belongs beside this task's adapters.

    With one, transformers takes an adapter for a whole model and finds no weights; without, the folder's name alone is enough
    for `from_pretrained`, `pipeline` and whoever serves. Labels need it: the base does not know their number and names. And
    DoRA is better refused there: transformers 5.23 passes over its magnitudes, which peft loads.
    """
    return bool(task.config_options()) or task.plan.dora


def raise_rates_of_b(optimizer: torch.optim.Optimizer, model: Any, ratio: float) -> None:
    """LoRA+: the matrices B, which start at zero, learn `ratio` times as fast as the rest (Hayou et al. 2024).

    Every group of the optimizer that holds some is parted in two; called before a schedule is made for it.
    """
    b = {id(p) for name, p in model.named_parameters() if ".lora_B." in name}
    for group in list(optimizer.param_groups):
        fast = [p for p in group["params"] if id(p) in b]
        if fast:
            group["params"] = [p for p in group["params"] if id(p) not in b]
            optimizer.param_groups.append({**group, "params": fast, "lr": group["lr"] * ratio})
    optimizer.param_groups[:] = [g for g in optimizer.param_groups if g["params"]]


def extras(plan: Any) -> list[str]:
    """The extras of a plan, in words."""
    named = {"rslora": "rank-stabilised scale (rsLoRA)", "dora": "DoRA", "pissa": "PiSSA, saved as plain LoRA of twice the rank"}
    found = [words for name, words in named.items() if getattr(plan, name)]
    return [*found, f"LoRA+ with ratio {plan.lora_plus_ratio:g}"] if plan.lora_plus_ratio else found
