"""A conversation, templates that write it, and what of it is learned."""

from pathlib import Path
from typing import Any

from engine.loading import load
from engine.worker.modeling import load_tokenizer
from engine.worker.packing import IGNORED
from engine.worker.tasks import conversation
from recommender.plan import DataChoice
from tests.conftest import put_rows

FORGETFUL = (
    "{% for message in messages %}{% if message['role'] != 'assistant' or loop.last %}"
    "{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% if message['role'] == 'assistant' %}MARK{{ message['content'] + '<|im_end|>' }}END{% else %}"
    "{{ message['content'] + '<|im_end|>' }}{% endif %}{{ '\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

"""Leaves earlier answers out, as templates that strip thoughts do."""
TALK = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Where is my parcel?"},
    {"role": "assistant", "content": "On its way."},
    {"role": "user", "content": "Since when?"},
    {"role": "assistant", "content": "Since Monday."},
]


def with_template(folder: Path, template: str | None) -> Any:
    tokenizer = load_tokenizer(str(folder))
    tokenizer.chat_template = template
    return tokenizer


def shown(tokenizer: Any, row: conversation.Rendered) -> list[str]:
    """Each run of learned tokens, as text."""
    runs: list[list[int]] = []
    before = False
    for label in row.labels:
        if label != IGNORED:
            runs = [*runs[:-1], [*runs[-1], label]] if before else [*runs, [label]]
        before = label != IGNORED
    return [tokenizer.decode(run) for run in runs]


def item(messages: list[dict[str, Any]] = TALK) -> dict[str, Any]:
    return {"messages": messages, "tools": None}


def tokenizer_text(tokenizer: Any, row: conversation.Rendered) -> str:
    return str(tokenizer.decode(row.ids))


def read(folder: Path, rows: list[dict[str, Any]], layout: str, columns: dict[str, str], task: str) -> Any:
    file = folder / "rows.jsonl"
    put_rows(file, rows)
    choice = DataChoice.model_validate({"train": str(file), "layout": layout, "columns": columns})
    return load(choice, task)[0]  # type: ignore[arg-type]
