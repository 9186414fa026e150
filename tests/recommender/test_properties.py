"""What holds for all facts: an answer always, and no surprise when memory grows."""

import json
import re
from typing import Any, get_args

from hypothesis import given, settings
from hypothesis import strategies as st

from recommender import hyper, memory
from recommender.counting import counted_rows, distinct_rows
from recommender.decide import decide, recommend
from recommender.explain import explain
from recommender.facts import Backend, Facts, Family, Task
from recommender.figures import duration, plain, share, short_count, size
from recommender.footprint import Step
from recommender.plan import DataChoice, ModelChoice, Plan
from recommender.recommendation import METHODS, Caution, Reason
from recommender.shape import shape_of

COUNT = st.none() | st.integers(0, 10**5) | st.integers(0, 10**18) | st.sampled_from([0, 1, 2, 10**18])
SHARE = st.none() | st.floats(0, 1)
TEXT = st.none() | st.text(max_size=8)
FLAG = st.none() | st.booleans()
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 10**20) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=3,
)


def part(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=fields)


BROUGHT = [
    "batch_size", "epochs", "warmup_steps", "warmup_ratio", "learning_rate", "lr", "method", "metric", "target_modules", "rows",
    "lora_r", "lora_alpha", "max_length", "padding", "seed", "seeds", "precision", "fp16", "train_head", "bias_correction",
    "num_train_epochs", "per_device_train_batch_size", "gradient_accumulation_steps", "modules_to_save", "load_in_4bit", "lora",
]  # fmt: skip
CUT = st.fixed_dictionaries({"length": st.integers(0, 9), "rows_cut": st.just(10**18), "tokens_kept": st.just(0)})
RUNS = st.dictionaries(st.sampled_from(METHODS), JSON, max_size=2)
COUNTED = part(
    step=part(method=st.sampled_from(METHODS), precision=st.just("fp32"), gradient_checkpointing=st.booleans()),
    parts=st.just({"weights": 1}),
    seconds=part(**dict.fromkeys(["train", "update", "evaluate"], JSON)),
    **dict.fromkeys(["peak", "low", "high", "most", "fit"], JSON),
)
DEVICE = part(name=TEXT, memory_total=COUNT, memory_free=COUNT, bf16=FLAG, compute_capability=st.none() | st.just([8, 0]))
FACTS = part(
    machine=part(
        backend=st.sampled_from(get_args(Backend)),
        devices=st.lists(DEVICE, max_size=3),
        usable_devices=st.none() | st.integers(0, 4),
        hub_disk_free=COUNT,
        cpu_cores=COUNT,
        ram_total=COUNT,
        ram_available=COUNT,
        disk_free=COUNT,
        nf4=FLAG,
    ),
    model=part(
        family=st.none() | st.sampled_from(get_args(Family)),
        quantization=TEXT | st.sampled_from(["gptq", "fp8", "bitsandbytes-nf4"]),
        architecture=st.sampled_from(["T5ForConditionalGeneration", "Gemma2ForCausalLM", "x"]),
        experts=st.none() | st.integers(0, 300),
        experts_per_token=st.none() | st.integers(0, 300),
        active_parameters=COUNT,
        instruct=FLAG,
        dtype=TEXT,
        **dict.fromkeys(["parameters", "embedding_parameters", "layers", "hidden_size", "intermediate_size"], COUNT),
        **dict.fromkeys(["attention_heads", "kv_heads", "vocabulary_size", "max_positions"], COUNT),
    ),
    data=part(
        task=st.none() | st.sampled_from(get_args(Task)),
        label_counts=st.none() | st.lists(st.integers(0, 10**18), max_size=4),
        truncation=st.lists(CUT, max_size=1),
        **dict.fromkeys(["rows", "unique_rows", "eval_rows", "tokens_p50", "tokens_p95", "tokens_p99", "tokens_max"], COUNT),
        **dict.fromkeys(["tokens_total", "trained_tokens", "classes", "empty_rows"], COUNT),
        **dict.fromkeys(["duplicate_share", "conflict_share", "overlap_share", "near_duplicate_share"], SHARE),
        near_overlap_share=SHARE,
    ),
    goal=part(
        purpose=st.sampled_from(["task", "knowledge", "domain", "code"]),
        time_budget_hours=st.none() | st.floats(0, 1e6),
        forgetting=st.sampled_from(["low", "medium", "high"]),
        adapters_wanted=st.integers(0, 10**18),
        ship_in_4_bit=st.booleans(),
        sequential_updates=st.integers(0, 9),
        continued_pretraining=st.booleans(),
    ),
    plan=st.none()
    | st.dictionaries(
        st.sampled_from(BROUGHT),
        JSON | st.sampled_from(["lora", "full", "accuracy", "max_length", 1e-3, 2e-5, 3, 8, 500, "5e-5"]),
    ),
    measured=part(
        seconds_per_step=st.none() | st.dictionaries(st.sampled_from(METHODS), st.floats(1e-9, 1e9)),
        memory_profile=st.none() | part(steps=st.none() | st.lists(JSON | COUNTED, max_size=2), runs=st.none() | RUNS),
        matmul_flops=st.none() | st.dictionaries(st.sampled_from(["fp32", "bf16"]), st.floats(1e3, 1e21)),
        bf16=st.none()
        | st.dictionaries(
            st.sampled_from(METHODS),
            st.fixed_dictionaries(
                {"speedup": st.floats(1e-3, 1e3), "loss_fp32": st.floats(0, 1e6)},
                optional={"loss": st.none() | st.floats(0, 1e6), "gradients_apart": st.none() | st.floats(0, 1e6)},
            ),
        ),
    ),
)
QUIETLY = settings(max_examples=40)


def facts_of(content: dict[str, Any]) -> Facts:
    return Facts.model_validate_json(json.dumps(content))


def shuffled(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: shuffled(v) for k, v in reversed(list(value.items()))}
    return [shuffled(v) for v in value] if isinstance(value, list) else value


@QUIETLY
@given(FACTS)
def test_any_facts_get_a_whole_answer(content: dict[str, Any]) -> None:
    facts = facts_of(content)
    before = facts.model_dump_json()
    advice = recommend(facts)
    assert recommend(facts_of(shuffled(content))) == advice, "in whatever order its facts are told"
    assert facts.model_dump_json() == before
    json.dumps(advice.model_dump(mode="json"), allow_nan=False)
    assert advice.best.settings == advice.settings
    chosen = [c for c in advice.candidates if c.method == advice.verdict]
    assert all(c.fits and c.removed_by is None for c in chosen)
    assert advice.verdict in METHODS or advice.instead
    assert all(r.text and r.facts and r.source for r in advice.reasons)
    for c in advice.candidates:
        assert c.settings.total_steps >= 1
        assert 0 <= c.settings.warmup_steps < max(c.settings.total_steps, 2)
        assert c.settings.max_length >= 2
        assert c.memory.low <= c.memory.predicted <= c.memory.high


@QUIETLY
@given(FACTS, st.integers(0, 10**12), st.integers(0, 10**12))
def test_more_free_memory_never_turns_a_fit_into_a_misfit(content: dict[str, Any], some: int, more: int) -> None:
    facts = facts_of(content)

    def fits(free: int) -> dict[str, bool]:
        machine = facts_of({"machine": {"backend": "cuda", "devices": [{"memory_free": free}]}}).machine
        return {c.method: c.fits for c in decide(facts.model_copy(update={"machine": machine})).candidates}

    low, high = fits(some), fits(some + more)
    assert all(high[m] for m in METHODS if low[m])


@QUIETLY
@given(FACTS, st.sampled_from(METHODS), st.integers(1, 10**6), st.integers(0, 10**6), st.booleans())
def test_a_bigger_token_budget_never_needs_less_memory(
    content: dict[str, Any], method: Any, tokens: int, more: int, checkpointing: bool
) -> None:
    facts = facts_of(content)
    shape = shape_of(facts.model)
    length = hyper.max_length_of(shape, facts.data)
    small, large = (
        memory.place(facts, shape, Step(method, "fp32", 8, t, length, checkpointing)).peak
        for t in (tokens, tokens + more)
    )
    assert small <= large


@QUIETLY
@given(FACTS, st.integers(0, 2), st.integers(1, 10**12))
def test_more_free_memory_on_one_of_several_devices_never_turns_a_fit_into_a_misfit(
    content: dict[str, Any], which: int, more: int
) -> None:
    facts = facts_of(content)
    if which >= len(facts.machine.devices) or facts.machine.devices[which].memory_free is None:
        return
    devices = list(facts.machine.devices)
    devices[which] = devices[which].model_copy(update={"memory_free": (devices[which].memory_free or 0) + more})
    # Precision follows the freest device, so all are of one kind here.
    alike = [d.model_copy(update={"bf16": True, "compute_capability": (8, 0)}) for d in facts.machine.devices]
    roomier = [d.model_copy(update={"bf16": True, "compute_capability": (8, 0)}) for d in devices]
    before, after = (
        {
            c.method: c.fits
            for c in decide(
                facts.model_copy(update={"machine": facts.machine.model_copy(update={"devices": tuple(d)})})
            ).candidates
        }
        for d in (alike, roomier)
    )
    assert all(after[m] for m in METHODS if before[m])


@QUIETLY
@given(FACTS, st.floats(0, 1), st.floats(0, 1), st.sampled_from(["duplicate_share", "near_duplicate_share"]))
def test_more_duplicates_never_raise_the_counted_rows(content: dict[str, Any], one: float, other: float, kind: str) -> None:
    data = facts_of(content).data
    fewer, more = (data.model_copy(update={kind: s}) for s in sorted((one, other)))
    assert distinct_rows(more) <= distinct_rows(fewer)
    assert counted_rows(more) <= counted_rows(fewer)


@QUIETLY
@given(FACTS)
def test_every_step_can_be_explained_and_every_setting_written_into_a_plan(content: dict[str, Any]) -> None:
    facts = facts_of(content)
    advice = recommend(facts)
    assert all(step.text for step in explain(facts, advice))
    for candidate in advice.candidates:
        chosen = {name for name in Plan.model_fields if name in type(candidate.settings).model_fields}
        values = candidate.settings.model_dump(include=chosen)
        limits = {"effective_batch": 10**6, "max_length": 10**7, "token_budget": 10**8, "warmup_steps": 10**12}
        bounded = all(values[name] <= limit for name, limit in limits.items())
        if bounded:  # a plan's own limits; facts may name a text of 10^18 tokens
            task = facts.data.task or "classification"
            Plan(model=ModelChoice(id="m"), data=DataChoice(train="d"), task=task, method=candidate.method, **values)


NUMBER = re.compile(r"(?<![\w.])\d+(?: \d{3})*(?:\.\d+)?(?:e[-+]?\d+)?(?: (?:TB|GB|MB|kB|B|s|min|h|days)\b|[kMBT]\b|%)?")


def ways_to_write(value: Any) -> set[str]:
    """Every way the renderer may write a fact."""
    if isinstance(value, dict):
        return set().union(*map(ways_to_write, value.values()), set())
    if isinstance(value, str):
        return set(NUMBER.findall(value))
    if isinstance(value, bool) or not isinstance(value, int | float):
        return set()
    written = {str(value), size(value), share(value).lstrip("<"), short_count(value), duration(value * 3600), f"{value:g}"}
    return written | {plain(value), f"{value:,.0f}".replace(",", " ")}


def unfounded(said: Reason | Caution) -> set[str]:
    """Numbers in the text that are no fact of it."""
    return {n.strip() for n in NUMBER.findall(said.text)} - ways_to_write(said.facts)


@QUIETLY
@given(FACTS)
def test_every_number_in_a_reason_is_a_fact_it_cites(content: dict[str, Any]) -> None:
    advice = recommend(facts_of(content))
    every: list[Reason | Caution] = [*advice.reasons, *advice.settings_reasons, *advice.warnings]
    for said in every:
        if said.code != "leak":
            assert not unfounded(said), said
