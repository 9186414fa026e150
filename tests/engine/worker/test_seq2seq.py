"""One text from another: encoder-decoders in full, with LoRA and QLoRA, and decoders that do the same work."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.profiler import ProfilerActivity, profile
from transformers import AutoModelForSeq2SeqLM, T5Config, T5ForConditionalGeneration, pipeline

from engine.events import read_events
from engine.files import read_json
from engine.loading import split
from engine.metrics import bootstrap
from engine.metrics.answers import WrittenAnswers
from engine.metrics.kinds import Answers
from engine.worker.encoding import token_ids
from engine.worker.modeling import build, load_tokenizer
from engine.worker.tasks.base import Encoded
from engine.worker.tasks.registry import task_of
from engine.worker.tasks.seq2seq import Seq2Seq, pair_of, read_by_decoder, settle_languages
from engine.worker.token_loss import before_head
from recommender.answering import ANSWERS
from recommender.errors import InputError
from recommender.plan import Plan
from tests.conftest import put_rows
from tests.engine.worker.conftest import Here
from tests.engine.worker.exact import gradients, same_as_uncut, stir, uncut

pytestmark = pytest.mark.usefixtures("short_answers")
WORDS = "parcel late refund broken screen order invoice password".split()  # noqa: SIM905


def written(file: Path, count: int) -> str:
    """Rows whose target is the source's second word, then its first."""
    made = [(WORDS[i % 8], WORDS[(3 * i + i // 8) % 8], i) for i in range(count)]
    rows = ({"source": f"{a} {b}{' please' * (n % 5)} {n}", "target": f"{b} {a}"} for a, b, n in made)
    return put_rows(file, rows)


@pytest.fixture(scope="session")
def rows_file(tmp_path_factory: pytest.TempPathFactory) -> str:
    return written(tmp_path_factory.mktemp("rows") / "turned.jsonl", 60)


def plan_of(model: Path, file: str, method: str = "full", **fields: Any) -> Plan:
    adapter = {} if method == "full" else {"rank": 8, "alpha": 16, "target_modules": "all-linear", "dropout": 0.0}
    columns = {"source": "source", "target": "target"}
    rows = {"train": file, "layout": "source_target", "columns": columns, "validation_rows": 6, "held_out_rows": 8}
    content = {"model": {"id": str(model)}, "data": rows, "task": "seq2seq", "method": method, "learning_rate": 5e-3}
    content |= {"epochs": 1.0, "effective_batch": 8, "max_length": 48, "token_budget": 400, "evaluations": 1}
    return Plan.model_validate(content | {"early_stopping": False} | adapter | fields)


def test_a_frozen_head_is_not_copied_for_each_row() -> None:
    """torch multiplies batches that are cut out of larger tensors one by one, in bf16 with a
    copy of the other factor for each: 151 MB more for four rows and 49,152 words of 384."""
    sizes = {"d_model": 32, "d_ff": 64, "d_kv": 8, "num_layers": 1, "num_heads": 2, "decoder_start_token_id": 0}
    model = T5ForConditionalGeneration(T5Config(vocab_size=3000, **sizes)).bfloat16().requires_grad_(False)
    ids = torch.ones(4, 6, dtype=torch.long)
    batch = {"input_ids": ids, "decoder_input_ids": ids, "use_cache": False}
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        assert before_head(model, batch, (torch.tensor([0, 3]), torch.tensor([5, 1]))).shape == (2, 32)
    assert max(event.self_cpu_memory_usage for event in seen.events()) < model.lm_head.weight.nbytes


@pytest.mark.parametrize("method", ["full", "lora", "qlora"])
@pytest.mark.parametrize("chunked", [True, False])
def test_a_cut_batch_has_the_gradients_of_the_uncut_one(tiny_t5: Path, rows_file: str, method: str, chunked: bool) -> None:
    plan = plan_of(tiny_t5, rows_file, method)
    tokenizer = load_tokenizer(str(tiny_t5))
    task = task_of(plan, [], tokenizer.pad_token_id, "encoder-decoder")
    assert isinstance(task, Seq2Seq)
    rows = task.encode(tokenizer, split(plan.data, "seq2seq").train).take(range(12))
    assert all(labels[-1] == tokenizer.eos_token_id for labels in rows.targets), "the end is learned"
    short = task_of(plan.model_copy(update={"max_length": 4}), [], tokenizer.pad_token_id, "encoder-decoder")
    cut = short.encode(tokenizer, split(plan.data, "seq2seq").train).take(range(12))
    assert {len(labels) for labels in rows.targets} - {1, 2, 3, 4}
    parts = [list(labels if len(labels) <= 4 else labels[:3]) for labels in rows.targets]
    assert [list(labels) for labels in cut.targets] == parts, "but not where the text goes on"
    torch.manual_seed(0)
    model = build(task, str(tiny_t5)).model
    stir(model)
    expected_loss = model(**uncut(rows.input_ids, rows.targets)).loss
    expected_loss.backward()
    expected = float(expected_loss.detach()), gradients(model)
    task.adopt(model)
    assert task.chunked
    assert all("forward" in vars(m) for m in model.modules() if hasattr(m, "lora_A")), "one operation each"
    task.chunked = chunked
    same_as_uncut(task, model, rows, 60, expected, 1e-4)


@pytest.mark.parametrize("method", ["full", pytest.param("lora", marks=pytest.mark.faults), "qlora"])
def test_a_run_from_plan_to_a_model_that_its_card_loads(
    tiny_t5: Path,
    rows_file: str,
    run_here: Here,
    method: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = run_here(plan_of(tiny_t5, rows_file, method))
    report = run.report() or {}
    before, after = (report["scores"][name] for name in ("before", "after"))
    assert after["perplexity"] < before["perplexity"]
    assert after["answers_written"] == 8
    gain = report["gains"]["before"]["chrf"]
    assert gain["low"] <= gain["gain"] <= gain["high"]
    assert any("chrF" in said for said in report["statements"])
    assert {"chrf", "perplexity"} & set(report["validation"][0]) == {"perplexity"}, "texts are written for held-out rows only"
    kept = read_json(run.scores / "after.json")
    told = re.search(r"```python\n(.*?)```", (run.model / "README.md").read_text(), re.DOTALL)
    assert told
    source = split(run.plan().data, "seq2seq").held_out.texts[0].splitlines()[0]
    monkeypatch.chdir(run.model)
    capsys.readouterr()
    names: dict[str, Any] = {}
    exec(told[1].replace('"a text"', repr(source)), names)
    assert capsys.readouterr().out.strip() == kept["predicted"][0][2]
    if method == "lora":  # as an adapter that peft alone has saved, it is found by its folder's name
        alone = AutoModelForSeq2SeqLM.from_pretrained(run.model)
        read = names["inputs"] | {"decoder_input_ids": names["written"]}
        torch.testing.assert_close(alone(**read).logits, names["model"](**read).logits)
    own = read_json(run.model / "generation_config.json")
    assert f"max_new_tokens={own['max_new_tokens']}," in told[1], "without such a setting answers end after 20 tokens"
    assert {own.get(name) for name in ("num_beams", "min_length", "no_repeat_ngram_size")} <= {None, 0, 1}, "of another work"
    assert len(report["samples"]) == 6
    assert {(row["wanted"], row["said"]) for row in report["worst"]} == {
        (truth, text) for truth, (_, _, text) in zip(kept["truth"], kept["predicted"], strict=True)
    }


def test_a_decoder_does_the_same_work_and_is_judged_alike(
    tiny_chat: Path, rows_file: str, run_here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ANSWERS, "seq2seq", 3)
    run = run_here(plan_of(tiny_chat, rows_file, "lora", max_length=96, learning_rate=3e-3))
    report = run.report() or {}
    writer = pipeline("text-generation", model=str(run.model), tokenizer=str(run.model))  # as its card says
    assert any("lora_A" in name for name, _ in writer.model.named_parameters())
    assert writer.tokenizer.chat_template
    assert report["scores"]["after"]["answers_written"] == 3
    for name in ("before", "after"):  # the wanted texts of 100,000 rows nobody asks for would be kept for nothing
        kept = read_json(run.scores / f"{name}.json")
        assert [text is None for text in kept["truth"]] == [answer[2] is None for answer in kept["predicted"]]
    assert report["scores"]["after"]["perplexity"] < report["scores"]["before"]["perplexity"]


def test_what_is_cut_off_either_side_is_counted(tiny_t5: Path, tmp_path: Path) -> None:
    sides = [("ask", "short"), ("long " * 40, "x"), ("x", "long " * 40)]
    rows = [{"source": source, "target": target} for source, target in sides]
    put_rows(tmp_path / "rows.jsonl", rows * 4)
    plan = plan_of(tiny_t5, str(tmp_path / "rows.jsonl"), max_length=16)
    plan = plan.model_copy(update={"data": plan.data.model_copy(update={"validation_rows": 0, "held_out_rows": 0})})
    task: Any = task_of(plan, [], 0, "encoder-decoder")
    tokenizer = load_tokenizer(str(tiny_t5))
    parts = split(plan.data, "seq2seq").train
    found: Encoded = task.encode(tokenizer, parts)
    assert (len(found), found.rows_cut) == (3, 2)
    assert task.longest == max(map(len, found.targets))
    assert {text[:4] for text in found.truth} == {"shor", "x", "long"}, "what is wanted, whole"
    assert {prompt.wanted[:4] for prompt in task.prompts(tokenizer, parts, 8)} == {"shor", "long"}, "of those that are read whole"
    whole = [len(tokenizer("long " * 40, truncation=False)["input_ids"]) for _ in range(2)]
    assert sum(whole) - 2 * 16 - 2 <= found.tokens_cut <= sum(whole) - 2 * 16 + 2


def test_an_end_is_written_where_there_is_room_for_it(tiny_chat: Path) -> None:
    """By a tokenizer that writes none itself."""
    tokenizer = load_tokenizer(str(tiny_chat))
    ids = tokenizer("where is my order")["input_ids"]
    found = [token_ids(tokenizer, ["where is my order"], len(ids) + more, as_targets=True).input_ids[0] for more in (-1, 0, 1)]
    assert found == [ids[:-1], ids, [*ids, tokenizer.eos_token_id]]
    (said,) = token_ids(tokenizer, [f"where is my order{tokenizer.eos_token}"], 99, as_targets=True).input_ids
    assert list(said) == [*ids, tokenizer.eos_token_id], "an end that the text has is not written twice"


def test_a_cut_is_counted_by_tokenizers_written_in_python_too() -> None:
    from transformers import ByT5Tokenizer

    found = token_ids(ByT5Tokenizer(), ["a" * 30, "b" * 9, "c" * 10], 10)
    assert (found.lost, found.rows_cut) == ([21, 0, 1], 2)


def test_answers_of_mbart_end_with_their_language_alone() -> None:
    """Its decoder begins with what stands last: an end token of ours behind the language took its place."""
    from transformers import MBartConfig, MBartForConditionalGeneration, MBartTokenizer

    pieces = ["<s>", "<pad>", "</s>", "<unk>", "▁le", "▁chat"]
    tokenizer = MBartTokenizer(vocab=[(p, -float(i)) for i, p in enumerate(pieces)], src_lang="en_XX", tgt_lang="fr_XX")
    (ids,) = token_ids(tokenizer, ["le chat"], 8, as_targets=True).input_ids
    assert tokenizer.convert_ids_to_tokens(list(ids)) == ["▁le", "▁chat", "</s>", "fr_XX"]
    shape = {"vocab_size": len(tokenizer), "d_model": 8, "encoder_layers": 1, "decoder_layers": 1, "max_position_embeddings": 16}
    model = MBartForConditionalGeneration(MBartConfig(**shape, encoder_attention_heads=1, decoder_attention_heads=1))
    assert read_by_decoder(model, torch.tensor([ids])).tolist() == [[ids[-1], *ids[:-1]]]
    model.config.decoder_start_token_id = 2  # mBART-50's language comes first; a cut answer has no end token to begin with
    assert read_by_decoder(model, torch.tensor([ids[:2]])).tolist() == [[2, ids[0]]]


def test_targets_are_marked_as_sources_are_where_no_language_is_named_for_them(tmp_path: Path) -> None:
    import sentencepiece
    from transformers import M2M100Tokenizer

    how: dict[str, Any] = {"vocab_size": 40, "hard_vocab_limit": False, "minloglevel": 2}
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(WORDS * 9), model_prefix=str(tmp_path / "m"), **how)
    trained = [line.split("\t")[0] for line in (tmp_path / "m.vocab").read_text().splitlines()]
    pieces = ["<s>", "<pad>", "</s>", "<unk>", *trained[3:]]
    (tmp_path / "vocab.json").write_text(json.dumps({piece: i for i, piece in enumerate(pieces)}))
    tokenizer = M2M100Tokenizer(str(tmp_path / "vocab.json"), str(tmp_path / "m.model"), src_lang="en")
    assert settle_languages(tokenizer)
    found = token_ids(tokenizer, ["late parcel", "late " * 20], 24, as_targets=True)
    for ids, end in zip(found.input_ids, (True, False), strict=True):
        assert ids[0] == tokenizer.get_lang_id("en")
        assert (ids[-1] == tokenizer.eos_token_id) is end
    assert (found.rows_cut, min(found.lost)) == (1, 0)


@pytest.mark.parametrize("family", ["M2M100", "Marian"])
def test_families_of_their_own_kind_have_their_own_loss(tiny_t5: Path, rows_file: str, tmp_path: Path, family: str) -> None:
    """M2M100, which NLLB is, shifts labels within its own loss only; Marian's files lack its positions, which are computed."""
    import transformers

    tokenizer = load_tokenizer(str(tiny_t5))
    tokenizer.save_pretrained(tmp_path)
    torch.manual_seed(0)
    layers = {f"{side}_{what}": n for side in ("encoder", "decoder") for what, n in (("layers", 1), ("attention_heads", 2))}
    shape = {"d_model": 16, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "max_position_embeddings": 64, **layers}
    ends = {"pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 1}
    config = getattr(transformers, f"{family}Config")(vocab_size=len(tokenizer), **ends, **shape)
    transformers.AutoModelForSeq2SeqLM.from_config(config).save_pretrained(tmp_path)
    task = task_of(plan_of(tmp_path, rows_file), [], 0, "encoder-decoder")
    rows = task.encode(tokenizer, split(task.plan.data, "seq2seq").train).take(range(6))
    model = build(task, str(tmp_path)).model.eval()
    task.adopt(model)
    with torch.no_grad():
        wanted = float(model(**uncut(rows.input_ids, rows.targets)).loss)
        found = float(task.total(model, list(rows.input_ids), list(rows.targets)))
    assert found / task.weight(rows.targets) == pytest.approx(wanted)


def test_what_is_written_counts_for_memory_as_what_is_read(tiny_t5: Path, tmp_path: Path, run_here: Here) -> None:
    """Rows that ask little and are answered at length: neither the rehearsal nor a step may take them for short ones."""
    rows = ({"source": f"ask {i}", "target": "refund parcel order " * (1 + i % 6)} for i in range(30))
    put_rows(tmp_path / "rows.jsonl", rows)
    run = run_here(plan_of(tiny_t5, str(tmp_path / "rows.jsonl"), token_budget=64))
    kept = {kind: [e for e in read_events(run.events) if e["kind"] == kind] for kind in ("preflight", "step", "run")}
    tried = [batch for batch in kept["preflight"][0]["batches"] if batch["use"] == "train"]
    assert max(batch["longest"] for batch in tried) > 12
    assert all(batch["rows"] * batch["longest"] <= 64 for batch in tried)
    assert kept["run"][0]["train_tokens"] == sum(step["tokens"] for step in kept["step"]) > 16 * 8


def test_an_encoder_reads_all_that_stands_before_the_answer() -> None:
    said = [{"role": role, "content": role} for role in ("system", "user", "assistant")]
    assert pair_of({"messages": said}, "row 1") == ("system\n\nuser", "assistant")


def test_conversations_of_several_turns_are_refused_with_their_row(tiny_t5: Path, rows_file: str) -> None:
    task = task_of(plan_of(tiny_t5, rows_file), [], 0, "encoder-decoder")
    talk = [{"role": r, "content": "words"} for r in ("user", "assistant", "user", "assistant")]
    rows = split(plan_of(tiny_t5, rows_file).data, "seq2seq").train.take([4])
    assert rows.items is not None
    rows.items[0] = {"messages": talk, "tools": None}
    with pytest.raises(InputError, match=rf"turned\.jsonl: row {rows.numbers[0]}: an encoder-decoder reads one text"):
        task.encode(load_tokenizer(str(tiny_t5)), rows)


def test_chrf_is_sacrebleus_for_all_rows_and_for_some() -> None:
    from sacrebleu.metrics.chrf import CHRF

    said = ["the cat sat", "", "a completely different text", "Grüße aus Köln"]
    wanted = ["the cat sat down", "nothing", "words", "Grüße aus Köln"]
    kind = WrittenAnswers([])
    after = Answers([[2.0, 4, text] for text in said], [0.5] * 4, [4.0] * 4)
    found = kind.summary(wanted, after)
    assert found["chrf"] == pytest.approx(CHRF().corpus_score(said, [wanted]).score / 100)
    assert found["exact_answer"] == 0.25
    some = Answers([[2.0, 4, said[0]], [2.0, 4, None], [2.0, 4, None], [2.0, 4, said[3]]], [0.5] * 4, [4.0] * 4)
    assert kind.summary(wanted, some)["chrf"] == pytest.approx(
        CHRF().corpus_score([said[0], said[3]], [[wanted[0], wanted[3]]]).score / 100
    )
    none = Answers([[2.0, 4, None]] * 4, [0.5] * 4, [4.0] * 4)
    assert set(kind.summary(wanted, none)) == {"perplexity", "loss"}
    gain = bootstrap.gain(kind, wanted, Answers([[2.0, 4, ""]] * 4, [0.5] * 4, [4.0] * 4), after, seed=0)
    assert gain["chrf"]["low"] >= 0
