"""Tiny real models, plans that run in seconds, and a place apart for every run."""

import csv
import fcntl
import gc
import io
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
from hypothesis import HealthCheck, settings

from engine.files import sha256_of
from engine.rundir import RunDirectory
from recommender.plan import Plan

ROOT = Path(__file__).parents[1]
TRAIN = ROOT / "examples" / "support-train.csv"
HELD_OUT = ROOT / "examples" / "support-heldout.csv"

# Threads that wait for one another spin; on a busy machine tiny models then take twenty times as long.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"  # for the workers, which choose their own number of threads

# What modules make stays: it is not looked through for garbage while tests are collected, nor at each look after that.
gc.disable()


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


# A script's `make test &` ignores Ctrl-C, and so would all that the tests start and stop by it.
signal.signal(signal.SIGINT, signal.default_int_handler)

# What hypothesis tries is the same every time and takes as long as it takes; `make test-faults` tries by chance.
FOR_ANY_MACHINE = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture]
settings.register_profile("chance", deadline=None, suppress_health_check=FOR_ANY_MACHINE)
settings.register_profile("same", settings.get_profile("chance"), derandomize=True)
settings.load_profile("same")

Once = Callable[[str, Callable[[Path], object]], Path]
Command = Callable[..., subprocess.CompletedProcess[str]]
Background = Callable[..., "subprocess.Popen[str]"]


def _texts() -> list[str]:
    with TRAIN.open(encoding="utf-8", newline="") as file:
        return [row["text"] for row in csv.DictReader(file)]


def _labels() -> list[str]:
    with TRAIN.open(encoding="utf-8", newline="") as file:
        return sorted({row["label"] for row in csv.DictReader(file)})


def _tokenizer(folder: Path) -> int:
    """A WordPiece tokenizer trained on the example texts; the size of its vocabulary.

    The trainer numbers the pieces of one letter as a hash map has them, and so takes others of equally frequent pieces each time:
    every session would have models of its own. Numbered beforehand, they are always the same.
    """
    from tokenizers import BertWordPieceTokenizer
    from tokenizers.models import WordPiece
    from transformers import BertTokenizerFast

    texts, special = _texts(), ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    within = [f"##{letter}" for letter in sorted({c for text in texts for c in text.lower() if c.isalnum()})]
    trained, fresh = BertWordPieceTokenizer(lowercase=True), BertWordPieceTokenizer(lowercase=True)
    trained.train_from_iterator(texts, vocab_size=1000, special_tokens=special + within, show_progress=False)
    fresh._tokenizer.model = WordPiece(trained.get_vocab(), unk_token="[UNK]")
    fresh.add_special_tokens(special)
    tokenizer = BertTokenizerFast(tokenizer_object=fresh._tokenizer, model_max_length=128)
    tokenizer.save_pretrained(folder)
    return len(tokenizer)


def put_rows(file: Path, rows: Iterable[object]) -> str:
    """A file of those rows, and its name."""
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(file)


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Once:
    """`once(name, make)`: a folder that one of pytest's processes makes, and all of them read."""
    base = tmp_path_factory.getbasetemp()
    shared = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "shared"
    shared.mkdir(exist_ok=True)

    def folder(name: str, make: Callable[[Path], object]) -> Path:
        with (shared / f"{name}.made").open("a+") as made:
            fcntl.flock(made, fcntl.LOCK_EX)
            made.seek(0)
            if not made.read():
                shutil.rmtree(shared / name, ignore_errors=True)  # what a failed attempt left
                (shared / name).mkdir()
                make(shared / name)
                made.write("made")
        return shared / name

    return folder


def _build(folder: Path, make: Callable[[int], Any]) -> None:
    import torch

    torch.manual_seed(0)
    size = _tokenizer(folder)
    make(size).save_pretrained(folder, safe_serialization=True)


@pytest.fixture(scope="session")
def tiny(once: Once) -> Path:
    """A BERT of two layers with random weights, as a model folder."""
    from transformers import BertConfig, BertModel

    def make(size: int) -> Any:
        shape = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 128}
        return BertModel(BertConfig(vocab_size=size, max_position_embeddings=128, **shape))

    return once("tiny-bert", lambda folder: _build(folder, make))


@pytest.fixture(scope="session")
def tiny_still(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`tiny` without dropout: what is computed depends on the rows alone."""
    folder = tmp_path_factory.mktemp("models") / "tiny-still"
    shutil.copytree(tiny, folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture(scope="session")
def tiny_wide(once: Once) -> Path:
    """A BERT without dropout whose activations are large beside its weights."""
    from transformers import BertConfig, BertModel

    def make(size: int) -> Any:
        shape = {"hidden_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 1024}
        dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
        return BertModel(BertConfig(vocab_size=size, max_position_embeddings=128, **shape, **dropout))

    return once("tiny-wide", lambda folder: _build(folder, make))


@pytest.fixture(scope="session")
def tiny_roberta(once: Once) -> Path:
    """A RoBERTa: its head has several modules, and its checkpoint no pooler."""
    from transformers import RobertaConfig, RobertaModel

    def make(size: int) -> Any:
        shape = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 128}
        ends = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}
        config = RobertaConfig(vocab_size=size, max_position_embeddings=130, type_vocab_size=1, **shape, **ends)
        return RobertaModel(config, add_pooling_layer=False)

    return once("tiny-roberta", lambda folder: _build(folder, make))


@pytest.fixture(scope="session")
def tiny_llama(once: Once) -> Path:
    """A decoder: it classifies at the last token that is not padding."""
    from transformers import LlamaConfig, LlamaForCausalLM

    def make(size: int) -> Any:
        shape = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 128}
        config = LlamaConfig(vocab_size=size, max_position_embeddings=128, **shape, tie_word_embeddings=True, pad_token_id=None)
        return LlamaForCausalLM(config)

    return once("tiny-llama", lambda folder: _build(folder, make))


CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


@pytest.fixture(scope="session")
def tiny_chat(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A decoder with random weights, a byte-level tokenizer trained on the example conversations, and a chat template."""
    import torch
    from tokenizers import ByteLevelBPETokenizer
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    lines = (ROOT / "examples" / "chat-train.jsonl").read_text(encoding="utf-8").splitlines()
    trained = ByteLevelBPETokenizer()
    specials = ["<pad>", "<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    texts = [m["content"] for line in lines for m in json.loads(line)["messages"]]
    trained.train_from_iterator(texts, vocab_size=700, special_tokens=specials, show_progress=False)
    folder = tmp_path_factory.mktemp("models") / "tiny-chat"
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=trained._tokenizer,
        pad_token="<pad>",
        eos_token="<|endoftext|>",
        additional_special_tokens=specials[2:],
        model_max_length=256,
    )
    tokenizer.chat_template = CHATML
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    shape = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128}
    ends = {"pad_token_id": 0, "bos_token_id": None, "eos_token_id": 1, "num_key_value_heads": 2}
    config = LlamaConfig(vocab_size=len(tokenizer), max_position_embeddings=256, tie_word_embeddings=True, **shape, **ends)
    model = LlamaForCausalLM(config)
    model.generation_config.update(repetition_penalty=1.5)  # as Qwen's has one
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_t5(tiny_chat: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An encoder-decoder with random weights and the tokenizer of `tiny_chat`, which here ends every text."""
    import torch
    from tokenizers.processors import TemplateProcessing
    from transformers import AutoTokenizer, T5Config, T5ForConditionalGeneration

    folder = tmp_path_factory.mktemp("models") / "tiny-t5"
    tokenizer = AutoTokenizer.from_pretrained(tiny_chat)
    end = [(tokenizer.eos_token, tokenizer.eos_token_id)]
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single=f"$A {tokenizer.eos_token}", special_tokens=end)
    tokenizer.chat_template = None
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    shape = {"d_model": 64, "d_kv": 16, "d_ff": 128, "num_layers": 2, "num_heads": 4, "dropout_rate": 0.0}
    ends = {"pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 0}
    config = T5Config(vocab_size=len(tokenizer), n_positions=256, feed_forward_proj="gated-gelu", **shape, **ends)
    model = T5ForConditionalGeneration(config)
    model.generation_config.update(num_beams=2, min_length=9, no_repeat_ngram_size=1)  # for another work, as BART-CNN's are
    model.save_pretrained(folder)
    return folder


def make_plan(model: str | Path, method: str = "full", *, data: dict[str, Any] | None = None, **fields: Any) -> Plan:
    """A plan on the example rows; `data` is merged."""
    rows = {
        "train": str(TRAIN),
        "eval": str(HELD_OUT),
        "text_column": "text",
        "label_column": "label",
        "labels": _labels(),
        "train_rows": 120,
        "eval_rows": 40,
        "validation_rows": 24,
    }
    adapter = {} if method == "full" else {"rank": 4, "alpha": 8, "target_modules": "all-linear", "dropout": 0.1}
    content = {
        "model": {"id": str(model)},
        "data": rows | (data or {}),
        "method": method,
        "learning_rate": 1e-3,
        "epochs": 2.0,
        "effective_batch": 8,
        "max_length": 48,
        "token_budget": 1024,
        "evaluations": 3,
        "early_stopping": False,
    }
    return Plan.model_validate(content | adapter | fields)


LEAST: dict[str, Any] = {
    "model": {"id": "demo"}, "data": {"train": "rows.csv"}, "method": "full", "learning_rate": 2e-5, "epochs": 3.0,
    "effective_batch": 16, "max_length": 128,
}  # fmt: skip
"""All that a plan has to say."""


@pytest.fixture(autouse=True)
def _apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The developer's own runs are out of sight, and what a test starts does not reach them."""
    monkeypatch.setenv("LORACLE_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("LORACLE_CONFIG", str(tmp_path / "no-config.toml"))
    monkeypatch.setenv("LORACLE_LANG", "en")
    monkeypatch.setenv("LORACLE_TRIAL", "0")  # what a plan says must not depend on the processor that tests it
    monkeypatch.setenv("LORACLE_TRACE", "0")  # seconds of a child for every recommendation; its own tests switch it on
    monkeypatch.delenv("LORACLE_RUNS", raising=False)
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1,localhost")  # hubs of tests, where others are reached through a proxy


@pytest.fixture
def loracle(tmp_path: Path) -> Command:
    """The real program in a process of its own, in `tmp_path`."""

    def call(*arguments: str | Path, timeout: float = 400) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command(*arguments), capture_output=True, text=True, timeout=timeout, cwd=tmp_path, env=quiet(), check=False
        )

    return call


def answered_here(kind: str, request: dict[str, Any], **given: Any) -> dict[str, Any]:
    """What `engine.inspection.child.ask` answers, in the same words, without a child, which takes half a second."""
    from engine.inspection import __main__ as inspection
    from engine.inspection import child

    told, progress = io.StringIO(), given.get("progress")
    line = json.dumps(request | {"progress": progress is not None}).encode()
    answer = inspection._answered(kind, line, told)
    gc.enable()  # off while rows are read
    if progress is not None:
        for said in told.getvalue().splitlines():
            progress(*json.loads(said)["progress"])
    return child._answer(0, answer.encode(), b"", given["about"])


@pytest.fixture
def looks_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a child would be asked of a model or rows on this disk is answered here; of a hub, whose address it takes from the
    environment as it begins, by a child."""
    from engine import inspect
    from engine.inspection import child

    def ask(kind: str, request: dict[str, Any], **given: Any) -> dict[str, Any]:
        return (answered_here if kind in ("model", "data", "learned") else child.ask)(kind, request, **given)

    monkeypatch.setattr(inspect, "ask", ask)


@pytest.fixture
def loracle_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], looks_here: None) -> Command:
    """The program in this very process, in `tmp_path`: the same words and exit codes, without the second it takes to start.

    Unless a test says otherwise no run comes of it, so no worker waits for one.
    """
    for module in ("tui.commands", "tui.commands_advice"):
        monkeypatch.setattr(f"{module}.Waiting", lambda plan: nullcontext(SimpleNamespace(memory=lambda: 0)))
    monkeypatch.setattr("engine.inspection.machine.nf4_works", lambda here: True)  # a child imports torch to find out

    def call(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        from tui.cli import main

        monkeypatch.chdir(tmp_path)
        capfd.readouterr()
        typed = list(map(str, arguments))
        with mock.patch.dict(os.environ, quiet()):  # and what the program sets there itself is gone afterwards
            code = main(typed)
        return subprocess.CompletedProcess(typed, code, *capfd.readouterr())

    return call


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "tui.cli", *map(str, arguments)]


def quiet() -> dict[str, str]:
    return os.environ | {"COLUMNS": "120", "HF_HUB_OFFLINE": "1"}


@pytest.fixture
def start_loracle(tmp_path: Path) -> Iterator[Background]:
    """The real program in the background, in a process group of its own; ended with the test."""
    started: list[subprocess.Popen[str]] = []

    def call(*arguments: str | Path) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            command(*arguments),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
            env=quiet(),
            start_new_session=True,
        )
        started.append(process)
        return process

    yield call
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def reap() -> Iterator[list[RunDirectory]]:
    """Runs put into this list lose their worker when the test ends."""
    import psutil

    runs: list[RunDirectory] = []
    yield runs
    for run in runs:
        if run.worker() and run.alive():
            psutil.Process(int(run.worker()["pid"])).kill()


_IMPORTED: set[str] = set()


def libraries_stay() -> None:
    """What libraries made while they were imported is not looked through for garbage again: a run looks eight times."""
    if sys.modules.keys() - _IMPORTED:
        _IMPORTED.update(sys.modules)
        gc.collect()
        gc.freeze()


def json_lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def plain(text: str) -> str:
    """On one line, however wide the terminal was."""
    return " ".join(text.split())


def weights(run: RunDirectory) -> str:
    """What tells the weights of a result from others."""
    return sha256_of(next(run.model.glob("*.safetensors")))
