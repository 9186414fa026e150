"""What a data set is for and what is odd about it, in words, for set-up, advice and `inspect`."""

from typing import TYPE_CHECKING

from engine.text import one_line
from tui.words import number, share

if TYPE_CHECKING:
    from recommender.facts import DataFacts, Suspicion

TASKS = {
    "classification": "classification",
    "multi_label": "classification with several labels a row",
    "regression": "predicting a number",
    "token_classification": "tagging words",
    "instruction": "following instructions",
    "chat": "conversations",
    "preference": "preferences",
    "seq2seq": "text to text",
    "continued_pretraining": "raw text, continued pre-training",
}


def task_name(facts: "DataFacts") -> str:
    """The task in words; `task not known` where nobody has looked."""
    return TASKS[facts.task] if facts.task is not None else "task not known"


def columns_of(facts: "DataFacts") -> dict[str, str]:
    """Columns by role, however they were found."""
    named = {"text": facts.text_column, "label": facts.label_column}
    return dict(facts.columns or {role: name for role, name in named.items() if name is not None})


def of_data(facts: "DataFacts") -> list[str]:
    """Repeats, contradictions, overlap, empty rows, suspicious columns; empty where nothing is odd."""
    found = []
    if facts.duplicate_share:
        found.append(f"{share(facts.duplicate_share)} of the rows repeat another row; they are counted once")
    if facts.near_duplicate_share:
        found.append(f"{share(facts.near_duplicate_share)} more differ from an earlier row only a little")
    if facts.conflict_share:
        found.append(f"{share(facts.conflict_share)} of the rows have a text that also appears with another label")
    if facts.overlap_share:
        overlap = share(facts.overlap_share)
        found.append(f"{overlap} of the held-out rows are also in the training data; those are not trained on")
    if facts.empty_rows:
        found.append(f"{number(facts.empty_rows)} rows have no text or no label and are left out")
    found += [_suspicious(s) for s in facts.suspicious_columns]
    return found


def _suspicious(column: "Suspicion") -> str:
    name = one_line(column.column, 40)
    seen = f" in {share(column.share)} of the rows" if column.share is not None and column.share < 1 else ""
    match column.why:
        case "id":
            return f"column {name} is different in every row: an identifier, nothing to learn from"
        case "constant":
            return f"column {name} is the same in every row: nothing to learn from"
        case "leak":
            return f"column {name} gives the label away{seen}: a model would learn to read it instead of the text"
