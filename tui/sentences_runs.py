"""What is wrong with runs, and what their reports say, as the engine writes it, what varies in braces."""

from recommender.language import marked

SENTENCES: tuple[str, ...] = (
    marked("{file}: is damaged; what could be read is shown above."),
    marked("{path}: the disk is full; free some space, or set HF_HOME, and try again."),
    marked("{path}: hub model {name} takes {needed} of disk and {free} is free. Free some space, or set HF_HOME."),
    marked("{path}: the run needs about {needed} of disk and {free} is free. Free some space, or use --runs."),
    marked(
        "{path}: checkpoints ({most} of {each} at most) and the result need {needed} of disk, and {free} is free. Free some "
        "space, or take another folder with --runs; LoRA saves less."
    ),
    marked(
        "{path}: the next checkpoint needs about {needed} and {free} is free; earlier checkpoints are intact: free some "
        "disk space, then `loracle resume`."
    ),
    marked(
        "{path}: {what} could not be written ({why}; {free} of disk is free); earlier checkpoints are intact: free some "
        "disk space, then `loracle resume`."
    ),
    marked("The disk of {path} was full while {doing}; what was saved before is intact."),
    marked("{path}: runs cannot be written here ({why}); choose another folder with --runs."),
    marked("No process can be started here ({why}). Close other programs and try again."),
    marked("Memory ran out while the checkpoint of step {step} was written; what was saved before is intact."),
    marked("Memory ran out while {doing}."),
    marked("Memory ran out while {doing}; a new process goes on, which holds nothing of what came before."),
    marked("torch cannot use the GPU ({why})."),
    marked(
        "See what `nvidia-smi` says; a restart of the machine often helps. With `CUDA_VISIBLE_DEVICES=-1` in the environment"
        " Loracle plans for the processor."
    ),
    marked("The GPU failed while {doing} ({why}), and this process can compute nothing more."),
    marked("The GPU failed in a step with {what}: {why}."),
    marked("`--set {setting}` does without."),
    marked("If it comes again, see what `nvidia-smi` says, and restart the machine."),
    marked("the model was loaded"),
    marked("the texts were tokenized"),
    marked("the optimizer took a step"),
    marked("the best weights were loaded"),
    marked("the result was saved"),
    marked("the held-out rows were scored"),
    marked("the result was scored"),
    marked("the longest rows were tried"),
    marked("answers were written"),
    marked("the validation rows were scored"),
    marked("the report was written"),
    marked("the run was at work"),
    marked("Free some disk space."),
    marked(
        "{path}: its report could not be written ({why}); its runs are intact: free some disk space, then `loracle "
        "resume {name}`."
    ),
    marked("There is not enough memory for even one row of {longest} tokens."),
    marked("Tried before the first step: {problem}"),
    marked("memory cannot hold the optimizer's states."),
    marked("Saving the result takes {needed} of main memory for a moment, and {free} is free."),
    marked("Close other programs."),
    marked(
        "Close other programs, lower max_length (it is {length}), set optimizer to adamw_8bit, or choose LoRA or QLoRA; or "
        "take a smaller model."
    ),
    marked("Close other programs, lower max_length (it is {length}), or choose LoRA or QLoRA; or take a smaller model."),
    marked("Close other programs, lower max_length (it is {length}), or choose QLoRA; or take a smaller model."),
    marked("Close other programs, or lower max_length (it is {length}); or take a smaller model."),
    marked(
        "Memory ran out; micro-batches now hold {after} tokens instead of {before}. Each step still learns from the same rows."
    ),
    marked("Without {what}: {why}. The steps are slower; the result does not change."),
    marked("Without torch.compile: what it makes multiplies by MKL, and on this processor oneDNN is faster."),
    marked("Memory ran out for one row alone; gradient checkpointing is on now: slower. The result does not change."),
    marked(
        "The adapter fits; merging it into its base would need {needed} of main memory ({free} is free) and {merged} of "
        "disk ({disk} will be). Use it as an adapter, or merge it elsewhere."
    ),
    marked("The {what} is no longer a number at step {step}."),
    marked("loss"),
    marked("gradient"),
    marked("validation loss"),
    marked(
        "The validation loss after step {step} is not a number: some rows make the model overflow, or its weights are ruined."
    ),
    marked("Its checkpoint is never kept as the best."),
    marked('The loss of {count} of its rows is not a number even alone; the first of these begins "{text}".'),
    marked(
        "Of {count} rows tried before the first step, among the longest, the loss of {wrong} is not a number; the first of these"
        ' begins "{text}".'
    ),
    marked("`--set precision=fp32` may help too."),
    marked("Leave such rows out, or download the model again: its weights for one of their words may be damaged."),
    marked("Lower learning_rate."),
    marked("Most likely learning_rate is too high (it is {rate})."),
    marked("Weights or data are damaged, or the precision is too narrow for this model."),
    marked("Most likely its weights are damaged or far too large."),
    marked("The loss diverges: {loss} over the last {steps} steps, and {first} before any training."),
    marked("The loss was down to {lowest} and is back at {loss}, where it began ({first})."),
    marked("After {step} steps the loss has not fallen ({loss}; {first} at first)."),
    marked("Either learning_rate ({rate}) is too high or far too low, or the answers do not follow from the texts."),
    marked("`loracle pilot` tries several rates on a slice."),
    marked("The batch of step {step} teaches nothing: its loss and its gradient are zero."),
    marked("The batch of step {step} teaches nothing: its loss and its gradient are zero, for {steps} steps now."),
    marked("Most likely all its labels are masked, or every answer is cut off."),
    marked("Most likely the model is already certain about these rows: its own head was trained on such rows."),
    marked("Look at its scores before training; use it as it is, or add rows that it does not know."),
    marked("Look at what is learned with `loracle inspect data --tokens 3`; raise max_length, or give the right columns."),
    marked("The loss has been zero for {steps} steps."),
    marked("It was zero from the start: the text gives the label away, or all rows have the same label."),
    marked("The model has memorised the training rows; more steps teach it nothing."),
    marked("Look for a label inside the text with `loracle inspect data`."),
    marked("Use fewer epochs."),
    marked("fp16 has skipped {steps} steps in a row because the gradient overflows: the model does not train in fp16."),
    marked("bf16-mixed is as fast, if the GPU has it."),
    marked(
        "learning_rate {rate} changes every weight by about that much at each step, and weights are about 0.05: nothing of "
        "the model would be left."
    ),
    marked("Fewer epochs are enough; more rows, or more varied ones, would help."),
    marked("`--set {setting}` would be a safer choice."),
    marked("`loracle run {plan} --set {setting}` starts over with a safer setting."),
    marked("The best weights so far, of step {step}, are kept in {folder}."),
    marked("The model's outputs are not numbers {when}, or too large for the plan's precision."),
    marked("There is too little memory for the linear probe; the report goes without it."),
    marked("stopped at once on request"),
    marked("stopped on request"),
    marked("paused as planned"),
    marked("its worker died unexpectedly"),
    marked("`loracle resume {run}` continues from step {step}."),
    marked("Nothing was saved yet; `loracle resume {run}` starts from the beginning."),
    marked("Details are in {log}."),
    marked("{name} has changed since the plan was made; put it back as it was, or make a new plan with `loracle plan`."),
    marked("{name} has changed since the plan was made; point to it with {flag}, or make a new plan."),
    marked(
        "{name}: other rows are held out than when this run began: another version of Loracle split them. Resume it with that "
        "version, or begin a new run."
    ),
    marked("There is no run yet in {folder}."),
    marked("No run is called {name}. `loracle runs` lists them."),
    marked("{name} is not running (it is {state})."),
    marked("{name} cannot be asked to stop ({why}) and goes on."),
    marked("{name} is running; stop it first, then delete it."),
    marked("{path} was written by a newer Loracle: update Loracle."),
    marked("The folder of the run, {path}, was moved or removed while {doing}; what was saved in it is intact."),
    marked("`loracle resume` with its new path continues it."),
    marked("{path} is not a run: its plan.yaml cannot be read."),
    marked("plan needs --model and --data, or --facts."),
    marked("{path} exists already; name another file with -o, or overwrite it with --force."),
    marked("{path}: names no model; give one with --model."),
    marked("{path}: names no training rows; give them with --data."),
    marked("--set {name}: no such field of a plan."),
    marked("--set {name}: write it as NAME=VALUE."),
    marked("The process that holds the models ended unexpectedly; most often memory ran out."),
    marked("The models are gone: their process ended. Leave this screen and come back."),
    marked("{name} has no saved model yet."),
    marked("{name} is not done (it is {status}), so there is nothing to merge yet."),
    marked("{name} has no adapter: {path} is already the whole model, so there is nothing to merge."),
    marked("{path} exists already; name another folder with --to, or remove it."),
    marked("Merging takes {needed} of main memory, and {free} is free. Close other programs."),
    marked("{path}: the merged model needs {needed} of disk, and {free} is free. Use --to elsewhere."),
    marked("Better: {size} points of {measure} against {compared} (95% interval {low} to {high})."),
    marked("Better: {size} {measure} against {compared} (95% interval {low} to {high})."),
    marked("Worse: {size} points of {measure} against {compared} (95% interval {low} to {high})."),
    marked("Worse: {size} {measure} against {compared} (95% interval {low} to {high})."),
    marked(
        "Not shown to differ: {size} points of {measure} against {compared} (95% interval {low} to {high}); the "
        "interval contains zero, so this may be chance."
    ),
    marked(
        "Not shown to differ: {size} {measure} against {compared} (95% interval {low} to {high}); the interval "
        "contains zero, so this may be chance."
    ),
    marked("One row was held out: too few to say whether anything was gained."),
    marked("{n} rows were held out: too few to say whether anything was gained."),
    marked("No difference in {measure} against {compared}."),
    marked(
        "The model predicts {label} for every held-out row: it does not tell them apart yet. Try more epochs or more rows first."
    ),
    marked("The model predicts {label} for every held-out row: the training went wrong. Try a lower learning_rate first."),
    marked("The model gives no held-out row any label: the training went wrong. Try a lower learning_rate first."),
    marked("The model gives every held-out word the tag {tag}: the training went wrong. Try a lower learning_rate first."),
    marked("The model gives no held-out row any label: it does not tell them apart yet. Try more epochs or more rows first."),
    marked(
        "The model gives every held-out word the tag {tag}: it does not tell them apart yet. Try more epochs or more rows first."
    ),
    marked("the untouched model"),
    marked("a linear probe on the untouched model's embeddings"),
    marked("always predicting the most common class"),
    marked("always predicting the mean of the training rows"),
    marked("giving every word the most common tag"),
    marked("always predicting the labels that most rows have"),
    marked("The linear probe is better and costs seconds: use it, or give the fine-tune more data."),
    marked(
        "The chosen answers have become less likely too (mean reward {reward}): common with preferences; look at "
        "the sample answers, and raise preference_beta if they got worse."
    ),
    marked("No rows were held out, so the gain is unknown."),
    marked("{path}: {wrong}, and no other checkpoint is intact; start the run again."),
    marked("The checkpoint has no weights for {name}; start the run again."),
    marked("{name} may be any of {names}: give more of the name."),
    marked("{name} may be any of {names}: give its path."),
    marked("{name} is done; `loracle report {run}` shows what came out."),
    marked("{name} is running; `loracle attach {run}` shows it."),
    marked("{name} is already being run; `loracle attach {run}` shows it."),
    marked("{name} has no report: it is {state}."),
    marked("`loracle attach {run}` shows it."),
    marked("`loracle resume {run}` continues it."),
    marked("Lower max_length or token_budget, or use another method."),
    marked("--anyway runs it regardless."),
    marked("{method} instead of the recommended {advised}"),
    marked("--folds and {flag} exclude each other: every row is held out in one of the folds."),
    marked("A pilot takes one to three different methods."),
    marked("A pilot judges by the validation rows, and there are none; give more rows or set data.validation_rows."),
    marked("The pilot would take about {time}, more than {share} of the {budget} allowed."),
    marked(
        "With {rows} rows the candidates are cross-validated to the end, in {folds} folds; that would take about {time}, "
        "more than the {budget} allowed."
    ),
    marked("Name fewer candidates with --methods, give it more --hours, or start the recommended run."),
    marked("{path}: its group.json cannot be read."),
    marked("{path} cannot be restored: {other} is in the way."),
    marked("{path} cannot be restored: {other} is gone."),
    marked("{path}: cannot be moved to {folder} ({why})."),
    marked("{path} cannot be restored ({why})."),
    marked("{name} could not be left running; see {log}."),
    marked("The models could not answer: {why}"),
    marked("The models cannot be loaded ({why})."),
    marked("There is not enough free memory to load the models; close other programs."),
    marked("{place}: precision bf16 is for full fine-tuning; with adapters use bf16-mixed, which holds the base in bf16."),
    marked("precision fp16-mixed needs a GPU, and there is none; use `--set precision=fp32`."),
    marked("optimizer {name} does not run on this machine (tried with bitsandbytes); use optimizer: adamw."),
    marked("{path}: its layers cannot be told apart; use trained: all or no_embeddings."),
    marked("last_layers is {wanted}, and {name} has {layers} layers."),
    marked(
        "max_length is {wanted}, and the answers of {lost} of {rows} rows begin after that: nothing would be learned from "
        "them. Raise max_length, or shorten the prompts."
    ),
    marked(
        "max_length is {wanted}, and the answers of at least {lost} of {rows} rows begin after that: nothing would be "
        "learned from them. Raise max_length, or shorten the prompts."
    ),
    marked("Download the model again."),
    marked("Download the model again, or use `--set precision=fp32`."),
    marked("target_modules {names}: {why}"),
    marked("target_modules {names}: {model} has no module of that name; it has {known}."),
    marked("pissa needs a rank no larger than its layers: rank is {rank}, and {name} has layers of width {narrowest}."),
    marked("precision {precision}: {card} has no bf16; use `--set precision=fp16-mixed` or fp32."),
    marked("{setting}: the experts of a layer are stored as one weight, whose adapters do not support it; set it to 0."),
    marked("{setting}: the experts of a layer are stored as one weight, whose adapters do not support it; leave it out."),
    marked("{name}: the model has changed since the run was made, so the adapter does not belong to it."),
    marked("{path}: the base is stored quantised, so an adapter cannot be merged into it; use the adapter as it is."),
    marked(
        "The merged model's outputs differ from the adapter's by {size}, more than rounding explains, so it was "
        "not kept; use the adapter in {path}."
    ),
    marked(
        "Merged and rounded to {type}, as the base is stored, the model's outputs are not numbers (some weights are too "
        "large for that type), so it was not kept; use the adapter in {path}."
    ),
    marked("{path}: the merged model cannot be written ({why})."),
    marked("Memory ran out while the adapter was merged; what was written was removed."),
    marked("The adapter cannot be merged ({why})."),
    marked("The process that merges ended unexpectedly; most often memory ran out."),
    marked("The process that merges ended unexpectedly; the end of {log} says more."),
    marked("What it wrote was removed."),
    marked("The best checkpoint is damaged ({why}); {other} is used instead."),
    marked("A damaged checkpoint was set aside ({why})."),
    marked("cannot predict: the step cannot be traced for this model ({why})."),
    marked("model.config: {why}"),
    marked("the plan does not say how the rows of {name} are written (data.layout, data.columns)."),
    marked("the plan names no text_column and label_column."),
    marked("{name}: a thousand runs were started within this second."),
    marked("{name} scored {size} points of {measure} against {leader} (95% interval {low} to {high})."),
    marked("{name} scored {size} {measure} against {leader} (95% interval {low} to {high})."),
    marked(
        "{name} scored {size} points of {measure} against {leader} (95% interval {low} to {high}); the interval "
        "contains zero, so they are not shown to differ."
    ),
    marked(
        "{name} scored {size} {measure} against {leader} (95% interval {low} to {high}); the interval contains "
        "zero, so they are not shown to differ."
    ),
    marked("No method did better than a linear probe on the untouched model: {measure} {score} against {best} at best."),
    marked("No method did better than a constant answer: {measure} {score} against {best} at best."),
    marked(
        "Same rows, same order, batches of {rows}, at most one pass each; every method has its own learning rate "
        "and rank from the table, and keeps its best checkpoint."
    ),
    marked(
        "Same rows, same order, batches of {rows}, at most one pass each and stopped early by the validation rows; "
        "every method has its own learning rate and rank from the table, and keeps its best checkpoint."
    ),
    marked(
        "Same rows, same order, batches of {rows}, up to {epochs} passes each; every method has its own learning "
        "rate and rank from the table, and keeps its best checkpoint."
    ),
    marked(
        "Same rows, same order, batches of {rows}, up to {epochs} passes each and stopped early by the validation "
        "rows; every method has its own learning rate and rank from the table, and keeps its best checkpoint."
    ),
    marked(
        "How far to trust this: over 63 published runs of one 3B model on one data set, keeping the best of three by loss "
        "after 10% of the steps found the eventual winner about 80% of the time and cost 0.4 points of accuracy on average "
        "(a random pick: 5.3)."
    ),
    marked("Short runs flatter high learning rates, and say nothing about rank or the number of epochs."),
    marked("{winner} leads {other} by {gap} loss (±{error}) after {step} steps."),
    marked("{winner} leads {other} by {gap} loss (±{error}) after {step} steps, which may be chance."),
    marked("{name} was dropped: {why}."),
    marked("The slices do not tell them apart; {name} has the lower loss and goes on."),
    marked("Every row was held out once, in {folds} folds trained to the end."),
    marked("The intervals say how far other rows might move the scores; another seed may move them as far (E13)."),
    marked("Every candidate failed; see the runs."),
    marked("Only {name} is left: the other candidates failed."),
    marked("The last saved checkpoint, of step {step}, is worse than the untouched model."),
    marked(
        "Since step {step} the validation loss has risen from {lowest} to {loss} while the training loss fell from {then} "
        "to {training}: the model is memorising the training rows."
    ),
    marked("The best checkpoint is kept."),
    marked("There are no held-out rows, so the report cannot say what the training gained."),
    marked("There is too little memory for sample answers; the report has none."),
    marked("The forgetting check does not apply: {why}."),
    marked("On generic text the model's outputs are not numbers, so forgetting is not judged."),
    marked("{cut} of {rows} {use} rows are longer than {length} tokens and were cut ({tokens} tokens lost)."),
    marked("One of {rows} {use} rows is longer than {length} tokens and was cut ({tokens} tokens lost)."),
    marked("Use it as an adapter, or merge it elsewhere."),
    marked("{rows} {use} rows had nothing left to learn and were left out."),
    marked("One of the {use} rows had nothing left to learn and was left out."),
    marked("{rows} rows of the training file had nothing to read, or nothing to learn, and were left out."),
    marked("One row of the training file had nothing to read, or nothing to learn, and was left out."),
    marked("{rows} rows of the held-out file had nothing to read, or nothing to learn, and were left out."),
    marked("One row of the held-out file had nothing to read, or nothing to learn, and was left out."),
    marked("{rows} rows whose text also appears with another label were left out."),
    marked("One row whose text also appears with another label was left out."),
    marked("{rows} rows repeat another one and were left out."),
    marked("One row repeats another one and was left out."),
    marked("{rows} conversations begin with the assistant; what it says before the first question was left out."),
    marked("One conversation begins with the assistant; what it says before the first question was left out."),
    marked("{answers} answers of weight 0 were read and not learned."),
    marked("One answer of weight 0 was read and not learned."),
    marked("{rows} rows share their question, or their first message or text, with others; none is on two sides."),
    marked(
        "Too many rows share one question, first message or text to be kept on one side of the split: scores may be too "
        "good. Give held-out rows of your own with --eval."
    ),
    marked("{rows} training rows are also among the held-out ones, punctuation aside, and were left out of the training."),
    marked("One training row is also among the held-out ones, punctuation aside, and was left out of the training."),
    marked("validation"),
    marked("held-out"),
    marked("training"),
    marked("Forgotten: {told}."),
    marked("Nothing forgotten: {told}."),
    marked("No forgetting shown: {told}; the interval contains zero."),
    marked("A lower learning_rate, fewer epochs or LoRA forget less."),
    marked("words hidden in {text}"),
    marked(
        "generic text that has nothing to do with the task: perplexity {before} before and {after} after ({gain}, "
        "95% interval {low} to {high})"
    ),
    marked("{method}, learning rate x{times}"),
    marked("Full fine-tuning"),
    marked("{name}: there is no time for it"),
)
