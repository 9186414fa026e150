"""Sentences for reasons, warnings, gates and flip conditions: one catalogue, one renderer.

A reason is a code plus the facts that made it fire; this catalogue turns it into a sentence. Another language is another
catalogue. Number formats: `:size` bytes, `:share` percent, `:count` 1 234, `:short` 1.2k,
`:hours` time, `:num` a short number.
"""

import string
from typing import Any

from recommender.evidence import source
from recommender.recommendation import Caution, Reason

CATALOGUE: dict[str, str] = {
    # hard constraints
    "fits": "{method}: needs about {needed:size}, you have {free:size} free: fits.",
    "does_not_fit": "{method}: needs about {needed:size}, you have {free:size} free: does not fit.",
    "no_nf4": "QLoRA cannot run here: the 4-bit kernels failed a trial on this machine.",
    "already_quantised": "The checkpoint is already quantised ({quantization}), so only adapters can be trained on it.",
    "over_time_budget": "{method}: about {hours:hours}, more than 80% of your {budget:hours}.",
    "no_disk": "{method}: needs about {needed:size} of disk for checkpoints and the result, {free:size} are free.",
    # dominance
    "D1_qlora_saves_little": "4-bit would save only {saving:size} here and train 1.1 to 2 times slower.",
    "D2_lora_fits_easily": "LoRA takes {needed:size} of {free:size}: it fits with room to spare, so quantising would only cost "
    "speed.",
    "D3_too_small_for_adapters": "The model is so small ({parameters:count} parameters) that adapters save nothing.",
    "D4_many_full_copies": "{copies} full copies are {needed:size}; adapters are tens of MB each and share one server.",
    # points
    "W1_small_encoder": "A small model ({parameters:short} parameters): where it fits, training all of it is simplest and "
    "usually best.",
    "W2_few_rows": "With only {unique_rows:count} rows adapters overfit less; comparing both is worth the time.",
    "W3_adapter_holds_data": "{trained_tokens:count} trained tokens are few for adapters (about {capacity_256:short} fit): "
    "LoRA on all linear layers is expected to match full fine-tuning.",
    "W4_more_than_adapter_holds": "{trained_tokens:short} trained tokens exceed what even a rank-256 adapter can hold "
    "(about {capacity_256:short}).",
    "W5_continued_pretraining": "This resembles pre-training, where LoRA lags clearly (17.5% against 26.3% on code in one "
    "study); if you use it, take rank 256.",
    "W6_forgetting": "Keeping what the model knows matters: full fine-tuning moves all {parameters:short} parameters, LoRA "
    "forgets less.",
    "W7_few_rows_large_model": "{unique_rows:count} rows are too few to move {parameters:short} parameters safely.",
    "W8_slower": "{method} takes about {hours:hours} against {best:hours}.",
    "W9_several_adapters": "{adapters_wanted} variants of one base model: adapters can share it.",
    "W10_affordable_full": "With {parameters:short} parameters full fine-tuning is affordable too.",
    "W12_ships_in_4_bit": "Training on the 4-bit weights you will deploy avoids a shift when merging.",
    # gates
    "G1_one_label": "All {rows:count} rows have the same label, so there is nothing to learn.",
    "G1_mostly_empty": "{empty_rows:count} of {rows:count} rows have no text.",
    "G2_contradictions": "{share:share} of your texts appear with contradicting labels; no method can score above about "
    "{cap:share}.",
    "G4_too_few_examples": "With {smallest:count} examples in the smallest class and {unique_rows:count} rows, results swing "
    "by many points with the seed.",
    "G4_too_few_rows": "With {unique_rows:count} rows, results swing by many points with the seed.",
    "G5_baseline_first": "With {smallest:count} examples in the smallest class and {unique_rows:count} rows, a frozen model "
    "with a linear probe often does as well.",
    "G6_too_few_generation": "{unique_rows:count} examples are too few to tune a model that writes text.",
    "G7_changing_facts": "Facts that change belong in retrieval; fine-tuning teaches form and behaviour.",
    # warnings
    "contradictions": "{share:share} of your texts appear with contradicting labels; no method can score above about "
    "{cap:share}.",
    "duplicates": "{share:share} of the rows repeat another row's text. They are counted once and never split between training "
    "and scoring: {unique_rows:count} rows count.",
    "overlap": "{share:share} of the held-out rows are also in the training data. They are left out of training, or the score "
    "would be too good.",
    "small_held_out": "Your {rows:count} held-out rows measure to about {points:num} points either way; smaller differences "
    "are noise.",
    "imbalanced": "The largest class holds {share:share} of the rows: judged by macro-F1 and trained with class weights.",
    "few_examples": "{rows:count} examples can tell whether tuning helps; a prompt with the best of them costs nothing: "
    "compare both.",
    "truncated": "{share:share} of the rows are longer than {length} tokens and are cut there.",
    "assumed": "Not known and assumed: {names}.",
    # lints
    "warmup_longer_than_run": "The warm-up ({warmup_steps} steps) is longer than the whole run ({total_steps} steps): the "
    "learning rate never reaches its value, ends at {reached:share} of it and never decays.",
    "long_warmup": "The warm-up takes {share:share} of the run; 3 to 10% is usual.",
    "few_steps": "Only {total_steps} optimizer steps; aim for 100 or more: lower the effective batch or add epochs.",
    "many_epochs": "{epochs:num} epochs without early stopping overfit.",
    "low_lora_rate": "A learning rate of {learning_rate:num} is far too low for LoRA; {suggested:num} is usual here.",
    "high_full_rate": "A learning rate of {learning_rate:num} is high for full fine-tuning; {suggested:num} is usual here.",
    "large_batch_lora": "LoRA loses against full fine-tuning with batches beyond 32 and clearly beyond 128; you have "
    "{effective_batch}.",
    "attention_only": "LoRA on attention alone is the weak choice: all linear layers learn more at the same size.",
    "pure_fp16": "Pure fp16 ends in NaN: take bf16, or fp16 mixed with fp32 weights.",
    "accuracy_on_skewed": "Accuracy says little when the largest class holds {share:share} of the rows; macro-F1 is better.",
    # flip conditions
    "flip_memory": "{method}, if {needed:size} of memory were free.",
    "flip_memory_below": "{method}, if less than {needed:size} were free.",
    "flip_tokens_above": "{method}, with more than {tokens:short} trained tokens.",
    "flip_many_variants": "{method}, if you want several fine-tunes of one base model.",
    "flip_more_rows": "{method}, with at least {rows:count} rows and {smallest:count} of every class.",
    "flip_more_rows_only": "{method}, with at least {rows:count} rows.",
    "flip_clean": "{method}, once the contradicting labels are settled.",
    "flip_more_time": "{method}, if it may take {hours:hours}.",
    "flip_forgetting": "LoRA, if keeping what the model already knows matters much.",
    # the explanation's own lines
    "gates_open": "Nothing speaks against fine-tuning on these data.",
    "considered": "{method}: trains {trained:count} parameters in {precision} with {optimizer}, {checkpointing} gradient "
    "checkpointing, micro-batches of up to {token_budget:count} tokens, about {hours:hours}.",
    "points_total": "Sum of the points: {points}.",
    "verdict": "{verdict} ({confidence}); runner-up: {runner_up}.",
    # what to do instead
    "instead_more_labels": "Label more rows: aim for 100 to 500 in all, and at least {smallest:count} of every class.",
    "instead_probe": "Try a linear probe or SetFit on the frozen model first; it takes minutes.",
    "instead_clean": "Settle the contradicting labels first.",
    "instead_check_columns": "Check that the right text column was taken, or fill in the missing texts.",
    "instead_disk": "Free disk: {needed:size} are needed.",
    "instead_more_classes": "Add rows of another class, or treat this as anomaly detection.",
    "instead_retrieval": "Put the facts into a search index and give the model what it finds.",
    "instead_prompt": "Write a prompt with your best examples in it and see how far that goes.",
    "instead_smaller_model": "Take a smaller model, or a machine with at least {needed:size} free.",
    "instead_shorter": "Shorter texts need less memory: {length} tokens are used now.",
    "instead_time": "Use fewer rows, shorter texts or a smaller model, or allow more time.",
}


class _Numbers(string.Formatter):
    """Formats the catalogue's own number kinds."""

    def format_field(self, value: Any, format_spec: str) -> str:
        match format_spec:
            case "size":
                return size(value)
            case "share":
                return share(value)
            case "count":
                return f"{value:,}".replace(",", " ")
            case "short":
                return short_count(value)
            case "hours":
                return duration(value * 3600)
            case "num":
                return f"{value:g}" if abs(value) < 1e-3 else f"{value:.3g}"
        return str(super().format_field(value, format_spec))


def size(value: float) -> str:
    """Bytes for people, in powers of ten: `8.1 GB`."""
    for unit, factor in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if value >= factor:
            scaled = value / factor
            return f"{scaled:.1f} {unit}" if scaled < 100 and unit != "kB" else f"{scaled:.0f} {unit}"
    return f"{value:.0f} B"


def short_count(value: float) -> str:
    """A count for people: `110M`, `8.0B`, `950`."""
    for unit, factor in (("T", 1e12), ("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= factor:
            scaled = value / factor
            return f"{scaled:.1f}{unit}" if scaled < 10 else f"{scaled:.0f}{unit}"
    return f"{value:.0f}"


def share(value: float) -> str:
    """A share as percent: `12%`, `0.4%`."""
    percent = 100 * value
    return f"{percent:.0f}%" if percent >= 10 or percent == 0 else f"{percent:.1f}%"


def duration(seconds: float) -> str:
    """Seconds for people: `45 s`, `12 min`, `3.5 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    if seconds < 172_800:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86_400:.1f} days"


def sentence(code: str, facts: dict[str, Any] | None = None) -> str:
    """The sentence of that code, filled from its facts."""
    return _Numbers().vformat(CATALOGUE[code], (), facts or {})


def reason(code: str, facts: dict[str, Any], *sources: str) -> Reason:
    """A reason with its sentence and its sources."""
    return Reason(code=code, text=sentence(code, facts), facts=facts, source=source(*sources))


def caution(code: str, **facts: Any) -> Caution:
    """A warning with its sentence."""
    return Caution(code=code, text=sentence(code, facts), facts=facts)
