"""Configurations of public models, as far as memory and time depend on them."""

MINILM = {
    "model_type": "bert", "hidden_size": 384, "intermediate_size": 1536, "num_hidden_layers": 6, "num_attention_heads": 12,
    "vocab_size": 30522, "max_position_embeddings": 512, "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1,
}  # fmt: skip
SMOLLM2 = {
    "model_type": "llama", "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9,
    "num_key_value_heads": 3, "vocab_size": 49152, "max_position_embeddings": 8192, "tie_word_embeddings": True,
}  # fmt: skip
LLAMA_3B = {
    "model_type": "llama", "hidden_size": 3072, "intermediate_size": 8192, "num_hidden_layers": 28, "num_attention_heads": 24,
    "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 128256, "max_position_embeddings": 131072,
    "tie_word_embeddings": True,
}  # fmt: skip
LLAMA_8B = {
    "model_type": "llama", "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32,
    "num_key_value_heads": 8, "vocab_size": 128256, "max_position_embeddings": 8192, "tie_word_embeddings": False,
}  # fmt: skip
LLAMA2_7B = {
    "model_type": "llama", "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32,
    "num_key_value_heads": 32, "vocab_size": 32000, "max_position_embeddings": 4096, "tie_word_embeddings": False,
}  # fmt: skip
QWEN_18B, QWEN_7B, QWEN_14B = (  # of 2023, whose modules have other names in code of their own
    LLAMA2_7B | {"hidden_size": 2048, "intermediate_size": 5504, "num_hidden_layers": 24, "num_attention_heads": 16,
                 "num_key_value_heads": 16, "vocab_size": 151936, "max_position_embeddings": 8192},
    LLAMA2_7B | {"vocab_size": 151936, "max_position_embeddings": 8192},
    LLAMA2_7B | {"hidden_size": 5120, "intermediate_size": 13696, "num_hidden_layers": 40, "num_attention_heads": 40,
                 "num_key_value_heads": 40, "vocab_size": 152064, "max_position_embeddings": 8192},
)  # fmt: skip
YI_34B = LLAMA2_7B | {
    "hidden_size": 7168, "intermediate_size": 20480, "num_hidden_layers": 60, "num_attention_heads": 56, "num_key_value_heads": 8,
    "vocab_size": 64000,
}  # fmt: skip
DEEPSEEK_V3_2 = {  # of two layers and 16 experts, as someone measured it
    "model_type": "deepseek_v3", "hidden_size": 7168, "intermediate_size": 18432, "moe_intermediate_size": 2048,
    "num_hidden_layers": 2, "num_attention_heads": 128, "num_key_value_heads": 128, "vocab_size": 129280, "q_lora_rank": 1536,
    "kv_lora_rank": 512, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128, "n_routed_experts": 16,
    "num_experts_per_tok": 2, "n_shared_experts": 1, "n_group": 2, "topk_group": 1, "first_k_dense_replace": 1,
    "tie_word_embeddings": False, "max_position_embeddings": 163840,
}  # fmt: skip
BLOOM_7B = {
    "model_type": "bloom", "hidden_size": 4096, "n_layer": 30, "n_head": 32, "vocab_size": 250880, "hidden_dropout": 0.0,
    "attention_dropout": 0.0,
}  # fmt: skip
BERT_LARGE = {
    "model_type": "bert", "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16,
    "vocab_size": 30522, "max_position_embeddings": 512, "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1,
}  # fmt: skip
ROBERTA_LARGE = BERT_LARGE | {"model_type": "roberta", "vocab_size": 50265, "max_position_embeddings": 514, "type_vocab_size": 1}
LLAMA_1B = LLAMA_3B | {"hidden_size": 2048, "num_hidden_layers": 16, "num_attention_heads": 32, "head_dim": 64}
LLAMA2_13B, LLAMA2_70B = (
    LLAMA2_7B | {"hidden_size": 5120, "intermediate_size": 13824, "num_hidden_layers": 40, "num_attention_heads": 40,
                 "num_key_value_heads": 40},
    LLAMA2_7B | {"hidden_size": 8192, "intermediate_size": 28672, "num_hidden_layers": 80, "num_attention_heads": 64,
                 "num_key_value_heads": 8},
)  # fmt: skip
LLAMA_160M = {
    "model_type": "llama", "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12,
    "vocab_size": 32000, "max_position_embeddings": 2048, "tie_word_embeddings": False,
}  # fmt: skip
TINYLLAMA, DEEPSEEK_13B = (
    LLAMA_160M | {"hidden_size": 2048, "intermediate_size": 5632, "num_hidden_layers": 22, "num_attention_heads": 32,
                  "num_key_value_heads": 4},
    LLAMA_160M | {"hidden_size": 2048, "intermediate_size": 5504, "num_hidden_layers": 24, "num_attention_heads": 16,
                  "vocab_size": 32256, "max_position_embeddings": 16384},
)  # fmt: skip
SMOLLM2_360M, SMOLLM2_17B = (
    SMOLLM2 | {"hidden_size": 960, "intermediate_size": 2560, "num_hidden_layers": 32, "num_attention_heads": 15,
               "num_key_value_heads": 5},
    SMOLLM2 | {"hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 24, "num_attention_heads": 32,
               "num_key_value_heads": 32},
)  # fmt: skip
MISTRAL_7B = {
    "model_type": "mistral", "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32,
    "num_key_value_heads": 8, "vocab_size": 32000, "max_position_embeddings": 32768, "sliding_window": 4096,
    "tie_word_embeddings": False,
}  # fmt: skip
MISTRAL_7B_V3 = MISTRAL_7B | {"vocab_size": 32768, "sliding_window": None}
MIXTRAL = MISTRAL_7B | {"model_type": "mixtral", "sliding_window": None, "num_local_experts": 8, "num_experts_per_tok": 2}
QWEN25_05B = {
    "model_type": "qwen2", "hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24, "num_attention_heads": 14,
    "num_key_value_heads": 2, "vocab_size": 151936, "max_position_embeddings": 32768, "tie_word_embeddings": True,
}  # fmt: skip
QWEN25_15B, QWEN25_3B, QWEN25_7B = (
    QWEN25_05B | {"hidden_size": 1536, "intermediate_size": 8960, "num_hidden_layers": 28, "num_attention_heads": 12},
    QWEN25_05B | {"hidden_size": 2048, "intermediate_size": 11008, "num_hidden_layers": 36, "num_attention_heads": 16},
    QWEN25_05B | {"hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28, "num_attention_heads": 28,
                  "num_key_value_heads": 4, "vocab_size": 152064, "tie_word_embeddings": False},
)  # fmt: skip
GEMMA2_2B = {
    "model_type": "gemma2", "hidden_size": 2304, "intermediate_size": 9216, "num_hidden_layers": 26, "num_attention_heads": 8,
    "num_key_value_heads": 4, "head_dim": 256, "vocab_size": 256000, "max_position_embeddings": 8192, "sliding_window": 4096,
    "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0,
}  # fmt: skip
POWERLM_3B = {
    "model_type": "granite", "hidden_size": 2304, "intermediate_size": 9216, "num_hidden_layers": 40, "num_attention_heads": 36,
    "num_key_value_heads": 36, "vocab_size": 49152, "max_position_embeddings": 4096, "tie_word_embeddings": True,
    "attention_dropout": 0.1,
}  # fmt: skip
SANTACODER = {
    "model_type": "gpt_bigcode", "n_embd": 2048, "n_head": 16, "n_inner": 8192, "n_layer": 24, "n_positions": 2048,
    "vocab_size": 49280, "multi_query": True, "attn_pdrop": 0.1, "embd_pdrop": 0.1, "resid_pdrop": 0.1,
}  # fmt: skip
PHI_15 = {
    "model_type": "phi", "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 24, "num_attention_heads": 32,
    "vocab_size": 51200, "max_position_embeddings": 2048, "partial_rotary_factor": 0.5,
}  # fmt: skip
STABLELM_3B = {
    "model_type": "gpt_neox", "hidden_size": 4096, "intermediate_size": 16384, "num_hidden_layers": 16, "num_attention_heads": 32,
    "vocab_size": 50688, "max_position_embeddings": 4096, "rotary_pct": 0.25, "use_parallel_residual": True,
    "tie_word_embeddings": False,
}  # fmt: skip
T0_3B = {
    "model_type": "t5", "d_model": 2048, "d_ff": 5120, "d_kv": 64, "num_heads": 32, "num_layers": 24, "num_decoder_layers": 24,
    "vocab_size": 32128, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False, "dropout_rate": 0.1,
}  # fmt: skip
FLAN_T5_BASE = T0_3B | {"d_model": 768, "d_ff": 2048, "num_heads": 12, "num_layers": 12, "num_decoder_layers": 12}
MT0_XXL = T0_3B | {"model_type": "mt5", "d_model": 4096, "d_ff": 10240, "num_heads": 64, "vocab_size": 250112}
BERT_BASE = BERT_LARGE | {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
DISTILBERT = {
    "model_type": "distilbert", "dim": 768, "hidden_dim": 3072, "n_layers": 6, "n_heads": 12, "vocab_size": 30522,
    "max_position_embeddings": 512, "dropout": 0.1, "attention_dropout": 0.1,
}  # fmt: skip
ALBERT_BASE = {
    "model_type": "albert", "hidden_size": 768, "embedding_size": 128, "intermediate_size": 3072, "num_hidden_layers": 12,
    "num_attention_heads": 12, "vocab_size": 30000, "max_position_embeddings": 512, "hidden_act": "gelu_new",
    "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
}  # fmt: skip
BIOGPT = {
    "model_type": "biogpt", "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16,
    "vocab_size": 42384, "max_position_embeddings": 1024, "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1,
}  # fmt: skip
OPT_350M = {
    "model_type": "opt", "hidden_size": 1024, "ffn_dim": 4096, "num_hidden_layers": 24, "num_attention_heads": 16,
    "vocab_size": 50272, "max_position_embeddings": 2048, "word_embed_proj_dim": 512, "do_layer_norm_before": False,
    "dropout": 0.1, "attention_dropout": 0.0,
}  # fmt: skip
PYTHIA_410M = {
    "model_type": "gpt_neox", "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16,
    "vocab_size": 50304, "max_position_embeddings": 2048, "rotary_pct": 0.25, "use_parallel_residual": True,
    "tie_word_embeddings": False,
}  # fmt: skip
GPT2_LARGE = {
    "model_type": "gpt2", "n_embd": 1280, "n_head": 20, "n_layer": 36, "n_positions": 1024, "vocab_size": 50257,
    "attn_pdrop": 0.1, "embd_pdrop": 0.1, "resid_pdrop": 0.1,
}  # fmt: skip
YI_6B = LLAMA2_7B | {"num_key_value_heads": 4, "vocab_size": 64000}
GEMMA_7B = {
    "model_type": "gemma", "hidden_size": 3072, "intermediate_size": 24576, "num_hidden_layers": 28, "num_attention_heads": 16,
    "num_key_value_heads": 16, "head_dim": 256, "vocab_size": 256000, "max_position_embeddings": 8192,
}  # fmt: skip
GEMMA2_9B = GEMMA2_2B | {
    "hidden_size": 3584, "intermediate_size": 14336, "num_hidden_layers": 42, "num_attention_heads": 16, "num_key_value_heads": 8,
}  # fmt: skip
PHI3_MINI = {
    "model_type": "phi3", "hidden_size": 3072, "intermediate_size": 8192, "num_hidden_layers": 32, "num_attention_heads": 32,
    "num_key_value_heads": 32, "vocab_size": 32064, "max_position_embeddings": 131072, "original_max_position_embeddings": 4096,
    "tie_word_embeddings": False, "pad_token_id": 32000, "resid_pdrop": 0.0, "embd_pdrop": 0.0,
}  # fmt: skip
ROBERTA_BASE = BERT_BASE | {"model_type": "roberta", "vocab_size": 50265, "max_position_embeddings": 514, "type_vocab_size": 1}
MODERNBERT_BASE = {
    "model_type": "modernbert", "hidden_size": 768, "intermediate_size": 1152, "num_hidden_layers": 22, "num_attention_heads": 12,
    "vocab_size": 50368, "max_position_embeddings": 8192, "global_attn_every_n_layers": 3, "local_attention": 128,
    "pad_token_id": 50283,
}  # fmt: skip
DEBERTA_V3_BASE = {
    "model_type": "deberta-v2", "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12,
    "vocab_size": 128100, "max_position_embeddings": 512, "type_vocab_size": 0, "relative_attention": True,
    "max_relative_positions": -1, "position_buckets": 256, "norm_rel_ebd": "layer_norm", "share_att_key": True,
    "pos_att_type": ["p2c", "c2p"], "position_biased_input": False, "layer_norm_eps": 1e-7, "pooler_hidden_size": 768,
    "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1,
}  # fmt: skip
QWEN25_32B = QWEN25_7B | {"hidden_size": 5120, "intermediate_size": 27648, "num_hidden_layers": 64, "num_attention_heads": 40,
                          "num_key_value_heads": 8}  # fmt: skip
QWEN3_8B = {
    "model_type": "qwen3", "hidden_size": 4096, "intermediate_size": 12288, "num_hidden_layers": 36, "num_attention_heads": 32,
    "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151936, "max_position_embeddings": 40960,
    "tie_word_embeddings": False,
}  # fmt: skip
SMOLLM3_3B = {
    "model_type": "smollm3", "hidden_size": 2048, "intermediate_size": 11008, "num_hidden_layers": 36, "num_attention_heads": 16,
    "num_key_value_heads": 4, "vocab_size": 128256, "max_position_embeddings": 65536, "no_rope_layer_interval": 4,
    "tie_word_embeddings": True,
}  # fmt: skip
MISTRAL_SMALL_24B = MISTRAL_7B_V3 | {"hidden_size": 5120, "intermediate_size": 32768, "num_hidden_layers": 40, "head_dim": 128,
                                     "vocab_size": 131072}  # fmt: skip
_T5GEMMA2_TEXT = {
    "hidden_size": 640, "intermediate_size": 2048, "num_hidden_layers": 18, "num_attention_heads": 4, "num_key_value_heads": 1,
    "head_dim": 256, "vocab_size": 262144, "sliding_window": 512, "max_position_embeddings": 32768,
}  # fmt: skip
T5GEMMA2_270M = {
    "model_type": "t5gemma2",
    "encoder": {
        "text_config": _T5GEMMA2_TEXT,
        "vision_config": {
            "model_type": "siglip_vision_model", "hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27,
            "num_attention_heads": 16, "image_size": 896, "patch_size": 14, "vision_use_head": False,
        },
    },
    "decoder": _T5GEMMA2_TEXT,
}  # fmt: skip
BANGLABERT = {
    "model_type": "electra", "vocab_size": 32000, "embedding_size": 768, "hidden_size": 768, "num_hidden_layers": 12,
    "num_attention_heads": 12, "intermediate_size": 3072, "max_position_embeddings": 512, "type_vocab_size": 2,
    "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1,
}  # fmt: skip
GPT2 = GPT2_LARGE | {"n_embd": 768, "n_head": 12, "n_layer": 12}
GPT2_XL = GPT2_LARGE | {"n_embd": 1600, "n_head": 25, "n_layer": 48}
GEMMA_7B_UNTIED = GEMMA_7B | {"tie_word_embeddings": False}  # as LitGPT holds it
GEMMA_2B_UNTIED = GEMMA_7B_UNTIED | {
    "hidden_size": 2048, "intermediate_size": 16384, "num_hidden_layers": 18, "num_attention_heads": 8, "num_key_value_heads": 1,
}  # fmt: skip
PHI_2 = PHI_15 | {"hidden_size": 2560, "intermediate_size": 10240, "num_hidden_layers": 32, "partial_rotary_factor": 0.4}
PHI_2_OF_LITGPT = PHI_2 | {"hidden_act": "gelu_pytorch_tanh", "resid_pdrop": 0.0}
OPEN_LLAMA_3B = LLAMA2_7B | {"hidden_size": 3200, "intermediate_size": 8640, "num_hidden_layers": 26}
BERT_BASE_CASED = BERT_BASE | {"vocab_size": 28996}
DISTILROBERTA = ROBERTA_BASE | {"num_hidden_layers": 6}
ELECTRA_LARGE = BANGLABERT | {
    "vocab_size": 30522, "embedding_size": 1024, "hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16,
    "intermediate_size": 4096,
}  # fmt: skip
MODERNBERT_LARGE = MODERNBERT_BASE | {
    "hidden_size": 1024, "intermediate_size": 2624, "num_hidden_layers": 28, "num_attention_heads": 16,
}  # fmt: skip
QWEN3_06B = QWEN3_8B | {
    "hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 28, "num_attention_heads": 16,
    "tie_word_embeddings": True,
}  # fmt: skip
