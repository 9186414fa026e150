"""What a data set is for and what is odd about it, in words, for set-up, advice and `inspect`."""

from typing import TYPE_CHECKING

from engine.text import one_line
from tui.i18n import _, plural
from tui.words import number, share

if TYPE_CHECKING:
    from recommender.facts import DataFacts, Suspicion

TASKS = {
    "classification": _("classification"),
    "multi_label": _("classification with several labels a row"),
    "regression": _("predicting a number"),
    "token_classification": _("tagging words"),
    "instruction": _("following instructions"),
    "chat": _("conversations"),
    "preference": _("preferences"),
    "seq2seq": _("text to text"),
    "continued_pretraining": _("raw text, continued pre-training"),
}


def task_name(facts: "DataFacts") -> str:
    """The task in words; `task not known` where nobody has looked."""
    return TASKS[facts.task] if facts.task is not None else _("task not known")


def columns_of(facts: "DataFacts") -> dict[str, str]:
    """Columns by role, however they were found."""
    named = {"text": facts.text_column, "label": facts.label_column}
    return dict(facts.columns or {role: name for role, name in named.items() if name is not None})


def of_data(facts: "DataFacts") -> list[str]:
    """Repeats, contradictions, overlap, empty rows, suspicious columns; empty where nothing is odd."""
    found = []
    if facts.duplicate_share:
        text = _("{share} of the rows repeat another row; they are left out")
        found.append(text.format(share=share(facts.duplicate_share)))
    if facts.near_duplicate_share:
        text = _("{share} more differ from an earlier row only a little")
        found.append(text.format(share=share(facts.near_duplicate_share)))
    if facts.shared_share:
        text = _("{share} of the rows share their question, or their first message or text, with others; those stay together")
        found.append(text.format(share=share(facts.shared_share)))
    if facts.conflict_share:
        found.append(conflicts(facts))
    if facts.overlap_share:
        text = _("{share} of the held-out rows are also in the training data; those are not trained on")
        found.append(text.format(share=share(facts.overlap_share)))
    if facts.empty_rows:
        text = plural(
            "{n} row has no text or no label and is left out",
            "{n} rows have no text or no label and are left out",
            facts.empty_rows,
        )
        found.append(text.format(n=number(facts.empty_rows)))
    if facts.unknown_share:
        text = _("{share} of the tokens stand for what the model's tokenizer does not know")
        found.append(text.format(share=share(facts.unknown_share)))
    if facts.unasked_rows:
        text = plural(
            "{n} conversation begins with the assistant; what it says before the first question is left out",
            "{n} conversations begin with the assistant; what it says before the first question is left out",
            facts.unasked_rows,
        )
        found.append(text.format(n=number(facts.unasked_rows)))
    if facts.unwritten_calls:
        text = plural(
            "{n} row calls tools, which the model's chat template does not write down: that is not learned",
            "{n} rows call tools, which the model's chat template does not write down: that is not learned",
            facts.unwritten_calls,
        )
        found.append(text.format(n=number(facts.unwritten_calls)))
    if facts.unlearned_answers:
        text = plural(
            "{n} answer of weight 0 is read, not learned",
            "{n} answers of weight 0 are read, not learned",
            facts.unlearned_answers,
        )
        found.append(text.format(n=number(facts.unlearned_answers)))
    if facts.format and facts.format.startswith("folders"):
        found.append(_("each folder is a class; as FOLDER/**/*.txt the texts are read as raw text"))
    found += [_suspicious(s) for s in facts.suspicious_columns if s.why not in ("rival", "text")]
    for why, sentence in (("text", _other_texts), ("rival", _could_be_label)):
        columns = [s.column for s in facts.suspicious_columns if s.why == why]
        found += [sentence(*columns)] if columns else []
    return found


def conflicts(facts: "DataFacts") -> str:
    """Which part of the rows contradicts others."""
    numbers = _("{share} of the rows have a text that also comes with another number")
    labels = _("{share} of the rows have a text that also appears with another label")
    return (numbers if facts.task == "regression" else labels).format(share=share(facts.conflict_share or 0.0))


def _could_be_label(*columns: str) -> str:
    names = ", ".join(one_line(column, 40) for column in columns)
    return _("could be the label as well (--label-column): {names}").format(names=names)


def _other_texts(*columns: str) -> str:
    names = ", ".join(one_line(column, 40) for column in columns)
    return _("hold texts as well, and are not read (--text-column): {names}").format(names=names)


def _suspicious(column: "Suspicion") -> str:
    name = one_line(column.column, 40)
    partly = column.share is not None and column.share < 1
    match column.why:
        case "id":
            return _("column {name} is different in every row: an identifier, nothing to learn from").format(name=name)
        case "constant":
            return _("column {name} is the same in every row: nothing to learn from").format(name=name)
        case "outliers":
            text = _("{share} of the numbers in column {name} lie far from all others")
            return text.format(name=name, share=share(column.share or 0.0))
        case "rival":
            return _could_be_label(column.column)
        case "text":
            return _other_texts(column.column)
        case "ordered":
            return _("the labels in column {name} are grades in order: --task regression uses that order").format(name=name)
        case "spoken":
            text = _("column {name} holds conversations written out; as raw text their questions are learned too")
            return text.format(name=name)
        case "leak" if partly:
            text = _("column {name} gives the label away in {share} of the rows: a model would learn to read it instead")
            return text.format(name=name, share=share(column.share or 0.0))
        case "leak":
            return _("column {name} gives the label away: a model would learn to read it instead of the text").format(name=name)
