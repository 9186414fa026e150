"""The health watch: what is broken is caught before it does damage, and what is only noisy is left alone."""

import math
import random
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from engine import checkpoints
from engine.events import EventWriter
from engine.findings import Finding, judge_rate
from engine.rundir import RunDirectory
from engine.worker.health import Health, Step, replay
from engine.worker.narrator import Narrator
from engine.worker.watch import Watch
from recommender.errors import TrainingFailed
from recommender.plan import Plan
from tests.conftest import LEAST, make_plan
from tests.engine.worker.inside import work


def plan(method: str = "full", **fields: Any) -> Plan:
    adapter = {} if method == "full" else {"rank": 8, "alpha": 16}
    return Plan.model_validate(LEAST | {"method": method} | adapter | fields)


def watched(losses: Iterable[float], norms: Iterable[float | None] | None = None, **fields: Any) -> list[Finding]:
    """What is found in a run of those losses, up to the step that ends it."""
    health = Health(plan(**fields))
    found: list[Finding] = []
    losses = list(losses)
    for n, (loss, norm) in enumerate(zip(losses, norms or [1.0] * len(losses), strict=True), 1):
        found += health.see(Step(n, loss, norm))
        if any(f.stop for f in found):
            break
    return found


def course(first: float, last: float, steps: int, noise: float, seed: int) -> list[float]:
    """A loss that falls from `first` to `last`, each step off by a factor of about 1 ± `noise`."""
    rng = random.Random(seed)
    falls = [last + (first - last) * math.exp(-4 * i / steps) for i in range(steps)]
    return [x * math.exp(rng.gauss(0, noise)) for x in falls]


@settings(max_examples=200, derandomize=True)  # one curve in thousands may look like anything
@given(
    first=st.floats(0.05, 12.0), part=st.floats(0.0, 1.02), noise=st.floats(0.0, 1.0), seed=st.integers(0, 10**6),
    batch=st.sampled_from([1, 4, 8, 16, 64]),
)  # fmt: skip
def test_ordinary_noisy_runs_are_left_alone(first: float, part: float, noise: float, seed: int, batch: int) -> None:
    """The losses of single rows are off by factors of up to e and more, and those of a batch by so much less as it is larger."""
    found = watched(course(first, first * part, 400, noise / math.sqrt(batch), seed), effective_batch=batch)
    assert {f.code for f in found} <= {"no_progress"}
    if part < 0.6 and noise < 0.5:
        assert not found


def test_a_spike_is_not_a_divergence() -> None:
    losses = course(1.8, 0.3, 200, 0.1, 1)
    losses[60], losses[120:122] = 40.0, [15.0, 9.0]
    assert watched(losses) == []
    for begin in range(30, 180, 25):  # each of them is worth a word, and they do not add up to an end
        losses[begin : begin + 4] = [5.0] * 4
    assert [(f.code, f.stop) for f in watched(losses)] == [("diverging", False)]


def test_a_loss_that_explodes_is_stopped_within_two_windows() -> None:
    losses = [1.8, 2.4, 9.0, *[60.0] * 50]
    found = watched(losses)
    assert [f.code for f in found][-1] == "diverging"
    assert found[-1].stop
    assert found[-1].facts["step"] <= 8
    assert "learning_rate is too high (it is 2e-05)" in found[-1].text
    assert found[-1].setting == "learning_rate=7e-06"


def test_a_divergence_is_told_against_the_score_that_was_shown_before_the_training() -> None:
    health = Health(plan())
    health.given = 0.692  # with dropout the first steps are worse, and that is what a divergence is measured by
    found = [f for n in range(1, 20) for f in health.see(Step(n, 1.04 if n < 3 else 9.0, 1.0)) if f.code == "diverging"]
    assert "9 over the last 5 steps, and 0.692 before any training" in found[-1].text
    assert found[-1].facts["first"] == 0.692


def test_a_slow_divergence_is_warned_of_before_it_is_stopped() -> None:
    losses = [*course(1.8, 1.5, 60, 0.05, 2), *(1.5 * 1.02**n for n in range(200))]
    found = watched(losses)
    assert [(f.code, f.stop) for f in found if f.code == "diverging"] == [("diverging", False), ("diverging", True)]
    level = watched([*course(1.8, 1.5, 60, 0.05, 2), *[4.5] * 40])  # it does not come back, though it is not ruined
    assert [(f.code, f.stop) for f in level] == [("diverging", False), ("diverging", True)]
    assert level[-1].facts["step"] < 80


def test_a_loss_that_is_high_from_the_second_step_on_is_held_against_the_first() -> None:
    assert [f.code for f in watched([1.8, *[12.0] * 10])] == ["diverging"]


def known(given: float, losses: list[float]) -> list[tuple[str, bool]]:
    """What is found of losses of a model whose loss on held-out rows was `given` before any training."""
    health = Health(plan())
    health.given = given
    return [(f.code, f.stop) for n, loss in enumerate(losses, 1) for f in health.see(Step(n, loss, 1.0))]


def test_what_the_untouched_model_scored_tells_a_ruin_in_the_first_steps_and_an_easy_beginning_apart() -> None:
    assert ("diverging", True) in known(0.5, [5.0] * 12), "the first steps are the ruin"
    assert known(2.0, [*[0.5] * 5, *[1.9] * 20]) == [], "its first batches were easy"


def test_a_model_that_forgets_what_it_knew_is_caught() -> None:
    found = watched([*course(1.8, 0.8, 150, 0.1, 3), *[1.8] * 90])
    assert [(f.code, f.stop) for f in found] == [("forgot", False), ("forgot", True)]
    assert "was down to 0." in found[0].text
    assert watched([*[0.3] * 20, *[0.15] * 40, *[0.28] * 40]) == [], "of a loss so small that says little"


def test_batches_that_teach_nothing_end_the_run_after_a_warning() -> None:
    losses, norms = [*[2.0] * 10, *[0.0] * 20], [*[1.0] * 10, *[0.0] * 20]
    found = watched(losses, norms)
    assert [(f.code, f.stop, f.facts["step"]) for f in found] == [("nothing_learned", False, 11), ("nothing_learned", True, 15)]
    assert "its own head was trained on such rows" in found[0].text
    assert "masked" in watched(losses, norms, task="chat")[0].text


def test_a_loss_of_zero_from_the_start_is_a_leak_and_one_that_got_there_is_not() -> None:
    leak = watched([1e-9] * 30, [1e-9] * 30)
    assert [(f.code, f.stop) for f in leak] == [("zero_loss", True)]
    assert "gives the label away" in leak[0].text
    learned = [2.0 * math.exp(-n / 4) for n in range(120)]
    found = watched(learned, list(learned))
    assert [(f.code, f.stop, f.cure) for f in found] == [("learned_by_heart", False, "Use fewer epochs.")]
    assert not [f for f in watched([*learned, *[0.0] * 30], [*learned, *[0.0] * 30]) if f.stop]
    sudden = watched([*[2.0] * 20, *[1e-9] * 30])
    assert [(f.code, f.stop) for f in sudden] == [("learned_by_heart", False)], "it was not so from the start"


def test_a_run_that_learns_nothing_is_told_once() -> None:
    found = watched([1.79 + 0.02 * (n % 3) for n in range(400)])
    assert [(f.code, f.stop) for f in found] == [("no_progress", False)]
    raw_text = [2.81 + 0.05 * (n % 3) for n in range(400)]  # which the model could write before
    assert watched(raw_text, task="continued_pretraining", metric="loss") == []
    warm = [f.facts["step"] for f in watched([1.79] * 400, warmup_steps=100)]
    assert warm == [250], "nothing can be learned while the rate is still warming up"
    assert [f.facts["step"] for f in watched([1.79] * 400, effective_batch=1)] == [320], "a row alone says little"


def test_a_rate_outside_the_sane_range_that_teaches_nothing_is_the_end() -> None:
    found = watched([1.79 + 0.02 * (n % 3) for n in range(400)], learning_rate=0.01)
    assert [(f.code, f.stop, f.facts["step"]) for f in found] == [("no_progress", True, 30)]
    assert "too high (it is 0.01)" in found[0].text
    assert found[0].setting == "learning_rate=0.0003", "a third of it would still be outside"
    assert watched(course(1.8, 0.4, 200, 0.2, 5), learning_rate=0.01) == []
    ruined = Health(plan(learning_rate=0.02, effective_batch=8))  # as MiniLM went at that rate: far above it from the first steps
    ruined.given = 0.692
    losses = [0.70, 0.79, 2.42, 2.81, 3.61, 1.21, 2.53, 1.10, 1.60, 2.14, *[1.04, 0.94, 0.7, 0.96, 0.65] * 8]
    found = [f for step, loss in enumerate(losses, 1) for f in ruined.see(Step(step, loss, 1.0)) if f.stop]
    assert [(f.code, f.facts["step"], f.facts["first"]) for f in found[:1]] == [("no_progress", 30, 0.692)]


def test_fp16_may_skip_its_first_steps_and_not_all() -> None:
    assert watched([2.0] * 60, [*[math.inf] * 15, *[1.0] * 45]) == []
    assert watched([2.0] * 100, [math.inf, 1.0] * 50) == [], "now and then it tries a larger scale"
    found = watched([2.0] * 60, [math.inf] * 60)
    assert [(f.code, f.facts["skipped"]) for f in found] == [("gradient_overflow", 25)]
    both = watched([*[2.0] * 22, *[5.0] * 3], [math.inf] * 25)
    assert [f.code for f in both] == ["gradient_overflow", "diverging"], "what ends the training comes first"


def test_no_number_at_the_first_step_is_not_blamed_on_the_rate() -> None:
    at_once = Health(plan(precision="bf16-mixed")).not_a_number("loss", 1)
    assert "learning_rate" not in at_once.text
    assert at_once.setting == "precision=fp32"
    widest = Health(plan(precision="fp32")).not_a_number("loss", 1)
    assert (widest.setting, widest.cure) == ("", "Download the model again."), "it is that already"
    assert "precision" not in widest.text
    later = Health(plan(learning_rate=0.01), suggested_rate=2e-5)
    later.see(Step(1, 2.0, 1.0))
    assert later.not_a_number("gradient", 2).setting == "learning_rate=2e-05"


@pytest.mark.parametrize(
    ("method", "rate", "code", "stop"),
    [
        ("full", 1.0, "learning_rate_hopeless", True),
        ("lora", 0.3, "learning_rate_hopeless", True),
        ("full", 5e-3, "learning_rate_high", False),
        ("lora", 2e-2, "learning_rate_high", False),
        ("full", 1e-9, "learning_rate_low", False),
        ("full", 2e-5, None, False),
        ("full", 1e-3, None, False),
        ("qlora", 2e-4, None, False),
        ("lora", 5e-3, None, False),
    ],
)
def test_rates_outside_the_sane_range(method: str, rate: float, code: str | None, stop: bool) -> None:
    found = judge_rate(plan(method, learning_rate=rate), 3e-5)
    assert (found.code if found else None) == code
    assert bool(found and found.stop) == stop
    if found:
        assert found.setting == "learning_rate=3e-05"


def test_lora_plus_counts_its_faster_half() -> None:
    assert judge_rate(plan("lora", learning_rate=1e-3, lora_plus_ratio=16.0)) is None
    found = judge_rate(plan("lora", learning_rate=9e-3, lora_plus_ratio=16.0))
    assert found is not None
    assert found.code == "learning_rate_high"
    assert "learning_rate 0.009 times lora_plus_ratio 16 is above 0.05" in found.text


def parted(training: list[float], validation: list[float]) -> list[tuple[int, Finding]]:
    health = Health(plan())
    found = []
    for n, (train, loss) in enumerate(zip(training, validation, strict=True), 1):
        for step in range(10 * (n - 1) + 1, 10 * n + 1):
            health.see(Step(step, train, 1.0))
        finding = health.evaluated(10 * n, loss)
        if finding is not None:
            found.append((n, finding))
    return found


def test_training_and_validation_that_part_are_told_once_in_words() -> None:
    found = parted([1.5, 0.9, 0.5, 0.3, 0.15, 0.08], [1.4, 1.0, 0.8, 0.9, 1.1, 1.3])
    assert [(n, f.code, f.facts["best_step"]) for n, f in found] == [(5, "overfitting", 30)]
    assert "risen from 0.8 to 1.1 while the training loss fell from 0.5 to 0.15" in found[0][1].text


@pytest.mark.parametrize(
    ("training", "validation"),
    [
        ([1.5, 0.9, 0.5, 0.3, 0.2], [1.4, 1.0, 0.8, 0.82, 0.81]),  # flat
        ([1.5, 0.9, 0.8, 0.8, 0.79], [1.4, 1.0, 0.8, 1.0, 1.2]),  # both stand still: not learning by heart
        ([1.5, 0.9, 0.5, 0.3, 0.2], [1.4, 0.8, 1.0, 0.78, 0.9]),  # up and down
        ([1.5, 0.9, 0.5, 0.3, 0.2], [1.4, 1.0, 0.8, 0.82, 0.95]),  # one worse alone
        ([0.5, 0.1, 0.02, 0.01, 0.005], [0.06, 0.05, 0.051, 0.052, 0.055]),  # tiny
    ],
)
def test_validation_that_only_wavers_is_no_overfitting(training: list[float], validation: list[float]) -> None:
    assert parted(training, validation) == []


@settings(max_examples=30)
@given(at=st.integers(1, 119), seed=st.integers(0, 1000))
def test_a_resumed_watch_knows_what_the_first_one_knew(at: int, seed: int) -> None:
    losses = [*course(1.8, 0.4, 60, 0.2, seed), *(0.4 * 1.06**n for n in range(60))]
    events: list[dict[str, Any]] = [{"kind": "step", "step": n, "loss": x, "grad_norm": 1.0} for n, x in enumerate(losses, 1)]
    for split, loss_there in (("validation", None), ("after", 0.4)):
        events.append({"kind": "evaluation", "split": split, "step": at, "metrics": {"loss": loss_there}})
    whole, resumed = Health(plan()), Health(plan())
    replay(resumed, events, at)
    for n, loss in enumerate(losses, 1):
        found = whole.see(Step(n, loss, 1.0))
        if n > at:
            assert resumed.see(Step(n, loss, 1.0)) == found
    assert resumed.evaluated(120, math.nan) is None, "it was told of the validation rows before"


Here = Callable[..., Any]


def test_a_rate_that_would_ruin_the_model_is_refused_before_it_is_loaded(tiny: Path, run_here: Here) -> None:
    from recommender.errors import Refused

    with pytest.raises(Refused, match=r"learning_rate 1 changes every weight.*--set learning_rate="):
        run_here(make_plan(tiny, learning_rate=1.0))


@pytest.mark.parametrize(
    ("rate", "words"), [pytest.param(0.09, "the loss has not fallen", marks=pytest.mark.faults), (None, "diverges")]
)
def test_a_run_that_goes_wrong_ends_early_with_its_best_weights_and_what_to_do(
    tiny: Path, begin: Here, monkeypatch: pytest.MonkeyPatch, rate: float | None, words: str
) -> None:
    """By a rate that a model does not survive; and by one that is sane by itself, on a model that answers it with ten times
    the step."""
    from engine.worker.tasks.classification import Classification
    from tests.engine.worker.inside import events

    if rate is None:
        total, calls = Classification.total, iter(range(10**6))
        growing = lambda self, *args: total(self, *args) * 1.03 ** max(next(calls) - 30, 0)  # noqa: E731
        monkeypatch.setattr(Classification, "total", growing)
    run = begin(make_plan(tiny, learning_rate=rate or 1e-4, epochs=10, evaluations=30))
    end = work(run)
    assert (end["status"], end["code"]) == ("failed", 4)
    assert words in end["cause"]
    assert f"learning_rate is too high (it is {rate or 1e-4:g})" in end["cause"]
    assert f"loracle run {run.path / 'plan.yaml'} --set learning_rate=" in end["cure"]
    assert "resume" not in end["cure"]
    ruined = rate is not None and "is worse than the untouched model" in end["cure"]
    assert ruined or "are kept in" in end["cure"]
    steps = [e["step"] for e in events(run, "step")]
    assert max(steps) < 80
    codes = [e["code"] for e in events(run, "warning")]
    by_chance = ("rows_cut", "overfitting", *(["diverging"] if rate else []))  # of a ruined model
    codes = [code for code in codes if code not in by_chance]
    assert codes == (["learning_rate_high", "no_progress"] if rate else ["diverging", "diverging"])


def test_a_row_on_which_alone_the_model_overflows_is_named_and_the_rate_is_not_blamed(
    tiny: Path, begin: Here, tmp_path: Path
) -> None:
    shutil.copytree(tiny, tmp_path / "damaged")
    (weights,) = (tmp_path / "damaged").glob("*.safetensors")
    tensors = load_file(weights)
    word = AutoTokenizer.from_pretrained(tiny).convert_tokens_to_ids("parcel")
    tensors["embeddings.word_embeddings.weight"][word] = math.inf
    save_file(tensors, weights, {"format": "pt"})
    rows = [f"number {i} is {'ab'[i % 2]},{'ab'[i % 2]}" for i in range(60)]
    rows[20] = "the parcel is a,a"
    (tmp_path / "rows.csv").write_text("\n".join(["text,label", *rows]))
    (tmp_path / "held-out.csv").write_text("text,label\nit is a,a\nit is b,b\n")
    files = {"train": str(tmp_path / "rows.csv"), "eval": str(tmp_path / "held-out.csv"), "labels": ["a", "b"]}
    data = files | {"train_rows": None, "eval_rows": None, "validation_rows": 0}
    run = begin(make_plan(tmp_path / "damaged", data=data, effective_batch=8, early_stopping=False, evaluations=12))
    end = work(run)
    assert (end["status"], end["code"]) == ("failed", 4)
    assert end["cause"].endswith('of 1 of its rows is not a number even alone; the first of these begins "the parcel is a".')
    assert "Leave such rows out" in end["cure"]
    assert "learning_rate" not in end["cause"] + end["cure"]


def test_a_run_with_scores_of_many_rows_and_a_loss_that_was_no_number_goes_on(
    tiny: Path, begin: Callable[[Plan], RunDirectory]
) -> None:
    run = begin(make_plan(tiny))
    (run.scores / "before.json").write_text('{"score": {"loss": 1.794}' + " " * 65_000_000 + "}")
    events = EventWriter(run.events)
    for step, loss in ((1, 1.7), (2, math.nan), (3, 9.0)):
        events.write("step", step=step, loss=loss, grad_norm=1.0)
        events.write("evaluation", step=step, split="validation", metrics={"loss": loss})
    watch = Watch(run, Health(run.plan()), Narrator(events))
    watch.begin(3)
    watch.evaluated(4, math.nan)
    watch.evaluated(5, 9.0)
    events.close()
    assert watch.health.given == 1.794
    assert [watch.health.ruined(step) for step in (1, 2, 3, 4, 5)] == [False, False, True, False, True]


def test_of_a_run_that_is_ended_the_best_weights_are_named_and_not_the_last(tiny: Path, begin: Here) -> None:
    run = begin(make_plan(tiny))
    (last := run.checkpoints / "step-24").mkdir()
    (last / "trainer_state.json").write_text('{"best_global_step": 16}')
    checkpoints.seal(last)
    events = EventWriter(run.events)
    with pytest.raises(TrainingFailed) as failed:
        Watch(run, Health(run.plan()), Narrator(events)).say(Finding("diverging", "It diverges.", setting="seed=2", stop=True))
    events.close()
    assert f"of step 16, are kept in {run.checkpoints / 'step-16'}." in (failed.value.cure or "")


def test_a_pilots_own_run_is_not_told_to_try_a_pilot(tmp_path: Path) -> None:
    (finding,) = (f for f in watched([1.79] * 400) if f.code == "no_progress")
    told = []
    for kind in ("compare", "pilot"):
        (tmp_path / "group.json").write_text(f'{{"kind": "{kind}"}}')
        events = EventWriter(tmp_path / f"{kind}.jsonl")
        Watch(RunDirectory(tmp_path / "lora"), Health(plan()), Narrator(events)).say(finding)
        events.close()
        told.append((tmp_path / f"{kind}.jsonl").read_text())
    assert ["loracle pilot" in text for text in told] == [True, False]


def test_a_checkpoint_worse_than_what_was_given_is_not_called_the_best_so_far() -> None:
    health = Health(plan())
    health.evaluated(20, 6.487)
    assert not health.ruined(20), "nothing is known to compare with"
    health.given = 1.794
    assert health.ruined(20)
    health.evaluated(40, 1.8)
    assert not health.ruined(40)
    assert not health.ruined(60), "it was not scored"
    sure = Health(plan())
    sure.given = 0.05
    sure.evaluated(20, 0.1)
    assert not sure.ruined(20), "twice of next to nothing"
