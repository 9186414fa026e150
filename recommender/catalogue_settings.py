"""The sentences that say why each setting is what it is, by code. Codes begin with `S_`."""

SETTINGS: dict[str, str] = {
    "S_learning_rate": "Learning rate {value:num}: {low:num} to {high:num} is the range that holds up for {method} of "
    "{what} with {parameters:short} parameters. It matters more than method, rank or variant.",
    "S_learning_rate_short": "Learning rate {value:num}: {usual:num} is usual for {method} of {what} with {parameters:short} "
    "parameters, times {times:num} because the run has only {total_steps} steps.",
    "S_schedule_linear": "The rate falls linearly to zero, as models of this kind are usually trained.",
    "S_schedule_cosine": "The rate falls along a cosine to zero, as large models are usually trained.",
    "S_warmup": "Warm-up over {warmup_steps:count} of {total_steps:count} steps, {share:share}: a share of the run, never a "
    "bare number of steps.",
    "S_warmup_none": "No warm-up: the run has only {total_steps} steps.",
    "S_epochs": "{epochs:num} passes over {unique_rows:count} rows: the fewer the rows, the more passes; the best checkpoint "
    "is kept.",
    "S_epochs_adapters": "{epochs:num} passes over {unique_rows:count} rows: adapters on an encoder want two to three times "
    "as many as full fine-tuning.",
    "S_epochs_writes": "{epochs:num} passes over {unique_rows:count} rows: beyond that, tuning of this kind gains little and "
    "the model starts to recite.",
    "S_epochs_one": "One pass over {unique_rows:count} rows: with so many, a second gains little.",
    "S_epochs_text": "One pass: repeating the same text makes a model recite it.",
    "S_epochs_text_few": "{epochs:num} passes: one over so little text is {once:count} steps, and up to four did no harm where "
    "it was tried.",
    "S_epochs_pairs": "One pass: preferences are learned in the first; more only drives the model away from what it was.",
    "S_effective_batch": "{effective_batch} rows per step, the usual batch for a model and a data set of this size "
    "({rows:count} training rows).",
    "S_effective_batch_small": "{effective_batch} rows per step, fewer than the usual {usual}, so that the run has "
    "{total_steps} steps to learn in.",
    "S_effective_batch_tokens": "{effective_batch} blocks a step are {tokens:short} tokens: continued pre-training wants "
    "large batches.",
    "S_effective_batch_lora": "{effective_batch} rows per step: LoRA does worse with larger batches, whatever its rank.",
    "S_rank_capacity": "Rank {rank} holds about {capacity:short} tokens' worth of information; you have {trained_tokens:short}.",
    "S_rank_least": "Rank {rank}, the smallest worth using for this model; it could hold about {capacity:short} trained "
    "{unit} and you have {trained_tokens:short}.",
    "S_rank_largest": "Rank {rank}: small ranks lag most on raw text, code and large amounts of text from a new field.",
    "S_rank_memory": "Rank {rank} instead of {wanted}: more did not fit in memory.",
    "S_rank_short_of": "Rank {rank} holds about {capacity:short} of your {trained_tokens:short} trained {unit}; more than "
    "that it cannot learn.",
    "S_alpha_fixed": "Alpha {alpha} at every rank, so that the best learning rate does not depend on the rank.",
    "S_alpha_double": "Alpha {alpha}, twice the rank, as published for encoders. It acts like a learning rate: if you "
    "change one, adjust the other.",
    "S_targets": "Adapters on all linear layers: on attention alone they learn less at the same size.",
    "S_dropout": "LoRA dropout {dropout:num}: {unique_rows:count} rows and {parameters:short} parameters leave room to overfit.",
    "S_dropout_none": "No LoRA dropout: it did not help at this size of model and data.",
    "S_dropout_none_experts": "No LoRA dropout: the {experts} experts of a layer are stored as one weight, and adapters on "
    "such a weight do not support it.",
    "S_dropout_none_small": "No LoRA dropout: below {limit:short} parameters a model has little to spare.",
    "S_dropout_none_text": "No LoRA dropout: one pass over raw text leaves little room to overfit.",
    "S_adapters_fp32": "Adapters, their gradients and moments in fp32: in bf16 they would take {saved:size} less, and lose the "
    "small updates at the end of a run.",
    "S_adapters_bf16": "Adapters, their gradients and moments in bf16: {saved:size} less than in fp32, and small updates are "
    "rounded away.",
    "S_weight_decay": "Weight decay {weight_decay:num}: conventional; it hardly matters here, and is no substitute "
    "for early stopping.",
    "S_early_stopping": "Scored {evaluations} times on {validation_rows:count} validation rows, stopped after {patience} "
    "scores without a better one; the best checkpoint is kept.",
    "S_no_early_stopping": "No early stopping: {validation_rows} validation rows are too few to tell better from worse.",
    "S_no_validation": "No early stopping: nothing can be held back to score on.",
    "S_length_longest": "Length {max_length:count}: no text is longer than {tokens:count} tokens.",
    "S_length_p95": "Length {max_length:count}: {share:share} of the texts have at most {tokens:count} tokens.",
    "S_length_model": "Length {max_length:count}: the most this model reads, although {share:share} of the texts have "
    "up to {tokens:count}.",
    "S_length_blocks": "Raw text is cut into blocks of {max_length:count} tokens, and nothing is lost.",
    "S_length_unknown": "Length {max_length:count}, because no text was measured.",
    "S_length_memory": "Length {max_length:count}: {share:share} of the texts have at most {tokens:count} tokens; more did not "
    "fit in memory.",
    "S_split": "{train:count} rows train, {validation:count} choose the checkpoint, {held_out:count} are scored only before "
    "and after.",
    "S_split_brought": "{train:count} rows train, {validation:count} choose the checkpoint; your {held_out:count} held-out "
    "rows are scored only before and after.",
    "S_folds": "{unique_rows:count} rows are too few for one split: a reliable result is the mean of {folds} folds.",
    "S_seeds": "Compare {seeds} seeds: on {unique_rows:count} rows the seed can matter as much as the method. Report mean "
    "and spread.",
    "S_seeds_one": "One seed is enough with {unique_rows:count} rows.",
    "S_seeds_text": "Compare {seeds} seeds: on {unique_rows:count} blocks of text the seed can matter as much as the method. "
    "Report mean and spread.",
    "S_seeds_one_text": "One seed is enough with {unique_rows:count} blocks of text.",
    "S_class_weights": "Rare classes get more weight in the loss: the largest class has {most:count} rows, the smallest "
    "{least:count}.",
    "S_no_class_weights": "No class weights: the classes are even enough.",
    "S_metric_macro_f1": "Judged by macro-F1, which counts every class alike.",
    "S_metric_micro_f1": "Judged by micro-F1, which counts every label of every row alike.",
    "S_metric_span_f1": "Judged by F1 over whole spans: one is found only with its exact words and its type.",
    "S_metric_loss": "Judged by the loss on rows it has not seen; for text, read fifty to two hundred answers as well: the "
    "loss need not track quality.",
    "S_metric_raw_text": "Judged by the loss on text it has not seen.",
    "S_metric_number": "Judged by the squared error on rows it has not seen.",
    "S_label_smoothing": "Label smoothing {label_smoothing:num}, because {share:share} of the rows contradict each other.",
    "S_neftune_off": "NEFTune noise is off; for open-ended chat it may please judges more, at the cost of longer answers.",
    "S_clipping": "Gradients are clipped at {max_grad_norm:num}.",
    "S_precision_bf16": "Weights in fp32, products in bf16: as stable as fp32 and faster.",
    "S_precision_bf16_adapters": "The frozen base in bf16, the adapters in fp32.",
    "S_precision_fp16": "Products in fp16 with fp32 weights, because the device has no bf16; never pure fp16, which ends in NaN.",
    "S_precision_fp16_adapters": "The frozen base in fp16, because the device has no bf16; the adapters in fp32, with scaled "
    "losses.",
    "S_precision_fp32": "Everything in fp32: half precision is not safe or not faster here.",
    "S_precision_fp32_could_be_bf16": "Everything in fp32. This processor multiplies bf16 in hardware, but whether that pays for "
    "this step was not tried.",
    "S_precision_bf16_tried": "Weights in fp32, products in bf16: {speedup} times as fast as fp32 in a trial of this step on "
    "this processor, with a loss that differs by {apart:share}.",
    "S_precision_bf16_adapters_tried": "The frozen base in bf16, the adapters in fp32: {speedup} times as fast as fp32 in a "
    "trial of this step on this processor, with a loss that differs by {apart:share}.",
    "S_precision_fp32_bf16_slower": "Everything in fp32: in a trial of this step on this processor bf16 was only {speedup} "
    "times as fast, too little for its rounding.",
    "S_precision_fp32_bf16_wrong": "Everything in fp32: in a trial of this step on this processor bf16 did not compute what fp32 "
    "does.",
    "S_precision_pure_bf16": "Weights and products in bf16: full fine-tuning fits no other way.",
    "S_checkpointing": "Gradient checkpointing saves memory for about {more:share} more time.",
    "S_no_checkpointing": "No gradient checkpointing: it fits without.",
    "S_optimizer_adamw": "AdamW with bias correction, which small data needs; fused: one pass over memory a step.",
    "S_optimizer_usual": "AdamW with bias correction, the usual choice; fused: one pass over memory a step.",
    "S_optimizer_8bit": "AdamW with {bits}-bit moments, to save memory.",
    "S_token_budget": "Micro-batches of up to {token_budget:count} tokens decide speed and memory, not what a step learns from.",
    "S_padding_none": "No padding: rows lie end to end and attention is computed for each alone, provided that a trial on a "
    "few rows before the first step gives the same results.",
    "S_padding_by_length": "Rows of similar length are padded together: an encoder-decoder reads with one half and writes "
    "with the other.",
    "S_allocator_cpu": "Freed memory stays in the worker (glibc's malloc on Linux): {times} times as fast, in a tenth "
    "less memory, where Loracle's authors measured it, on long rows.",
    "S_allocator_gpu": "The GPU's memory grows in expandable segments, because micro-batches vary in size.",
    "S_products_cpu": "Matrix products in fp32 by oneDNN where a short measurement finds it faster on this processor than "
    "torch's usual library.",
    "S_compile": "Layers compiled (torch.compile): saves about {saved:hours} of this run and costs about {cost:hours}, "
    "judging by measurements on another machine ({share:share} of a step); what it keeps in memory is not counted.",
    "S_compile_own": "Layers compiled (torch.compile), as you wish; what it keeps in memory is not counted.",
    "S_compile_off": "No torch.compile, as you wish: it would save about {saved:hours} of this run and cost about {cost:hours}.",
    "S_compile_short": "No torch.compile: it would save about {saved:hours} of this run and cost about {cost:hours}, "
    "judging by measurements on another machine ({share:share} of a step).",
    "S_compile_useless": "No torch.compile: it saved no time on such a step where it was measured, on another machine.",
    "S_compile_unmeasured": "No torch.compile: whether it pays for such a step was not measured; `compile: true` tries it.",
    "S_compile_no_room": "No torch.compile: it would pay, but what it keeps in memory is not counted, and there is little room.",
    "S_kernels_liger": "Liger's kernels for norms, rotary positions and gated MLPs, once a batch agrees with torch's own; "
    "the memory they save is not counted.",
    "S_kernels_asked": "Liger's kernels, as you wish, where they apply and a batch agrees with torch's own.",
    "S_kernels_own": "torch's own kernels, as you wish: Liger's are installed.",
    "S_kernels_no_gpu": "torch's own kernels: Liger's need an NVIDIA GPU.",
    "S_kernels_missing": "torch's own kernels: Liger's are not installed; `pip install 'loracle[liger]'` adds them.",
    "S_kernels_model": "torch's own kernels: Loracle does not use Liger's for models of this kind ({model_type}).",
}
