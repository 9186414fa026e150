"""Facts from GGUF files written here byte by byte, and every file that is damaged, cut short or lies about its sizes."""

import struct
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.inspect import inspect_model
from engine.inspection.model import inspect_folder
from recommender.errors import InputError
from tests.engine.made_models import complaint, facts_of

KINDS = {"u8": (0, "B"), "u32": (4, "I"), "i32": (5, "i"), "f32": (6, "f"), "bool": (7, "B"), "u64": (10, "Q")}
F32, F16, Q4_K, Q6_K, BF16 = 0, 1, 12, 14, 30
BYTES = {F32: (1, 4), F16: (1, 2), Q4_K: (256, 144), Q6_K: (256, 210), BF16: (1, 2)}
Tensors = dict[str, tuple[int, list[int]]]


def text(value: str) -> bytes:
    raw = value.encode()
    return struct.pack("<Q", len(raw)) + raw


def value(found: Any) -> bytes:
    """(kind, number), a text, or a list of either."""
    if isinstance(found, str):
        return struct.pack("<I", 8) + text(found)
    if isinstance(found, list):
        if isinstance(found[0], str):
            return struct.pack("<IIQ", 9, 8, len(found)) + b"".join(text(item) for item in found)
        number, form = KINDS[found[0][0]]
        return struct.pack("<IIQ", 9, number, len(found)) + b"".join(struct.pack(f"<{form}", item) for _, item in found)
    kind, content = found
    number, form = KINDS[kind]
    return struct.pack(f"<I{form}", number, content)


def gguf(path: Path, values: dict[str, Any], tensors: Tensors, *, version: int = 3) -> Path:
    raw = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(values))
    raw += b"".join(text(key) + value(found) for key, found in values.items())
    end = 0
    for name, (kind, shape) in tensors.items():
        raw += text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, end)
        numbers = 1
        for n in shape:
            numbers *= n
        block, size = BYTES.get(kind, (1, 1))
        end += -(-numbers // block * size // 32) * 32
    path.write_bytes(raw + bytes(-len(raw) % 32 + end))
    return path


LLAMA: dict[str, Any] = {
    "general.architecture": "llama",
    "general.license": "llama3",
    "llama.block_count": ("u32", 1),
    "llama.embedding_length": ("u32", 256),
    "llama.feed_forward_length": ("u32", 512),
    "llama.attention.head_count": ("u32", 8),
    "llama.attention.head_count_kv": ("u32", 2),
    "llama.context_length": ("u32", 4096),
    "llama.rope.freq_base": ("f32", 500000.0),
    "tokenizer.ggml.tokens": ["a", "b", "c"],
    "tokenizer.ggml.scores": [("f32", 0.5), ("f32", 1.5)],
    "tokenizer.chat_template": "{{ messages }}",
}
LLAMA_TENSORS: Tensors = {
    "token_embd.weight": (Q6_K, [256, 100]),
    "blk.0.attn_norm.weight": (F32, [256]),
    "blk.0.attn_q.weight": (Q4_K, [256, 256]),
    "blk.0.attn_k.weight": (Q4_K, [256, 64]),
    "blk.0.ffn_down.weight": (Q4_K, [512, 256]),
    "rope_freqs.weight": (F32, [16]),
    "output.weight": (Q6_K, [256, 100]),
}


@pytest.mark.parametrize("version", [2, 3])
def test_a_llama_exactly(tmp_path: Path, version: int) -> None:
    path = gguf(tmp_path / "tiny-q4_k_m.gguf", LLAMA, LLAMA_TENSORS, version=version)
    linear = 256 * 256 + 256 * 64 + 512 * 256
    assert facts_of(path, "tiny").model_dump(exclude_none=True) == {
        "id": "tiny",
        "path": str(path),
        "family": "decoder",
        "parameters": linear + 2 * 256 * 100 + 256,
        "embedding_parameters": 2 * 256 * 100,
        "linear_parameters": linear,
        "other_parameters": 256,
        "layers": 1,
        "hidden_size": 256,
        "intermediate_size": 512,
        "attention_heads": 8,
        "kv_heads": 2,
        "vocabulary_size": 100,
        "max_positions": 4096,
        "tied_embeddings": False,
        "quantization": "q4_k",
        "instruct": True,
        "chat_template": True,
        "license": "llama3",
        "architecture": "llama",
        "weights_bytes": path.stat().st_size,
        "weights_format": "gguf",
    }


def test_unquantised_weights_have_a_type_and_no_quantisation(tmp_path: Path) -> None:
    tensors: Tensors = {"token_embd.weight": (BF16, [8, 50]), "blk.0.attn_q.weight": (BF16, [8, 8])}
    facts = facts_of(gguf(tmp_path / "a.gguf", {"general.architecture": "gemma2"}, tensors))
    assert (facts.dtype, facts.quantization, facts.tied_embeddings) == ("bfloat16", None, True)
    assert (facts.chat_template, facts.instruct, facts.layers, facts.hidden_size) == (False, False, None, 8)


def test_a_mixture_of_experts(tmp_path: Path) -> None:
    values = {"general.architecture": "qwen3moe", "qwen3moe.expert_count": ("u32", 4), "qwen3moe.expert_used_count": ("u32", 2)}
    tensors: Tensors = {
        "token_embd.weight": (F16, [8, 50]),
        "blk.0.ffn_gate_inp.weight": (F32, [8, 4]),
        "blk.0.ffn_up_exps.weight": (F16, [8, 16, 4]),
        "blk.0.attn_q.weight": (F16, [8, 8]),
    }
    facts = facts_of(gguf(tmp_path / "a.gguf", values, tensors))
    assert (facts.experts, facts.experts_per_token, facts.expert_parameters) == (4, 2, 512)
    assert (facts.linear_parameters, facts.other_parameters, facts.parameters) == (64, 544, 1008)
    assert facts.active_parameters == 1008 - 256


def test_dimensions_that_differ_by_layer_count_with_the_largest(tmp_path: Path) -> None:
    values = LLAMA | {"llama.attention.head_count": [("u32", 8), ("u32", 12)], "llama.attention.head_count_kv": [("u32", 0)]}
    facts = facts_of(gguf(tmp_path / "a.gguf", values, LLAMA_TENSORS))
    assert (facts.attention_heads, facts.kv_heads) == (12, 12)


@pytest.mark.parametrize(("architecture", "family"), [("bert", "encoder"), ("nomic-bert", "encoder"), ("t5", "encoder-decoder")])
def test_the_family_follows_the_architecture(tmp_path: Path, architecture: str, family: str) -> None:
    path = gguf(tmp_path / "a.gguf", {"general.architecture": architecture}, {"token_embd.weight": (F32, [8, 9])})
    assert facts_of(path).family == family


def test_a_type_that_is_not_known_yet_is_counted_by_its_shape(tmp_path: Path) -> None:
    path = gguf(tmp_path / "a.gguf", {"general.architecture": "new"}, {"blk.0.ffn_up.weight": (99, [64, 64])})
    assert (facts_of(path).parameters, facts_of(path).quantization) == (4096, "type 99")


def test_a_folder_with_one_file_means_that_file(tmp_path: Path) -> None:
    gguf(tmp_path / "model.gguf", LLAMA, LLAMA_TENSORS)
    (tmp_path / "mmproj-model.gguf").write_bytes(b"not looked at")
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    assert facts_of(tmp_path).weights_format == "gguf"
    gguf(tmp_path / "other.gguf", LLAMA, LLAMA_TENSORS)
    assert "holds 2 GGUF models; name one of them, for example model.gguf" in complaint(tmp_path)


def test_the_parts_of_one_model_are_read_together(tmp_path: Path) -> None:
    names = [f"big-0000{i}-of-00002.gguf" for i in (1, 2)]
    halves = [dict(list(LLAMA_TENSORS.items())[:4]), dict(list(LLAMA_TENSORS.items())[4:])]
    gguf(tmp_path / names[0], LLAMA, halves[0])
    gguf(tmp_path / names[1], {"split.no": ("u32", 1)}, halves[1])
    (tmp_path / "whole").mkdir()
    whole = gguf(tmp_path / "whole" / "a.gguf", LLAMA, LLAMA_TENSORS)
    expected = facts_of(whole).parameters
    assert [facts_of(tmp_path / name).parameters for name in names] == [expected, expected]
    assert facts_of(tmp_path).parameters == expected
    (tmp_path / names[1]).unlink()
    assert "1 of 2 parts are missing, first big-00002-of-00002.gguf" in complaint(tmp_path / names[0])


def test_through_the_child_by_path_and_by_folder(tmp_path: Path) -> None:
    path = gguf(tmp_path / "model.gguf", LLAMA, LLAMA_TENSORS)
    first = inspect_model(str(path))
    assert (first.facts.weights_format, first.path, first.revision) == ("gguf", str(path), None)
    assert len(first.fingerprint) == 64
    assert inspect_model(str(tmp_path)).fingerprint == first.fingerprint
    gguf(path, LLAMA | {"general.license": "mit"}, LLAMA_TENSORS)
    assert inspect_model(str(path)).fingerprint != first.fingerprint


def test_a_missing_file_is_no_hub_id() -> None:
    with pytest.raises(InputError, match="there is no such model"):
        inspect_model("nowhere.gguf")


HEAD = b"GGUF" + struct.pack("<I", 3)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "ends in the middle"),
        (b"GGU", "ends in the middle"),
        (b"nope" + bytes(64), "does not begin like one"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
        (b"GGUF" + struct.pack("<IQQ", 1, 0, 0), "of version 1"),
        (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "of the other byte order"),
        (HEAD + struct.pack("<QQ", 2**63, 0), "it would hold"),
        (HEAD + struct.pack("<QQ", 0, 2**63), "it would hold"),
        (HEAD + struct.pack("<QQQ", 0, 1, 2**62), "a text of"),
        (HEAD + struct.pack("<QQQ", 0, 1, 60_000) + b"short", "ends in the middle"),
        (HEAD + struct.pack("<QQ", 0, 1) + text("k") + struct.pack("<I", 77), "unknown kind 77"),
        (HEAD + struct.pack("<QQ", 0, 1) + text("k") + struct.pack("<IIQ", 9, 8, 2**61), "a list of"),
        (HEAD + struct.pack("<QQ", 0, 1) + text("k") + struct.pack("<I", 9) + struct.pack("<IQ", 9, 1) * 9, "a list of 1 values"),
        (HEAD + struct.pack("<QQ", 0, 1) + text("k") + struct.pack("<IIQ", 9, 4, 4_000_000), "ends in the middle"),
        (HEAD + struct.pack("<QQ", 1, 0) + text("t") + struct.pack("<I", 2**31), "dimensions"),
        (HEAD + struct.pack("<QQ", 1, 0) + text("t") + struct.pack("<IQQIQ", 2, 2**40, 2**40, 0, 0), "cannot be"),
        (HEAD + struct.pack("<QQ", 1, 0) + text("t") + struct.pack("<IQIQ", 1, 100, Q4_K, 0), "cannot be"),
        (HEAD + struct.pack("<QQ", 1, 0) + text("t") + struct.pack("<IQIQ", 1, 100, F32, 0), "lie beyond its end"),
        (HEAD + struct.pack("<QQ", 0, 0), "is not a language model"),
    ],
)
def test_a_file_that_cannot_be_believed(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "a.gguf").write_bytes(content)
    assert said in complaint(tmp_path / "a.gguf")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (
            LLAMA | {"llama.block_count": ("u32", 4_000_000_000)},
            "llama.block_count is 4000000000; a whole number from 1 to 10,000",
        ),
        (LLAMA | {"llama.block_count": "many"}, "llama.block_count is many"),
        (LLAMA | {"llama.embedding_length": ("i32", -8)}, "llama.embedding_length is -8"),
        (LLAMA | {"general.alignment": ("u32", 0)}, "its alignment cannot be"),
        (LLAMA | {"general.type": "adapter"}, "holds an adapter"),
        (LLAMA | {"general.architecture": "clip"}, "is not a language model (it says clip)"),
        (LLAMA | {"general.architecture": ("u32", 3)}, "is not a language model"),
    ],
)
def test_metadata_that_cannot_be_believed(tmp_path: Path, values: dict[str, Any], said: str) -> None:
    assert said in complaint(gguf(tmp_path / "a.gguf", values, LLAMA_TENSORS))


def test_escapes_in_names_reach_nobody(tmp_path: Path) -> None:
    tensors: Tensors = {"\x1b[31mred": (Q4_K, [100])}
    message = complaint(gguf(tmp_path / "a.gguf", {"general.architecture": "llama"}, tensors))
    assert "\x1b" not in message
    facts = facts_of(gguf(tmp_path / "b.gguf", {"general.architecture": "\x1b[31m", "general.license": "\x1b"}, LLAMA_TENSORS))
    assert "\x1b" not in (facts.architecture or "") + (facts.license or "")


def test_a_file_cut_anywhere_says_so(tmp_path: Path) -> None:
    whole = gguf(tmp_path / "whole.gguf", LLAMA, LLAMA_TENSORS).read_bytes()
    for length in range(0, len(whole), len(whole) // 60):
        (tmp_path / "a.gguf").write_bytes(whole[:length])
        assert "cut short" in complaint(tmp_path / "a.gguf")


@settings(max_examples=100)
@given(place=st.integers(0, 1200), changed=st.integers(0, 255))
def test_flipped_bytes_give_facts_or_one_sentence(tmp_path: Path, place: int, changed: int) -> None:
    path = gguf(tmp_path / "a.gguf", LLAMA, LLAMA_TENSORS)
    raw = bytearray(path.read_bytes())
    raw[place] = changed
    path.write_bytes(bytes(raw))
    with suppress(InputError):
        inspect_folder(str(path))
