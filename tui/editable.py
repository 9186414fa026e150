"""The settings of a plan that a person may change, in words."""

from typing import Literal, get_args, get_origin

from tui.i18n import _

SETTINGS: dict[str, str] = {
    "learning_rate": _("learning rate"),
    "epochs": _("epochs (passes over the rows)"),
    "effective_batch": _("effective batch (rows per step)"),
    "max_length": _("maximum length (tokens per row)"),
    "rank": _("LoRA rank"),
    "alpha": _("LoRA alpha"),
    "dropout": _("LoRA dropout"),
    "target_modules": _("target modules"),
    "adapter_dtype": _("precision of the adapters"),
    "trained": _("what is trained"),
    "last_layers": _("number of last layers trained"),
    "warmup_steps": _("warm-up steps"),
    "schedule": _("learning rate schedule"),
    "weight_decay": _("weight decay"),
    "max_grad_norm": _("gradient clipping (maximum norm)"),
    "label_smoothing": _("label smoothing"),
    "class_weights": _("class weights (more for rare classes)"),
    "metric": _("metric for the best checkpoint"),
    "evaluations": _("evaluations during training"),
    "early_stopping": _("early stopping"),
    "patience": _("patience (evaluations without a gain)"),
    "data.validation_rows": _("validation rows"),
    "data.held_out_rows": _("held-out rows"),
    "optimizer": _("optimizer"),
    "precision": _("precision"),
    "gradient_checkpointing": _("gradient checkpointing"),
    "compile": _("compile layers (torch.compile)"),
    "kernels": _("kernels"),
    "token_budget": _("micro-batch at the start (tokens)"),
    "seed": _("seed"),
    "rslora": _("rank-stabilised scale (rsLoRA)"),
    "dora": _("magnitudes learned separately (DoRA)"),
    "pissa": _("start from principal components (PiSSA)"),
    "lora_plus_ratio": _("learning rate ratio of B to A (LoRA+)"),
    "forgetting_check": _("forgetting check on generic text"),
}
"""Fields of the plan, those that matter most first."""
_ADAPTERS = frozenset(
    {"rank", "alpha", "dropout", "target_modules", "adapter_dtype", "rslora", "dora", "pissa", "lora_plus_ratio"}
)
_FULL = frozenset({"trained", "last_layers"})


def choices(name: str) -> tuple[str, ...]:
    """What may be said of a setting that has few values; empty of others."""
    from recommender.plan import Plan

    field = Plan.model_fields.get(name)
    kind = field.annotation if field is not None else None
    return ("true", "false") if kind is bool else get_args(kind) if get_origin(kind) is Literal else ()


def meaningless(method: str) -> frozenset[str]:
    """Settings of other methods than that."""
    return _ADAPTERS if method == "full" else _FULL


def names(method: str, *, held_out: bool, classifies: bool) -> list[str]:
    """The settings that mean something for that method; `held_out` when a file of held-out rows was given."""
    out = meaningless(method) | ({"data.held_out_rows"} if held_out else set())
    out = out | (set() if classifies else {"class_weights", "label_smoothing"})
    return [name for name in SETTINGS if name not in out]


def written(value: object) -> str:
    """A value as a person would type it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        from tui.words import rate

        return rate(value) if 0 < abs(value) < 1e-2 else f"{value:g}"
    return str(value)
