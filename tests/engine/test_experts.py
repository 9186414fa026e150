"""Experts beside 4-bit maps, as they were before they became one weight."""

from types import SimpleNamespace
from typing import Any

import pytest

from engine.prediction.experts import experts_of, one_by_one
from engine.prediction.stream import Event, Segment
from recommender.step import TrainingStep

NUMBERS = 8 * 64 * 128


def sizes(**step: Any) -> list[int]:
    """Bytes of two weights of all experts, of a copy of one and of what is no expert's."""
    said = TrainingStep.model_validate({"method": "qlora", "base_dtype": "bfloat16", "double_quantization": False} | step)
    load = [Event(1, 4 * NUMBERS, "empty|weights"), Event(2, 1000, "empty|weights")]
    prepared = [Event(3, 8 * NUMBERS, "_to_copy|weights"), Event(1, -1, "empty|weights")]
    forward = [Event(4, 4 * NUMBERS, "_to_copy|activations"), Event(4, -1, ""), Event(5, 4 * NUMBERS, "add|activations")]
    segments = [Segment("load 4 bit", load), Segment("load prepare", prepared), Segment("forward", forward)]
    return [event.size for segment in one_by_one(segments, said, 8, NUMBERS) for event in segment.events if event.size > 0]


def test_experts_are_packed_and_unpacked_one_at_a_time() -> None:
    packed = int(2 * NUMBERS * (0.5 + 4 / 64))
    assert sizes(kbit_prepared=True) == [packed, 1000, packed, 4 * NUMBERS // 8, 1]
    assert sizes(kbit_prepared=True, double_quantization=True)[0] < packed


@pytest.mark.parametrize(
    ("config", "wanted"),
    [
        ({"num_local_experts": 8, "intermediate_size": 128}, (8, NUMBERS)),
        ({"num_experts": 8, "moe_intermediate_size": 128, "intermediate_size": 999}, (8, NUMBERS)),
        ({"intermediate_size": 128}, (0, 0)),
    ],
)
def test_experts_are_told_by_the_configuration(config: dict[str, int], wanted: tuple[int, int]) -> None:
    assert experts_of(SimpleNamespace(hidden_size=64, **config)) == wanted
