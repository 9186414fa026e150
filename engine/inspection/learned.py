"""The first rows of a file as a model would read them, and which of their tokens it would learn. Imports transformers."""

from itertools import groupby, islice
from typing import Any

from transformers import AutoTokenizer

from engine.inspection.records import stream
from engine.inspection.tokens import reads_apart
from engine.loading import shape_of
from engine.tables.read import open_source
from engine.text import first_line
from engine.worker.packing import IGNORED
from engine.worker.tasks.chat_template import give_template
from engine.worker.tasks.conversation import Rendered, rendered, sides
from engine.worker.tasks.seq2seq import pair_of, settle_languages
from recommender.errors import InputError
from recommender.plan import DataChoice


def learned_rows(request: dict[str, Any]) -> dict[str, Any]:
    """`request`: train, task, layout, columns, model (folder with a tokenizer), count.

    Each row comes with its place, its pieces (text, learned or not), its tokens, and how many of them are learned; uncut. A pair
    comes as two, `part` says which. One that the model's template does not take has none, and `refused`, why not.

    Raises:
        InputError: no row that the model's template takes, or a model without a tokenizer.
    """
    choice = DataChoice.model_validate({name: request[name] for name in ("train", "layout", "columns")})
    source = open_source(choice.train)
    batches = stream(source, shape_of(choice, request["task"], choice.train))
    rows = ((row.item, number) for batch in batches for row, number in zip(batch.rows, batch.numbers, strict=True))
    try:
        tokenizer = AutoTokenizer.from_pretrained(request["model"], trust_remote_code=False)
    except (OSError, ValueError, ImportError) as error:
        raise InputError(f"{request['model']}: its tokenizer cannot be loaded: {first_line(error)}") from None
    apart = reads_apart(request["model"]) and request["task"] in ("instruction", "seq2seq", "chat")
    plain = False if apart or request["task"] == "continued_pretraining" else give_template(tokenizer)
    shown: list[dict[str, Any]] = []
    refused: InputError | None = None
    for item, number in islice(rows, request["count"]):
        where = source.where(number)
        try:
            found = {"": _read_apart(tokenizer, item, where)} if apart else _sequences(tokenizer, item, request["task"], where)
        except InputError as error:
            if apart:
                raise
            refused = refused or error
            shown.append({"row": number, "part": "", "pieces": [], "tokens": 0, "trained": 0, "refused": error.message})
            continue
        for part, row in found.items():
            marked = groupby(zip(row.ids, row.labels, strict=True), lambda pair: pair[1] != IGNORED)
            pieces = [(tokenizer.decode([i for i, _ in piece]), is_learned) for is_learned, piece in marked]
            trained = sum(label != IGNORED for label in row.labels)
            shown.append({"row": number, "part": part, "pieces": pieces, "tokens": len(row.ids), "trained": trained})
    if refused is not None and all("refused" in row for row in shown):
        raise refused
    return {"rows": shown, "plain_template": plain}


def _sequences(tokenizer: Any, item: Any, task: str, where: str) -> dict[str, Rendered]:
    """What a decoder reads of a row: one sequence, or both of a pair."""
    if task == "continued_pretraining":
        return {"": _of_text(tokenizer, item)}
    if task == "preference":
        return sides(tokenizer, item, where)
    return {"": rendered(tokenizer, item, where)}


def _read_apart(tokenizer: Any, item: Any, where: str) -> Rendered:
    """What an encoder-decoder reads, and what it writes."""
    source, target = pair_of(item, where)
    settle_languages(tokenizer)
    read, said = tokenizer(source)["input_ids"], tokenizer(text_target=target)["input_ids"]
    return Rendered([*read, *said], [IGNORED] * len(read) + said)


def _of_text(tokenizer: Any, text: str) -> Rendered:
    ids = tokenizer(text, return_attention_mask=False)["input_ids"]
    end = tokenizer.eos_token_id
    ids = ids if end is None or ids[-1:] == [end] else [*ids, end]
    return Rendered(ids, [IGNORED, *ids[1:]])  # nothing stands before the first that could predict it
