"""Learning rate, epochs, warm-up, batch, rank and dropout: the cells of that table (docs/method-guide.md, section 5)."""

import math

from recommender.counting import distinct_rows, like_pretraining, trained_tokens
from recommender.facts import DataFacts, Goal
from recommender.recommendation import Method, Trained
from recommender.shape import Shape

RANKS = (8, 16, 32, 64, 128, 256)
BITS_A_PARAMETER = 2
"""What an adapter's parameter can hold, in trained tokens (E2)."""
SHORT_RUN_STEPS = 100
"""Below so many steps a run hardly learns, and LoRA wants 1.5 times the rate (E1, E12)."""
MOST_PASSES_OVER_TEXT = 4
BERT_EMBEDDINGS = 24_000_000
NO_DROPOUT_BELOW = 2e9
"""Parameters of a model that writes, whose adapters are too small a part of little to need LoRA dropout (K)."""
CPT_BATCH_TOKENS = 262_144
"""Of one step of continued pre-training in full: within the usual 0.1 to 0.5 million."""


def learning_rate_of(
    shape: Shape, data: DataFacts, method: Method, encoder: bool, *, steps: int, trained: Trained = "all", t5: bool = False
) -> float:
    """The table's peak learning rate. It decides more than method, rank or variant (E4)."""
    if data.task == "continued_pretraining":
        return _pretraining_rate(shape, method)
    if data.task == "preference":
        return 5e-7 if method == "full" else 5e-6
    if trained == "last_layers":
        return 5e-5
    if encoder:
        return _encoder_rate(shape, data, method, t5)
    n = shape.active_parameters
    if method == "full":
        return 5e-5 if n < 0.3e9 else 2e-5 if n <= 3e9 else 1e-5 if n < 30e9 else 4e-6
    rate = 5e-4 if n < 0.3e9 else 3e-4 if n <= 3e9 else 2e-4 if n < 30e9 else 1e-4
    return round(rate * 1.5, 8) if steps < SHORT_RUN_STEPS else rate


def _pretraining_rate(shape: Shape, method: Method) -> float:
    if method != "full":
        return 1e-4
    n = shape.active_parameters
    return 5e-5 if n <= 1e9 else 2e-5 if n < 30e9 else 1e-5


def _encoder_rate(shape: Shape, data: DataFacts, method: Method, t5: bool) -> float:
    if method != "full":
        return 5e-4 if shape.parameters <= 600_000_000 else 2e-4  # DeBERTa of 1.5B was adapted with 6e-5 to 2e-4 (E9)
    if t5:
        return 1e-4  # the T5 family trains with higher rates than BERT's: 1e-4 to 3e-4 in its documentation
    n = _encoder_size(shape)
    if data.task == "token_classification":
        return 5e-5 if n <= 90e6 else 3e-5 if n <= 200e6 else 2e-5
    return 1e-4 if n <= 30e6 else 5e-5 if n <= 90e6 else 2e-5 if n <= 200e6 else 1e-5


def _encoder_size(shape: Shape) -> int:
    """Parameters, with no more of them in embeddings than BERT has: an XLM-R base is tuned like a BERT base."""
    return min(shape.parameters, shape.linear_parameters + BERT_EMBEDDINGS)


def _called(shape: Shape, encoder: bool) -> str:
    if not encoder:
        return "a language model"
    return {"encoder": "an encoder", "encoder-decoder": "an encoder-decoder", "decoder": "a classifier"}[shape.family]


def rate_range(
    shape: Shape, data: DataFacts, method: Method, encoder: bool, *, trained: Trained = "all", t5: bool = False
) -> tuple[float, float, str, tuple[str, ...]]:
    """Lowest and highest rate that holds up in the cell, what the cell is called, and the sources."""
    what = _called(shape, encoder)
    full = method == "full"
    if data.task == "continued_pretraining":
        return (1e-5, 5e-5, f"{what} on raw text", ("E5",)) if full else (1e-4, 3e-4, f"{what} on raw text", ("E5",))
    if data.task == "preference":
        return (1e-7, 1e-6, f"{what} on preferences", ("K",)) if full else (1e-6, 1e-5, f"{what} on preferences", ("K",))
    n = _encoder_size(shape) if encoder else shape.active_parameters
    if encoder:
        if not full:
            return 1e-4, 1e-3 if n <= 600_000_000 else 3e-4, what, ("E3", "E9")
        if trained == "last_layers":
            return 2e-5, 1e-4, f"the last layers of {what}", ("E8",)
        if t5:
            return 1e-4, 3e-4, what, ("K",)
        if data.task == "token_classification":
            return 2e-5, 5e-5, f"{what} that tags tokens,", ("K",)
        low, high = (3e-5, 3e-4) if n <= 30e6 else (1e-5, 5e-5) if n <= 200e6 else (5e-6, 2e-5)
        return low, high, what, ("E14",) if n <= 30e6 else ("E3", "E12", "E13")
    if full:
        low, high = (1e-5, 5e-5) if n <= 3e9 else (5e-6, 2e-5) if n < 30e9 else (2e-6, 5e-6)
        return low, high, what, ("E4", "E35")
    low, high = (2e-4, 1e-3) if n <= 3e9 else (1e-4, 5e-4) if n < 30e9 else (5e-5, 3e-4)
    return low, high, what, ("E1", "E4", "E20")


EPOCHS = {
    "language model": (4, 3, 2, 1, 1),
    "tags": (8, 5, 3, 2, 1),
    "tiny encoder": (10, 5, 3, 2, 1),
    "encoder": (10, 4, 3, 2, 1),
}
"""Passes over fewer than 1,000 distinct rows, than 10,000, than 100,000, over up to a million, and over more."""


def epochs_of(shape: Shape, data: DataFacts, method: Method, encoder: bool, trained: Trained = "all") -> int:
    """Passes over the data by its size (E12, E13, E30)."""
    rows = distinct_rows(data)
    column = sum(rows >= limit for limit in (1_000, 10_000, 100_000)) + (rows > 1_000_000)
    if data.task in ("continued_pretraining", "preference"):
        return 1
    if not encoder:
        most = 2 if shape.parameters >= 30e9 else 3 if method == "full" and shape.parameters >= 7e9 else 4
        return min(most, EPOCHS["language model"][column])
    if data.task == "token_classification":
        return EPOCHS["tags"][column]
    if trained == "last_layers":
        return 3 if rows <= 100_000 else 1
    full = EPOCHS["tiny encoder" if shape.parameters <= 30_000_000 else "encoder"][column]
    return full if method == "full" else 2 * full


def steps_of(rows: int, epochs: float, batch: int) -> int:
    """Optimizer steps of a run over `rows` training rows."""
    return max(1, round(max(1, math.ceil(rows / batch)) * epochs))


def usual_batch(shape: Shape, data: DataFacts, method: Method, *, encoder: bool, rows: int, length: int) -> int:
    """Rows of one optimizer step in the cell, for `rows` training rows (blocks of raw text).

    LoRA stays at 64 and below, because it loses with large batches whatever its rank (E26).
    """
    n = shape.parameters
    if data.task == "continued_pretraining":
        full = max(16, 2 ** round(math.log2(max(CPT_BATCH_TOKENS / max(length, 1), 1))))
        return min(full, 4096) if method == "full" else 32
    if encoder or n < 3e9:
        return 16 if rows < 3_000 else 32
    if method == "full":
        return 64 if n >= 30e9 or rows >= 100_000 else 32
    return 16 if rows < 10_000 else 32


def effective_batch_of(usual: int, *, encoder: bool, rows: int, epochs: float) -> int:
    """The usual batch, halved down to 8 (4 for a few hundred rows) while a run has under 100 steps (E12)."""
    batch, least = usual, 4 if rows < 300 and not encoder else 8
    while batch > least and steps_of(rows, epochs, batch) < SHORT_RUN_STEPS:
        batch //= 2
    return batch


def passes_over_text(rows: int, batch: int) -> int:
    """Passes over so many blocks of raw text: one, and up to four, which did no harm in pre-training (E30), for 100 steps."""
    return min(MOST_PASSES_OVER_TEXT, math.ceil(SHORT_RUN_STEPS / steps_of(rows, 1, batch)))


def warmup_share(data: DataFacts, encoder: bool) -> float:
    """Share of the steps: 6% for encoders, 10% below 1,000 rows; 4% for LLMs (docs/method-guide.md, section 5)."""
    if encoder:
        return 0.10 if distinct_rows(data) < 1_000 else 0.06
    return 0.04


def least_rank(shape: Shape, encoder: bool) -> int:
    """The smallest rank worth taking: rank 16 cost a 1B model 2.4% of its loss (E4)."""
    return 8 if encoder else 32 if shape.parameters <= 2e9 else 16


def rank_of(shape: Shape, data: DataFacts, goal: Goal, encoder: bool) -> int:
    """The smallest rank whose adapters can hold what the data has to say (E2); 256 where small ranks lag most (E5)."""
    if wants_largest_rank(data, goal, encoder):
        return RANKS[-1]
    if encoder:
        return 8 if distinct_rows(data) < 10_000 else 16
    needed, least = trained_tokens(data), least_rank(shape, encoder)
    if data.task == "preference":
        return least
    return next((r for r in RANKS if r >= least and capacity(shape, r) >= needed), RANKS[-1])


def wants_largest_rank(data: DataFacts, goal: Goal, encoder: bool) -> bool:
    """Raw text, code and much text of a new domain (E5); of small encoder-decoders nobody knows."""
    if encoder:
        return data.task == "continued_pretraining"
    return like_pretraining(data, goal) or goal.purpose == "code"


def capacity(shape: Shape, rank: int) -> int:
    """Trained tokens that adapters of that rank can hold (E2)."""
    return BITS_A_PARAMETER * rank * shape.adapter_parameters_per_rank


def dropout_of(shape: Shape, data: DataFacts, encoder: bool) -> float:
    """LoRA dropout: 0.1 below 1,000 rows, else 0.05; none below 2B and for raw text (K), nor above 13B from 10,000 (E20).

    None in a mixture of experts: peft adapts all experts of a layer as one weight, which knows none.
    """
    n, u = shape.parameters, distinct_rows(data)
    if shape.experts > 1:
        return 0.0
    if not encoder and (n < NO_DROPOUT_BELOW or (n > 13e9 and u >= 10_000) or data.task == "continued_pretraining"):
        return 0.0
    return 0.1 if u < 1_000 and (encoder or n <= 13e9) else 0.05
