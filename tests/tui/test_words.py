"""Numbers and states in words."""

import time
from typing import Any

import pytest

from engine.metrics.measures import MEASURES
from engine.state import RunState, fold
from recommender.decide import recommend
from recommender.facts import Facts
from tui import cells, commands_group, keys, live_advice, views_run, words
from tui.endings import ending, leaves_at_once
from tui.merge_words import merged_words
from tui.run_log import RunLog
from tui.show import age_of
from tui.views_candidate import card, in_line, settings_line


def test_numbers_read_well() -> None:
    assert words.number(1_234_567) == "1 234 567"
    assert words.amount(22_713_600) == "22.7 M"
    assert words.amount(596_000_000) == "596 M"
    assert words.amount(980) == "980"
    assert words.amount(999_999) == "1 M"
    assert words.amount(999_600_000) == "1 B"
    assert [words.duration(s) for s in (0.0, 0.0341, 0.12, 9.97, 1_234.0)] == ["0.0 s", "34 ms", "0.1 s", "10 s", "21 min"]
    assert words.metric(0.84249) == "0.842"
    assert (words.metric(1_234_567.8), words.metric(1.0064e28)) == ("1234567.800", "1.01e+28")
    assert MEASURES["perplexity"].difference(-9.4473e27) == "-9.45e+27"
    assert words.rate(2e-5) == "2e-5"
    assert words.rate(0.00011) == "1.1e-4"
    assert words.rate(0.0) == "0"
    assert [commands_group._joined(["A", "B", "C, x3"][:n]) for n in (1, 2, 3)] == ["A", "A and B", "A, B and C, x3"]


def test_unknown_values_are_a_dash_not_a_crash() -> None:
    forms = (words.number, words.amount, words.metric, words.rate, words.size, words.duration)
    assert {form(None) for form in forms} == {words.sign("–")}


def test_ago_counts_from_the_given_moment() -> None:
    assert words.seconds_ago(100.0, now=100.8) == "0.8 s ago"
    assert words.seconds_ago(0.0, now=7200.0) == "2.0 h ago"
    assert words.seconds_ago(200.0, now=100.0) == "0.0 s ago"
    assert words.seconds_ago(100.0, now=100.03) == "0.0 s ago"


def test_an_end_that_is_not_today_says_its_day() -> None:
    noon = time.mktime((2026, 11, 28, 12, 0, 0, 0, 0, -1))
    assert words.end_clock(3_600.0, noon) == "13:00"
    assert words.end_clock(11 * 3_600.0, noon) == "23:00"
    assert words.end_clock(50 * 3_600.0, noon) == "2026-11-30 14:00"


def test_a_phase_says_how_far_it_is() -> None:
    state = RunState(status="running", phase="before", phase_done=40, phase_total=132)
    assert words.phase_words(state) == "scoring the untouched model 40/132"
    assert words.phase_words(RunState(phase="train")) == "training"


def test_every_state_has_a_word_and_a_sign() -> None:
    for status in ("starting", "running", "done", "stopped", "failed", "refused", "dead"):
        assert words.status_word(status)
        assert words.status_with_sign(status) != words.status_word(status)


def test_a_candidate_in_one_line_says_whether_it_fits(facts: Facts) -> None:
    recommendation = recommend(facts)
    assert "LoRA: fits easily · ? of 12.0 GB · " in in_line(recommendation.candidate("lora"))
    tight = recommend(facts.model_copy(update={"machine": facts.machine.model_copy(update={"ram_available": 300_000_000})}))
    assert "Full fine-tuning: far too little · ? of 300 MB · " in in_line(tight.candidate("full"))


def test_a_time_that_no_clock_shows_is_unknown() -> None:
    for moment in (1e200, -1e200, 1e18):
        assert words.clock(moment) == "–"
        assert words.end_clock(abs(moment)) == "–"


def test_an_ascii_locale_gets_ascii_signs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LORACLE_ASCII", "1")
    assert words.status_with_sign("done").isascii()
    assert words.metric(None).isascii()
    monkeypatch.setenv("LORACLE_ASCII", "0")  # as for the other switches: no
    monkeypatch.delenv("TERM", raising=False)
    monkeypatch.setattr("locale.getpreferredencoding", lambda _: "UTF-8")
    assert not words.status_with_sign("done").isascii()


def test_a_report_says_whether_rows_were_padded_where_it_knows() -> None:
    said = [words.computing_words({"kernels": "torch"} | more)[0] for more in ({}, {"padded": True}, {"padded": False})]
    assert said == ["allocator: the system's own", "rows: padded to equal lengths", "rows: end to end, without padding"]


def test_advice_that_was_set_aside_is_told_without_the_code_of_its_rule() -> None:
    assert words.against_advice("D3_too_small: A small model.") == "Against the advice: A small model."
    assert words.against_advice("LoRA instead of QLoRA") == "Against the advice: LoRA instead of QLoRA"


def test_no_unit_is_cut_off_on_a_card_of_80_columns(facts: Facts) -> None:
    candidate = recommend(facts).candidate("lora")
    before = candidate.memory.model_copy(update={"predicted": 16_500_000_000, "available": 25_300_000_000, "counted": True})
    said = card(candidate, "2 LoRA", None, 22, roomy=False, counting=True, before=before).plain
    assert "~16.5/25.3 GB…" in said
    assert max(map(len, said.split("\n"))) <= 22


def test_memory_and_what_is_free_are_told_in_one_unit(facts: Facts) -> None:
    """In two the table of the advice loses its last column at 80 cells."""
    candidate = recommend(facts).candidate("lora")
    memory = candidate.memory.model_copy(update={"predicted": 957_000_000, "available": 24_600_000_000})
    told = [words.memory_sum(memory.model_copy(update={"counted": counted})) for counted in (True, False)]
    assert told == ["~1.0 of 24.6 GB", "? of 24.6 GB"]


def test_texts_name_the_keys_that_a_person_has(monkeypatch: pytest.MonkeyPatch) -> None:
    stopped = fold([{"seq": 1, "kind": "run"}, {"seq": 2, "kind": "end", "status": "stopped", "code": 5}])
    assert ending(stopped) == "Stopped: r resumes it."
    monkeypatch.setenv("LORACLE_KEYS", "resume=f5,ctrl+r;goal=ctrl+g;zoom-in=plus")
    assert ending(stopped) == "Stopped: F5 resumes it."
    assert [keys.name("goal", "g"), keys.name("zoom-in", ">"), keys.name("mark", "space")] == ["ctrl+g", "+", "space"]


def test_a_failed_run_is_tried_again_from_where_it_has_something() -> None:
    began, failed = {"seq": 1, "kind": "run"}, {"seq": 3, "kind": "end", "status": "failed", "code": 4}
    changed = "e changes the plan for a new run."
    assert ending(fold([began, failed])) == f"Failed: The worker gave no cause. r tries again from the beginning. {changed}"
    kept = {"seq": 2, "kind": "checkpoint", "step": 20}
    state = fold([began, kept, failed | {"cause": "Memory ran out.", "cure": "Take LoRA."}])
    assert ending(state) == f"Failed: Memory ran out. Take LoRA. r tries again from the newest checkpoint. {changed}"
    saner = fold([began, kept, failed | {"cause": "It is no number. " * 9, "cure": "Run it.", "setting": "learning_rate=1e-05"}])
    assert ending(saner, 140).endswith(
        "… (7 shows all of it.) e opens its plan with learning_rate=1e-05. r tries the same again."
    )
    # Where there is less room the cause gives way, and the keys stay.
    told = ending(fold([began, kept, failed | {"cause": "Memory ran out. " * 9}]), 140)
    assert told.endswith(f"… (7 shows all of it.) r tries again from the newest checkpoint. {changed}")
    assert len(told) <= 140
    refused = fold([began, failed | {"status": "refused", "cause": "rows.csv is gone. " * 20}])
    assert ending(refused) == f"Refused: {'rows.csv is gone. ' * 20}{changed}"
    told = ending(refused, 140)
    assert told.endswith(f"… (7 shows all of it.) {changed}")
    assert len(told) <= 140
    begun = ending(fold([began, kept, failed | {"status": "refused", "cause": "rows.csv has changed."}]))
    assert begun == f"Refused: rows.csv has changed. r tries again from the newest checkpoint. {changed}"


def test_who_stops_a_run_that_takes_no_steps_is_promised_no_new_checkpoint() -> None:
    def phase(name: str) -> dict[str, Any]:
        return {"seq": 9, "kind": "phase", "name": name, "done": 0, "total": 9, "unit": ""}

    kept = {"seq": 2, "kind": "checkpoint", "step": 20}
    assert "nothing to save" in leaves_at_once(fold([phase("load")]))
    for name in ("load", "preflight", "after", "probe"):  # before the steps of a resumed run, and after the last one
        assert "the checkpoint of step 20 is kept" in leaves_at_once(fold([kept, phase(name)]))
    for name in ("train", "evaluate"):
        assert not leaves_at_once(fold([phase(name)]))
        assert not leaves_at_once(fold([kept, phase(name)]))


def test_of_joined_emoji_every_terminal_shows_as_many_cells() -> None:
    woman, girl, heart = "\U0001f469", "\U0001f467", "\u2764"
    assert cells.fitted(f"a{woman}\u200d{woman}\u200d{girl}b {heart}\ufe0f", 12) == f"a{woman}{woman}{girl}b {heart}"
    assert cells.padded("\u0645\u06cc\u200c\u062e", 5).startswith("\u0645\u06cc\u200c\u062e")  # scripts need theirs


def test_of_a_run_of_a_group_the_groups_name_is_cut() -> None:
    name = "20261130-102402-support-train-compare/lora-2"
    assert cells.fitted_name(name, 24) == "support-train-co…/lora-2"
    assert cells.fitted_name(name, 40) == "support-train-compare/lora-2"
    assert cells.fitted_name(name, 6) == "lora-2"
    assert cells.fitted_name(name.partition("/")[0], 10) == "support-t…"


def test_of_a_thousand_warnings_only_those_that_are_shown_are_put_into_words(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []

    def words_of(event: Any) -> str:
        said.append(event["text"])
        return str(event["text"])

    monkeypatch.setattr(live_advice, "warning_words", words_of)
    assert live_advice._told([{"text": "again"}] * 1_000, 5) == ["again"]
    assert live_advice._told([{"text": str(n)} for n in range(1_000)], 3) == ["999", "998", "997"]
    assert len(said) == 4


def test_one_epoch_is_one(facts: Facts) -> None:
    settings = recommend(facts).candidate("lora").settings
    assert "1 epoch = " in settings_line(settings.model_copy(update={"epochs": 1.0}))
    assert "2 epochs = " in settings_line(settings.model_copy(update={"epochs": 2.0}))


def test_an_event_of_any_time_is_a_line_of_the_log() -> None:
    log = RunLog()
    for number, when in enumerate((10**400, "noon", None)):
        assert log.take({"kind": "checkpoint", "seq": number, "time": when, "step": number}) is not None
    early = log.take({"kind": "stopped_early", "seq": 3, "time": 5.0, "step": 9})
    assert early is not None
    assert early.text == "stopped early: no more gain"
    told = {"status": "stopped", "cause": "stopped on request", "cure": "Nothing was saved yet."}
    end = log.take({"kind": "end", "seq": 4, "time": 6.0} | told)
    assert end is not None
    assert end.text == "stopped: stopped on request. Nothing was saved yet."


@pytest.mark.parametrize("phase", ["reference", "compile", "kernels", "answers", "pause"])
def test_every_phase_of_a_run_is_marked_as_going_on(phase: str) -> None:
    state = RunState(status="running", phase=phase, phase_done=3, phase_total=9, phase_unit="rows")
    state.phase_seconds = {"load": 2.0, "tokenize": 1.0}
    assert words.sign("▶") in views_run.phases(state, 200).plain
    assert "rows 3/9" in views_run.progress(state, 80).plain


def test_a_run_begun_before_the_clock_was_set_back_is_no_time_old(monkeypatch: pytest.MonkeyPatch) -> None:
    """The list of runs said `-86132.2 s`."""
    monkeypatch.setattr("time.time", lambda: 1000.0)
    assert [age_of(begun) for begun in (90_000.0, 1000.0, 940.0)] == ["0.0 s", "0.0 s", "60 s"]


def test_how_far_a_merged_model_is_from_what_was_scored_is_told_by_its_answers() -> None:
    """ "Equal to within 3 (the largest output is 48.2)" had to be read twice, and then said neither good nor bad."""
    same = {"path": "/m", "bytes": 10**9, "rows": 16, "difference": 2e-6, "largest_output": 8.0, "writes": True}
    exact = same | {"dtype": "float32", "alike": [900, 900], "difference_in_4_bit": None, "alike_in_4_bit": None}
    assert merged_words(exact).endswith("equal the adapter's to within 2e-06 (the largest output is 8).")
    rounded = merged_words(exact | {"dtype": "bfloat16", "difference": 3.0, "alike": [873, 900]})
    assert "as the adapter does: the likeliest next token is the same at 873 of 900 places (97%)." in rounded
    assert "to within" not in rounded
    in_4_bit = merged_words(exact | {"writes": False, "difference_in_4_bit": 1.2, "alike_in_4_bit": [15, 16]})
    assert in_4_bit.endswith("compared with that: 15 of 16 labels are the same (94%).")
    of_numbers = {"alike": None, "difference_in_4_bit": 1.2, "alike_in_4_bit": None}
    assert merged_words(exact | of_numbers).endswith("outputs differ by up to 15% of the largest.")
