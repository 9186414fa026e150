"""Facts as people see them, in 80 columns."""

import io
import shutil
from pathlib import Path
from typing import Any

import pytest
from rich.text import Text

from engine.inspect import DataInspection, ModelInspection
from engine.rundir import RunDirectory
from recommender.facts import DataFacts, Device, Facts, Machine, ModelFacts, Suspicion, Truncation
from tui import show, show_advice, show_facts, views_result, views_wrong
from tui.show import Screen
from tui.show_table import headed_table

GB = 1_000_000_000
SCORES = ("precision", "recall", "f1")


def drawn(show: object, *found: object) -> str:
    out = io.StringIO()
    show(*found, Screen(file=out, width=80))  # type: ignore[operator]
    assert all(len(line.rstrip()) <= 80 for line in out.getvalue().splitlines())
    assert "\n\n\n" not in out.getvalue(), "parts are one blank line apart"
    return " ".join(out.getvalue().split())


def test_every_accelerator_is_shown_and_the_one_that_would_be_used_is_marked() -> None:
    cards = (
        Device(name="NVIDIA A100-SXM4-80GB MIG 3g.40gb", memory_total=42 * GB, memory_free=11 * GB, compute_capability=(8, 0),
               bf16=True, mig=True, held_by_others=30 * GB, temperature=61),
        Device(name="Tesla T4 [/]\x1b]0;x\x07", memory_total=16 * GB, memory_free=15 * GB, compute_capability=(7, 5), bf16=False),
    )  # fmt: skip
    machine = Machine(backend="cuda", devices=cards, cpu_cores=8, ram_available=20 * GB, ram_total=64 * GB, disk_free=10 * GB,
                      hub_disk_free=99 * GB, nf4=False, problems=("amdsmi did not answer in 5 s.",))  # fmt: skip
    said = drawn(show_facts.machine, machine, None)
    for words in ("cuda, measured now", "a slice (MIG)", "30.0 GB", "61 C", "a run uses one accelerator, the one "
        "with the most free memory",
                  "do not run here (tried): no QLoRA", "99.0 GB free for downloaded models", "not answer in 5 s"):  # fmt: skip
        assert words in said
    assert "→ Tesla T4 [/]" in said
    assert "\x1b" not in said


def test_a_machine_of_which_little_is_known_is_no_problem() -> None:
    said = drawn(show_facts.machine, Machine(), {"fp32": 1.5e11})
    assert "150 billion operations a second in fp32 (measured now)" in said
    assert "not tried; --try-nf4 finds out" in said


def test_a_mixture_of_experts_says_what_one_token_passes_through() -> None:
    facts = ModelFacts(id="org/moe", family="decoder", parameters=47 * GB, embedding_parameters=262_000_000, experts=8,
                       experts_per_token=2, active_parameters=13 * GB, attention_heads=32, kv_heads=8, layers=32,
                       chat_template=True, instruct=True, quantization="gptq", tied_embeddings=False)  # fmt: skip
    looked = ModelInspection(facts=facts, path="/models/moe", revision="abc", fingerprint="0" * 64, weights_here=False)
    said = drawn(show_facts.model, looked)
    for words in ("8 in each layer, 2 for each token: a token passes through 13 B", "8 key/value heads", "gptq",
                  "with a chat template", "The weights are not on this machine"):  # fmt: skip
        assert words in said


@pytest.fixture
def looked() -> DataInspection:
    facts = DataFacts(
        task="classification", rows=1_000, unique_rows=900, classes=40, labels=tuple(f"label {n}" for n in range(40)),
        label_counts=(25,) * 40, duplicate_share=0.1, near_duplicate_share=0.05, conflict_share=0.02, overlap_share=0.01,
        near_overlap_share=0.07,
        empty_rows=3, tokens_p50=50, tokens_p95=200, tokens_max=900, tokens_origin="estimated", confidence=0.6, language="de",
        text_column="text", label_column="label", eval_rows=100,
        truncation=(Truncation(length=128, rows_cut=200, tokens_kept=40_000),
                    Truncation(length=1024, rows_cut=0, tokens_kept=60_000)),
        suspicious_columns=(Suspicion(column="id", why="id"), Suspicion(column="day", why="constant"),
                            Suspicion(column="folder", why="leak", share=0.97),
                            Suspicion(column="text", why="leak", word="good", share=0.3)),
    )  # fmt: skip
    return DataInspection(
        facts=facts, preview=(("x" * 500, "label 1"),), columns=("text", "label", "id"), confidence=0.6, path="/data/rows.csv",
        eval_path=None, fingerprint="1" * 64, eval_fingerprint=None,
    )  # fmt: skip


def test_what_is_odd_about_data_is_said_in_sentences(looked: DataInspection) -> None:
    said = drawn(show_facts.data, looked)
    for words in ("classification (60% sure)", "(not used: id)", "900 distinct", "(estimated)", "de (a guess)", "20 more",
                  "10% of the rows repeat another row", "5% of the rows differ only a little from an earlier row",
                  "2% of the rows have a text that also appears with another label", "also in the training data",
                  "7% of the held-out rows differ only a little from a training row",
                  "column id is different in every row", "column day is the same in every row",
                  "column folder gives the label away in 97% of the rows",
                  "words like good in column text give the label away in 30% of the rows",
                  "task and columns are a guess"):  # fmt: skip
        assert words in said
    assert "128 tokens 200 20% 67%" in said


def test_of_a_model_that_reads_texts_of_any_length_no_length_is_told() -> None:
    model = ModelFacts(id="mt5", family="encoder-decoder", parameters=300_000_000, layers=8, max_positions=1_024)
    told = [
        drawn(show_advice.facts, Facts(machine=Machine(), model=found, data=DataFacts()))
        for found in (model, model.model_copy(update={"max_positions": None}))
    ]
    assert "mt5: encoder-decoder, 300 M parameters, 8 layers, up to 1 024 tokens Data" in told[0]
    assert "mt5: encoder-decoder, 300 M parameters, 8 layers Data" in told[1]
    twice = drawn(show_advice.facts, Facts(machine=Machine(), model=model, data=DataFacts(rows=167, unique_rows=166)))
    assert "167 rows, 166 distinct" in twice, "the reasons said 166 and nothing why"


def test_a_plain_terminal_gets_ascii(looked: DataInspection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LORACLE_ASCII", "1")
    assert drawn(show_facts.machine, Machine(backend="cuda", devices=(Device(), Device())), None).isascii()
    short = DataInspection(looked.facts, (("where is my parcel", "a"),), looked.columns, 0.6, "/d.csv", None, "1" * 64, None)
    assert drawn(show_facts.data, short).isascii()


def test_of_tagged_words_spans_are_counted_and_not_rows(make_run: Any) -> None:
    """Both views of a result: a row may hold many spans of a class."""
    worker = make_run()
    worker.report(scores={"after": {"span_f1": 0.85, "per_class": [{"label": "place", "rows": 90} | dict.fromkeys(SCORES, 0.8)]}})
    content = worker.run.report()
    assert "class spans F1 before" in drawn(show.report, content, worker.run)
    assert views_wrong.per_class(content).plain.splitlines()[1].endswith("spans")


def test_an_answer_without_a_word_is_called_so() -> None:
    said = drawn(show.samples, [{"prompt": "Why?", "before": "", "after": "So."}])
    assert said.endswith("prompt before after Why? (nothing) So.")


def test_where_less_is_better_a_fall_is_called_no_gain() -> None:
    gain = {"gain": -1.5, "low": -2.0, "high": -1.0}
    texts = {"scores": {"before": {"perplexity": 9.0}, "after": {"perplexity": 7.5}}, "gains": {"before": {"perplexity": gain}}}
    told = [drawn(show.report, texts, RunDirectory(Path("a-run")))]
    told += [views_result.scores(texts, roomy=roomy).plain for roomy in (True, False)]
    assert all("-1.5" in one and "ifference" in one and "ain " not in one and "over the" not in one for one in told)


@pytest.mark.parametrize("width", [40, 60, 78, 79])
def test_where_a_table_has_no_room_its_rows_stand_below_each_other_with_every_number_whole(width: int) -> None:
    table = headed_table()
    table.add_column("", no_wrap=True)
    for head in ("accuracy", "macro-F1", "loss"):
        table.add_column(head, justify="right", no_wrap=True)
    table.add_column("gain over it (95% interval)", no_wrap=True)
    table.add_row(Text("constant answer"), "0.167", "0.048", "–", "+67.4 points (+58.3 to +76.5) xxxxx")
    table.add_row(Text("after"), "0.841", "0.842", "0.571", "")
    out = io.StringIO()
    Screen(file=out, width=width).print(table)
    lines = [" ".join(line.split()) for line in out.getvalue().splitlines()]
    if width < 79:
        assert lines[:3] == ["constant answer", "accuracy 0.167", "macro-F1 0.048"]
        assert lines[-4:] == ["after", "accuracy 0.841", "macro-F1 0.842", "loss 0.571"]
    else:
        assert lines[-1] == "after 0.841 0.842 0.571"
    assert all(words in " ".join(lines) for words in ("+67.4 points (+58.3 to +76.5) xxxxx", "0.571"))
    assert max(map(len, out.getvalue().splitlines())) <= width


def test_of_a_class_without_a_held_out_row_nothing_is_claimed(make_run: Any) -> None:
    worker = make_run()
    none, some = ({"label": name, "rows": rows} | dict.fromkeys(SCORES, rows / 18) for name, rows in (("a", 0), ("b", 9)))
    scores = {"accuracy": 0.85, "macro_f1": 0.84, "loss": 0.4, "per_class": [none, some]}
    worker.report(scores={"before": scores, "after": scores}, statements=["Better."], left_out=["One row was cut."])
    content = worker.run.report()
    assert "a 0 – – – – b 9 0.500 0.500 0.500 0.500" in drawn(show.report, content, worker.run)
    assert " ".join(views_wrong.per_class(content).plain.split()).endswith("b 0.500 0.500 0.500 9 a – – – 0")


def test_checkpoints_that_a_finished_run_leaves_behind_are_told(make_run: Any) -> None:
    """By both views of a result: those of a large model fill a disk within a few runs."""
    worker = make_run()
    kept = worker.run.checkpoints / "step-4"
    kept.mkdir(parents=True)
    (kept / "optimizer.pt").write_bytes(bytes(3_000_000))
    assert worker.run.spare() == 0, "it may be needed yet"
    worker.report()
    content = worker.run.report()
    (worker.run.path / "facts.json").write_text('{"goal": {"note": "for Ann"}}')
    told = drawn(show.report, content, worker.run)
    assert "3.0 MB of checkpoints in " in told
    assert "“for Ann”" in told, "what was noted is kept to be read"
    assert "3.0 MB in checkpoints/ beside it" in views_result.where(content, "model", worker.run.spare()).plain
    shutil.rmtree(kept)
    assert "of checkpoints" not in drawn(show.report, content, worker.run)
