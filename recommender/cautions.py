"""What to know about data, machine and goal although it decides nothing."""

import math
from collections.abc import Iterator, Sequence

from recommender.counting import classes_of, distinct_rows, is_labelled, once, rows_of, skewed, split_of
from recommender.facts import DataFacts, Facts
from recommender.gates import alike_classes, contradictions, rare_classes, too_few_labels, unread_answers
from recommender.lints import share_cut
from recommender.memory import usable_count
from recommender.reasons import caution
from recommender.recommendation import METHOD_NAMES, Candidate, Caution
from recommender.shape import Shape, fp16_hostile

UNKNOWN_SHARE = 0.05
"""Of tokens without a piece of their own, from which on a text loses words that it needs; a stray sign costs less."""
NAMED = 5
"""Rare classes that are named."""
LONG_READER = 4096
"""Tokens from which on an encoder is one for long texts."""


def data_cautions(facts: Facts, shape: Shape, nearest: Candidate) -> Iterator[Caution]:
    """About the data."""
    data = facts.data
    yield from _about_repeats(data)
    for code, fact, figure in COUNTED:
        if counted := getattr(data, fact):
            yield caution(code, **{figure: counted})
    yield from _about_the_template(data)
    yield from _about_contents(data)
    yield from _about_labels(facts)
    yield from _about_lengths(facts, shape, nearest)
    yield from _about_the_task(facts)


COUNTED = (
    ("shared", "shared_share", "share"),
    ("grouped", "groups", "groups"),
    ("ungrouped", "ungrouped_rows", "rows"),
    ("group_overlap", "group_overlap_share", "share"),
    ("overlap", "overlap_share", "share"),
    ("left_out", "empty_rows", "rows"),
    ("unasked", "unasked_rows", "rows"),
    ("unlearned", "unlearned_answers", "answers"),
)
"""Cautions that say one fact of the data: code, fact, and the figure of the sentence."""


def _about_repeats(data: DataFacts) -> Iterator[Caution]:
    """Rows that contradict others, repeat them, or nearly do; held-out rows that nearly repeat one."""
    if data.task == "regression" and (data.conflict_share or 0) >= 0.03:
        yield caution("several_numbers", share=data.conflict_share)
    elif 0.03 <= (data.conflict_share or 0) <= 0.10:
        yield caution("contradictions", **contradictions(data))
    near = (data.near_duplicate_share or 0) > 0.05
    left = once(data)
    repeats = (rows_of(data) or left) - left
    if data.duplicate_share and repeats:  # how many rows count is said once
        wording = "duplicates_and_near" if near else None
        yield caution("duplicates", wording=wording, share=data.duplicate_share, rows=repeats, left=left)
    if near:
        wording = "near_duplicates_apart" if data.eval_rows else None
        yield caution("near_duplicates", wording=wording, share=data.near_duplicate_share, unique_rows=distinct_rows(data))
    if (data.near_overlap_share or 0) > 0.05:
        yield caution("near_overlap", share=data.near_overlap_share)


def _about_the_template(data: DataFacts) -> Iterator[Caution]:
    """What the model's chat template leaves out, or has another place for."""
    if data.unwritten_calls:
        wording = "unwritten_calls_only" if data.unwritten_rows else None
        yield caution("unwritten_calls", wording=wording, rows=data.unwritten_calls, only=data.unwritten_rows or 0)
    if data.unwritten_thoughts:
        yield caution("unwritten_thoughts", rows=data.unwritten_thoughts)
    if data.spoken_thoughts:
        yield caution("spoken_thoughts", rows=data.spoken_thoughts)
    if (data.thoughtless_rows or 0) > (rows_of(data) or 0) / 2:
        yield caution("thoughtless", rows=data.thoughtless_rows)


def _about_the_task(facts: Facts) -> Iterator[Caution]:
    """Too few rows for the task, and a model that was made for another."""
    data, model = facts.data, facts.model
    unique, counted = distinct_rows(data), rows_of(data) is not None
    if counted and not is_labelled(data) and data.task != "continued_pretraining" and 50 <= unique < 200:
        yield caution("few_examples", rows=unique)
    if counted and not data.eval_rows and not split_of(data).held_out:
        yield caution("nothing_held_out", rows=unique)
    if data.task == "preference" and model.instruct is False:
        yield caution("preference_on_base", instruct=False)
    if data.task == "continued_pretraining" and model.instruct:
        yield caution("raw_text_on_instruct", instruct=True)
    if data.task == "chat" and model.chat_template is False:
        yield caution("no_chat_template", chat_template=False)


def _about_contents(data: DataFacts) -> Iterator[Caution]:
    for suspicion in data.suspicious_columns:
        if suspicion.why == "leak":
            wording = "leak_in_text" if suspicion.column == data.text_column else None
            yield caution("leak", wording=wording, column=suspicion.column, word=suspicion.word or "?")
        elif suspicion.why == "outliers" and suspicion.share is not None:
            yield caution("outliers", column=suspicion.column, share=suspicion.share)
        elif suspicion.why in ("ordered", "spoken"):
            yield caution(suspicion.why, column=suspicion.column)
        elif suspicion.why in ("group", "group_seen"):
            yield caution(suspicion.why, column=suspicion.column, share=suspicion.share)
    texts = [suspicion.column for suspicion in data.suspicious_columns if suspicion.why == "text"]
    if texts and data.text_column is not None:
        both = f"{texts[0]}+{data.text_column}"
        yield caution("other_texts", column=data.text_column, others=", ".join(texts), names=both)
    unread = [suspicion.column for suspicion in data.suspicious_columns if suspicion.why == "unread"]
    if unread:
        yield caution("unread_texts", others=", ".join(unread))
    rivals = [suspicion.column for suspicion in data.suspicious_columns if suspicion.why == "rival"]
    if rivals and data.label_column is not None:
        yield caution("rivals", column=data.label_column, others=", ".join(rivals))
    if (data.unknown_share or 0) >= UNKNOWN_SHARE:
        yield caution("unknown_tokens", share=data.unknown_share)


def _about_labels(facts: Facts) -> Iterator[Caution]:
    data = facts.data
    if (data.task or "classification") not in ("classification", "multi_label"):
        return
    held_out = data.eval_rows if data.eval_rows is not None else split_of(data).held_out
    if 0 < held_out < 1_000 and rows_of(data) is not None and classes_of(data) != 1:
        wording = "single_held_out" if held_out == 1 else "small_held_out_groups" if data.groups else None
        points, most = (round(100 * 1.96 * math.sqrt(p * (1 - p) / held_out), 1) for p in (0.9, 0.5))
        yield caution("small_held_out", wording=wording, rows=held_out, points=points, most=most)
    counts = data.label_counts or ()
    present = [c for c in counts if c]
    if skewed(data) and data.task != "multi_label":
        yield caution("imbalanced", wording=None if len(present) == 2 else "imbalanced_classes", share=max(counts) / sum(counts))
        if len(present) == 2 and min(present) < 0.05 * sum(present):
            yield caution("rare_positive", share=min(present) / sum(present))
    elif skewed(data):
        yield caution("imbalanced_labels", most=max(present), least=min(present))
    if rare := rare_classes(data):
        wording = "rare_class" if len(rare) == 1 else None
        yield caution("rare_classes", wording=wording, classes=len(rare), names=_counted(data, rare))
    if (pairs := alike_classes(data)) and not too_few_labels(data):  # which say it
        yield caution("alike_classes", pairs=pairs)
    if len(present) < len(counts) and len(present) > 1:
        absent = len(counts) - len(present)
        yield caution("absent_classes", wording="absent_class" if absent == 1 else None, classes=absent)


def _counted(data: DataFacts, places: Sequence[int]) -> str:
    """The first of these classes with their rows: `refund 3, praise 12`."""
    counts, labels = data.label_counts or (), data.labels or ()
    named = [f"{labels[place][:40]} {counts[place]}" if place < len(labels) else str(counts[place]) for place in places[:NAMED]]
    return ", ".join(named) + (", …" if len(places) > NAMED else "")


def _about_lengths(facts: Facts, shape: Shape, nearest: Candidate) -> Iterator[Caution]:
    data, length = facts.data, nearest.settings.max_length
    p95 = data.tokens_p95 or 0
    if is_labelled(data) and shape.family == "encoder" and p95 > shape.positions:
        median = data.tokens_p50 or 0
        half = median > shape.positions
        code = "long_documents_half" if half else "long_documents"
        if shape.positions >= LONG_READER:  # which is what the last of these would advise
            yield caution("long_documents", wording="long_documents_read_long", tokens=p95, reads=shape.positions)
        else:
            yield caution("long_documents", wording=code, tokens=median if half else p95, reads=shape.positions)
    wanted = data.tokens_p99 if not is_labelled(data) and data.task != "continued_pretraining" else None
    unread = wanted is not None and wanted > length >= shape.positions
    cut = next((c for c in data.truncation if c.length == length), None)
    if cut is not None and cut.rows_cut and data.rows and data.task != "continued_pretraining":
        lost = max((data.tokens_total or cut.tokens_kept) - cut.tokens_kept, 0)
        share = min(cut.rows_cut / data.rows, 1.0)
        wording = "truncated_unread" if unread else None  # how many are longer than the model reads is said once
        yield caution("truncated", wording=wording, rows=cut.rows_cut, share=share, length=length, tokens=lost)
        if cut.rows_untrained and unread_answers(facts) is None:
            share = min(cut.rows_untrained / data.rows, 1.0)
            yield caution("untrained", rows=cut.rows_untrained, share=share, length=length)
    elif unread:
        wording = "long_texts_half" if (data.tokens_p50 or 0) > shape.positions else None
        longer = share_cut(data, shape.positions)
        yield caution("long_texts", wording=wording, share=longer, tokens=wanted, reads=shape.positions)
    if wanted is not None and length < min(wanted, shape.positions) and nearest.fits:
        yield caution("shortened", length=length, tokens=wanted, share=share_cut(data, length))


def machine_cautions(facts: Facts, shape: Shape, nearest: Candidate) -> Iterator[Caution]:
    """About the machine, as far as the nearest candidate is concerned."""
    machine, device = facts.machine, facts.machine.device
    for problem in machine.problems:  # a card that lies idle, say
        yield caution("machine_problem", problem=problem)
    used, present = usable_count(machine), len(machine.devices)
    if machine.backend != "cpu" and 0 < used < present:
        yield caution("unused_devices", used=used, present=present)
    elif nearest.fits and 1 < nearest.devices < used:
        yield caution("device_left_out", used=nearest.devices, usable=used)
    if nearest.fits and nearest.sharded:
        yield caution("sharded", method=METHOD_NAMES[nearest.method], devices=nearest.devices)
    if device is not None and device.memory_total and device.memory_free is not None and machine.backend != "mps":
        held = device.memory_total - device.memory_free
        if held > 0.2 * device.memory_total:
            yield caution("busy_device", held=held, total=device.memory_total)
    if nearest.settings.precision == "fp32" and device is not None and fp16_hostile(facts.model):
        yield caution("fp16_hostile", precision="fp32")
    if shape.never_quantised and not facts.model.quantization:
        yield caution("experts_stay_whole", experts=shape.never_quantised)
    if nearest.method == "qlora" and nearest.fits and machine.nf4 is None:
        yield caution("nf4_untried", nf4=None)


def goal_cautions(facts: Facts, nearest: Candidate) -> Iterator[Caution]:
    """About what the person wants."""
    goal = facts.goal
    if goal.sequential_updates > 1:
        code = "sequential_adapters" if nearest.method != "full" else "sequential_full"
        yield caution("sequential_updates", wording=code, updates=goal.sequential_updates)
    if goal.ship_in_4_bit and nearest.method != "qlora":
        yield caution("score_in_4_bit", ship_in_4_bit=True)
    if goal.forgetting != "low":
        yield caution("check_forgetting", forgetting=goal.forgetting)
