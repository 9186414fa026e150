"""Hours from facts: which device's speed is taken, and which passes over the rows are counted."""

from typing import Any

import pytest

from recommender.decide import recommend
from recommender.facts import Device, Facts, Machine
from recommender.timing import device_flops


def flops(name: str, backend: Any = "cuda") -> float:
    machine = Machine(backend=backend, devices=(Device(name=name),))
    return device_flops(machine, Facts(machine=machine), "bf16-mixed")[0]


def test_a_name_ends_where_its_digits_end() -> None:
    assert flops("NVIDIA A100-SXM4-80GB") > 5 * flops("NVIDIA RTX A1000 Laptop GPU")
    assert flops("NVIDIA A30") > 2 * flops("NVIDIA RTX A3000 Laptop GPU")
    assert flops("Intel(R) Data Center GPU Max 1550", "xpu") == flops("an unknown device")
    assert flops("NVIDIA L40S") == 2 * flops("NVIDIA L40")


@pytest.mark.parametrize(("name", "slices"), [("NVIDIA A100-SXM4-80GB MIG 1g.10gb", 1), ("NVIDIA H100 80GB HBM3 MIG 3g.40gb", 3)])
def test_a_slice_of_a_card_is_as_fast_as_its_share_of_it(name: str, slices: int) -> None:
    assert flops(name) == pytest.approx(flops(name.split(" MIG")[0]) * slices / 7)


def test_many_rows_are_not_scored_once_more() -> None:
    """One epoch over 2,000,000 rows: what is scored is a few thousand of them, so hours are those of the training."""
    shape = {"id": "llama-8b", "family": "decoder", "parameters": 8_030_261_248, "embedding_parameters": 525_336_576}
    data = {"task": "instruction", "rows": 2_000_000, "tokens_p50": 280, "tokens_p95": 700, "tokens_total": 644_000_000}
    device = {"name": "NVIDIA A100-SXM4-80GB", "memory_free": 84_000_000_000}
    facts = {"machine": {"backend": "cuda", "devices": [device]}, "model": shape, "data": data}
    advice = recommend(Facts.model_validate(facts))
    training = 4 * 1.15 * 8.03e9 * 644e6 / (312e12 * 0.4) / 3600
    assert advice.candidate("lora").settings.epochs == 1
    assert advice.candidate("lora").hours.predicted == pytest.approx(training, rel=0.15)
