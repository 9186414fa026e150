"""Rows of a known kind that no task here learns from as they are: said with what to do, not taken for something else."""

from collections.abc import Callable, Sequence
from typing import Any

from engine.inspection.columns import LABEL_NAMES, LOOK_AT, Column
from engine.inspection.usual import COMPLETIONS, PROMPTS
from engine.tables.table import Table
from engine.text import one_line
from recommender.errors import InputError

_VERDICTS = ("label", "kto_tag")
_TWO_ANSWERS = (
    ("output_1", "output_2"),
    ("response_a", "response_b"),
    ("response_0", "response_1"),
    ("response_1", "response_2"),
    ("answer_a", "answer_b"),
    ("answer_0", "answer_1"),
)
_RANKED = frozenset({"output", "outputs", "response", "responses", "completions", "answers", "generations", "candidates"})
_SAID = frozenset({"response", "answer", "output", "text"})
_SEEN = ("images", "image", "videos", "video", "audios", "audio")
_TALKS = frozenset({"instruction", "messages", "conversations", "conversation"})

Columns = dict[str, Column]
"""By name, in small letters."""


def refuse_other_jobs(table: Table, columns: list[Column]) -> None:
    """
    Raises:
        InputError: the rows are of such a kind, with what to do.
    """
    by_name = {c.name.lower(): c for c in columns}
    for kind in _KINDS:
        told = kind(table, by_name)
        if told is not None:
            raise InputError(f"{table.path}: {told}")


def _message_trees(_: Table, columns: Columns) -> str | None:
    replies = "replies" in _keys(columns, "prompt")
    if replies or {"parent_id", "role", "text"} <= columns.keys() or {"mapping", "current_node"} <= columns.keys():
        return (
            "holds trees of messages, as OASST and exports of ChatGPT do; write each path from a first message to an answer as a"
            " row of messages, with role (user, assistant) and content."
        )
    return None


def _two_answers(_: Table, columns: Columns) -> str | None:
    two = next((pair for pair in _TWO_ANSWERS if set(pair) <= columns.keys()), None)
    if two is None or {"chosen", "rejected"} & columns.keys():
        return None
    return (
        f"holds two answers per row ({' and '.join(two)}); write the preferred one as chosen and the other as rejected, "
        "beside their prompt."
    )


def _marked_answers(table: Table, columns: Columns) -> str | None:
    """Answers of which some are bad would be learned like the good ones."""
    marked = next((c for name, c in columns.items() if name in _VERDICTS and _true_or_false(table.values(c.name))), None)
    talk = any(c.kind == "turns" for c in columns.values())
    if marked is None or not (talk or marked.called == "kto_tag" or {"prompt", "completion"} <= columns.keys()):
        return None
    cure = "" if talk else " To tell good answers from bad ones, use --task classification."
    return (
        f"column {one_line(marked.name, 60)} marks each answer as good or bad (true or false), as for KTO, which Loracle "
        f"does not train; write pairs of chosen and rejected, or leave the bad ones and that column out.{cure}"
    )


def _true_or_false(values: Sequence[Any]) -> bool:
    """Whether they are, but for a few faults; csv has the words."""
    filled = [v for v in values[:LOOK_AT] if v not in (None, "")]
    said = [v for v in filled if isinstance(v, bool) or (isinstance(v, str) and v.strip().lower() in ("true", "false"))]
    return len(set(map(str, said))) > 1 and len(said) >= 0.9 * len(filled)


def _ranked_answers(_: Table, columns: Columns) -> str | None:
    ranked = next((columns[n] for n in sorted(columns.keys() & _RANKED) if _holds_answers(columns[n])), None)
    classes = any(c.called in LABEL_NAMES and c.few and c.numeric < 0.5 for c in columns.values())
    if ranked is None or classes or not columns.keys() & {"instruction", "prompt"}:
        return None
    return (
        f"column {one_line(ranked.name, 60)} holds several answers per row; write the preferred one as chosen and the other "
        "as rejected, or the one to be learned as a text."
    )


def _holds_answers(c: Column) -> bool:
    """Whether it holds several answers a row, as texts, or as objects that tell more of each (UltraFeedback)."""
    return (c.kind == "list" and c.spaced > 0.3) or (c.kind == "turns" and bool(c.keys & _SAID) and not c.keys & {"role", "from"})


def _near_texts(_: Table, columns: Columns) -> str | None:
    near = next((columns[n] for n in ("positive", "positives", "pos") if n in columns), None)
    if near is None or not columns.keys() & {"query", "anchor"}:
        return None
    if not (near.spaced > 0.3 if near.kind == "list" else near.prose):
        return None
    return (
        f"holds texts beside others that are close to them (column {one_line(near.name, 60)}), as for training embedding "
        "models, which Loracle does not train."
    )


def _pictures_and_sounds(table: Table, columns: Columns) -> str | None:
    filled = (columns[n] for n in _SEEN if n in columns and not columns[n].flags)
    shown = next((c.name for c in filled if any(table.values(c.name))), None)
    asks = columns.keys() & _TALKS or (columns.keys() & set(PROMPTS) and columns.keys() & set(COMPLETIONS))
    if shown is None or not asks:
        return None
    return (
        f"column {one_line(shown, 60)} holds pictures or sounds that belong to the texts, which Loracle cannot read; leave "
        "such rows out, and the column."
    )


def _patterns(_: Table, columns: Columns) -> str | None:
    if "tag" in columns and "patterns" in columns and columns["patterns"].kind != "value":
        return "column patterns holds several texts per row; write one text per row, with its tag beside it as the label."
    return None


def _list_of_data_sets(_: Table, columns: Columns) -> str | None:
    named = columns.keys() & {"file_name", "hf_hub_url", "ms_hub_url"}
    if named and columns.keys() & {"formatting", "columns", "ranking"} and not any(c.prose for c in columns.values()):
        return "describes data sets, as LLaMA-Factory's dataset_info.json does, and holds no rows; give the file of one of them."
    return None


def _squad(_: Table, columns: Columns) -> str | None:
    if "qas" in _keys(columns, "paragraphs"):
        return (
            "holds questions inside paragraphs, as SQuAD's own file does; write one question per row, with columns "
            "instruction, input (the paragraph) and output (the answer)."
        )
    return None


def _gemini(_: Table, columns: Columns) -> str | None:
    if {"role", "parts"} <= _keys(columns, "contents"):
        return (
            "holds turns of role and parts, as Gemini does; write them as messages, with role (system, user, assistant) and"
            " content."
        )
    return None


def _keys(columns: Columns, name: str) -> frozenset[str]:
    """Of the objects in that column, if it holds any."""
    return columns[name].keys if name in columns else frozenset()


_KINDS: tuple[Callable[[Table, Columns], str | None], ...] = (
    _message_trees,
    _two_answers,
    _marked_answers,
    _ranked_answers,
    _near_texts,
    _pictures_and_sounds,
    _patterns,
    _list_of_data_sets,
    _squad,
    _gemini,
)
