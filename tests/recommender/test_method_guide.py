"""The method guide says what the program does."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from recommender import rates
from recommender.catalogue import SENTENCES
from recommender.evidence import POINT_RULES, SOURCES, PointRule
from recommender.facts import DataFacts, Goal, ModelFacts
from recommender.footprint import Step, activations, layer_bytes
from recommender.recommendation import Method, Precision
from recommender.shape import Shape, shape_of, tuned_as_encoder
from tests.recommender.test_recommend import BERT, LLAMA_8B

GUIDE = (Path(__file__).parents[2] / "docs" / "method-guide.md").read_text(encoding="utf-8")
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in GUIDE.splitlines() if line.startswith("|")]


@pytest.mark.parametrize("rule", POINT_RULES, ids=lambda rule: rule.code)
def test_points_and_sources_are_those_of_the_table(rule: PointRule) -> None:
    (row,) = [r for r in ROWS if r[0] == rule.code.split("_")[0]]
    assert [float(cell.replace("−", "-")) for cell in row[1:4]] == [rule.points[m] for m in ("full", "lora", "qlora")]
    assert set(re.findall(r"E\d+|\bK\b", row[5])) == set(rule.sources)


def test_every_source_is_explained() -> None:
    explained = {r[0] for r in ROWS}
    cited = set(re.findall(r"\bE\d+\b", GUIDE))
    assert {name for name in SOURCES if name != "K"} | cited <= explained


CELLS = {
    "encoder ≤ 30M": ("encoder", 30e6), "encoder ≤ 90M": ("encoder", 90e6), "encoder ≤ 200M": ("encoder", 200e6),
    "encoder above": ("encoder", 400e6), "LLM < 0.3B": ("decoder", 0.2e9), "LLM ≤ 2B": ("decoder", 2e9),
    "LLM ≤ 3B": ("decoder", 3e9), "LLM < 30B": ("decoder", 29e9), "LLM ≥ 30B": ("decoder", 30e9),
}  # fmt: skip


@pytest.mark.parametrize("cell", CELLS)
def test_rates_ranks_and_epochs_are_those_the_program_takes(cell: str) -> None:
    (row,) = [r for r in ROWS if r[0] == cell]
    family, parameters = CELLS[cell]
    shape = shape_of(ModelFacts.model_validate({"family": family, "parameters": int(parameters)}))
    task = "classification" if family == "encoder" else "instruction"

    def of(rows: int) -> DataFacts:
        return DataFacts.model_validate({"task": task, "rows": rows, "trained_tokens": rows})

    encoder = tuned_as_encoder(shape, of(1))
    for column, method in ((1, "full"), (2, "lora"), (2, "qlora")):
        assert float(row[column]) == rates.learning_rate_of(shape, of(5000), method, encoder, steps=1000)  # type: ignore[arg-type]
    assert int(row[3].split(",")[0]) == rates.rank_of(shape, of(500), Goal(), encoder)
    epochs = [rates.epochs_of(shape, of(n), "lora" if family == "decoder" else "full", encoder) for n in SIZES]
    assert [int(n) for n in re.findall(r"\d+", row[4])[:5]] == epochs


SIZES = (999, 9_999, 99_999, 1_000_000, 1_000_001)


def test_a_layer_keeps_what_the_guide_says() -> None:
    bert, llama = (shape_of(ModelFacts.model_validate(model)) for model in (BERT, LLAMA_8B))
    sizes = {"H": "hidden", "I": "active_intermediate", "V": "key_value_width"}
    precisions: dict[str, Precision] = {"mixed": "bf16-mixed", "in bf16": "bf16", "in fp32": "fp32"}
    kinds: list[tuple[str, Shape, Method]] = [
        ("Llama-like, full", llama, "full"), ("Llama-like, LoRA and QLoRA", llama, "lora"), ("BERT-like, full", bert, "full"),
        ("BERT-like, adapters", bert, "lora"),
    ]  # fmt: skip
    for kind, shape, method in kinds:
        (row,) = [r for r in ROWS if r[0] == kind]
        for formula, precision in re.findall(r"([^,;]+\w) (mixed|in bf16|in fp32)", row[1]):
            step = Step(method, precisions[precision], rank=8, micro_tokens=1)
            terms = re.findall(r"(\d+)([HVIr])", formula)
            told = sum(int(n) * (8 if name == "r" else getattr(shape, sizes[name])) for n, name in terms)
            layer = layer_bytes(shape, step)
            assert layer == told + 4 * shape.heads, (kind, precision)
            outside = 24 * shape.hidden
            assert activations(shape, step, 0) == layer * shape.layers + outside
            few = [activations(shape, replace(step, trained="last_layers", last_layers=n), 0) - outside for n in (2, 99)]
            assert few == [2 * layer, shape.layers * layer], "those below keep nothing"
            stream = (2 if precision == "in bf16" or (method == "lora" and precision == "mixed") else 4) * shape.hidden
            again = activations(shape, replace(step, gradient_checkpointing=True), 0)
            assert again == stream * shape.layers + int(1.5 * layer) + outside
    adapters = Step("lora", "bf16-mixed", rank=8)
    masks = layer_bytes(llama, replace(adapters, dropout=0.1)) - layer_bytes(llama, adapters)
    assert masks == 6 * llama.hidden + llama.active_intermediate


def test_every_gate_and_every_dominance_rule_is_in_the_guide() -> None:
    explained = {r[0] for r in ROWS}
    for code in SENTENCES:
        family = code.split("_")[0]
        if re.fullmatch(r"[GDW]\d+", family):
            assert family in explained, code
