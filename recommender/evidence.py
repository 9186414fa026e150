"""The evidence table: sources by short name, and the points the rules give.

Numbers E1-E40 are explained in docs/method-guide.md, also those that no reason cites.
Points are judgement: the signs are evidenced, the sizes are not.
They stand in one table so that they can be printed, questioned and changed.
"""

from collections.abc import Callable
from dataclasses import dataclass

from recommender.recommendation import Method, Trained

SOURCES: dict[str, str] = {
    "E1": "Schulman & Thinking Machines 2025, LoRA Without Regret",
    "E2": "Schulman & Thinking Machines 2025: about 2 bits of capacity a parameter",
    "E3": "Chen et al. 2022, arXiv 2202.07962",
    "E4": "Tinker cookbook sweep of learning rate and rank over 35 models",
    "E5": "Biderman et al. 2024, arXiv 2405.09673",
    "E7": "Zhang et al. 2024, arXiv 2402.17193",
    "E8": "Raschka, fine-tuning DistilBERT on IMDB",
    "E9": "Hu et al., LoRA's GLUE scripts",
    "E10": "PEFT method comparison, one 3B model",
    "E12": "Zhang et al. 2021, arXiv 2006.05987",
    "E13": "Dodge et al. 2020, arXiv 2002.06305; Mosbach et al. 2021, arXiv 2006.04884",
    "E14": "google-research/bert README",
    "E15": "SetFit results, Tunstall et al. 2022",
    "E17": "Pecher et al., EMNLP 2025",
    "E18": "Bucher & Martini 2024, arXiv 2406.08660",
    "E19": "OpenAI fine-tuning guide; PEFT documentation",
    "E20": "Dettmers et al. 2023, arXiv 2305.14314",
    "E21": "LitGPT measurements, 10 models of 1.1B to 7B",
    "E22": "LLaMA-Factory, qlora and LitGPT memory tables",
    "E23": "torchtune measurements",
    "E25": "torchtune and axolotl on checkpointing and packing",
    "E26": "arXiv 2602.09492; LoRA Without Regret",
    "E27": "Madabushi et al. 2020",
    "E29": "Park et al. 2022; Dai et al. 2022",
    "E30": "Tulu 3, LIMA and others on epochs",
    "E32": "Raschka, precision comparison on DistilBERT",
    "E33": "bitsandbytes documentation, tried on this machine",
    "E35": "the frameworks' own defaults, mid-2026",
    "E36": "arithmetic",
    "E37": "NEFTune README",
    "E38": "Pu et al. 2023, arXiv 2304.14999",
    "E40": "He et al. 2021, arXiv 2106.03164",
    "K": "Loracle's authors, from practice",
}


def source(*names: str) -> str:
    """The sources written out, e.g. `E3 Chen et al. 2022, ...`."""
    return "; ".join(f"{n} {SOURCES[n]}" if n != "K" else SOURCES[n] for n in names)


@dataclass(frozen=True, slots=True)
class Situation:
    """What the point rules look at."""

    encoder: bool
    """The encoder rules apply: up to 0.6B parameters, an encoder or a classifier head."""
    writes: bool
    """The model writes text, rather than having a head of classes or numbers."""
    parameters: int
    unique_rows: int
    """Of raw text the blocks."""
    trained_tokens: int
    adapter_parameters_per_rank: int
    like_pretraining: bool
    """Raw text, or so much text of a new domain or of code that it resembles pre-training."""
    raw_text: bool
    """Its rows are blocks."""
    forgetting: str
    adapters_wanted: int
    ship_in_4_bit: bool
    full_fits: bool
    full_in_bf16: bool
    """What full fine-tuning fits in holds the weights themselves in bf16."""
    trained: Trained
    """What full fine-tuning would train in the memory and time there is."""
    lora_cut: bool
    """LoRA runs here only with less than half of QLoRA's rank, or with shorter texts."""

    @property
    def capacity_256(self) -> int:
        """Trained tokens that a rank-256 adapter can hold (E2)."""
        return 2 * 256 * self.adapter_parameters_per_rank


@dataclass(frozen=True, slots=True)
class PointRule:
    """A rule that speaks for or against methods."""

    code: str
    points: dict[Method, float]
    applies: Callable[[Situation], bool]
    sources: tuple[str, ...]


POINT_RULES: tuple[PointRule, ...] = (
    PointRule(
        "W1_small_encoder",
        {"full": 3, "lora": 1, "qlora": 0},
        lambda s: s.encoder and s.trained != "last_layers",
        ("E3", "E8"),
    ),
    PointRule(
        "W2_few_rows",
        {"full": 0, "lora": 1, "qlora": 0},
        lambda s: s.encoder and s.unique_rows < 1_000,
        ("E3", "E40", "E38"),
    ),
    PointRule(
        "W3_adapter_holds_data",
        {"full": 0, "lora": 3, "qlora": 2},
        lambda s: not s.encoder and s.trained_tokens <= s.capacity_256,
        ("E1", "E7", "E10", "E20"),
    ),
    PointRule(
        "W4_more_than_adapter_holds",
        {"full": 3, "lora": -3, "qlora": -3},
        lambda s: not s.encoder and s.trained_tokens > s.capacity_256,
        ("E2",),
    ),
    PointRule("W5_like_pretraining", {"full": 4, "lora": -1, "qlora": -1}, lambda s: s.like_pretraining, ("E5",)),
    PointRule("W6_forgetting", {"full": -2, "lora": 0, "qlora": 0}, lambda s: s.forgetting == "high", ("E5", "E7")),
    PointRule(
        "W7_few_rows_large_model",
        {"full": -1, "lora": 0, "qlora": 0},
        lambda s: not s.encoder and s.unique_rows < 1_000,
        ("E7",),
    ),
    PointRule("W9_several_adapters", {"full": -4, "lora": 0, "qlora": 0}, lambda s: s.adapters_wanted > 1, ("E1",)),
    PointRule(
        "W10_affordable_full",
        {"full": 1, "lora": 0, "qlora": 0},
        lambda s: not s.encoder and s.parameters < 2e9 and s.full_fits and s.forgetting == "low",
        ("E10", "K"),
    ),
    PointRule("W12_ships_in_4_bit", {"full": 0, "lora": 0, "qlora": 2}, lambda s: s.ship_in_4_bit, ("K",)),
    PointRule(
        "W13_tiny_writer",
        {"full": 1, "lora": 0, "qlora": 0},
        lambda s: not s.encoder and s.writes and s.parameters < 600e6 and s.full_fits and s.forgetting == "low",
        ("K",),
    ),
    PointRule(
        "W14_last_layers_only",
        {"full": 1, "lora": 2, "qlora": 0},
        lambda s: s.encoder and s.trained == "last_layers",
        ("E3", "E8"),
    ),
    PointRule(
        "W15_lora_cut_to_fit",
        {"full": 0, "lora": -2, "qlora": 0},
        lambda s: not s.encoder and s.lora_cut,
        ("E2", "E5", "E20", "K"),
    ),
    PointRule("W16_bf16_weights", {"full": -1, "lora": 0, "qlora": 0}, lambda s: s.full_fits and s.full_in_bf16, ("E10", "K")),
)
"""W8 (time) is measured, not looked up: see `decide`. W11 (policy-gradient training) has no task here."""
