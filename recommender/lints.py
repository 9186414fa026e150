"""What an expert would say about any set of settings, chosen by Loracle or by hand (evidence.md, 2.5)."""

import math
from collections.abc import Mapping
from typing import Any

from recommender.facts import DataFacts
from recommender.reasons import caution
from recommender.recommendation import Caution


def lint(settings: Mapping[str, Any], data: DataFacts, *, decoder: bool = False, suggested_rate: float | None = None) -> list[Caution]:
    """Cautions about `settings` (names of `Settings` or `Plan`; absent ones are not judged).

    `batch_size` is understood as the effective batch. The number of steps is computed from rows, batch and epochs
    where it is not given.
    """
    found: list[Caution] = []
    batch = settings.get("effective_batch") or settings.get("batch_size")
    epochs = settings.get("epochs")
    rows = settings.get("rows") or data.rows
    steps = settings.get("total_steps")
    if steps is None and batch and epochs and rows:
        steps = math.ceil(rows / batch * epochs) if rows % batch else rows // batch * math.ceil(epochs)
    warmup = settings.get("warmup_steps")
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
    if settings.get("method") in ("lora", "qlora") and batch and batch > 128:
        found.append(caution("large_batch_lora", effective_batch=batch))
    counts = data.label_counts or ()
    if counts and settings.get("metric") == "accuracy" and max(counts) > 0.8 * sum(counts):
        found.append(caution("accuracy_on_skewed", share=max(counts) / sum(counts)))
    return found


def _rates(settings: Mapping[str, Any], decoder: bool, suggested: float | None) -> list[Caution]:
    rate, method = settings.get("learning_rate"), settings.get("method")
    if not rate or not method:
        return []
    if method in ("lora", "qlora") and rate < 5e-5:
        return [caution("low_lora_rate", learning_rate=rate, suggested=suggested or 2e-4)]
    if method == "full" and rate > (1e-4 if decoder else 5e-4):
        return [caution("high_full_rate", learning_rate=rate, suggested=suggested or 2e-5)]
    return []
