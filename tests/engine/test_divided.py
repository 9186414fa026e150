"""What one of several devices allocates of a step."""

from typing import Any

from engine.prediction.allocator import Unpooled
from engine.prediction.divided import computed, divided
from engine.prediction.stream import Event, Segment, peaks
from recommender.step import TrainingStep

LAYERS = 4


def stream() -> list[Segment]:
    """Weights of 4,000 bytes, of them 800 embeddings of 100 numbers; activations, gradients, moments and what an update makes."""
    load = [Event(1, 800, "empty|weights"), Event(2, 3200, "empty|weights")]
    forward = [Event(3, 6000, "mm|activations")]
    backward = [Event(4, 4000, "mm|gradients"), Event(3, -1, "mm|activations")]
    optimizer = [Event(5, 8000, "zeros|optimizer"), Event(6, 4000, "mul|temporaries"), Event(6, -1, "mul|temporaries")]
    return [Segment("load", load), Segment("forward", forward), Segment("backward", backward), Segment("optimizer", optimizer)]


def held(sharding: str | None, **step: Any) -> dict[str, int]:
    """Bytes at the peak of each phase on one of two devices."""
    said = {"method": "full", "devices": 2, "sharding": sharding, "base_dtype": "float32"} | step
    found = peaks(divided(stream(), TrainingStep.model_validate(said), LAYERS, 400), Unpooled())
    return {name: phase["allocated"] for name, phase in found["phases"].items()}


def test_each_device_holds_its_share_and_what_is_whole_meanwhile() -> None:
    whole = 800 + 2 * 800  # embeddings, the layer that computes and the next
    phases = held("fsdp")
    assert phases["forward"] == 2000 + 6000 + whole
    assert phases["backward"] == 2000 + 6000 + whole + 2000 + 4000 // LAYERS
    assert phases["optimizer"] == 2000 + 2000 + 4000 + 2000, "nothing is whole while an optimizer updates its share"
    kept = held("fsdp", method="lora", frozen_kept=True)
    assert (kept["forward"], kept["optimizer"]) == (4000 + 6000, phases["optimizer"]), "frozen weights may stay whole until then"
    assert held("ddp")["backward"] == 4000 + 6000 + 4000 + 4000, "copies hold buckets as large as their gradients"
    assert held("zero1")["optimizer"] == 4000 + 4000 + 4000 + 4000 + 2000


def test_mixed_precision_is_divided_wide_and_computed_narrow() -> None:
    mixed = {"autocast": "bfloat16"}
    assert held("fsdp", **mixed)["optimizer"] == 2 * held("fsdp", base_dtype="bfloat16")["optimizer"]
    assert held("fsdp", **mixed)["forward"] == 4000 + 6000 + 800 + 2 * 800, "what is gathered is narrow"
    masters = 2 * 4000 // 2
    assert held("zero2", base_dtype="bfloat16")["forward"] == 4000 + masters + 6000
    step = TrainingStep(method="full", devices=2, sharding="zero3", base_dtype="float32", autocast="float16")
    assert computed(step).base_dtype == "float16"
    assert computed(step.model_copy(update={"sharding": "ddp"})).base_dtype == "float32"
    assert computed(step.model_copy(update={"devices": 1})).base_dtype == "float32"
