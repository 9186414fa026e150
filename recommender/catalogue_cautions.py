"""The sentences of warnings and lints, by code: what a person should know of data, machine and settings."""

CAUTIONS: dict[str, str] = {
    # warnings
    "contradictions": "{share:share} of your rows have a text that also appears with another label; no method can score "
    "above about {cap:share}.",
    "several_numbers": "{share:share} of the rows have a text that also appears with another number: only the mean can be "
    "learned. If several people rated each text, one row per text with the mean of their ratings is as good and trains "
    "faster.",
    "duplicates": "{rows:count} rows ({share:share}) repeat another one and are left out: {left:count} are left.",
    "duplicates_one": "One row ({share:share}) repeats another one and is left out: {left:count} are left.",
    "duplicates_and_near": "{rows:count} rows ({share:share}) repeat another one and are left out.",
    "duplicates_and_near_one": "One row ({share:share}) repeats another one and is left out.",
    "near_duplicates": "{share:share} of the rows differ only a little from an earlier one. Where more than punctuation "
    "differs they may be on both sides of the split, and the score too good for it: hold out rows that are really new with "
    "--eval. {unique_rows:count} rows say something new.",
    "near_duplicates_apart": "{share:share} of the rows differ only a little from an earlier one: {unique_rows:count} "
    "rows say something new.",
    "near_overlap": "{share:share} of the held-out rows differ only a little from a training row: the score also tells how well "
    "these are remembered. Hold out rows that are really new.",
    "shared": "{share:share} of the rows share their question, or their first message or text, with others. They are kept "
    "on the same side of every split, or the score would be too good.",
    "grouped": "The rows are of {groups:count} groups, each on one side of every split. Intervals draw whole groups.",
    "ungrouped": "{rows:count} rows name no group: each stands alone.",
    "ungrouped_one": "One row names no group: it stands alone.",
    "group_overlap": "{share:share} of the held-out rows are of groups that are trained on, too: for new groups the score is too "
    "good.",
    "group": "{share:share} of the rows share their {column} with others. If the model will meet new ones, such rows must stay "
    "together, or the score will be too good: --column group={column}.",
    "group_seen": "{share:share} of the held-out rows share their {column} with training rows. If the model will meet new ones, "
    "the score will be too good: hold out rows of others.",
    "overlap": "{share:share} of the held-out rows are also in the training data, punctuation aside. They are left out of "
    "training, or the score would be too good.",
    "leak": "Column {column} seems to give the label away: keep it out of the text.",
    "leak_in_text": "Words like {word} in column {column} seem to give the label away: a model would learn them alone.",
    "outliers": "{share:share} of the numbers in column {column} lie far from all others. The loss squares errors, so these "
    "few dominate the training: check them, clip them, or learn their logarithm.",
    "rivals": "That {column} is the label is a guess: {others} could be it too (--label-column).",
    "other_texts": "Only column {column} is read; there is text in {others}, too. --text-column names the one to read, or "
    "several that belong together: '{names}'.",
    "unread_texts": "Neither read nor learned, though they hold text: {others}. Move what belongs to the answer, such as "
    "its reasoning, into the answer's column, and what belongs to the question into the question's.",
    "ordered": "The labels in column {column} are ordered grades: --task regression uses their order, classification ignores it.",
    "spoken": "Column {column} holds conversations as plain text: as raw text their questions are learned too; as rows of "
    "messages only the answers are.",
    "unknown_tokens": "{share:share} of the tokens are unknown to this model's tokenizer, which cannot tell them apart. Use "
    "a model made for this language or script.",
    "nothing_held_out": "These are too few texts to hold any out: no score will say whether training helped. Add held-out "
    "text, or split the text into several files, such as chapters.",
    "small_held_out": "Scores on your {rows:count} held-out rows are accurate to about {points:num} points either way near 90%, "
    "and to {most:num} near 50%; smaller differences are noise.",
    "small_held_out_groups": "Scores on your {rows:count} held-out rows are accurate to {points:num} points at best near 90%, "
    "and to {most:num} near 50%: rows of one group may be alike.",
    "single_held_out": "A single held-out row says nothing about the result.",
    "imbalanced": "The largest class holds {share:share} of the rows: judged by macro-F1 and trained with class weights; "
    "choose the threshold on validation rows.",
    "imbalanced_classes": "The largest class holds {share:share} of the rows: judged by macro-F1 and trained with class weights.",
    "imbalanced_labels": "The most frequent label has {most:count} rows, the rarest {least:count}: rare labels get more weight.",
    "rare_positive": "The rare class holds {share:share} of the rows: look at precision and recall (PR-AUC), accuracy says "
    "nothing; if recall stays low, oversample it.",
    "rare_class": "One class has fewer than {least} rows ({names}): its score will be chance. Merge it with another, or label "
    "more.",
    "rare_classes": "{classes} classes have fewer than {least} rows ({names}): their scores will be chance. Merge them, or label "
    "more.",
    "alike_classes": "Some classes may be one, written in two ways: {pairs}. Write them alike if they are.",
    "absent_class": "A named class has no row at all and cannot be learned.",
    "absent_classes": "{classes} named classes have no row at all and cannot be learned.",
    "few_examples": "{rows:count} examples are enough to see whether tuning helps; a prompt with the best of them costs "
    "nothing: compare both.",
    "preference_on_base": "Preferences sharpen a model that already follows instructions; this is a base model: fine-tune it "
    "on instructions first.",
    "raw_text_on_instruct": "Training on raw text weakens how an instruct model answers: use the base model, or tune on "
    "instructions again afterwards.",
    "no_chat_template": "The model has no chat template: a plain one is used, and saved with the result.",
    "truncated": "{rows:count} rows ({share:share}) are longer than {length:count} tokens and are cut there: {tokens:count} "
    "tokens are lost.",
    "truncated_one": "One row ({share:share}) is longer than {length:count} tokens and is cut there: {tokens:count} tokens are "
    "lost.",
    "truncated_unread": "{rows:count} rows ({share:share}) are longer than the {length:count} tokens that this model reads and "
    "are cut there: {tokens:count} tokens are lost. Split long texts, or use a model that reads more.",
    "truncated_unread_one": "One row ({share:share}) is longer than the {length:count} tokens that this model reads and is cut "
    "there: {tokens:count} tokens are lost. Split long texts, or use a model that reads more.",
    "untrained": "The answers of {rows:count} rows ({share:share}) begin after token {length:count}: nothing is learned "
    "from them. Above a tenth the run refuses to start; raise max_length if the model reads more, or shorten the prompts.",
    "untrained_one": "The answer of one row ({share:share}) begins after token {length:count}: nothing is learned from it. "
    "Above a tenth the run refuses to start; raise max_length if the model reads more, or shorten the prompt.",
    "left_out": "{rows:count} rows have nothing to read, or nothing to learn, and are left out.",
    "left_out_one": "One row has nothing to read, or nothing to learn, and is left out.",
    "unasked": "{rows:count} conversations begin with the assistant: what it says before the first question is left out.",
    "unasked_one": "One conversation begins with the assistant: what it says before the first question is left out.",
    "unwritten_calls": "{rows:count} rows call tools, which this model's chat template leaves out: nothing is learned from "
    "those answers. Use a model whose template supports tools.",
    "unwritten_calls_one": "One row calls tools, which this model's chat template leaves out: nothing is learned from those "
    "answers. Use a model whose template supports tools.",
    "unwritten_calls_only": "{rows:count} rows call tools, which this model's chat template leaves out: nothing is learned "
    "from those answers, and nothing at all from {only:count} of the rows. Above a tenth the run refuses to start; use a "
    "model whose template supports tools.",
    "unwritten_thoughts": "{rows:count} rows hold reasoning (reasoning_content) that this model's chat template leaves out: "
    "the answers are learned without it. Write it into the answers (<think>...</think>), or use a reasoning model.",
    "unwritten_thoughts_one": "One row holds reasoning (reasoning_content) that this model's chat template leaves out: the "
    "answer is learned without it. Write it into the answer (<think>...</think>), or use a reasoning model.",
    "spoken_thoughts": "{rows:count} rows hold reasoning (<think>...</think>) in the text of answers, of which this model's chat "
    "template knows nothing: it is learned as a part of what is said. A template that has a place of its own for reasoning "
    "(gpt-oss, Gemma 4) takes it from a field, reasoning_content.",
    "spoken_thoughts_one": "One row holds reasoning (<think>...</think>) in the text of an answer, of which this model's chat "
    "template knows nothing: it is learned as a part of what is said. A template that has a place of its own for reasoning "
    "(gpt-oss, Gemma 4) takes it from a field, reasoning_content.",
    "thoughtless": "{rows:count} rows have answers without reasoning, and this model reasons before it answers: it learns to do "
    "without. To keep that, add rows that hold some, such as the model's own answers to other questions.",
    "thoughtless_one": "One row has an answer without reasoning, and this model reasons before it answers: it learns to do "
    "without. To keep that, add rows that hold some, such as the model's own answers to other questions.",
    "unlearned": "{answers:count} answers of weight 0 (or train: false) are read, not learned.",
    "unlearned_one": "One answer of weight 0 (or train: false) is read, not learned.",
    "shortened": "Texts are cut at {length:count} tokens to fit in memory; about {share:share} are longer, one in a hundred "
    "longer than {tokens:count}.",
    "long_texts": "About {share:share} of the texts are longer than the {reads:count} tokens that this model reads, one in "
    "a hundred longer than {tokens:count}: the rest is cut. Split long texts, or use a model that reads more.",
    "long_texts_half": "At least {share:share} of the texts are longer than the {reads:count} tokens that this model reads, "
    "one in a hundred longer than {tokens:count}: the rest is cut. Split long texts, or use a model that reads more.",
    "long_documents": "Many texts are longer than the {reads:count} tokens that this model reads (one in twenty has more "
    "than {tokens:count}). Try in this order, and compare on validation rows: keep the head and tail of each text, cut it "
    "into chunks and pool their scores, use a long-context encoder.",
    "long_documents_half": "Half of the texts have more than {tokens:count} tokens, and this model reads {reads:count}. Try "
    "in this order, and compare on validation rows: keep the head and tail of each text, cut it into chunks and pool their "
    "scores, use a long-context encoder.",
    "long_documents_read_long": "Many texts are longer than the {reads:count} tokens that this model reads (one in twenty "
    "has more than {tokens:count}). Keep the head and tail of each text, or cut it into chunks and pool their scores; "
    "compare on validation rows.",
    "machine_problem": "On this machine: {problem}",
    "unused_devices": "This machine has {present} devices; a run of Loracle uses {used}.",
    "device_left_out": "{used} of {usable} devices are used; the others have too little free memory to help.",
    "sharded": "{method} is planned sharded over {devices} devices: weights and optimizer states are divided among them (FSDP).",
    "busy_device": "Other programs hold {held:size} of this device's {total:size}; closing them would leave more room.",
    "fp16_hostile": "This family of models overflows in half precision and the device has no bf16: trained in {precision}, "
    "which takes twice the memory.",
    "experts_stay_whole": "{bits}-bit loading leaves this mixture's experts ({experts:short} parameters) as they are: QLoRA "
    "saves little here.",
    "nf4_untried": "The {bits}-bit kernels have not been tried on this machine; a trial runs before training.",
    "slow": "This would take about {hours:hours} here. Before waiting that long: shorter texts (max_length), fewer rows "
    "(--train-rows, --eval-rows), a smaller model, or a rented GPU.",
    "slow_device": "This would take about {hours:hours} here. Before waiting that long: shorter texts (max_length), fewer rows "
    "(--train-rows, --eval-rows), a smaller model, or more and faster devices.",
    "slow_method": "This would take about {hours:hours} here. {method} takes about {sooner:hours}: --hours {night:num} chooses "
    "it. Fewer rows (--train-rows), shorter texts (max_length) or a smaller model help too.",
    "slow_last_layers": "This would take about {hours:hours} here. Training the last layers only takes about {sooner:hours}: "
    "--hours {night:num} chooses that. Fewer rows (--train-rows), shorter texts (max_length) or a smaller model help too.",
    "slow_rows": "This would take about {hours:hours} here. Try about {fewer:count} of the {all_rows:count} rows first "
    "(--train-rows {fewer}, a random sample): they fit into {night:num} hours. Shorter texts (max_length), a smaller model or a "
    "faster machine help too.",
    "slow_raw_text": "This would take about {hours:hours} here. Before waiting that long: only the best part of the text, a "
    "smaller model, or more and faster devices.",
    "sequential_adapters": "{updates} updates, one after another: merging each adapter degrades the base. Train each new "
    "adapter from the original base, on old and new rows together.",
    "sequential_full": "{updates} updates, one after another: mix old rows into each, or the model forgets what came before.",
    "score_in_4_bit": "It will be deployed in {bits} bits but is trained in more: quantise the result and score "
    "that before you trust it.",
    "check_forgetting": "To see what is forgotten, compare the loss on a few hundred general texts before and after; a rise "
    "of more than {rise:share} is a warning.",
    "pilot": "{leader} and {second} are close ({margin:num} points apart): `loracle pilot` tries both and goes on with the "
    "winner.",
    "brought_method": "You chose {brought}; the facts speak for {method}.",
    "assumed": "Unknown, so assumed: {names}.",
    # lints
    "warmup_longer_than_run": "The warm-up ({warmup_steps} steps) is longer than the whole run ({total_steps} steps): the "
    "learning rate never reaches its value, ends at {reached:share} of it and never decays.",
    "long_warmup": "The warm-up takes {share:share} of the run; {least:share} to {most:share} is usual.",
    "one_step": "Only one optimizer step; aim for {wanted} or more: lower the effective batch or add epochs.",
    "one_step_given": "Only one optimizer step; aim for {wanted} or more.",
    "few_steps": "Only {total_steps} optimizer steps; aim for {wanted} or more: lower the effective batch or add epochs.",
    "few_steps_given": "Only {total_steps} optimizer steps; aim for {wanted} or more.",
    "rows_unseen": "{total_steps:count} steps of {effective_batch} rows see {seen:count} of your {rows:count} rows; one pass "
    "takes {needed:count} steps.",
    "many_epochs": "{epochs:num} epochs without early stopping overfit.",
    "many_epochs_writing": "{epochs:num} epochs without early stopping overfit a model that writes; {least} to {most} are usual.",
    "low_lora_rate": "A learning rate of {learning_rate:num} is far too low for LoRA; {suggested:num} is usual here.",
    "high_full_rate": "A learning rate of {learning_rate:num} is high for full fine-tuning; {suggested:num} is usual here.",
    "high_lora_rate": "A learning rate of {learning_rate:num} makes LoRA diverge; {suggested:num} is usual here.",
    "high_lora_rate_for_size": "A learning rate of {learning_rate:num} is far too high for LoRA on a model of this size; "
    "{suggested:num} is usual here.",
    "high_lora_rate_alpha": "A learning rate of {learning_rate:num} with alpha {alpha} acts like {acts:num} and makes LoRA "
    "diverge; {suggested:num} with alpha {usual} is usual here.",
    "high_preference_rate": "A learning rate of {learning_rate:num} breaks a model trained on preferences; {suggested:num} "
    "is usual here.",
    "alpha_without_rate": "Alpha acts like a learning rate: {alpha} is {times:num} times what a rate of {learning_rate:num} "
    "is meant for; divide the rate by up to as much, or use alpha {usual}.",
    "alpha_without_rate_low": "Alpha acts like a learning rate: {alpha} is {times:num} times what a rate of "
    "{learning_rate:num} is meant for, so the adapters hardly move; use alpha {usual}.",
    "eight_bits_on_cpu": "8-bit AdamW saves memory on NVIDIA and AMD cards; on a CPU it takes more than plain AdamW.",
    "rslora": "With rsLoRA and alpha {alpha} adapters weigh {times:num} times as much as usual, so a learning rate of "
    "{learning_rate:num} acts like {acts:num}; use alpha {usual}, or a rate lower by as much.",
    "large_batch_lora": "LoRA falls behind full fine-tuning with batches above {clearly}, whatever its rank; yours is "
    "{effective_batch}.",
    "attention_only": "LoRA on attention alone is the weak choice: {all_targets} layers learn more at the same size.",
    "pure_fp16": "Pure fp16 ends in NaN: use bf16, or fp16 mixed with fp32 weights.",
    "fp16_where_bf16_works": "Mixed fp16 needs loss scaling and can overflow; this device has bf16, which does not.",
    "fp16_overflows": "This family of models overflows in fp16, mixed or not: use bf16 or fp32.",
    "accuracy_on_skewed": "Accuracy says little when the largest class holds {share:share} of the rows; macro-F1 is better.",
    "padded_to_maximum": "Padding every row to {length} tokens wastes most of the work: {few:share} of the texts have more "
    "than {tokens:count}. Pad to the longest of a batch.",
    "truncates": "At {length:count} tokens about {share:share} of the rows are cut.",
    "truncates_half": "At {length:count} tokens about {share:share} of the rows or more are cut.",
    "longer_than_model": "{length} tokens are more than the {reads} this model reads.",
    "without_effect": "{setting} changes nothing: the loss of this task ({task}) does not use it.",
    "without_effect_in_full": "{setting}: without effect, because full fine-tuning has no adapters.",
    "one_seed": "One seed on {unique_rows:count} rows can mislead by several points: compare {seeds} and report mean and spread.",
    "compile_short": "torch.compile would save about {saved:hours} of this run and cost about {cost:hours}: leave it off.",
    "compile_useless": "torch.compile saved no time on a step of this kind where it was measured: leave it off.",
    "compile_unmeasured": "Whether torch.compile pays for a step of this kind was not measured: compare the seconds of a step. "
    "What it keeps in memory is not counted; the estimate's interval is only made wider.",
    "liger_no_gpu": "Liger's kernels need an NVIDIA GPU: torch's own are used instead.",
    "liger_missing": "Liger's kernels are not installed (`pip install 'loracle[liger]'`): torch's own are used instead.",
    "liger_model": "Loracle does not choose Liger's kernels for models of this kind: they are used only if Liger supports "
    "it and a batch agrees with torch's own.",
    "no_bias_correction": "Adam without bias correction makes small-data fine-tuning unstable: switch it on.",
    "untrained_head": "The classifier head starts from random weights and must be trained beside the adapters (modules_to_save).",
}
