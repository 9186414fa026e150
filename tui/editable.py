"""The settings of a plan that a person may change, in words."""

from tui.i18n import _

SETTINGS: dict[str, str] = {
    "learning_rate": _("learning rate"),
    "epochs": _("passes over the rows (epochs)"),
    "effective_batch": _("rows of one step (effective batch)"),
    "max_length": _("tokens read of a row (length)"),
    "rank": _("rank of the adapters"),
    "alpha": _("alpha of the adapters"),
    "dropout": _("dropout of the adapters"),
    "target_modules": _("layers with adapters"),
    "adapter_dtype": _("adapters are held in"),
    "trained": _("part that is trained"),
    "last_layers": _("layers trained, from the top"),
    "warmup_steps": _("warm-up steps"),
    "schedule": _("course of the learning rate"),
    "weight_decay": _("weight decay"),
    "max_grad_norm": _("gradients are clipped at"),
    "label_smoothing": _("label smoothing"),
    "class_weights": _("more weight for rare classes"),
    "metric": _("what chooses the best checkpoint"),
    "evaluations": _("evaluations on the way"),
    "early_stopping": _("stop early"),
    "patience": _("evaluations without a gain until then"),
    "data.validation_rows": _("validation rows"),
    "data.held_out_rows": _("held-out rows"),
    "optimizer": _("optimizer"),
    "precision": _("precision"),
    "gradient_checkpointing": _("gradient checkpointing"),
    "compile": _("layers compiled (torch.compile)"),
    "kernels": _("kernels that compute"),
    "token_budget": _("tokens of a micro-batch, to start with"),
    "seed": _("seed"),
    "rslora": _("rank-stabilised scale (rsLoRA)"),
    "dora": _("length of weights learned apart (DoRA)"),
    "pissa": _("start from the main part (PiSSA)"),
    "lora_plus_ratio": _("how much faster B learns (LoRA+)"),
    "forgetting_check": _("generic text scored before and after"),
}
"""Fields of the plan, those that matter most first."""
_ADAPTERS = frozenset(
    {"rank", "alpha", "dropout", "target_modules", "adapter_dtype", "rslora", "dora", "pissa", "lora_plus_ratio"}
)
_FULL = frozenset({"trained", "last_layers"})
CHOICES: dict[str, tuple[str, ...]] = {
    "schedule": ("linear", "cosine", "constant"),
    "trained": ("all", "no_embeddings", "last_layers"),
    "optimizer": ("adamw", "adamw_8bit", "adamw_8bit_paged"),
    "precision": ("fp32", "bf16-mixed", "fp16-mixed", "bf16"),
    "adapter_dtype": ("fp32", "bf16"),
    "class_weights": ("true", "false"),
    "early_stopping": ("true", "false"),
    "gradient_checkpointing": ("true", "false"),
    "compile": ("true", "false"),
    "kernels": ("torch", "liger"),
    "rslora": ("true", "false"),
    "dora": ("true", "false"),
    "pissa": ("true", "false"),
    "forgetting_check": ("true", "false"),
}
"""What may be said of settings that have few values."""


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
