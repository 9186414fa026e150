"""What a data set is for and what is odd about it, and what a model is, in words, for set-up, advice and `inspect`."""

from typing import TYPE_CHECKING

from engine.text import one_line
from recommender.figures import share
from recommender.language import marked
from tui.i18n import _, plural
from tui.words import amount, number

if TYPE_CHECKING:
    from recommender.facts import DataFacts, ModelFacts

TASKS = {
    "classification": _("classification"),
    "multi_label": _("classification with several labels per row"),
    "regression": _("predicting a number"),
    "token_classification": _("tagging words"),
    "instruction": _("following instructions"),
    "chat": _("conversations"),
    "preference": _("preferences"),
    "seq2seq": _("text to text"),
    "continued_pretraining": _("raw text, continued pre-training"),
}
OTHER_LABEL = marked("{share} of the rows have a text that also appears with another label")
OTHER_NUMBER = marked("{share} of the rows have a text that also comes with another number")
SHARES = {
    "duplicate_share": marked("{share} of the rows repeat another row; they are left out"),
    "near_duplicate_share": marked("{share} of the rows differ only a little from an earlier row"),
    "shared_share": marked(
        "{share} of the rows share their question, or their first message or text, with others; those are kept together"
    ),
    "group_overlap_share": marked("{share} of the held-out rows are of groups that are trained on, too"),
    "conflict_share": OTHER_LABEL,
    "overlap_share": marked(
        "{share} of the held-out rows are also in the training data, punctuation aside; those are not trained on"
    ),
    "near_overlap_share": marked("{share} of the held-out rows differ only a little from a training row"),
    "unknown_share": marked("{share} of the tokens are unknown to the model's tokenizer"),
}
"""What is odd about a part of the rows or tokens, by the fact that says how large it is."""
COUNTS = {
    "groups": (
        marked("the rows are of {n} group, which is kept on one side of every split"),
        marked("the rows are of {n} groups, each kept on one side of every split"),
    ),
    "ungrouped_rows": (
        marked("{n} row names no group: it stands alone"),
        marked("{n} rows name no group: each stands alone"),
    ),
    "empty_rows": (
        marked("{n} row has nothing to read, or nothing to learn, and is left out"),
        marked("{n} rows have nothing to read, or nothing to learn, and are left out"),
    ),
    "respelled_labels": (
        marked("{n} label differs from a usual one in case or spaces alone, and is read as that"),
        marked("{n} labels differ from a usual one in case or spaces alone, and are read as that"),
    ),
    "unasked_rows": (
        marked("{n} conversation begins with the assistant; what it says before the first question is left out"),
        marked("{n} conversations begin with the assistant; what it says before the first question is left out"),
    ),
    "unwritten_calls": (
        marked("{n} row calls tools, which the model's chat template leaves out: that is not learned"),
        marked("{n} rows call tools, which the model's chat template leaves out: that is not learned"),
    ),
    "unwritten_thoughts": (
        marked("{n} row holds reasoning that the model's chat template leaves out: it is not learned"),
        marked("{n} rows hold reasoning that the model's chat template leaves out: it is not learned"),
    ),
    "spoken_thoughts": (
        marked("{n} row holds reasoning (<think>) of which the model's chat template knows nothing: it is learned as text"),
        marked("{n} rows hold reasoning (<think>) of which the model's chat template knows nothing: it is learned as text"),
    ),
    "thoughtless_rows": (
        marked("{n} row has an answer without the reasoning with which this model begins its own"),
        marked("{n} rows have answers without the reasoning with which this model begins its own"),
    ),
    "unlearned_answers": (
        marked("{n} answer of weight 0 (or train: false) is read, not learned"),
        marked("{n} answers of weight 0 (or train: false) are read, not learned"),
    ),
}
"""The same of rows or answers that are counted: of one, and of several."""
SUSPICIOUS = {
    "id": marked("column {name} is different in every row: an identifier, nothing to learn from"),
    "constant": marked("column {name} is the same in every row: nothing to learn from"),
    "outliers": marked("{share} of the numbers in column {name} lie far from all others"),
    "ordered": marked("the labels in column {name} are ordered grades: --task regression uses their order"),
    "spoken": marked("column {name} holds conversations as plain text; as raw text their questions are learned too"),
    "group": marked("{share} of the rows share their {name} with others: --column group={name} keeps those together"),
    "group_seen": marked("{share} of the held-out rows share their {name} with training rows"),
    "leak": marked("column {name} gives the label away: a model would learn to read it instead of the text"),
    "leak_in_part": marked("column {name} gives the label away in {share} of the rows: a model would learn to read it instead"),
    "leak_in_text": marked(
        "words like {word} in column {name} give the label away in {share} of the rows: a model would learn them alone"
    ),
}
TOLD_TOGETHER = {
    "text": marked("also hold text, and are not read (--text-column): {names}"),
    "unread": marked("also hold text, and are neither read nor learned: {names}"),
    "rival": marked("could also be the label (--label-column): {names}"),
}
"""What is said of a suspicious column by `Suspicion.why`, and of all columns that are suspicious for one reason."""


def task_name(facts: "DataFacts") -> str:
    """The task in words; `task not known` where nobody has looked."""
    return TASKS[facts.task] if facts.task is not None else _("unknown task")


def model_words(found: "ModelFacts") -> list[str]:
    """Family, parameters, layers, and how much it reads at once where that is limited."""
    return [
        _(found.family) if found.family else _("unknown family"),
        _("{n} parameters").format(n=amount(found.parameters)),
        *([_("{n} layers").format(n=number(found.layers))] if found.layers else []),
        *([_("up to {n} tokens").format(n=number(found.max_positions))] if found.max_positions else []),
    ]


def columns_of(facts: "DataFacts") -> dict[str, str]:
    """Columns by role, however they were found."""
    named = {"text": facts.text_column, "label": facts.label_column}
    return dict(facts.columns or {role: name for role, name in named.items() if name is not None})


def of_data(facts: "DataFacts") -> list[str]:
    """Repeats, contradictions, overlap, empty rows, suspicious columns; empty where nothing is odd."""
    shares = SHARES | ({"conflict_share": OTHER_NUMBER} if facts.task == "regression" else {})
    found = [_(words).format(share=share(part)) for name, words in shares.items() if (part := getattr(facts, name))]
    for name, (one, many) in COUNTS.items():
        if rows := getattr(facts, name):
            found.append(plural(one, many, rows).format(n=number(rows)))
    if facts.format and facts.format.startswith("folders"):
        found.append(_("each folder is a class; as FOLDER/**/*.txt the texts are read as raw text"))
    for odd in facts.suspicious_columns:
        if odd.why in SUSPICIOUS:
            partly = odd.why == "leak" and odd.share is not None and odd.share < 1
            inside = odd.why == "leak" and odd.column == facts.text_column
            words = SUSPICIOUS["leak_in_text" if inside else "leak_in_part" if partly else odd.why]
            word = one_line(odd.word or "?", 40)
            found.append(_(words).format(name=one_line(odd.column, 40), word=word, share=share(odd.share or 0.0)))
    for why, words in TOLD_TOGETHER.items():
        if names := [one_line(odd.column, 40) for odd in facts.suspicious_columns if odd.why == why]:
            found.append(_(words).format(names=", ".join(names)))
    return found


def conflicts(facts: "DataFacts") -> str:
    """Which part of the rows contradicts others."""
    words = OTHER_NUMBER if facts.task == "regression" else OTHER_LABEL
    return _(words).format(share=share(facts.conflict_share or 0.0))
