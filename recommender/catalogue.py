"""The sentences of gates, constraints, points and flip conditions, by code, with those of `catalogue_cautions`.

Every figure in a sentence is one of its facts; those that never change are in `CONSTANTS`.
"""

from typing import Any

from recommender.catalogue_cautions import CAUTIONS

SENTENCES: dict[str, str] = CAUTIONS | {
    # hard constraints
    "fits": "{method}: needs about {needed:size}, you have {free:size} free: fits.",
    "fits_copies": "{method}: needs about {needed:size} on each of {devices} devices (each holds a copy), {free:size} free: "
    "fits.",
    "fits_sharded": "{method}: needs about {needed:size} on each of {devices} devices with weights and optimizer states "
    "sharded over them, {free:size} free: fits.",
    "does_not_fit": "{method}: needs about {needed:size}, you have {free:size} free: does not fit.",
    "does_not_fit_surely": "{method}: needs {low:size} to {high:size}, you have {free:size} free: it may not fit. --anyway "
    "tries its longest rows before the first step, and trains nothing if they do not fit.",
    "does_not_fit_probably": "{method}: needs about {needed:size}, at least {low:size}, you have {free:size} free: it probably "
    "does not fit. --anyway tries its longest rows before the first step, and trains nothing if they do not fit.",
    "does_not_fit_each": "{method}: needs about {needed:size} on each of {devices} devices even when sharded over them, "
    "{free:size} free: does not fit.",
    "fits_uncounted": "{method}: {how} into the {free:size} that is free.",
    "fits_copies_uncounted": "{method}: {how} into the {free:size} that is free on each of {devices} devices (each "
    "holds a copy).",
    "fits_sharded_uncounted": "{method}: {how} into the {free:size} that is free on each of {devices} devices, with weights and "
    "optimizer states sharded over them.",
    "does_not_fit_uncounted": "{method}: {free:size} is free, {how}.",
    "does_not_fit_each_uncounted": "{method}: {free:size} is free on each of {devices} devices, {how} even for its share of a "
    "sharded run.",
    "no_nf4": "QLoRA cannot run here: the {bits}-bit kernels do not work on this machine.",
    "already_quantised": "{method} is out: the checkpoint is already quantised ({quantization}), so its weights stay frozen "
    "and only adapters can be trained on top, as QLoRA does.",
    "over_time_budget": "{method}: takes about {hours:hours}, more than {usable:share} of your {budget:hours}.",
    "no_disk": "{method}: needs about {needed:size} of disk for checkpoints and the result, {free:size} is free.",
    "no_disk_quite": "{method}: needs about {needed:size} of disk for checkpoints and the result, {missing:size} more than "
    "are free.",
    "no_hub_disk": "{method}: the model's {needed:size} cannot be downloaded into {free:size} of free disk.",
    "variant_no_embeddings": "{method}: the embeddings ({embeddings:short} parameters) stay frozen to save memory; "
    "everything else is trained.",
    "variant_last_layers": "{method}: only the head and the last {last_layers} layers are trained; all of them would not "
    "fit into the available memory or time.",
    "variant_adamw_8bit": "{method}: AdamW keeps its moments in {bits} bits, which saves {saving:size}.",
    "variant_bf16_weights": "{method}: fits only with the weights themselves in {precision} and {bits}-bit AdamW; small "
    "updates are then rounded away, so expect slightly worse results than with mixed precision.",
    # dominance
    "D1_qlora_saves_little": "{bits}-bit weights would save only {saving:size} here and take {least:num} to {most:num} times "
    "as long to train.",
    "D1_qlora_saves_nothing": "{bits}-bit weights would save next to nothing here and take {least:num} to {most:num} times "
    "as long to train.",
    "D1_qlora_uncounted": "{bits}-bit weights would save little memory here and take {least:num} to {most:num} times as long to "
    "train.",
    "D2_lora_fits_easily": "Even without gradient checkpointing LoRA takes {needed:size} of {free:size} (one row at a time): "
    "quantising would only cost speed.",
    "D2_lora_uncounted": "LoRA has room even without gradient checkpointing (one row at a time): quantising would only cost "
    "speed.",
    "D3_too_small_for_adapters": "The model is so small ({parameters:short} parameters) that adapters save nothing.",
    "D4_many_full_copies": "{copies} full copies are {needed:size}; adapters are {adapter:size} each and share one base.",
    # points
    "W1_small_encoder": "A small model ({parameters:short} parameters): if it fits, training all of it is simplest and "
    "usually best.",
    "W2_few_rows": "With only {unique_rows:count} rows adapters overfit less; comparing both is worth the time.",
    "W3_adapter_holds_data": "{trained_tokens:short} trained {unit} are within what adapters can hold (about "
    "{capacity_256:short}): LoRA on all linear layers should match full fine-tuning.",
    "W3_size_alone": "{trained_tokens:short} trained {unit} would fit into adapters, which can hold about "
    "{capacity_256:short}: the amount of data alone is no argument against LoRA.",
    "W4_more_than_adapter_holds": "{trained_tokens:short} trained {unit} exceed what even an adapter of rank {rank} can hold "
    "(about {capacity_256:short}).",
    "W5_like_pretraining": "This resembles pre-training, where LoRA lags clearly ({lora:share} against {full:share} on a "
    "code benchmark in one study); if you use it, choose rank {rank}.",
    "W5_without_rank": "This resembles pre-training, where LoRA lags clearly ({lora:share} against {full:share} on a "
    "code benchmark in one study).",
    "W6_forgetting": "You want to keep what the model knows: full fine-tuning changes all {parameters:short} parameters, "
    "LoRA forgets less.",
    "W7_few_rows_large_model": "{unique_rows:count} rows are too few to train all {parameters:short} parameters safely.",
    "W7_few_blocks": "{unique_rows:count} blocks of text are too few to train all {parameters:short} parameters safely.",
    "W8_slower": "{method} takes about {hours:hours} against {best:hours}.",
    "W9_several_adapters": "You want {adapters_wanted} variants of one base model: adapters can share it.",
    "W10_affordable_full": "With {parameters:short} parameters full fine-tuning is affordable too.",
    "W12_ships_in_4_bit": "It will be deployed in {bits} bits: trained on such weights, the model you score is the "
    "model you deploy.",
    "W13_tiny_writer": "Below {limit:short} parameters what adapters save in time and memory is small.",
    "W14_last_layers_only": "Full fine-tuning could train only the last layers here; adapters change all of them.",
    "W15_lora_cut_to_fit": "LoRA fits here only with rank {rank}, QLoRA with rank {wanted}: for this data that matters more "
    "than a {bits}-bit base.",
    "W15_length": "LoRA fits here only with texts cut at {length:count} tokens, QLoRA reads {whole:count}: that matters "
    "more than a {bits}-bit base.",
    "W15_rank_and_length": "LoRA fits here only with rank {rank} and texts of {length:count} tokens, QLoRA with rank "
    "{wanted} and {whole:count}: that matters more than a {bits}-bit base.",
    "W16_bf16_weights": "With its weights in {precision}, which is the only way it fits here, full fine-tuning was no better "
    "than LoRA in one comparison ({full:share} against {lora:share}).",
    # gates
    "G1_one_label": "All {rows:count} rows have the same label, so there is nothing to learn.",
    "G1_one_label_uncounted": "Every row has the same label, so there is nothing to learn.",
    "G1_mostly_empty": "{empty_rows:count} rows have no text, or nothing to learn from it; only {rows:count} can be used.",
    "G1_no_text": "None of the {rows:count} rows has any text.",
    "G2_contradictions": "{share:share} of your rows have a text that also appears with another label; no method can score "
    "above about {cap:share}.",
    "G4_too_few_examples": "With {unique_rows:count} rows, {smallest:count} of them in the smallest class, results swing by "
    "many points with the seed.",
    "G4_too_few_rows": "With {unique_rows:count} rows, results swing by many points with the seed.",
    "G5_baseline_first": "With {unique_rows:count} rows, {smallest:count} of them in the smallest class, SetFit often does "
    "better, and a linear probe on the frozen model about as well.",
    "G6_too_few_generation": "{unique_rows:count} examples are too few to tune a model that writes text.",
    "G6_too_little_raw_text": "{trained_tokens:short} tokens of raw text are too few to teach a model anything it would keep.",
    "G7_changing_facts": "Facts that change belong in retrieval; fine-tuning teaches form and behaviour.",
    "G9_cannot_write": "An encoder cannot write text, which the task ({task}) asks for.",
    "G9_decoders_only": "For this task ({task}) Loracle trains only decoders.",
    "G10_gguf": "A GGUF file is made for inference, not for training.",
    "G11_quantised": "These weights were quantised for inference ({quantization}); only plain weights, or weights quantised "
    "by bitsandbytes, can be trained.",
    "G12_answers_behind": "This model reads {reads:count} tokens, and the answers of {share:share} of the rows begin after token "
    "{length:count}: nothing would be learned from them.",
    # flip conditions
    "flip_memory": "{method}, if {needed:size} of memory were free.",
    "flip_memory_each": "{method}, if {needed:size} of memory were free on each device.",
    "flip_more_memory": "{method}, if more memory were free.",
    "flip_disk": "{method}, if {needed:size} of disk were free.",
    "flip_memory_below": "{method}, if less than {needed:size} were free.",
    "flip_memory_any": "{method}, if even a little less memory were free.",
    "flip_memory_below_each": "{method}, if less than {needed:size} were free on each device.",
    "flip_memory_below_cut": "{method}, if less than {needed:size} were free: with small micro-batches it needs less than "
    "{best}.",
    "flip_less_memory": "{method}, if less memory were free.",
    "flip_tokens_above": "{method}, with more than {tokens:short} trained tokens.",
    "flip_many_variants": "{method}, if you want several fine-tunes of one base model.",
    "flip_more_rows": "{method}, with at least {rows:count} rows and {smallest:count} of every class.",
    "flip_more_rows_only": "{method}, with at least {rows:count} rows.",
    "flip_more_of_each": "{method}, with at least {smallest:count} rows of every label.",
    "flip_clean": "{method}, once the contradicting labels are settled.",
    "flip_more_time": "{method}, if it may take {hours:hours}.",
    "flip_all_layers": "All layers trained in full, if it may take {hours:hours}.",
    "flip_not_4_bit": "{method}, if it need not ship in {bits} bits.",
    "flip_forgetting_low": "{method}, if it may forget some of what it knows.",
    "flip_one_variant": "{method}, if you want a single fine-tune.",
    "flip_behaviour": "{method}, if the rows teach how to answer and not facts that change.",
    "flip_forgetting": "{method}, if keeping what the model already knows matters a lot.",
    # the explanation's own lines
    "gates_open": "Nothing speaks against fine-tuning on this data.",
    "considered": "{method}: trains {trained:count} parameters in {precision} with {optimizer}, {checkpointing} gradient "
    "checkpointing, micro-batches of up to {token_budget:count} tokens, about {hours:hours}.",
    "memory_where": "{method}: where the memory goes: {where}.",
    "saving_checkpointing": "{method}: gradient checkpointing would save the most, about {saved:size}, and take a "
    "quarter more time.",
    "saving_half_batch": "{method}: half the token budget would save the most, about {saved:size}, and train the same.",
    "saving_half_length": "{method}: texts cut at half the length would save the most, about {saved:size}.",
    "saving_adamw_8bit": "{method}: the optimizer's states in 8 bits would save the most, about {saved:size}.",
    "saving_no_embeddings": "{method}: leaving the embeddings untrained would save the most, about {saved:size}.",
    "points_total": "Sum of the points: {points}.",
    "verdict": "{verdict} ({confidence}); runner-up: {runner_up}.",
    "verdict_not_yet": "Not yet ({confidence}); were it to run: {best}, then {runner_up}.",
    "verdict_not_yet_only": "Not yet ({confidence}); were it to run: {best}.",
    "verdict_nothing_to_run": "Not yet ({confidence}): no method can train on this as it is.",
    "verdict_does_not_fit": "Does not fit ({confidence}); closest: {best}.",
    "verdict_no_time": "Does not fit into the time allowed ({confidence}); closest: {best}.",
    # what to do instead
    "instead_more_labels": "Label more rows: aim for 100 to 500 in all, and at least {smallest:count} of every class.",
    "instead_more_numbers": "Label more rows: aim for 100 to 500 in all.",
    "instead_more_of_each": "Label more rows, at least {smallest:count} of every class.",
    "instead_write_alike": "Write alike what may be one class: {pairs}.",
    "instead_more_rare": "Label more rows of the rarest classes, at least {smallest:count} of each, or merge them with others.",
    "instead_more_rare_of_two": "Label more rows of the rarer class: at least {smallest:count}.",
    "instead_probe": "Try SetFit, or a linear probe on the frozen model, first; it takes minutes.",
    "instead_challenge": "Then let fine-tuning challenge it: `loracle compare --methods {methods}` with five seeds; keep it "
    "only if it wins by more than the noise.",
    "instead_clean": "Settle the contradicting labels first.",
    "instead_check_columns": "Check that the right text column is used, or fill in the missing texts.",
    "instead_disk": "Free up disk space: {needed:size} is needed.",
    "instead_more_classes": "Add rows of another class, or treat this as anomaly detection.",
    "instead_retrieval": "Put the facts into a search index and give the model what it finds.",
    "instead_prompt": "Write a prompt with your best examples in it and see how far that goes.",
    "instead_in_prompt": "Put the text into the prompt or a search index; or collect far more of it.",
    "instead_reads_more": "Use a model that reads more, or shorten the prompts.",
    "instead_decoder": "Use a model that generates text: a decoder, or an encoder-decoder such as T5.",
    "instead_decoder_only": "Use a decoder, such as Llama or Qwen.",
    "instead_original_weights": "Fine-tune the original weights (safetensors), and convert the result to GGUF.",
    "instead_free_device": "Close the other programs on this device (they hold {held:size}): {method} would then fit.",
    "instead_smaller_model": "Use a smaller model, or a machine with at least {needed:size} free.",
    "instead_smaller_model_of": "Use a smaller model (of about {parameters:short} parameters at most), or a machine with at "
    "least {needed:size} free.",
    "instead_smaller_model_uncounted": "Use a smaller model, or a machine with more memory.",
    "instead_more_devices": "Sharded over all {devices} devices {method} would need about {needed:size} on each: a tool that "
    "shards (FSDP, DeepSpeed) can do that.",
    "instead_more_devices_uncounted": "{method} would fit sharded over all {devices} devices: a tool that shards (FSDP, "
    "DeepSpeed) can do that.",
    "instead_original": "Use the original, unquantised weights of this model.",
    "instead_shorter": "{method} would fit with texts cut at {fitting:count} tokens instead of {length:count}.",
    "instead_nf4": "Get the {bits}-bit kernels to work here (bitsandbytes): QLoRA would fit in about {needed:size}.",
    "instead_nf4_uncounted": "Get the {bits}-bit kernels to work here (bitsandbytes): QLoRA would fit.",
    "instead_shorter_time": "Then cut the texts shorter: half of them have at most {tokens:count} tokens; the limit is "
    "{length:count} now.",
    "instead_subset": "Then use fewer rows: about {rows:count} of {all_rows:count} fit into {budget:hours} (`--train-rows "
    "{rows}`, a random sample).",
    "instead_smaller_time": "Then use a smaller model, or allow {hours:hours}.",
}

CONSTANTS: dict[str, dict[str, Any]] = {
    "no_nf4": {"bits": 4},
    "over_time_budget": {"usable": 0.8},
    "variant_adamw_8bit": {"bits": 8},
    "variant_bf16_weights": {"bits": 8},
    "D1_qlora_saves_little": {"bits": 4},
    "D1_qlora_saves_nothing": {"bits": 4},
    "D1_qlora_uncounted": {"bits": 4},
    "W4_more_than_adapter_holds": {"rank": 256},
    "W5_like_pretraining": {"lora": 0.175, "full": 0.263},
    "W5_without_rank": {"lora": 0.175, "full": 0.263},
    "W12_ships_in_4_bit": {"bits": 4},
    "W15_lora_cut_to_fit": {"bits": 16},
    "W15_length": {"bits": 16},
    "W15_rank_and_length": {"bits": 16},
    "W16_bf16_weights": {"precision": "bf16", "full": 0.472, "lora": 0.478},
    "rare_class": {"least": 16},
    "rare_classes": {"least": 16},
    "nf4_untried": {"bits": 4},
    "experts_stay_whole": {"bits": 4},
    "W13_tiny_writer": {"limit": 600_000_000},
    "instead_nf4": {"bits": 4},
    "instead_nf4_uncounted": {"bits": 4},
    "many_epochs_writing": {"least": 1, "most": 4},
    "score_in_4_bit": {"bits": 4},
    "flip_not_4_bit": {"bits": 4},
    "check_forgetting": {"rise": 0.05},
    "long_warmup": {"least": 0.03, "most": 0.10},
    "one_step": {"wanted": 100},
    "one_step_given": {"wanted": 100},
    "few_steps": {"wanted": 100},
    "few_steps_given": {"wanted": 100},
    "large_batch_lora": {"clearly": 128},
    "attention_only": {"all_targets": "all linear"},
    "padded_to_maximum": {"few": 0.05},
}
"""Figures of a sentence that never change."""
