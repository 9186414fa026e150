"""The steps of `plain.py`: small models of many kinds, and ways to train them."""

from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

HEADS = {
    "classification": ("AutoModelForSequenceClassification", "SEQ_CLS"),
    "tagging": ("AutoModelForTokenClassification", "TOKEN_CLS"),
    "masked_lm": ("AutoModelForMaskedLM", None),
    "causal_lm": ("AutoModelForCausalLM", "CAUSAL_LM"),
}
"""transformers' class of a head, and what peft calls its task."""
SIZE: dict[str, Any] = {
    "hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 3000,
    "max_position_embeddings": 514,
}  # fmt: skip
GROUPED = SIZE | {"num_key_value_heads": 2, "max_position_embeddings": 2048}
DEBERTA: dict[str, Any] = SIZE | {
    "relative_attention": True, "max_relative_positions": -1, "position_biased_input": False, "type_vocab_size": 0,
}  # fmt: skip
ENCODERS: dict[str, dict[str, Any]] = {
    "bert": SIZE | {"model_type": "bert"},
    "bert-wide": SIZE | {"model_type": "bert", "hidden_size": 96, "intermediate_size": 1152, "num_attention_heads": 12},
    "bert-deep": SIZE | {"model_type": "bert", "num_hidden_layers": 9},
    "roberta": SIZE | {"model_type": "roberta", "type_vocab_size": 1},
    "xlm-roberta": SIZE | {"model_type": "xlm-roberta", "type_vocab_size": 1, "vocab_size": 40000},
    "camembert": SIZE | {"model_type": "camembert"},
    "distilbert": {
        "model_type": "distilbert", "dim": 128, "hidden_dim": 512, "n_layers": 2, "n_heads": 4, "vocab_size": 3000,
        "max_position_embeddings": 514,
    },
    "albert": SIZE | {"model_type": "albert", "embedding_size": 64, "num_hidden_layers": 4},
    "electra": SIZE | {"model_type": "electra", "embedding_size": 64},
    "mpnet": SIZE | {"model_type": "mpnet"},
    "deberta": DEBERTA | {"model_type": "deberta", "pos_att_type": ["c2p", "p2c"]},
    "deberta-v2": DEBERTA | {
        "model_type": "deberta-v2", "pos_att_type": ["p2c", "c2p"], "conv_kernel_size": 3, "conv_act": "gelu",
    },
    "deberta-v3": DEBERTA | {
        "model_type": "deberta-v2", "position_buckets": 256, "norm_rel_ebd": "layer_norm", "share_att_key": True,
        "pos_att_type": ["p2c", "c2p"],
    },
    "modernbert": SIZE | {"model_type": "modernbert", "num_hidden_layers": 4, "local_attention": 32, "pad_token_id": 0},
    "nomic_bert": SIZE | {"model_type": "nomic_bert"},
    "eurobert": GROUPED | {"model_type": "eurobert", "pad_token_id": 0},
    "longformer": SIZE | {"model_type": "longformer", "attention_window": 64},
    "big_bird": SIZE | {"model_type": "big_bird", "attention_type": "original_full"},
    "ernie": SIZE | {"model_type": "ernie"},
    "xlnet": {"model_type": "xlnet", "d_model": 128, "d_inner": 512, "n_layer": 2, "n_head": 4, "vocab_size": 3000},
    "xlm": {"model_type": "xlm", "emb_dim": 128, "n_layers": 2, "n_heads": 4, "vocab_size": 3000},
    "funnel": {
        "model_type": "funnel", "block_sizes": [2, 2], "d_model": 128, "n_head": 4, "d_head": 32, "d_inner": 512,
        "vocab_size": 3000,
    },
    "mobilebert": SIZE | {"model_type": "mobilebert", "embedding_size": 64, "intra_bottleneck_size": 64},
    "squeezebert": SIZE | {"model_type": "squeezebert", "embedding_size": 128},
    "convbert": SIZE | {"model_type": "convbert"},
    "roformer": SIZE | {"model_type": "roformer"},
    "rembert": SIZE | {"model_type": "rembert", "input_embedding_size": 64, "output_embedding_size": 96},
    "megatron-bert": SIZE | {"model_type": "megatron-bert"},
    "fnet": SIZE | {"model_type": "fnet"},
    "nystromformer": SIZE | {"model_type": "nystromformer", "segment_means_seq_len": 64},
    "esm": SIZE | {"model_type": "esm", "pad_token_id": 1, "mask_token_id": 2, "position_embedding_type": "rotary"},
    "data2vec-text": SIZE | {"model_type": "data2vec-text"},
    "roberta-prelayernorm": SIZE | {"model_type": "roberta-prelayernorm"},
    "ibert": SIZE | {"model_type": "ibert"},
    "luke": SIZE | {"model_type": "luke", "entity_vocab_size": 50, "entity_emb_size": 32},
    "layoutlm": SIZE | {"model_type": "layoutlm"},
    "jina": SIZE | {"model_type": "jina_embeddings_v3"},
}  # fmt: skip
DECODERS: dict[str, dict[str, Any]] = {
    "llama": GROUPED | {"model_type": "llama"},
    "llama-tied": GROUPED | {"model_type": "llama", "tie_word_embeddings": True, "vocab_size": 12000},
    "llama-deep": GROUPED | {"model_type": "llama", "num_hidden_layers": 9},
    "qwen2": GROUPED | {"model_type": "qwen2"},
    "qwen3": GROUPED | {"model_type": "qwen3", "head_dim": 48, "tie_word_embeddings": True},
    "gemma": GROUPED | {"model_type": "gemma", "head_dim": 64, "num_key_value_heads": 1},
    "gemma2": GROUPED | {"model_type": "gemma2", "head_dim": 32, "sliding_window": 32, "query_pre_attn_scalar": 32},
    "gemma3": GROUPED | {"model_type": "gemma3_text", "head_dim": 32, "sliding_window": 32, "query_pre_attn_scalar": 32},
    "phi": SIZE | {"model_type": "phi", "partial_rotary_factor": 0.5},
    "phi3": GROUPED | {"model_type": "phi3", "pad_token_id": 0},
    "mistral": GROUPED | {"model_type": "mistral", "sliding_window": 48},
    "gpt2": {"model_type": "gpt2", "n_embd": 128, "n_layer": 2, "n_head": 4, "n_positions": 512, "vocab_size": 3000},
    "gpt_neox": SIZE | {"model_type": "gpt_neox"},
    "gpt_neo": {
        "model_type": "gpt_neo", "hidden_size": 128, "num_layers": 2, "num_heads": 4, "vocab_size": 3000,
        "attention_types": [[["global", "local"], 1]], "window_size": 32, "max_position_embeddings": 512,
    },
    "gptj": {
        "model_type": "gptj", "n_embd": 128, "n_layer": 2, "n_head": 4, "n_positions": 512, "vocab_size": 3000,
        "rotary_dim": 16,
    },
    "opt": SIZE | {"model_type": "opt", "ffn_dim": 512, "word_embed_proj_dim": 128},
    "bloom": {"model_type": "bloom", "hidden_size": 128, "n_layer": 2, "n_head": 4, "vocab_size": 3000, "hidden_dropout": 0.1},
    "falcon": {
        "model_type": "falcon", "hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
        "vocab_size": 3000,
    },
    "mpt": {"model_type": "mpt", "d_model": 128, "n_heads": 4, "n_layers": 2, "vocab_size": 3000, "max_seq_len": 512},
    "gpt_bigcode": {
        "model_type": "gpt_bigcode", "n_embd": 128, "n_layer": 2, "n_head": 4, "n_positions": 512,
        "vocab_size": 3000,
    },
    "mixtral": GROUPED | {"model_type": "mixtral", "num_local_experts": 4},
    "qwen3_moe": GROUPED | {
        "model_type": "qwen3_moe", "num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 96,
        "head_dim": 32,
    },
    "gpt_oss": GROUPED | {
        "model_type": "gpt_oss", "num_local_experts": 4, "num_experts_per_tok": 2, "head_dim": 32,
        "sliding_window": 32,
    },
    "deepseek_v2": SIZE | {
        "model_type": "deepseek_v2", "moe_intermediate_size": 96, "num_key_value_heads": 4, "q_lora_rank": None,
        "kv_lora_rank": 32, "qk_nope_head_dim": 32, "qk_rope_head_dim": 16, "v_head_dim": 32, "n_routed_experts": 8,
        "num_experts_per_tok": 2,
        "n_shared_experts": 1, "first_k_dense_replace": 1, "n_group": 1, "topk_group": 1,
    },
    "olmo": GROUPED | {"model_type": "olmo"},
    "olmo2": GROUPED | {"model_type": "olmo2"},
    "smollm3": GROUPED | {"model_type": "smollm3", "num_hidden_layers": 4, "no_rope_layer_interval": 4, "pad_token_id": 0},
    "stablelm": GROUPED | {"model_type": "stablelm"},
    "starcoder2": GROUPED | {"model_type": "starcoder2", "sliding_window": 4096},
    "cohere": GROUPED | {"model_type": "cohere"},
    "cohere2": GROUPED | {"model_type": "cohere2", "sliding_window": 32},
    "granite": GROUPED | {"model_type": "granite"},
    "glm4": GROUPED | {"model_type": "glm4", "head_dim": 32, "pad_token_id": 0},
    "nemotron": GROUPED | {"model_type": "nemotron"},
    "exaone4": GROUPED | {"model_type": "exaone4", "sliding_window": 32},
    "ernie4_5": GROUPED | {"model_type": "ernie4_5"},
    "persimmon": SIZE | {"model_type": "persimmon"},
    "biogpt": SIZE | {"model_type": "biogpt"},
    "xglm": {"model_type": "xglm", "d_model": 128, "ffn_dim": 512, "num_layers": 2, "attention_heads": 4, "vocab_size": 3000},
}  # fmt: skip
BOTH: dict[str, dict[str, Any]] = {
    "t5": {
        "model_type": "t5", "d_model": 128, "d_kv": 32, "d_ff": 512, "num_layers": 2, "num_heads": 4, "vocab_size": 3000,
        "decoder_start_token_id": 0,
    },
    "bart": {
        "model_type": "bart", "d_model": 128, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4,
        "decoder_attention_heads": 4, "encoder_ffn_dim": 512, "decoder_ffn_dim": 512, "vocab_size": 3000,
    },
}  # fmt: skip
STEP: dict[str, Any] = {
    "method": "full", "micro_batch_rows": 8, "length": 64, "padded": False, "head": "classification", "labels": None,
    "base_dtype": "float32", "autocast": None, "optimizer": "adamw", "optimizer_implementation": "for-loop",
    "gradient_checkpointing": "none", "attention": None, "loss": "plain", "outputs_held": False, "outputs_rebound": False,
    "devices": 1, "transformers": version("transformers"),
}  # fmt: skip
LORA = {"method": "lora", "adapter_dtype": "float32", "rank": 8, "target_modules": "all-linear", "lora_dropout": 0.0}
BF16, AUTOCAST, AGAIN = {"base_dtype": "bfloat16"}, {"autocast": "bfloat16"}, {"gradient_checkpointing": "layer"}
OF_ENCODERS: dict[str, dict[str, Any]] = {
    "full classification": {"labels": 3},
    "full classification padded": {"labels": 3, "padded": True, "micro_batch_rows": 5, "length": 96},
    "full regression bf16": BF16 | {"labels": 1, "micro_batch_rows": 16, "length": 48},
    "full tagging autocast": AUTOCAST | {"head": "tagging", "labels": 9, "outputs_held": True},
    "full masked_lm checkpointed": AGAIN | {"head": "masked_lm", "outputs_held": True, "micro_batch_rows": 3, "length": 128},
    "full tagging eager padded": {"head": "tagging", "labels": 5, "padded": True, "attention": "eager"},
    "full classification bf16 padded foreach": BF16 | {"labels": 3, "padded": True, "optimizer_implementation": "foreach"},
    "lora classification default": LORA | {"labels": 2, "target_modules": "default", "lora_dropout": 0.1},
    "lora tagging bf16 padded": LORA | BF16 | {"head": "tagging", "labels": 9, "padded": True},
    "lora masked_lm autocast dropout": LORA | AUTOCAST | {"head": "masked_lm", "lora_dropout": 0.05, "rank": 32},
    "lora classification checkpointed fused": LORA | AGAIN | {"labels": 2, "optimizer_implementation": "fused"},
}
OF_DECODERS: dict[str, dict[str, Any]] = {
    "full": {},
    "full padded": {"padded": True, "micro_batch_rows": 3, "length": 96, "outputs_held": True},
    "full bf16 checkpointed": BF16 | AGAIN | {"micro_batch_rows": 4, "length": 128, "optimizer_implementation": "foreach"},
    "full autocast": AUTOCAST | {"outputs_held": True, "optimizer_implementation": "fused"},
    "full eager accumulated": {"attention": "eager", "gradient_accumulation_steps": 3, "micro_batch_rows": 2},
    "lora": LORA,
    "lora default bf16 dropout": LORA | BF16 | {"target_modules": "default", "lora_dropout": 0.1, "rank": 64},
    "lora padded bf16 checkpointed": LORA | BF16 | AGAIN | {"padded": True, "adapter_dtype": "bfloat16"},
    "lora autocast padded": LORA | AUTOCAST | {"padded": True, "use_cache": True, "outputs_held": True},
    "lora classification": LORA | {"head": "classification", "labels": 3, "padded": True, "outputs_held": True},
}
QLORA = LORA | {"method": "qlora", "quantization": "nf4", "double_quantization": True, "kbit_prepared": False}
SINGLE: dict[str, dict[str, Any]] = {
    "bert full sgd": {"optimizer": "sgd", "labels": 2},
    "bert full adafactor": {"optimizer": "adafactor", "optimizer_implementation": None, "labels": 2},
    "bert full 8-bit": {"optimizer": "adamw_8bit", "optimizer_implementation": None, "embeddings_in_fp32": False, "labels": 2},
    "bert full only classifier": {"labels": 2, "trained": ["classifier"]},
    "bert full last layer": {"labels": 2, "trained": ["encoder.layer.1", "classifier", "pooler"]},
    "bert-deep full last layers": {"labels": 2, "trained": ["encoder.layer.7", "encoder.layer.8", "classifier"]},
    "bert full 1x512": {"labels": 2, "micro_batch_rows": 1, "length": 512},
    "bert full 64x8": {"labels": 2, "micro_batch_rows": 64, "length": 8},
    "bert full 1x512 eager autocast": AUTOCAST | {"labels": 2, "micro_batch_rows": 1, "length": 512, "attention": "eager"},
    "bert full 3x300 bf16 padded": BF16 | {"labels": 2, "micro_batch_rows": 3, "length": 300, "padded": True},
    "bert lora trained pooler": LORA | {"labels": 2, "trained": ["pooler"], "target_modules": ["query", "value"]},
    "bert qlora": QLORA | {"labels": 2},
    "bert qlora prepared bf16 checkpointed": QLORA | BF16 | AGAIN | {"labels": 2, "kbit_prepared": True},
    "roberta qlora tagging autocast": QLORA | AUTOCAST | {"head": "tagging", "labels": 5, "padded": True},
    "deberta-v3 lora query value": LORA | {"labels": 2, "target_modules": ["query_proj", "value_proj"], "lora_dropout": 0.1},
    "deberta-v3 full 2x200 padded": {"labels": 2, "micro_batch_rows": 2, "length": 200, "padded": True},
    "modernbert full 2x400": {"labels": 2, "micro_batch_rows": 2, "length": 400},
    "albert lora all padded checkpointed": LORA | AGAIN | {"labels": 2, "padded": True},
    "llama lora checkpointed": LORA | AGAIN | {"head": "causal_lm", "use_cache": False},
    "llama lora trained": LORA | {"head": "causal_lm", "trained": ["embed_tokens", "lm_head"], "use_cache": False},
    "llama-tied lora trained": LORA | BF16 | {"head": "causal_lm", "trained": ["embed_tokens"], "use_cache": False},
    "llama-tied full autocast checkpointed": AUTOCAST | AGAIN | {"head": "causal_lm", "use_cache": False},
    "llama full last layer": {"head": "causal_lm", "trained": ["layers.1", "lm_head"], "use_cache": False},
    "llama full 1x700": {"head": "causal_lm", "micro_batch_rows": 1, "length": 700, "use_cache": False},
    "llama qlora bf16": QLORA | BF16 | {"head": "causal_lm", "use_cache": False},
    "llama qlora prepared": QLORA | BF16 | {"head": "causal_lm", "kbit_prepared": True, "use_cache": False},
    "gpt2 qlora checkpointed": QLORA | AGAIN | {"head": "causal_lm", "use_cache": False},
    "gemma2 full 2x200": {"head": "causal_lm", "micro_batch_rows": 2, "length": 200, "use_cache": False},
    "gemma3 full 2x200 bf16": BF16 | {"head": "causal_lm", "micro_batch_rows": 2, "length": 200, "use_cache": False},
}


def cells() -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """(key, configuration, step) of every cell: the single ones, and a third of all pairs of a model and a way."""
    known = ENCODERS | DECODERS
    for key, changes in SINGLE.items():
        yield key, known[key.split()[0]], STEP | changes
    writing = {"head": "causal_lm", "use_cache": False}
    for models, kinds, always in (
        (BOTH, OF_DECODERS, writing | {"target_length": 32}),
        (DECODERS, OF_DECODERS, writing),
        (ENCODERS, OF_ENCODERS, {}),
    ):
        for i, (name, config) in enumerate(models.items()):
            for j, (kind, changes) in enumerate(kinds.items()):
                step = STEP | always | changes
                if (i + j) % 3 == 0 and not (step["head"] == "classification" and "target_length" in step):
                    yield f"{name} {kind}", config, step
