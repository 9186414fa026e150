"""What an expert would say about any set of settings, chosen by Loracle or by hand (evidence.md, 2.5)."""

import math
from collections.abc import Mapping
from typing import Any

from recommender.facts import DataFacts
from recommender.hyper import rows_of
from recommender.reasons import caution
from recommender.recommendation import Caution


def lint(
    settings: Mapping[str, Any], data: DataFacts, *, decoder: bool = False, suggested_rate: float | None = None
) -> list[Caution]:
    """Cautions about `settings` (names of `Settings` or `Plan`; absent ones, and what is no number, are not judged).

    `batch_size` is understood as the effective batch. The number of steps is computed from rows, batch and epochs
    where it is not given.
    """
    found: list[Caution] = []
    batch = _number(settings, "effective_batch") or _number(settings, "batch_size")
    epochs = _number(settings, "epochs")
    rows = _number(settings, "rows") or rows_of(data)
    steps = _number(settings, "total_steps")
    if steps is None and batch and epochs and rows:
        steps = math.ceil(math.ceil(rows / batch) * epochs)
    warmup = _number(settings, "warmup_steps")
    if steps and warmup:
        if warmup >= steps:
            found.append(caution("warmup_longer_than_run", warmup_steps=warmup, total_steps=steps, reached=steps / warmup))
        elif warmup >= 0.2 * steps:
            found.append(caution("long_warmup", share=warmup / steps))
    if steps and steps < 100:
        found.append(caution("few_steps", total_steps=steps))
    if epochs and epochs > 30 and not settings.get("early_stopping"):
        found.append(caution("many_epochs", epochs=epochs))
    found += _rates(settings, decoder, suggested_rate)
    if settings.get("method") in ("lora", "qlora"):
        if batch and batch > 128:
            found.append(caution("large_batch_lora", effective_batch=batch))
        if decoder and _attention_only(settings.get("target_modules")):
            found.append(caution("attention_only"))
    if settings.get("precision") in ("fp16", "float16"):
        found.append(caution("pure_fp16"))
    counts = data.label_counts or ()
    if counts and settings.get("metric") == "accuracy" and max(counts) > 0.8 * sum(counts):
        found.append(caution("accuracy_on_skewed", share=max(counts) / sum(counts)))
    return found


def _rates(settings: Mapping[str, Any], decoder: bool, suggested: float | None) -> list[Caution]:
    rate, method = _number(settings, "learning_rate"), settings.get("method")
    if not rate:
        return []
    if method in ("lora", "qlora") and rate < 5e-5:
        return [caution("low_lora_rate", learning_rate=rate, suggested=suggested or 2e-4)]
    if method == "full" and rate > (1e-4 if decoder else 5e-4):
        return [caution("high_full_rate", learning_rate=rate, suggested=suggested or 2e-5)]
    return []


def _attention_only(targets: Any) -> bool:
    names = targets.split(",") if isinstance(targets, str) else targets if isinstance(targets, list | tuple) else []
    attention = {"q_proj", "k_proj", "v_proj", "o_proj", "query", "key", "value", "q", "k", "v", "o"}
    return bool(names) and all(str(name).strip() in attention for name in names)


def _number(settings: Mapping[str, Any], name: str) -> int | float | None:
    """A positive number of that name and of a sane size; a brought plan may hold anything."""
    value = settings.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 1e-15 < value < 1e15:
        return None
    return value
