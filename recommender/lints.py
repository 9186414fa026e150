"""What an expert would say about any set of settings, chosen by Loracle or by hand."""

import itertools
import math
from collections.abc import Iterator, Mapping
from statistics import NormalDist
from typing import Any

from recommender import kernels, timing
from recommender.brought import canonical, number
from recommender.counting import distinct_rows, is_labelled, rows_of, split_of
from recommender.facts import DataFacts, Facts
from recommender.hyper import BLOCK_LENGTH, seeds_for, settings_for, supports_bf16, training_rows
from recommender.reasons import caution
from recommender.recommendation import Caution, Method, Settings
from recommender.shape import Shape, fp16_hostile, shape_of, tuned_as_encoder

LOW_LORA_RATE = 5e-5
HIGH_LORA_RATE = 3e-3
"""Where 72 of 80 diverged runs had their rate (E4)."""
MANY_EPOCHS = 30
MANY_EPOCHS_WRITING = 8
"""Without early stopping. Models that write gained nothing after 2 passes in one sweep; LIMA picked at 5 to 10 by hand (E30)."""
HEARD_BY: dict[str, tuple[str, ...]] = {
    "class_weights": ("classification", "multi_label", "token_classification"),
    "label_smoothing": ("classification", "token_classification", "preference"),
    "preference_beta": ("preference",),
}
"""Tasks whose loss looks at a setting (`engine.worker.tasks`)."""
USUAL_BETA = 0.1
"""Which plans of every task hold."""
ATTENTION = frozenset(
    {"q_proj", "k_proj", "v_proj", "o_proj", "query", "key", "value", "q", "k", "v", "o", "qkv_proj", "c_attn", "q_lin", "v_lin"}
    | {"query_key_value", "k_lin", "out_lin", "attn.c_attn"}
)


def lint_for(settings: Mapping[str, Any], facts: Facts, usual: Method | None = None) -> list[Caution]:
    """Cautions about `settings` in this situation: what Loracle would take itself for their method is the measure.

    Settings that name no method are judged as those of `usual`, else of the kind of model.
    """
    shape = shape_of(facts.model, facts.data.task)
    decoder = not tuned_as_encoder(shape, facts.data)
    method: Method = canonical(settings).get("method") or usual or ("lora" if decoder else "full")
    usual_settings = settings_for(facts, shape, method)
    said = lint(
        {"method": method, **settings},
        facts.data,
        decoder=decoder,
        suggested_rate=usual_settings.learning_rate,
        usual_alpha=32 if decoder else None,
        facts=facts,
        shape=shape,
    )
    return [*said, *_computing(canonical(settings), facts, shape, method, usual_settings)]


def lint(
    settings: Mapping[str, Any],
    data: DataFacts,
    *,
    decoder: bool = False,
    suggested_rate: float | None = None,
    usual_alpha: int | None = None,
    facts: Facts | None = None,
    shape: Shape | None = None,
    own: bool = False,
) -> list[Caution]:
    """Cautions about `settings`; absent ones, and what is no number, are not judged.

    Names of `Settings`, of `Plan`, or those that the common tools use (`recommender.brought`). `batch_size` is understood as
    the effective batch. The number of steps is computed from rows, batch and epochs where it is not given. With `own`, for
    settings that Loracle chose itself, what it could not have chosen better is left unsaid.
    """
    s = canonical(settings)
    found = [
        *_schedule(s, data, decoder and not is_labelled(data), own),
        *_rates(s, data, decoder, suggested_rate, usual_alpha),
        *_adapters(s, data, decoder),
        *_precision(s, facts),
        *_lengths(s, data, shape, own),
        *_without_effect(s, data),
    ]
    counts = data.label_counts or ()
    if counts and str(s.get("metric", "")).removeprefix("eval_") == "accuracy" and max(counts) > 0.8 * max(sum(counts), 1):
        found.append(caution("accuracy_on_skewed", share=max(counts) / sum(counts)))
    seeds, unique = s.get("seeds"), distinct_rows(data)
    one = isinstance(seeds, int) or (isinstance(seeds, list | tuple) and len(seeds) == 1)
    if one and rows_of(data) is not None and unique < 1_000 and not own:
        found.append(caution("one_seed", unique_rows=unique, seeds=seeds_for(unique)))
    if s.get("bias_correction") is False:
        found.append(caution("no_bias_correction", bias_correction=False))
    return found


def _schedule(s: Mapping[str, Any], data: DataFacts, writes: bool, own: bool) -> Iterator[Caution]:
    batch, epochs, rows = number(s, "effective_batch"), number(s, "epochs"), number(s, "rows") or rows_of(data)
    if rows and data.task == "continued_pretraining" and not number(s, "rows"):  # a batch counts blocks of them
        rows = training_rows(data, split_of(data), int(number(s, "max_length") or BLOCK_LENGTH))
    steps = number(s, "total_steps")
    if steps is None and batch and epochs and rows:
        steps = max(1, math.ceil(math.ceil(rows / batch) * epochs))
    warmup, share = number(s, "warmup_steps"), number(s, "warmup_ratio")
    if warmup is None and share is not None and share >= 0.2:
        yield caution("long_warmup", share=min(share, 1.0))
    if steps and warmup:
        if warmup >= steps:
            yield caution("warmup_longer_than_run", warmup_steps=warmup, total_steps=steps, reached=steps / warmup)
        elif warmup >= 0.2 * steps:
            yield caution("long_warmup", share=warmup / steps)
    given = number(s, "total_steps") is not None
    if steps and steps < 100 and not own:
        code = "one_step" if steps == 1 else "few_steps"
        yield caution("few_steps", wording=f"{code}_given" if given else code, total_steps=steps)
    if given and steps and batch and rows and not own and data.task != "continued_pretraining" and steps * batch < 0.8 * rows:
        seen, needed = int(steps * batch), math.ceil(rows / batch)
        yield caution("rows_unseen", total_steps=steps, effective_batch=batch, seen=seen, rows=rows, needed=needed)
    if epochs and epochs > (MANY_EPOCHS_WRITING if writes else MANY_EPOCHS) and not s.get("early_stopping"):
        yield caution("many_epochs", wording="many_epochs_writing" if writes else None, epochs=epochs)


def _rates(
    s: Mapping[str, Any], data: DataFacts, decoder: bool, suggested: float | None, usual_alpha: int | None
) -> Iterator[Caution]:
    rate, method = number(s, "learning_rate"), s.get("method")
    if not rate or method not in ("full", "lora", "qlora"):
        return
    known: dict[str, Any] = {"learning_rate": rate}
    if data.task == "preference":
        usual = suggested or (5e-7 if method == "full" else 5e-6)
        if rate > 10 * usual:
            yield caution("high_preference_rate", suggested=usual, **known)
        return
    if method == "full":
        limit = min(5 * (suggested or 2e-5), 1e-4) if decoder else 5 * suggested if suggested else 5e-4
        if rate > limit:
            yield caution("high_full_rate", suggested=suggested or 2e-5, **known)
        return
    if rate < LOW_LORA_RATE:
        yield caution("low_lora_rate", suggested=suggested or 2e-4, **known)
        yield from _alpha(s, suggested or 2e-4, decoder, suggested, usual_alpha)  # whoever takes that rate must divide it, too
    elif rate >= HIGH_LORA_RATE:
        yield caution("high_lora_rate", suggested=suggested or 2e-4, **known)
    elif decoder and suggested and rate > 8 * suggested:
        yield caution("high_lora_rate", wording="high_lora_rate_for_size", suggested=suggested, **known)
    else:
        yield from _alpha(s, rate, decoder, suggested, usual_alpha)


def _alpha(s: Mapping[str, Any], rate: float, decoder: bool, suggested: float | None, usual: int | None) -> Iterator[Caution]:
    """Alpha that multiplies the step without a rate that divides it (alpha 32 for LLMs, twice the rank for encoders)."""
    alpha, rank = number(s, "alpha"), number(s, "rank")
    meant = usual or (32 if decoder else 2 * rank if rank else None)
    if alpha is None or not meant:
        return
    root = math.sqrt(rank) if s.get("rslora") and rank else 1.0  # alpha is divided by that instead of by the rank
    times, at = alpha * root / meant, suggested or (2e-4 if decoder else 5e-4)
    wanted = max(round(meant / root), 1)
    known: dict[str, Any] = {"alpha": alpha, "learning_rate": rate, "times": times, "usual": wanted}
    if root > 1 and times >= 2 and rate * times > 2 * at:
        yield caution("rslora", **known, acts=rate * times)
    elif times >= 2 and rate * times >= HIGH_LORA_RATE:
        acts = {"acts": rate * times, "suggested": at, "usual": wanted}
        yield caution("high_lora_rate", wording="high_lora_rate_alpha", alpha=alpha, learning_rate=rate, **acts)
    elif times >= 2 and rate * times > 2 * at:
        yield caution("alpha_without_rate", **known)
    elif times <= 0.5 and rate * times < 0.5 * at:
        yield caution("alpha_without_rate", wording="alpha_without_rate_low", **known)


def _adapters(s: Mapping[str, Any], data: DataFacts, decoder: bool) -> Iterator[Caution]:
    if s.get("method") not in ("lora", "qlora"):
        return
    batch = number(s, "effective_batch")
    if batch and batch > 128:
        yield caution("large_batch_lora", effective_batch=batch)
    if decoder and _attention_only(s.get("target_modules")):
        yield caution("attention_only")
    saved = s.get("modules_to_save")
    empty = isinstance(saved, list | tuple) and not saved
    if is_labelled(data) and (s.get("train_head") is False or (empty and s.get("task_type") is None)):
        yield caution("untrained_head", train_head=False)


def _attention_only(targets: Any) -> bool:
    names = targets.split(",") if isinstance(targets, str) else targets if isinstance(targets, list | tuple) else []
    return bool(names) and all(str(name).strip() in ATTENTION for name in names)


def _precision(s: Mapping[str, Any], facts: Facts | None) -> Iterator[Caution]:
    precision, half = str(s.get("precision", "")).lower(), str(s.get("dtype", "")).removeprefix("torch.") in ("float16", "half")
    mixed = s.get("fp16") is True or precision in ("fp16-mixed", "16-mixed")
    if precision in ("fp16", "float16", "half", "pure_fp16", "16-true") or (half and s.get("method") == "full"):
        yield caution("pure_fp16", precision="fp16")
    elif mixed and facts is not None and fp16_hostile(facts.model):
        yield caution("fp16_overflows", precision="fp16")
    elif mixed and facts is not None and facts.machine.device is not None and supports_bf16(facts.machine):
        yield caution("fp16_where_bf16_works", precision="fp16")


def _computing(s: Mapping[str, Any], facts: Facts, shape: Shape, method: Method, usual: Settings) -> Iterator[Caution]:
    """Compiling where it does not pay, and kernels that are not here."""
    if s.get("compile") is True:
        own: dict[str, Any] = {name: n for name in ("epochs", "max_length") if (n := number(s, name))}
        precisions = {precision for _, _, precision in kernels.MEASURED}
        own |= {"precision": s["precision"]} if s.get("precision") in precisions else {}
        settings = usual.model_copy(update=own)
        training = timing.training_seconds(facts, shape, method, settings)
        found = kernels.compiling(facts, shape, method, settings.precision, training)
        if found.answer == "short":
            yield caution("compile_short", saved=found.saved / 3600, cost=found.cost / 3600)
        elif found.answer != "pays":
            yield caution(f"compile_{found.answer}", compile=True)
    if facts.machine.backend == "cpu" and str(s.get("optimizer", "")).startswith("adamw_8bit"):
        yield caution("eight_bits_on_cpu", optimizer=s["optimizer"])
    why = kernels.without_liger(facts, shape) if s.get("kernels") == "liger" else None
    if why is not None:
        yield caution(f"liger_{why}", kernels="liger")


def _without_effect(s: Mapping[str, Any], data: DataFacts) -> Iterator[Caution]:
    """Settings that another task, or another method, would look at."""
    task = data.task or "classification"
    given = {
        "class_weights": s.get("class_weights") is True,
        "label_smoothing": number(s, "label_smoothing") is not None,
        "preference_beta": number(s, "preference_beta") not in (None, USUAL_BETA),
    }
    for name, is_given in given.items():
        if is_given and task not in HEARD_BY[name]:
            yield caution("without_effect", setting=name, task=task)
    if s.get("method") == "full" and number(s, "rank") is not None:
        named = [name for name in ("rank", "alpha", "dropout", "target_modules") if s.get(name)]
        yield caution("without_effect", wording="without_effect_in_full", setting=", ".join(named), task=task)


def _lengths(s: Mapping[str, Any], data: DataFacts, shape: Shape | None, own: bool) -> Iterator[Caution]:
    length = number(s, "max_length")
    if not length:
        return
    if shape is not None and "max_positions" not in " ".join(shape.assumed) and length > shape.positions:
        yield caution("longer_than_model", length=length, reads=shape.positions)
    p95 = data.tokens_p95
    if s.get("padding") == "max_length" and p95 is not None and p95 < length / 2:
        yield caution("padded_to_maximum", length=length, tokens=p95)
    share = share_cut(data, length)
    cuts = shape is None or length < shape.positions  # at the model's own limit the texts are to blame, and that is said
    if share is not None and share > 0.10 and cuts and not own and data.task != "continued_pretraining":
        half = length < (data.tokens_p50 or 0)  # how many more is not known
        yield caution("truncates", wording="truncates_half" if half else None, length=length, share=share)


def share_cut(data: DataFacts, length: float) -> float | None:
    """Share of the rows longer than `length`: counted where it was, else read off between the known percentiles."""
    counted = next((c for c in data.truncation if c.length == length), None)
    if counted is not None and data.rows:
        return min(counted.rows_cut / data.rows, 1.0)
    known = [(data.tokens_p50, 0.5), (data.tokens_p95, 0.05), (data.tokens_p99, 0.01), (data.tokens_max, 0.0)]
    points = [(tokens, share) for tokens, share in known if tokens is not None]
    if not points:
        return None
    if length < points[0][0]:
        return points[0][1]  # at least
    for (low, above), (high, below) in itertools.pairwise(points):
        if low <= length < high:
            return _between(length, max(low, 1), above, high, below)
    return points[-1][1]


def _between(length: float, low: int, above: float, high: int, below: float) -> float:
    """Between two percentiles as lengths of texts are usually distributed: normally, on a logarithmic scale."""
    part = math.log(length / low) / math.log(high / low)
    if below <= 0:  # the longest text ends the distribution
        return above * (1 - part)
    normal = NormalDist()
    at, end = normal.inv_cdf(1 - above), normal.inv_cdf(1 - below)
    return 1 - normal.cdf(at + (end - at) * part)
