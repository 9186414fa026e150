"""What configurations call the numbers that matter here, and how large each of them can be meant."""

from typing import Any

LIMITS: dict[str, tuple[tuple[str, ...], int]] = {
    "layers": (("num_hidden_layers", "n_layer", "num_layers", "n_layers", "encoder_layers"), 2_000),
    "hidden_size": (("hidden_size", "d_model", "n_embd", "dim", "n_embed", "emb_dim"), 262_144),
    "attention_heads": (
        ("num_attention_heads", "n_head", "num_heads", "n_heads", "encoder_attention_heads", "attention_heads"),
        16_384,
    ),
    "vocabulary_size": (("vocab_size",), 50_000_000),
}
"""Names of the numbers that a configuration must have, and the most that any of them can reasonably be."""
OPTIONAL: tuple[tuple[str, int], ...] = (
    ("intermediate_size", 4_194_304),
    ("d_ff", 4_194_304),
    ("n_inner", 4_194_304),
    ("hidden_dim", 4_194_304),
    ("ffn_dim", 4_194_304),
    ("num_key_value_heads", 16_384),
    ("head_dim", 65_536),
    ("d_kv", 65_536),
    ("num_local_experts", 65_536),
    ("num_experts", 65_536),
    ("n_routed_experts", 65_536),
    ("moe_intermediate_size", 4_194_304),
    ("num_experts_per_tok", 65_536),
    ("sliding_window", 1 << 31),
    ("max_position_embeddings", 1 << 31),
    ("num_decoder_layers", 2_000),
    ("decoder_layers", 2_000),
    ("encoder_layers", 2_000),
    ("num_hidden_groups", 2_000),
    ("inner_group_num", 2_000),
    ("num_feedforward_networks", 2_000),
    ("num_labels", 1_000_000),
)
"""Numbers that may be lacking, and their limits."""
DIMENSIONS: dict[str, tuple[str, ...]] = {
    **{fact: names for fact, (names, _) in LIMITS.items()},
    "layers": (*LIMITS["layers"][0], "num_decoder_layers", "decoder_layers"),
    "attention_heads": (*LIMITS["attention_heads"][0], "decoder_attention_heads"),
    "kv_heads": ("num_key_value_heads", "num_kv_heads"),
    "intermediate_size": ("intermediate_size", "d_ff", "n_inner", "ffn_dim", "hidden_dim", "encoder_ffn_dim", "decoder_ffn_dim"),
    "max_positions": ("max_position_embeddings", "n_positions"),
    "tied_embeddings": ("tie_word_embeddings",),
}
"""What configurations call the facts of a model whose own is not at hand."""
FRACTIONS = ("attention_dropout", "hidden_dropout_prob", "attention_probs_dropout_prob", "dropout", "hidden_dropout",
             "dropout_rate", "resid_pdrop", "embd_pdrop", "attn_pdrop")  # fmt: skip
POSITIVE = ("layer_norm_eps", "layer_norm_epsilon", "rms_norm_eps", "rope_theta")
YES_OR_NO = ("tie_word_embeddings", "is_encoder_decoder", "use_cache", "norm_topk_prob", "attention_bias", "use_sliding_window")
ACTIVATIONS = ("hidden_act", "activation_function", "hidden_activation")
_DISENTANGLED = {"relative_attention": True, "max_relative_positions": -1, "position_biased_input": False}
AS_PUBLISHED: dict[str, dict[str, Any]] = {
    "deberta": _DISENTANGLED | {"pos_att_type": "c2p|p2c", "type_vocab_size": 0},
    "deberta-v2": _DISENTANGLED
    | {"pos_att_type": "p2c|c2p", "type_vocab_size": 0}
    | {"position_buckets": 256, "share_att_key": True, "norm_rel_ebd": "layer_norm"},
}
"""What every public model of a kind has and transformers' own default has not: without it such a model keeps far less."""
MOST_PARAMETERS = 10**14
ROPE_NEEDS: dict[str, tuple[str, ...]] = {
    "linear": ("factor",),
    "dynamic": ("factor",),
    "yarn": ("factor",),
    "longrope": ("short_factor", "long_factor"),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor"),
}
"""What a rotation of positions must say beside its kind (transformers, modeling_rope_utils.py)."""
