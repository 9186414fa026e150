"""Raw text: every token is learned."""

from bisect import bisect_right
from collections.abc import Iterator
from itertools import accumulate
from typing import Any

from engine.rows import Rows
from engine.worker.tasks.base import Encoded, Progress, Prompt
from engine.worker.tasks.writing import Writing, reported
from engine.worker.token_rows import TokenRows

PROMPT_SHARE = 0.5
"""Of a raw text's first piece, what a sample generation is given."""
RAW = """\
import torch

model.eval()
inputs = tokenizer("The beginning of a text", return_tensors="pt", return_token_type_ids=False)
with torch.no_grad():
    written = model.generate(**inputs, max_new_tokens=200, do_sample=False, eos_token_id={end}, pad_token_id={pad})
print(tokenizer.decode(written[0], skip_special_tokens=True))
"""


class RawText(Writing):
    """Rows are pieces of one stream of all texts; their targets are their own tokens."""

    own_usage = RAW

    def encode(self, tokenizer: Any, rows: Rows, progress: Progress | None = None) -> Encoded:
        """One stream of all texts, each ended by the end token, in pieces of `max_length`: nothing is lost. `groups` are the
        places of the texts in which the pieces have their middle."""
        self.prepare_tokenizer(tokenizer)
        most, end = self.plan.max_length, tokenizer.eos_token_id
        pieces = TokenRows()
        stream: list[int] = []
        lengths: list[int] = []
        for text in reported(rows.items or (), progress):
            ids = tokenizer(text, truncation=False, return_attention_mask=False, return_token_type_ids=False)["input_ids"]
            ids = ids if end is None or ids[-1:] == [end] else [*ids, end]
            stream += ids
            lengths.append(len(ids))
            whole = len(stream) // most * most
            pieces.extend(stream[j : j + most] for j in range(0, whole, most))
            del stream[:whole]
        if len(stream) > 1:  # one token alone has nothing before it that could predict it
            pieces.append(stream)
        ends = list(accumulate(lengths))
        texts = [bisect_right(ends, i * most + len(piece) // 2) for i, piece in enumerate(pieces)]
        return Encoded(pieces, pieces, [0] * len(pieces), groups=texts)  # everything is learned: nothing is held twice

    def prompts(self, tokenizer: Any, rows: Rows, most: int) -> Iterator[Prompt]:
        """Beginnings of at most `most` tokens, to be gone on from."""
        for text in rows.items or ():
            ids = tokenizer(text, return_attention_mask=False, return_token_type_ids=False)["input_ids"][: most * 2]
            ids = ids[:-1] if ids[-1:] == [tokenizer.eos_token_id] else ids
            keep = max(1, int(len(ids) * PROMPT_SHARE))
            begun, rest = ids[:keep], ids[keep:]
            yield Prompt(tokenizer.decode(begun, skip_special_tokens=True), begun, tokenizer.decode(rest))

    def about(self) -> str:
        """What is learned."""
        return f"It goes on writing texts like those it was trained on, in pieces of {self.plan.max_length} tokens.\n"
