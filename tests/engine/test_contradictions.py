"""Settings that cannot go together are told before anything is looked at; those that ask for another bring it along."""

import pytest

from engine.contradictions import check_here, check_rows, plan_of_settings, with_what_follows
from recommender.errors import InputError
from recommender.facts import DataFacts, Machine, ModelFacts, Truncation
from recommender.recommendation import Method


@pytest.mark.parametrize(
    ("assignments", "method", "said"),
    [
        (["pissa=true", "dropout=0.1"], None, "pissa needs dropout: 0"),
        (["pissa=true"], "qlora", "pissa needs weights that are not in 4 bit"),
        (["dora=true", "pissa=true"], None, "pissa and dora exclude each other"),
        (["dora=true"], "full", "dora belongs to methods lora and qlora"),
        (["precision=bf16"], "lora", "precision bf16 is for full fine-tuning"),
        (["trained=last_layers", "dora=true"], None, "trained: last_layers belongs to method full"),
        (["adapter_dtype=bf16", "precision=fp32"], None, "adapter_dtype bf16 belongs to"),
        (["adapter_dtype=bf16", "precision=bf16-mixed"], "full", "adapter_dtype bf16 belongs to"),
        (["lora_plus_ratio=0.5"], None, "lora_plus_ratio must be greater than 1"),
        (["compile=true", "kernels=liger"], None, "compile and kernels: liger exclude each other"),
        (["metric=f2"], None, "task classification has no metric 'f2'"),
        (["rank=many"], None, "rank must be a whole number"),
    ],
)
def test_what_no_plan_can_have_is_told_at_once(assignments: list[str], method: Method | None, said: str) -> None:
    with pytest.raises(InputError, match=said):
        plan_of_settings(assignments, method)


def test_what_some_plan_can_have_passes_and_brings_along_what_it_needs() -> None:
    assert plan_of_settings(["pissa=true"]).dropout == 0
    assert plan_of_settings(["compile=true"]).kernels == "torch"
    assert with_what_follows({"compile": False, "kernels": "liger"}, ["compile=false"])["kernels"] == "liger"
    for kernels, compiled in (("liger", False), ("torch", True)):
        assert with_what_follows({"compile": True, "kernels": kernels}, [f"kernels={kernels}"])["compile"] is compiled
    assert with_what_follows({"trained": "all", "last_layers": 2}, ["trained=all"])["last_layers"] is None
    assert plan_of_settings(["last_layers=3"]).trained == "last_layers"
    assert plan_of_settings(["trained=last_layers"], "full").last_layers == 2
    assert plan_of_settings(["adapter_dtype=bf16"], "lora").precision == "bf16-mixed"
    assert plan_of_settings(["metric=rmse"]).task == "regression"


SMALL = {
    "layers": 6, "hidden_size": 384, "attention_heads": 12, "kv_heads": 12, "max_positions": 512, "family": "encoder",
    "config": {"model_type": "bert"},
}  # fmt: skip
OTHER_CARD = {"backend": "cuda", "devices": [{"name": "a card"}]}  # which nobody has asked about bf16
OLD_CARD = {"backend": "cuda", "devices": [{"name": "T4", "memory_free": 16 * 10**9, "bf16": False}]}


@pytest.mark.parametrize(
    ("assignments", "machine", "said"),
    [
        (["last_layers=7"], {}, "last_layers is 7, and tiny has 6 layers"),
        (["max_length=1024"], {}, "max_length is 1024, and tiny reads 512 tokens"),
        (["max_length=512"], {}, ""),
        (["pissa=true", "rank=512"], {}, "rank is 512, and tiny has layers of width 384"),
        (["pissa=true", "rank=384"], {}, ""),
        (["precision=bf16-mixed"], {"backend": "cuda", "devices": [{"bf16": False}]}, "this GPU has no bf16"),
        (["precision=fp16-mixed"], {}, "needs a GPU, and there is none"),
        (["precision=bf16-mixed"], OLD_CARD, "T4 has no bf16"),
        (["precision=fp16-mixed"], OLD_CARD, ""),
        (["precision=bf16-mixed"], OTHER_CARD, ""),
        (["last_layers=6", "precision=bf16"], {}, ""),
        (["target_modules=query,q_proj"], {}, "target_modules q_proj: tiny has no module of that name; it has .*, query, "),
        (["target_modules=query,value"], {}, ""),
    ],
)
def test_what_model_or_machine_have_not_is_told_from_facts(assignments: list[str], machine: dict[str, object], said: str) -> None:
    here = (ModelFacts.model_validate(SMALL | {"id": "tiny"}), Machine.model_validate(machine))
    plan = plan_of_settings(assignments)
    if said:
        with pytest.raises(InputError, match=said):
            check_here(plan, *here)
    else:
        check_here(plan, *here)
    if "precision" in assignments[0]:
        check_here(plan, here[0])  # of a machine that is not known nothing is said


def test_the_narrowest_map_and_the_deeper_half_of_a_model_count() -> None:
    shared = ModelFacts.model_validate(SMALL | {"id": "tiny", "family": "decoder", "kv_heads": 2, "config": {}})
    with pytest.raises(InputError, match="rank is 128, and tiny has layers of width 64"):
        check_here(plan_of_settings(["pissa=true", "rank=128"]), shared)
    check_here(plan_of_settings(["pissa=true", "rank=1024"]), ModelFacts(id="tiny"))  # of whose width nothing is known
    halves = ModelFacts.model_validate(SMALL | {"id": "tiny", "layers": 4, "decoder_layers": 6, "config": {}})
    check_here(plan_of_settings(["last_layers=6"]), halves)


@pytest.mark.parametrize(
    ("assignments", "said"),
    [
        (["max_length=32"], "the answers of 20 of 100 rows begin after that"),
        (["max_length=20"], "of at least 20 of 100 rows"),
        (["max_length=33"], ""),
        ([], ""),
    ],
)
def test_a_length_behind_which_answers_begin_is_told_from_facts(assignments: list[str], said: str) -> None:
    cuts = [Truncation(length=n, rows_cut=60, tokens_kept=n, rows_untrained=lost) for n, lost in ((16, 90), (32, 20), (64, 18))]
    data = DataFacts(rows=100, truncation=tuple(cuts))
    if said:
        with pytest.raises(InputError, match=said):
            check_rows(plan_of_settings(assignments), data)
        # Without the model's tokenizer lengths are guessed: the worker counts before anything is refused.
        check_rows(plan_of_settings(assignments), data.model_copy(update={"tokens_origin": "assumed"}))
    else:
        check_rows(plan_of_settings(assignments), data)


def test_labels_that_a_plan_does_not_name_are_told_from_facts() -> None:
    """Before a run has a folder; of a sample of rows that may have several, labels of the other rows do not count."""
    labels = DataFacts(rows=9, labels=("a", "b", "c"), label_counts=(4, 3, 2))
    plan = plan_of_settings([])
    named = plan.model_copy(update={"data": plan.data.model_copy(update={"labels": ["a", "b"]})})
    with pytest.raises(InputError, match=r"^--set: labels .*\(data\.labels\): c; the known ones are a, b\.$"):
        check_rows(named, labels)
    check_rows(named, labels.model_copy(update={"label_counts": (5, 4, 0)}))
    check_rows(plan, labels)
