"""Why each setting is what it is: one reason a setting, for the settings that the verdict names."""

from collections.abc import Iterator
from typing import Any

from recommender import hyper, kernels, rates, timing
from recommender.counting import distinct_rows, examples_of, is_labelled, split_of, trained_tokens
from recommender.facts import Facts
from recommender.reasons import reason
from recommender.recommendation import IN_SENTENCES, Candidate, Reason, Settings
from recommender.shape import Shape, t5_like, tuned_as_encoder

SMALL_DATA = 10_000
"""Below so many rows Adam without bias correction was found unstable (E12)."""
METRIC_REASONS = {
    "macro_f1": ("S_metric_macro_f1", "E27"),
    "micro_f1": ("S_metric_micro_f1", "K"),
    "span_f1": ("S_metric_span_f1", "K"),
    "rmse": ("S_metric_number", "K"),
}
"""Sentence and source by metric; all others are the loss."""

COMPUTING = ("padding", "allocator", "products", "compile", "kernels")
"""Settings that make a step quick and leave what it learns."""


def setting_reasons(facts: Facts, shape: Shape, chosen: Candidate) -> tuple[Reason, ...]:
    """One reason for each setting of `chosen`, in the order in which one would read them."""
    found = [
        *_rate(facts, shape, chosen),
        *_length_of_run(facts, shape, chosen),
        *_adapters(facts, shape, chosen),
        *_regularisation(facts, chosen.settings),
        *_length(facts, shape, chosen.settings),
        *_rows(facts, chosen.settings),
        *_memory(facts, chosen),
        *_computing(facts, shape, chosen),
    ]
    return tuple(found)


def _because(setting: str, code: str, known: dict[str, Any], *sources: str) -> Reason:
    return reason(code, {"setting": setting, **known}, *sources)


def _rate(facts: Facts, shape: Shape, chosen: Candidate) -> Iterator[Reason]:
    data, settings, method = facts.data, chosen.settings, chosen.method
    encoder = tuned_as_encoder(shape, data)
    low, high, what, sources = rates.rate_range(shape, data, method, encoder, trained=settings.trained, t5=t5_like(facts.model))
    known: dict[str, Any] = {
        "value": settings.learning_rate,
        "method": IN_SENTENCES[method],
        "what": what,
    }
    known["parameters"] = shape.parameters if encoder else shape.active_parameters
    usual = rates.learning_rate_of(
        shape, data, method, encoder, steps=rates.SHORT_RUN_STEPS, trained=settings.trained, t5=t5_like(facts.model)
    )
    if settings.learning_rate > usual:
        known |= {"usual": usual, "times": 1.5, "total_steps": settings.total_steps}
        yield _because("learning_rate", "S_learning_rate_short", known, *sources)
    else:
        yield _because("learning_rate", "S_learning_rate", known | {"low": low, "high": high}, *sources)
    steps = {"warmup_steps": settings.warmup_steps, "total_steps": settings.total_steps}
    yield _because("schedule", f"S_schedule_{settings.schedule}", {"schedule": settings.schedule}, "E35", "K")
    share = settings.warmup_steps / max(settings.total_steps, 1)
    code = "S_warmup" if settings.warmup_steps else "S_warmup_none"
    yield _because("warmup_steps", code, steps | {"share": share}, "E13", "E36")


def _length_of_run(facts: Facts, shape: Shape, chosen: Candidate) -> Iterator[Reason]:
    data, settings = facts.data, chosen.settings
    encoder, unique = tuned_as_encoder(shape, data), distinct_rows(data)
    known: dict[str, Any] = {"epochs": settings.epochs, "unique_rows": unique}
    if data.task == "continued_pretraining" and settings.epochs > 1:
        once = round(settings.total_steps / settings.epochs)
        yield _because("epochs", "S_epochs_text_few", {"epochs": settings.epochs, "once": once}, "E12", "E30")
    elif data.task in ("continued_pretraining", "preference"):
        yield _because("epochs", "S_epochs_text" if data.task == "continued_pretraining" else "S_epochs_pairs", known, "E30")
    elif settings.epochs == 1:
        yield _because("epochs", "S_epochs_one", known, "E30")
    elif not encoder:
        yield _because("epochs", "S_epochs_writes", known, "E30")
    else:
        adapters = chosen.method != "full" and data.task != "token_classification"
        yield _because("epochs", "S_epochs_adapters" if adapters else "S_epochs", known, "E3", "E9" if adapters else "E13")
    batch, rows = settings.effective_batch, hyper.training_rows(data, split_of(data), settings.max_length)
    usual = rates.usual_batch(shape, data, chosen.method, encoder=encoder, rows=rows, length=settings.max_length)
    sized: dict[str, Any] = {"effective_batch": batch, "rows": rows, "total_steps": settings.total_steps}
    if batch < usual:
        yield _because("effective_batch", "S_effective_batch_small", sized | {"usual": usual}, "E12", "E4")
    elif data.task == "continued_pretraining" and chosen.method == "full":
        yield _because("effective_batch", "S_effective_batch_tokens", sized | {"tokens": batch * settings.max_length}, "E5", "K")
    elif chosen.method != "full" and not encoder:
        yield _because("effective_batch", "S_effective_batch_lora", sized, "E26")
    else:
        yield _because("effective_batch", "S_effective_batch", sized, "E14", "E35")


def _adapters(facts: Facts, shape: Shape, chosen: Candidate) -> Iterator[Reason]:
    data, settings, rank = facts.data, chosen.settings, chosen.settings.rank
    if rank is None:
        return
    encoder = tuned_as_encoder(shape, data)
    tokens, holds, wanted = (
        trained_tokens(data),
        rates.capacity(shape, rank),
        rates.rank_of(shape, data, facts.goal, encoder),
    )
    known: dict[str, Any] = {
        "rank": rank,
        "capacity": holds,
        "trained_tokens": tokens,
        "unit": "labels" if is_labelled(data) else "tokens",
    }
    if rank < wanted:
        yield _because("rank", "S_rank_memory", known | {"wanted": wanted}, "E2", "E4")
    elif rates.wants_largest_rank(data, facts.goal, encoder):
        yield _because("rank", "S_rank_largest", known, "E5")
    elif tokens > holds:
        yield _because("rank", "S_rank_short_of", known, "E2")
    elif rank > rates.least_rank(shape, encoder) and not encoder:
        yield _because("rank", "S_rank_capacity", known, "E2", "E4")
    else:
        yield _because("rank", "S_rank_least", known, "E3" if encoder else "E4")
    yield _because(
        "alpha", "S_alpha_double" if encoder else "S_alpha_fixed", {"alpha": settings.alpha}, "E9" if encoder else "E4"
    )
    yield _because("target_modules", "S_targets", {"target_modules": settings.target_modules}, "E1", "E5")
    dropped = {"dropout": settings.dropout, "unique_rows": distinct_rows(data), "parameters": shape.parameters}
    if shape.experts > 1 and not settings.dropout:
        yield _because("dropout", "S_dropout_none_experts", dropped | {"experts": shape.experts}, "K")
    elif settings.dropout or (shape.parameters >= rates.NO_DROPOUT_BELOW and data.task != "continued_pretraining"):
        yield _because("dropout", "S_dropout" if settings.dropout else "S_dropout_none", dropped, "E20")
    elif data.task == "continued_pretraining":
        yield _because("dropout", "S_dropout_none_text", dropped, "K")
    else:
        yield _because("dropout", "S_dropout_none_small", dropped | {"limit": int(rates.NO_DROPOUT_BELOW)}, "K")
    if settings.precision == "bf16-mixed":
        bytes_each = 4 if settings.optimizer.startswith("adamw_8bit") else 8
        known = {"adapter_dtype": settings.adapter_dtype, "saved": bytes_each * chosen.trained_parameters}
        yield _because("adapter_dtype", f"S_adapters_{settings.adapter_dtype}", known, "K")


def _regularisation(facts: Facts, settings: Settings) -> Iterator[Reason]:
    data = facts.data
    yield _because("weight_decay", "S_weight_decay", {"weight_decay": settings.weight_decay}, "E5", "E35")
    clipped = settings.max_grad_norm
    yield _because("max_grad_norm", "S_clipping", {"max_grad_norm": clipped}, *(("E20", "K") if clipped < 1 else ("K",)))
    stop = {n: getattr(settings, n) for n in ("evaluations", "validation_rows", "patience")}
    none = "S_no_early_stopping" if settings.validation_rows else "S_no_validation"
    code = "S_early_stopping" if settings.early_stopping else none
    yield _because("early_stopping", code, stop, "E13")
    if settings.label_smoothing:
        known = {"label_smoothing": settings.label_smoothing, "share": data.conflict_share}
        yield _because("label_smoothing", "S_label_smoothing", known, "K")
    counts = [c for c in data.label_counts or () if c]
    if settings.class_weights:
        yield _because("class_weights", "S_class_weights", {"most": max(counts), "least": min(counts)}, "E27")
    elif counts and (data.task or "classification") in ("classification", "multi_label"):
        yield _because("class_weights", "S_no_class_weights", {"class_weights": False}, "E27")
    code, source = METRIC_REASONS.get(settings.metric, ("S_metric_loss", "E30"))
    code = "S_metric_raw_text" if data.task == "continued_pretraining" else code
    yield _because("metric", code, {"metric": settings.metric}, source)
    if data.task in ("chat", "instruction"):
        yield _because("neftune", "S_neftune_off", {"neftune": 0}, "E37")


def _length(facts: Facts, shape: Shape, settings: Settings) -> Iterator[Reason]:
    data, length = facts.data, settings.max_length
    known: dict[str, Any] = {"max_length": length}
    share = 0.95 if is_labelled(data) else 0.99
    wanted = data.tokens_p95 if is_labelled(data) else data.tokens_p99
    code = "S_length_p95"
    if data.task == "continued_pretraining":
        code = "S_length_blocks"
    elif data.tokens_max is not None and data.tokens_max <= length:
        code, known = "S_length_longest", known | {"tokens": data.tokens_max}
    elif wanted is None:
        code = "S_length_unknown"
    elif length < wanted:
        memory = length < shape.positions and length < hyper.max_length_of(shape, data)
        code = "S_length_memory" if memory else "S_length_model"
        known |= {"share": 0.95 if memory else share, "tokens": data.tokens_p95 if memory else wanted}
    else:
        known |= {"share": share, "tokens": wanted}
    yield _because("max_length", code, known, "E25" if code == "S_length_blocks" else "E29")


def _rows(facts: Facts, settings: Settings) -> Iterator[Reason]:
    data, unique = facts.data, distinct_rows(facts.data)
    train, validation, held_out = split_of(data)
    known = {"train": train, "validation": validation, "held_out": held_out if data.eval_rows is None else data.eval_rows}
    yield _because("validation_rows", "S_split" if data.eval_rows is None else "S_split_brought", known, "K")
    if settings.folds > 1:
        yield _because("folds", "S_folds", {"folds": settings.folds, "unique_rows": unique}, "E13")
    seeds = {"seeds": len(settings.seeds), "unique_rows": examples_of(data, settings.max_length)}
    code = "S_seeds" if len(settings.seeds) > 1 else "S_seeds_one"
    yield _because("seeds", f"{code}_text" if data.task == "continued_pretraining" else code, seeds, "E13")


def _memory(facts: Facts, chosen: Candidate) -> Iterator[Reason]:
    settings = chosen.settings
    named = {"bf16-mixed": "bf16", "fp16-mixed": "fp16", "fp32": "fp32", "bf16": "pure_bf16"}[settings.precision]
    if named in ("bf16", "fp16") and chosen.method != "full":
        named += "_adapters"
    known: dict[str, Any] = {"precision": settings.precision}
    found = hyper.bf16_on_cpu(facts, chosen.method) if facts.machine.backend == "cpu" else None
    if found == "faster" and named in ("bf16", "bf16_adapters"):
        trial = (facts.measured.bf16 or {})[chosen.method]
        apart = round(hyper.losses_apart(trial) or 0.0, 6)
        named, known = f"{named}_tried", known | {"apart": apart, "speedup": round(trial.speedup, 2)}
    elif found == "slower" and named == "fp32":
        named, known = "fp32_bf16_slower", known | {"speedup": round((facts.measured.bf16 or {})[chosen.method].speedup, 2)}
    elif found == "wrong" and named == "fp32":
        named = "fp32_bf16_wrong"
    elif found == "untried" and named == "fp32" and facts.machine.cpu_bf16:
        named = "fp32_could_be_bf16"
    yield _because("precision", f"S_precision_{named}", known, "E32")
    code, more = ("S_checkpointing", 0.27) if settings.gradient_checkpointing else ("S_no_checkpointing", 0.0)
    yield _because("gradient_checkpointing", code, {"more": more}, "E25")
    few = examples_of(facts.data, settings.max_length) < SMALL_DATA
    small = settings.optimizer.startswith("adamw_8bit")
    code = "S_optimizer_8bit" if small else "S_optimizer_adamw" if few else "S_optimizer_usual"
    yield _because("optimizer", code, {"optimizer": settings.optimizer, "bits": 8}, "E23" if "8bit" in code else "E12")
    yield _because("token_budget", "S_token_budget", {"token_budget": settings.token_budget}, "K")


def _computing(facts: Facts, shape: Shape, chosen: Candidate) -> Iterator[Reason]:
    """What makes a step quick and leaves what it learns; `COMPUTING` names these settings."""
    on, settings = facts.machine.backend, chosen.settings
    yield _because("padding", "S_padding_by_length" if shape.family == "encoder-decoder" else "S_padding_none", {}, "K")
    if on == "cpu":
        yield _because("allocator", "S_allocator_cpu", {"times": kernels.ALLOCATOR_TIMES}, "K")
        if settings.precision == "fp32":
            yield _because("products", "S_products_cpu", {}, "K")
    elif on == "cuda":
        yield _because("allocator", "S_allocator_gpu", {}, "K")
    training = timing.training_seconds(facts, shape, chosen.method, settings, chosen.devices)
    found = kernels.compiling(facts, shape, chosen.method, settings.precision, training)
    known: dict[str, Any] = {"compile": settings.compile}
    if found.answer in ("pays", "short"):
        known |= {"saved": found.saved / 3600, "cost": found.cost / 3600, "share": found.share}
    if settings.compile:
        code = "S_compile" if found.answer == "pays" else "S_compile_own"
    elif found.answer == "pays":
        code = "S_compile_off" if kernels.has_room(chosen.memory) else "S_compile_no_room"
    else:
        code = f"S_compile_{found.answer}"
    yield _because("compile", code, known, "K")
    why = kernels.without_liger(facts, shape)
    known = {"kernels": settings.kernels, "model_type": kernels.model_type(facts) or "unknown"}
    asked = "asked" if why else "liger"
    yield _because("kernels", f"S_kernels_{asked if settings.kernels == 'liger' else why or 'own'}", known, "K")
