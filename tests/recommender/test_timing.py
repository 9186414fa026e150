"""Hours from facts: which device is taken, which passes are counted, and how large a model of that name is."""

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest

from recommender import answering, timing
from recommender.counting import split_of
from recommender.decide import recommend
from recommender.device_speed import LAUNCH, device_flops
from recommender.facts import DataFacts, Device, Facts, Machine, ModelFacts
from recommender.names import size_in_name
from recommender.recommendation import Hours
from recommender.shape import shape_of


def flops(name: str, backend: Any = "cuda", precision: Any = "bf16-mixed") -> float:
    machine = Machine(backend=backend, devices=(Device(name=name),))
    return device_flops(machine, Facts(machine=machine), precision)[0]


def test_a_name_ends_where_its_digits_end() -> None:
    assert flops("NVIDIA A100-SXM4-80GB") > 5 * flops("NVIDIA RTX A1000 Laptop GPU")
    assert flops("NVIDIA A30") > 2 * flops("NVIDIA RTX A3000 Laptop GPU")
    assert flops("Intel(R) Data Center GPU Max 1550", "xpu") == flops("an unknown device")
    told = Machine(backend="cuda")  # and nothing of its card
    assert device_flops(told, Facts(machine=told), "bf16-mixed")[0] == flops("an unknown device"), "it is no CPU"
    assert flops("NVIDIA L40S") == 2 * flops("NVIDIA L40")
    assert flops("NVIDIA H100 PCIe") < flops("NVIDIA H100 80GB HBM3") == flops("NVIDIA H800") == flops("NVIDIA GH200 480GB")
    assert flops("NVIDIA H100 80GB PCIe") == flops("NVIDIA H100 PCIe")
    assert flops("NVIDIA A800-SXM4-80GB") == flops("NVIDIA A100-SXM4-80GB")


@pytest.mark.parametrize(
    ("name", "wide", "half"),
    [
        ("NVIDIA GeForce GTX 1080", 8.9, 8.9),
        ("NVIDIA GeForce GTX 1080 Ti", 11.3, 11.3),
        ("Tesla T4", 5.4, 30),
        ("Tesla V100-SXM2-16GB", 14, 112),
        ("NVIDIA GeForce RTX 2080 Ti", 13.4, 54),
        ("NVIDIA A100-SXM4-80GB", 19.5, 312),
        ("NVIDIA A10G", 31.2, 70),
        ("NVIDIA H100 80GB HBM3", 67, 989),
        ("NVIDIA GeForce RTX 4090", 82.6, 165),
        ("NVIDIA RTX 6000 Ada Generation", 91.1, 364),
        ("NVIDIA L4", 17, 121),
        ("NVIDIA B300 SXM6 AC", 75, 2250),
        ("NVIDIA GB10", 30, 100),
        ("NVIDIA GeForce RTX 5070 Ti", 43.9, 88),
        ("NVIDIA RTX A2000", 8, 32),
        ("NVIDIA RTX 4000 SFF Ada Generation", 19.2, 77),
        ("NVIDIA A2", 4.5, 18),
        ("Intel(R) Arc(TM) A770 Graphics", 19.7, 137),
    ],
)
def test_cards_are_as_fast_as_their_data_sheets_or_their_power_limits_say(name: str, wide: float, half: float) -> None:
    assert flops(name, precision="fp32") == pytest.approx(wide * 1e12)
    assert flops(name, precision="fp16-mixed") == pytest.approx(half * 1e12)


@pytest.mark.parametrize(
    ("name", "of_desktop", "longest"),
    [
        ("NVIDIA GeForce RTX 4090 Laptop GPU", 0.48, 1.4),
        ("NVIDIA GeForce RTX 5090 Laptop GPU", 0.43, 1.36),
        ("NVIDIA GeForce RTX 3080 Ti Laptop GPU", 0.69, 1.41),
        ("NVIDIA GeForce RTX 3060 Laptop GPU", 1.05, 1.33),
        ("NVIDIA RTX A5000 Laptop GPU", 0.65, 1.54),
        ("NVIDIA GeForce RTX 2070 with Max-Q Design", 0.65, 1.54),
        ("NVIDIA RTX PRO 6000 Blackwell Max-Q Workstation Edition", 1, 1),
    ],
)
def test_a_laptops_card_is_another_chip_than_the_desktops_of_that_name(name: str, of_desktop: float, longest: float) -> None:
    desktop = re.sub(r" (Laptop GPU|with Max-Q Design|Max-Q.*)$", "", name)
    assert flops(name) / flops(desktop) == pytest.approx(of_desktop, abs=0.01)

    def hours(card: str) -> Hours:
        device = {"name": card, "memory_total": 48 * 10**9, "memory_free": 48 * 10**9}
        told = {"machine": {"backend": "cuda", "devices": [device]}, "model": BERT, "data": {"tokens_p50": 200, "rows": 10**6}}
        return recommend(Facts.model_validate(told)).candidate("full").hours

    spread = [told.high / told.predicted for told in map(hours, (name, desktop))]
    assert spread[0] / spread[1] == pytest.approx(longest, abs=0.01)


BERT = {"family": "encoder", "parameters": 109_482_240, "embedding_parameters": 23_837_184, "layers": 12, "hidden_size": 768}
LLAMA_1B = {
    "family": "decoder",
    "parameters": 1_235_814_400,
    "embedding_parameters": 262_668_288,
    "layers": 16,
    "hidden_size": 2048,
}
RESULTS = Path(__file__).parents[2] / "benchmarks" / "results" / "prediction_gpu.json"


@pytest.mark.parametrize(("name", "rows"), [("bert-base", 8), ("bert-base", 32), ("llama-1b", 2)])
@pytest.mark.parametrize("method", ["full", "lora", "qlora"])
def test_a_gpus_step_takes_as_long_as_starting_its_operations(name: str, rows: int, method: Any) -> None:
    """Held against the engine's own steps on an H100: a step of 8 rows took as long as one of 32."""
    model, task, length = (BERT, "classification", 256) if name == "bert-base" else (LLAMA_1B, "instruction", 1024)
    key = f"engine-{name}-{method}-{rows}x{length}"
    (measured,) = (c["seconds"]["measured"] for c in json.loads(RESULTS.read_text())["cells"] if c["key"] == key)
    data = {
        "task": task,
        "rows": 10**6,
        "eval_rows": 1,
        "tokens_p50": length,
        "tokens_max": length,
        "tokens_total": length * 10**6,
    }
    device = {"name": "NVIDIA H100 80GB HBM3", "memory_free": 84 * 10**9, "bf16": True}
    host = {"launch": 4.4e-5}  # as slow as that card's is (benchmarks/prediction/score.py)
    machine = {"backend": "cuda", "devices": [device]}
    facts = Facts.model_validate({"machine": machine, "model": model, "data": data, "measured": host})
    shape = shape_of(facts.model)
    usual = recommend(facts).candidate(method).settings
    settings = usual.model_copy(update={"effective_batch": rows, "epochs": 1, "total_steps": 988_000 // rows})
    hours = timing.predict(facts, shape, method, settings)
    assert 0.5 * measured < 3600 * hours.predicted / settings.total_steps < 1.5 * measured
    assert hours.low <= measured * settings.total_steps / 3600 <= hours.high


@pytest.mark.parametrize(("name", "slices"), [("NVIDIA A100-SXM4-80GB MIG 1g.10gb", 1), ("NVIDIA H100 80GB HBM3 MIG 3g.40gb", 3)])
def test_a_slice_of_a_card_is_as_fast_as_its_share_of_it(name: str, slices: int) -> None:
    assert flops(name) == pytest.approx(flops(name.split(" MIG")[0]) * slices / 7)


def test_repeats_take_no_time() -> None:
    once = {"task": "classification", "classes": 2, "rows": 40, "tokens_p50": 20, "tokens_p95": 30, "tokens_total": 900}
    again = once | {"rows": 1200, "unique_rows": 40, "tokens_total": 27_000, "duplicate_share": 1160 / 1200}
    hours = []
    for data in (once, again):
        kept = [{"length": n, "rows_cut": 0, "tokens_kept": data["tokens_total"]} for n in (32, 64)]
        facts = Facts.model_validate({"model": BERT, "data": data | {"truncation": kept}})
        hours.append(recommend(facts).candidate("full").hours.predicted)
    assert hours[1] == pytest.approx(hours[0])


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


@pytest.mark.parametrize(("task", "low", "high"), [("chat", 60, 200), ("seq2seq", 180, 600), ("preference", 0, 0)])
def test_the_answers_that_a_model_writes_before_and_after_are_counted(
    monkeypatch: pytest.MonkeyPatch, task: str, low: float, high: float
) -> None:
    """SmolLM2-135M on two cores; 32 answers took 57 s on one busy core, of a conversation half as long as these may be."""
    machine = {"backend": "cpu", "cpu_cores": 2, "ram_available": 16_000_000_000}
    model = {"id": "s", "family": "decoder", "parameters": 134_515_008, "layers": 30, "hidden_size": 576}
    data = {"task": task, "rows": 200, "eval_rows": 400, "tokens_p50": 90, "tokens_p95": 200, "tokens_total": 20_000}
    facts = Facts.model_validate({"machine": machine, "model": model, "data": data})
    counted = recommend(facts).candidate("lora").hours.predicted
    monkeypatch.setattr(answering, "ANSWERS", {})
    assert low <= 3600 * (counted - recommend(facts).candidate("lora").hours.predicted) <= high


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("meta-llama/Llama-3.1-8B-Instruct", 8e9),
        ("Qwen/Qwen2.5-1.5B", 1.5e9),
        ("HuggingFaceTB/SmolLM2-135M", 135e6),
        ("mistralai/Mixtral-8x7B-v0.1", 46.5e9),
        ("Qwen/Qwen3-30B-A3B", 30e9),
        ("roberta-large", 355e6),
        ("TheBloke/Mistral-7B-Instruct-v0.2-AWQ", 7e9),
        ("Qwen/Qwen2.5-7B-Instruct-1M", 7e9),
        ("meta-llama/Llama-4-Scout-17B-16E-Instruct", 109e9),
        ("google/mt5-small", 300e6),
        ("distilgpt2", 82e6),
    ],
)
def test_a_name_may_tell_the_size(name: str, parameters: float) -> None:
    assert size_in_name(ModelFacts(id=name)) == pytest.approx(parameters, rel=0.01)


@pytest.mark.parametrize("name", [None, "", "my-model-v2", "run-3b1", "7b-and-13b-merged", "x/y-0.0000001b"])
def test_a_name_may_tell_nothing(name: str | None) -> None:
    assert size_in_name(ModelFacts(id=name)) is None


def test_operations_that_were_tried_here_tell_the_time_instead_of_published_speeds() -> None:
    model = {"parameters": 22_000_000, "embedding_parameters": 11_000_000, "layers": 6, "hidden_size": 384}
    data = {"task": "classification", "rows": 4000, "unique_rows": 4000, "tokens_p50": 50, "tokens_total": 200_000}
    data |= {"tokens_max": 60}
    machine = {"backend": "cpu", "cpu_cores": 2, "ram_available": 8 * 10**9}
    facts = Facts.model_validate({"machine": machine, "model": model, "data": data})
    full = recommend(facts).candidate("full")

    def hours(train: float, update: float = 0.0, **starts: float) -> float:
        step = {"method": "full", "precision": full.settings.precision, "gradient_checkpointing": False}
        entry = {"step": step, "seconds": {"train": train, "update": update, "evaluate": train / 3} | starts}
        profile = facts.measured.model_copy(update={"memory_profile": {"steps": [entry]}})
        return recommend(facts.model_copy(update={"measured": profile})).candidate("full").hours.predicted

    tokens = full.settings.epochs * 200_000
    assert tokens * 0.45e-3 / 3600 < hours(1e-3) - hours(0.0005) < tokens * 0.8e-3 / 3600
    updates = full.settings.total_steps * timing.HOST * 2.0 / 3600  # one a step, however many tokens it has
    assert hours(1e-3, 2.0) - hours(1e-3) == pytest.approx(updates, rel=0.01)
    more = hours(1e-3, train_starts=2000.0, starting=3e-5, tokens=1000) - hours(1e-3)  # however short the rows of a micro-batch
    assert more == pytest.approx(full.settings.total_steps * 3e-5 * 2000 / 3600, rel=0.1)
    smaller = hours(1e-3, train_starts=2000.0, starting=3e-5, tokens=400) - hours(1e-3)
    assert smaller == pytest.approx(2 * more, rel=0.1)  # a step of 16 rows of 50 tokens is two of them

    step = {"method": "full", "precision": "fp32", "gradient_checkpointing": False}
    profile = {"steps": [{"step": step, "seconds": {"train": 1e-3, "update": 0.0, "evaluate": 3e-4}}]}
    tried = facts.model_copy(update={"measured": facts.measured.model_copy(update={"memory_profile": profile})})
    assert seconds(tried)[0] != pytest.approx(seconds(facts)[0])
    last: dict[str, Any] = {"trained": "last_layers", "last_layers": 2}
    assert seconds(tried, **last)[0] / seconds(facts, **last)[0] == pytest.approx(seconds(tried)[0] / seconds(facts)[0])


def test_a_card_computes_while_its_host_starts_operations() -> None:
    """What takes longer counts; a second card halves what the host does for each and nearly halves the rest."""

    def training(devices: int = 1, /, **told: float) -> float:
        entry = {"step": {"method": "full", "precision": "fp32", "gradient_checkpointing": False}, "seconds": told}
        facts = known(machine={"backend": "cuda", "devices": [{"name": "L4", "memory_free": 24 * 10**9}]})
        facts = facts.model_copy(update={"measured": facts.measured.model_copy(update={"memory_profile": {"steps": [entry]}})})
        return seconds(facts, devices=devices, precision="fp32", gradient_checkpointing=False)[0]

    card: dict[str, float] = {"train": 1e-4, "update": 1e-3, "evaluate": 1e-5}
    of_host = {"train_starts": 1e4, "update_starts": 10.0, "evaluate_starts": 100.0, "tokens": 400}
    alone = training(**card)
    assert training(**card, **of_host, starting=1e-9) == alone
    waits = training(**card, **of_host, starting=1e-3)
    assert waits > 10 * alone
    assert training(**card | {"train": 1e-9}, **of_host, starting=1e-3) == waits
    assert training(2, **card) == pytest.approx(alone / (1 + timing.SCALING))
    assert training(2, **card, **of_host, starting=1e-3) == pytest.approx(waits / 2)


def test_scoring_takes_its_time_beside_steps_that_were_measured() -> None:
    model = {"parameters": 22_000_000, "embedding_parameters": 11_000_000, "layers": 6, "hidden_size": 384}
    data = {"task": "classification", "rows": 1000, "tokens_p50": 50, "tokens_total": 50_000, "tokens_max": 60}
    machine = {"backend": "cpu", "cpu_cores": 2, "ram_available": 8 * 10**9}

    def hours(eval_rows: int) -> tuple[float, int]:
        measured = {"seconds_per_step": {"full": 1.0}}
        facts = {"machine": machine, "model": model, "data": data | {"eval_rows": eval_rows}, "measured": measured}
        found = recommend(Facts.model_validate(facts)).candidate("full")
        assert found.hours.origin == "measured"
        return found.hours.predicted, found.settings.total_steps

    (few, steps), (many, _) = hours(100), hours(20_000)
    rows = 3 * 19_900  # scored before and after, and by the probe; a step trains 16 rows, and scoring takes a third of training
    assert 3600 * (many - few) == pytest.approx(rows / 16 / 3 * timing.MEASURED, rel=0.35)
    assert steps / 3600 < few < 2 * steps / 3600


CPU = {"backend": "cpu", "cpu_cores": 2, "ram_available": 16 * 10**9}
ROWS = {"task": "classification", "rows": 4000, "unique_rows": 4000, "tokens_p50": 50, "tokens_max": 60, "tokens_total": 200_000}


def known(eval_rows: int = 100, machine: dict[str, Any] = CPU, **measured: Any) -> Facts:
    content = {"machine": machine, "model": BERT, "data": ROWS | {"eval_rows": eval_rows}, "measured": measured}
    return Facts.model_validate(content)


def seconds(facts: Facts, method: Any = "full", devices: int = 1, **changes: Any) -> tuple[float, float]:
    """Of the training, and of all else but starting up, with advised settings and these in their place."""
    settings = recommend(facts).candidate(method).settings.model_copy(update=changes)
    found = timing.predict(facts, shape_of(facts.model), method, settings, devices)
    training = found.training or 0.0
    return 3600 * training, 3600 * (found.predicted - training) - timing.start_up(facts, shape_of(facts.model))


def test_what_is_tried_and_saved_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    facts, settings = known(), recommend(known()).candidate("full").settings
    both = seconds(facts)[1]
    monkeypatch.setattr(timing, "SAVED", math.inf)
    saved = settings.evaluations * 12 * 109_482_240 / 400e6
    assert both - seconds(facts)[1] == pytest.approx(saved, rel=0.01), "weights and two moments at every evaluation"
    rest, training = seconds(facts)[1], seconds(facts)[0]
    monkeypatch.setattr(timing, "PREFLIGHT", 0)
    token = training / (200_000 / 4000 * (4000 - settings.validation_rows) * settings.epochs)
    fullest = min(settings.token_budget, settings.effective_batch * settings.max_length)
    assert rest - seconds(facts)[1] == pytest.approx(2 * fullest * token * 4 / 3, rel=0.01), "trained and scored"


def test_every_pass_over_rows_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading a row takes a third of what training on it takes."""
    monkeypatch.setattr(timing, "PREFLIGHT", 0)
    monkeypatch.setattr(timing, "SAVED", math.inf)
    facts = known()
    settings, (training, rest) = recommend(facts).candidate("full").settings, seconds(facts)
    trained = 4000 - settings.validation_rows
    a_row = training / 3 / trained / settings.epochs
    scored = settings.validation_rows * settings.evaluations + 2 * 100 + timing.FIT_ROWS + (trained + 100)  # the probe reads both
    assert rest / a_row == pytest.approx(scored)
    assert (seconds(known(1100))[1] - rest) / a_row == pytest.approx(3 * 1000)
    assert seconds(facts, epochs=2 * settings.epochs)[0] == pytest.approx(2 * training)


def test_settings_and_machines_take_their_factors() -> None:
    facts = known()
    usual, layer = seconds(facts)[0], 12 * 768
    assert seconds(facts, gradient_checkpointing=True)[0] == pytest.approx(timing.CHECKPOINTING * usual)
    assert seconds(facts, trained="last_layers", last_layers=3)[0] == pytest.approx((2 + 4 * 3 / 12) / 6 * usual)
    assert seconds(facts, devices=2)[0] == pytest.approx(usual / (1 + timing.SCALING))
    unpacking = seconds(facts, "qlora", epochs=1)[0] / seconds(facts, "lora", epochs=1)[0]
    assert unpacking == pytest.approx(timing.SLOWDOWN_CPU_4BIT / timing.SLOWDOWN["lora"])
    body = shape_of(facts.model).linear_parameters
    longer = seconds(facts, max_length=512)[0] / seconds(facts, max_length=64)[0]
    assert longer == pytest.approx((body + layer * 512) / (body + layer * 64))
    card = known(machine={"backend": "cuda", "devices": [{"name": "NVIDIA H100 80GB HBM3", "memory_free": 84 * 10**9}]})
    again = seconds(card, gradient_checkpointing=True)[0] / seconds(card)[0]
    assert again == pytest.approx(timing.LAUNCHING_AGAIN), "small steps wait for the host"
    slow = known(machine=card.machine.model_dump(), launch=2 * LAUNCH)
    assert seconds(slow)[0] == pytest.approx(2 * seconds(card)[0]), "which somebody has measured"
    own = known(machine={"backend": "cuda", "devices": [{"name": "RTX 4090", "memory_free": 84 * 10**9}]})
    assert seconds(own)[0] == pytest.approx(0.4 * seconds(card)[0]), "or whose card tells that it is somebody's own"


def test_a_container_that_may_use_half_of_each_core_takes_twice_as_long() -> None:
    half, whole = (known(machine={"backend": "cpu", "cpu_cores": 2, "cpu_share": share}) for share in (0.5, None))
    assert seconds(half)[0] == pytest.approx(2 * seconds(whole)[0])


@pytest.mark.parametrize(("told", "taken"), [(2.0, 2.0), (9.0, 2.5), (0.1, 0.4)])
def test_what_earlier_runs_took_is_believed_within_bounds(told: float, taken: float) -> None:
    assert seconds(known(pace={"full fp32": told}))[0] == pytest.approx(taken * seconds(known())[0])


def test_steps_that_were_measured_take_a_little_more_in_a_run() -> None:
    facts = known(seconds_per_step={"full": 1.0})
    assert seconds(facts)[0] == pytest.approx(recommend(facts).candidate("full").settings.total_steps * timing.MEASURED)


def test_writing_may_take_a_minute_or_a_twentieth_of_the_run() -> None:
    assert [answering.writing_seconds(run) for run in (100, 1200, 10_000)] == [60, 60, 500]


def test_answers_are_counted_by_the_rows_that_are_asked_and_no_longer_than_they_may_take(monkeypatch: pytest.MonkeyPatch) -> None:
    card = {"backend": "cuda", "devices": [{"name": "NVIDIA H100 80GB HBM3", "memory_free": 84 * 10**9}]}

    def writing(machine: dict[str, Any], eval_rows: int) -> float:
        data = {"task": "chat", "rows": 200, "eval_rows": eval_rows, "tokens_p50": 90, "tokens_p95": 200, "tokens_total": 20_000}
        facts = Facts.model_validate({"machine": machine, "model": LLAMA_1B, "data": data})
        found = []
        for answers in (answering.ANSWERS, {}):
            with monkeypatch.context() as now:
                now.setattr(answering, "ANSWERS", answers)
                found.append(3600 * recommend(facts).candidate("lora").hours.predicted)
        assert found[0] - found[1] <= 2 * answering.writing_seconds(found[1]) + 1e-6
        return found[0] - found[1]

    layer = answering.LAYER_SECONDS * answering.SLOWER["lora"]
    assert writing(card, 400) == pytest.approx(2 * 200 * 16 * layer), "before and after"
    few = writing(CPU, 1)
    assert writing(CPU, 3) > few, "of three rows, not of as many as may be asked"
    assert writing(CPU | {"cpu_cores": 1}, 400) > 60


def test_answers_are_as_long_as_what_is_learned_and_cost_what_scoring_was_tried_to_cost() -> None:
    """A chat's answers were told as long as its rows, in as many pieces, and twice as long as they took."""
    model = {"id": "s", "family": "decoder", "parameters": 134_515_008, "layers": 30, "hidden_size": 576}
    data = {"task": "chat", "rows": 200, "eval_rows": 40, "tokens_p50": 100, "tokens_p95": 200, "tokens_total": 20_000}
    step = {"method": "lora", "precision": "fp32", "gradient_checkpointing": False, "trained": "all"}
    tried = {"steps": [{"step": step, "seconds": {"train": 2e-3, "evaluate": 1e-3, "tokens": 400}}]}

    def answers(**changes: Any) -> float:
        told = {"machine": CPU, "model": model, "data": data | changes, "measured": {"memory_profile": tried, "bandwidth": 20e9}}
        facts = Facts.model_validate(told)
        shape, lora = shape_of(facts.model, "chat"), recommend(facts).candidate("lora")
        parts = timing.by_phase(facts, shape, "lora", lora.settings.model_copy(update={"token_budget": 1600}))
        return parts["answers"] / 2

    reading, token = 1.15 * 4 * 134_515_008 / 20e9, timing.HOST * 1e-3
    row = answering.APART * token
    assert answers(trained_tokens=5_000) == pytest.approx(50 * (reading + 32 * row) + 32 * 75 * token, rel=0.01)
    assert answers(trained_tokens=10_000) == pytest.approx(100 * (reading + 32 * row) + 32 * 50 * token, rel=0.01)
    longer = {"tokens_p95": 400, "trained_tokens": 5_000}
    assert answers(**longer) == pytest.approx(100 * (2 * reading + 32 * row) + 32 * 75 * token, rel=0.01), "in two pieces"


@pytest.mark.parametrize("task", ["classification", "preference", "chat", "continued_pretraining"])
def test_the_parts_of_a_run_add_up_to_what_is_told_of_it(task: Any) -> None:
    model = {"id": "s", "family": "decoder", "parameters": 134_515_008, "layers": 30, "hidden_size": 576}
    facts = Facts.model_validate({"machine": CPU, "model": model, "data": ROWS | {"task": task}})
    shape, lora = shape_of(facts.model, task), recommend(facts).candidate("lora")
    assert sum(timing.by_phase(facts, shape, "lora", lora.settings).values()) == pytest.approx(3600 * lora.hours.predicted)


def test_raw_text_loses_nothing_by_being_cut_into_blocks() -> None:
    text = DataFacts(rows=10, unique_rows=10, tokens_p50=500, tokens_p95=900, tokens_total=50_000)
    assert timing.tokens_kept(text.model_copy(update={"task": "continued_pretraining"}), 64) == 50_000
    assert timing.tokens_kept(text.model_copy(update={"task": "instruction"}), 64) == 640
    counted = DataFacts.model_validate(text.model_dump() | {"truncation": [{"length": 64, "rows_cut": 9, "tokens_kept": 600}]})
    assert [timing.tokens_kept(counted, length) for length in (64, 96)] == [600, 960]


def preferences(**measured: Any) -> Facts:
    model = {"id": "s", "family": "decoder", "parameters": 134_515_008, "layers": 30, "hidden_size": 576}
    data = {"rows": 400, "unique_rows": 400, "tokens_p50": 90, "tokens_p95": 200, "tokens_total": 40_000, "tokens_max": 300}
    machine = {"backend": "cpu", "cpu_cores": 2, "ram_available": 16 * 10**9, "nf4": True}
    return Facts.model_validate(
        {"machine": machine, "model": model, "data": data | {"task": "preference"}, "measured": measured}
    )


def test_preferences_are_two_sequences_each_and_the_untouched_model_reads_them_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted is the longer of the two: a run was told half as long as it was, and of the first pass nothing."""
    step = {"method": "lora", "precision": "fp32", "gradient_checkpointing": False, "trained": "all"}
    seconds = {"train": 1e-2, "evaluate": 1e-2, "tokens": 400}
    facts = preferences(memory_profile={"steps": [{"step": step, "seconds": seconds}]})
    lora = recommend(facts).candidate("lora")
    tokens = 2 * 40_000 * split_of(facts.data).train / 400 * lora.settings.epochs
    assert lora.hours.training is not None
    assert 3600 * lora.hours.training == pytest.approx(tokens * 1e-2 * timing.HOST, rel=0.01)
    for of, name, nothing in ((timing, "PREFLIGHT", 0), (timing, "SAVED", math.inf), (answering, "SAMPLES", 0)):
        monkeypatch.setattr(of, name, nothing)
    lora, split = recommend(facts).candidate("lora"), split_of(facts.data)
    rows = split.validation * lora.settings.evaluations + 2 * split.held_out + min(timing.FIT_ROWS, 400) + 400  # all, at first
    rest = 3600 * (lora.hours.predicted - (lora.hours.training or 0.0)) - timing.start_up(facts, shape_of(facts.model))
    assert rest == pytest.approx(rows * 2 * 100 * 1e-2 * timing.HOST, rel=0.01)


def test_scoring_reads_as_much_at_a_time_as_the_budget_allows_whatever_a_step_trains() -> None:
    step = {"method": "full", "precision": "fp32", "gradient_checkpointing": False, "trained": "all"}
    told = {"train": 1e-12, "evaluate": 0.0, "tokens": 200, "evaluate_starts": 1000, "starting": 1e-5}
    facts = known(memory_profile={"steps": [{"step": step, "seconds": told}]})
    settings = recommend(facts).candidate("full").settings
    few, many = (seconds(facts, token_budget=budget, evaluations=1)[1] for budget in (2048, 4096))
    rows = settings.validation_rows + 2 * 100 + timing.FIT_ROWS + (4000 - settings.validation_rows + 100)
    assert few - many == pytest.approx(rows * 50 * (1 / 2048 - 1 / 4096) * 1000 * 1e-5, rel=0.05)


def test_a_method_that_was_not_tried_is_told_by_the_measure_of_one_that_was() -> None:
    """On a busy machine QLoRA took too long to be tried and was told 85 minutes by the formula, LoRA 4 by its operations."""

    def hours(**measured: Any) -> float:
        found = recommend(preferences(**measured))
        return (found.candidate("qlora").hours.training or 0.0) / (found.candidate("lora").hours.training or 1.0)

    step = {"method": "lora", "precision": "fp32", "gradient_checkpointing": False, "trained": "all"}
    for train in (1e-4, 1e-2):
        tried = {"steps": [{"step": step, "seconds": {"train": train, "evaluate": train / 3, "tokens": 400}}]}
        assert hours(memory_profile=tried) == pytest.approx(hours(), rel=0.2)


@pytest.mark.parametrize("odd", [{"method": "galore"}, {"method": "lora", "precision": "bf16", "micro_tokens": "many"}])
def test_what_a_newer_version_has_tried_is_no_measure(odd: dict[str, Any]) -> None:
    step = {"method": "lora", "precision": "fp32", "gradient_checkpointing": False, "trained": "all"} | odd
    tried = {"steps": [{"step": step, "seconds": {"train": 1.0, "evaluate": 1.0, "tokens": 400}}]}
    assert recommend(preferences(memory_profile=tried)).candidate("qlora") == recommend(preferences()).candidate("qlora")
