"""What a worker warns of, in the reader's language: by the event's code and facts. English has the worker's own sentence."""

from collections.abc import Mapping
from typing import Any

from engine.text import one_line
from recommender.language import marked, said
from tui.error_words import in_words

WARNINGS: dict[str, str] = {
    "rows_cut:train": marked("{rows_cut} training rows are longer than the length read and were cut ({tokens_cut} tokens lost)."),
    "rows_cut:validation": marked(
        "{rows_cut} validation rows are longer than the length read and were cut ({tokens_cut} tokens lost)."
    ),
    "rows_cut:held_out": marked(
        "{rows_cut} held-out rows are longer than the length read and were cut ({tokens_cut} tokens lost)."
    ),
    "system_moved": marked(
        "The model's chat template has no place for system messages: they are written before the first question. Write them there"
        " when you use the model, too."
    ),
    "no_held_out": marked("There are no held-out rows, so the report cannot say what the training gained."),
    "no_samples": marked("There is too little memory for sample answers; the report has none."),
    "few_answers": marked(
        "Generation is slow here: {answers} held-out rows are answered, in at most {tokens} tokens each. Exact match and "
        "chrF are of those."
    ),
    "no_time_for_answers": marked(
        "Generation is too slow here for answers to held-out rows; there is neither exact match nor chrF."
    ),
    "no_time_for_samples": marked("Generation is too slow here for sample answers; there are none in the report."),
    "few_samples": marked("Generation is slow here: there are {answers} sample answers of at most {tokens} tokens."),
    "nothing_learned": marked("The batch of step {step} teaches nothing: its loss and its gradient are zero."),
    "diverging": marked("The loss diverges: {loss:.3g} lately, and {first:.3g} before any training."),
    "forgot": marked("The loss was down to {lowest:.3g} and is back at {loss:.3g}, where it began ({first:.3g})."),
    "no_progress": marked("After {step} steps the loss has not fallen ({loss:.3g}; {first:.3g} at first)."),
    "overfitting": marked(
        "Since step {best_step} the validation loss has risen from {validation[0]:.3g} to {validation[1]:.3g} while the training"
        " loss fell from {training[0]:.3g} to {training[1]:.3g}. The best checkpoint is kept."
    ),
    "not_a_number": marked("The loss or the gradient is no longer a number at step {step}."),
    "gradient_overflow": marked("fp16 has skipped {skipped} steps in a row because the gradient overflows."),
    "learning_rate_hopeless": marked("learning_rate {learning_rate:g} would leave nothing of the model."),
    "learning_rate_high": marked("learning_rate {learning_rate:g} is above {high:g}, which few fine-tunes survive for long."),
    "learning_rate_low": marked("learning_rate {learning_rate:g} is so low that next to nothing is learned."),
    "damaged_checkpoint": marked("A damaged checkpoint was set aside ({checkpoint})."),
    "damaged_file": marked("{file} was damaged; what it held is computed again."),
    "gpu_gone": marked(
        "The run was meant for {device} and is on the processor, far slower; `loracle inspect machine` says why."
    ),
}
"""Said in translation only; what has no line here, or lacks a fact, is said by what the worker wrote."""


def warning_words(event: Mapping[str, Any]) -> str:
    """A `warning` event as a sentence."""
    text = in_words(one_line(event.get("text") or "", 400))
    facts = event.get("facts")
    known = dict(facts) if isinstance(facts, Mapping) else {}
    code = f"rows_cut:{known.get('use')}" if event.get("code") == "rows_cut" else str(event.get("code"))
    template = WARNINGS.get(code, "")
    translated = said(template)
    if translated == template or (code.startswith("rows_cut") and not known.get("rows_cut")):
        return text
    try:
        return one_line(translated.format_map(known), 400)
    except (KeyError, ValueError, TypeError, IndexError, AttributeError):  # a log may hold anything
        return text
