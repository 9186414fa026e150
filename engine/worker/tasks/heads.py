"""What the tasks share that judge a whole row with a head on the model."""

import math
from collections import Counter
from collections.abc import Iterable
from typing import Any, ClassVar

import torch

from engine.rows import Rows
from engine.text import one_line
from engine.worker.batches import padded
from engine.worker.encoding import Tokens, pair_ids, parts_pairs, token_ids
from engine.worker.tasks.base import Encoded, Progress, Task

ONE, PAIR, PAIR_IN_ONE = '["a text"]', '["a text"], ["its pair"]', '["a text" + "\\n" + "its pair"]'
INPUTS = """\
# texts were learned without white space around them: strip() yours
inputs = tokenizer({opening}, truncation=True, max_length={length}, return_token_type_ids={types}, return_tensors="pt")
"""


def by_rarity(targets: Iterable[int], classes: int, device: torch.device) -> torch.Tensor:
    """A weight for each class, of mean 1 over `targets`: by the square root of how rare it is (E27).

    Of SST-2 made 20 to 1 (1,600 rows, two samples; a linear model on MiniLM's embeddings; 76 of 1,600 held-out rows rare) the
    rare class was given 28 times without weights (macro-F1 0.583), 77 times with the root (0.620), 122 with all of it (0.616).
    """
    counts = Counter(targets)
    roots = [1 / math.sqrt(max(counts[i], 1)) for i in range(classes)]
    mean = sum(counts[i] * root for i, root in enumerate(roots)) / max(counts.total(), 1)
    return torch.tensor([root / mean for root in roots], device=device)


class RowHead(Task):
    """A task whose model says one vector a row."""

    auto_model = "AutoModelForSequenceClassification"
    adapter_type = "SEQ_CLS"
    head_words = "text classifier"
    pipeline = "text-classification"
    has_probe = True

    opening = ONE
    """What the model card gives the tokenizer."""
    use: ClassVar[str]
    """Lines of Python that judge one text, for the model card; they begin with `{inputs}`."""

    def encoded(self, tokenizer: Any, rows: Rows, targets: list[Any], progress: Progress | None) -> Encoded:
        """The rows' texts as tokens beside these targets, which are the truth as well."""
        found = self.tokens(tokenizer, rows, progress)
        return Encoded(found.input_ids, targets, targets, found.rows_cut, found.tokens_cut)

    def usage(self) -> str:
        """Judge one text."""
        types = str(self.tells_texts_apart and self.opening == PAIR)
        use = self.use.replace("{inputs}", INPUTS).replace("{opening}", self.opening).replace("{types}", types)
        return use.replace("{length}", str(self.plan.max_length))

    def logits(self, model: Any, input_ids: list[list[int]]) -> torch.Tensor:
        """(rows, outputs) of a micro-batch, as fp32."""
        device = next(model.parameters()).device
        logits: torch.Tensor = model(**padded(input_ids, self.pad, device)).logits
        return logits.float()

    def tokens(self, tokenizer: Any, rows: Rows, progress: Progress | None) -> Tokens:
        """The rows' texts; of pairs both, with what the tokenizer puts between them, or a line end where it has nothing."""
        if rows.parts is None or not parts_pairs(tokenizer):
            self.opening = PAIR_IN_ONE if rows.parts is not None else ONE
            return token_ids(tokenizer, rows.texts, self.plan.max_length, progress)
        self.opening = PAIR
        return pair_ids(tokenizer, rows.parts, self.plan.max_length, progress, types=self.tells_texts_apart)


def names(labels: list[str]) -> dict[str, Any]:
    """Number and names of the outputs, as configurations hold them."""
    return {
        "num_labels": len(labels),
        "id2label": dict(enumerate(labels)),
        "label2id": {label: i for i, label in enumerate(labels)},
    }


def listed(title: str, labels: list[str]) -> str:
    """The labels as a list in Markdown; they are foreign text."""
    shown = (one_line(label, 80).replace("`", "'") for label in labels[:100])
    return f"{title}:\n\n" + "".join(f"- `{label}`\n" for label in shown)
