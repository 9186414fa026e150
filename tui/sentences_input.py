"""What is wrong with data, models, plans and flags, as the engine writes it, what varies in braces."""

from recommender.language import marked

SENTENCES: tuple[str, ...] = (
    marked("{name}: there is no such file."),
    marked("{name}: no file has a name like that."),
    marked("Did you mean {near}?"),
    marked("{name}: cannot be opened ({why})."),
    marked("{name}: cannot be read ({why})."),
    marked("{path}: may not be read; check its permissions."),
    marked("{path}: does not fit in memory."),
    marked("{name} is empty."),
    marked("{name} has a header and no rows."),
    marked("{name} holds no rows."),
    marked("{name} holds no rows, only blank lines."),
    marked("{name} is an archive; unpack it and give the file inside."),
    marked("{path} is a spreadsheet; save it as csv, in UTF-8, and give that file."),
    marked("{path}: is a Git LFS pointer, not the rows; run `git lfs pull` in that folder."),
    marked("{path}: is a web page, not a file of rows; download the file itself."),
    marked("{name} is a folder; give a file with rows."),
    marked("{name} is a folder; give a file with rows; did you mean {near}?"),
    marked("{name} is a folder of several splits; give one of them, like {split}."),
    marked(
        "{name}: holds texts in folders of their own ({folders}); give {pattern} (in quotes on a command line) to learn from "
        "them as raw text."
    ),
    marked(
        "If the folders are classes, put them into a folder called train, or write the texts to a csv or jsonl file, one "
        "row per text, with the folder's name as the label."
    ),
    marked("{name}: holds several sets of rows; give the file or folder of one of them, like {near}."),
    marked("{place}: column {name} does not hold a list, where other rows do."),
    marked("{name}: addresses are not read; download the file and give its path."),
    marked("{name} is not an ordinary file; save the rows to a csv or jsonl file first."),
    marked("{path}: is named {suffix} but is not one (its first bytes are wrong)."),
    marked("{path}: damaged {kind} file: {why}."),
    marked("{path}: damaged gzip file ({why})."),
    marked("{place}: not JSON ({why}, column {column})."),
    marked("Remove the comma before the bracket."),
    marked("Python prints objects like this; write them with json.dumps."),
    marked("Remove the comments."),
    marked("{place}: holds {actual} and not {wanted} values as the first row does; fix the row."),
    marked("{path}: has two columns called {name}; rename one of them."),
    marked("{place}: holds an example that has fields; write it as a line (`- a text`)."),
    marked(
        "{path}: holds one column of texts with commas in them and no quotation marks around them; save it as a txt file, "
        "one text per line, without the header."
    ),
    marked("{place}: not JSON ({why}, column {column}); download the model again."),
    marked("{path}: not readable as {kind}: {why}."),
    marked("{path}: after row {row}: a row of more than {size} MiB; most likely a quotation mark is never closed."),
    marked(
        "{place}: is not UTF-8 (byte {byte}), nor does it read like western European text; save it as UTF-8, for "
        "example with `iconv -f ENCODING -t utf-8 {name}`."
    ),
    marked("{place}: holds null bytes, so it is not a text file; save it as UTF-8 text."),
    marked('{path}: a list of objects with named fields was expected, like {{"text": ..., "label": ...}}.'),
    marked('{place}: an object with named fields was expected, like {{"text": ..., "label": ...}}.'),
    marked('{place}: a quotation mark within a text is written \\" here, which csv does not know; write it twice ("").'),
    marked("{place}: holds two tags per word; keep the column of those to be learned."),
    marked("{place}: has no tag; a line holds a token and its tag, separated by a tab or a space."),
    marked("{name}: changed while it was read; wait until it is complete, and try again."),
    marked("{name}: reading it was cancelled."),
    marked("{name}: reading it took longer than {seconds} seconds and was stopped."),
    marked("{name}: reading it was stopped; most likely the machine ran out of memory. Use a smaller file or free some memory."),
    marked("{name}: reading it crashed ({signal}); the file is damaged or needs more memory than there is."),
    marked("{path}: has no column {column}; its columns are {known}."),
    marked(
        "{path}: column {column} holds several answers to the question, which Loracle cannot read; write the right one as "
        "text into a column of its own and use --task instruction, or name other columns with --column."
    ),
    marked("{path}: has no column {column} ({flag}); its columns are {known}."),
    marked(
        "{path}: has one column only ({column}); a text column and a label column are needed (--task "
        "continued_pretraining learns the text as it is)."
    ),
    marked("{path}: column {column} cannot be text and label at once; choose two of {known}."),
    marked("{path}: no column looks like a {missing} among {known}; name it with --{missing}-column."),
    marked("{path}: its columns ({known}) do not show what to use; name {needs} with --column."),
    marked("{path}: every row has the label {label}, so there is nothing to learn; add rows of another class."),
    marked("{path}: no row has any label, so there is nothing to learn."),
    marked("{path}: all rows have the same number, so there is nothing to learn."),
    marked("{path}: all words have the same tag, so there is nothing to learn."),
    marked("{path}: no word fits within max_length ({most} tokens); raise max_length."),
    marked("{path}: no row has both a text and a label."),
    marked("{name}: row {row}: labels that training has never seen: {labels}; the known ones are {known}."),
    marked("{place}: column {column} holds a nested value; one text per row is needed."),
    marked("{place}: column {column} holds an answer of weight {weight}; write 0 (read only) or 1 (learned), or leave it out."),
    marked("{place}: the model's chat template does not mark each answer, so those of weight 0 cannot be found."),
    marked("{flag} is {wanted}; at least 2 rows are needed."),
    marked("{path}: fewer than two labels are left for training; give more rows."),
    marked("--eval-rows is {wanted}, more than half of the {rows} rows there are; name a file with --eval."),
    marked("{name} is {wanted}, more than half of the {rows} rows of {file}; take fewer, or give more rows."),
    marked("{name}: there is no such model folder."),
    marked("{name} is a file; give the model's folder."),
    marked("{name} is a file; give the model's folder, {folder}."),
    marked("{name}: its path holds bytes that are not UTF-8, so no plan can name it; rename it."),
    marked("no model is named; give a folder, a hub id (like org/name), demo or demo-chat."),
    marked("the demo model is not installed; run `pip install 'loracle[demo]'`."),
    marked("the chat demo's model is not unpacked yet; run {how}."),
    marked("{folder}: has no config.json, so it is not a model folder; give the folder with config.json and model.safetensors."),
    marked(
        "{folder} holds an adapter, not a model; give the one it was trained on (--model {base}), or merge the two: "
        "`loracle merge {run}` does so for a finished run."
    ),
    marked("{folder} holds an adapter, not a model; give the base model it was trained on."),
    marked("{folder}: has a config.json but no weights; {file} is missing."),
    marked("{place}: damaged safetensors file ({why}); download it again."),
    marked(
        "{folder}: its weights are pickled ({file}), and a pickle can run code; convert them to safetensors "
        "(save_pretrained does) and try again."
    ),
    marked("{folder}: {missing} of {all} weight files are missing, first {file}; finish the download."),
    marked("{place}: is a Git LFS pointer, not the weights; run `git lfs pull` in that folder."),
    marked("{folder}: the model cannot be loaded: {why}"),
    marked("The model's own head has {stored} outputs and {wanted} are needed: a new one is trained."),
    marked("The model's own head has the labels {stored}, not {wanted}: a new one is trained."),
    marked("The model's own head is trained further; its outputs have no names and are taken to be {labels}."),
    marked("{name}: {tensor} is stored as {stored}, and config.json wants {wanted}; download the model again."),
    marked(
        "{folder}: its tokenizer cannot be loaded: the folder holds no tokenizer.json and no vocabulary; copy these files there"
        " too."
    ),
    marked("{folder}: its tokenizer cannot be loaded: {why}"),
    marked("{name}: the model has changed since the plan was made; put it back as it was, or make a new plan."),
    marked("{name}: is not the model that the plan was made for; make a new plan."),
    marked("{name}: GGUF weights are made for inference and cannot be trained; get the model as safetensors."),
    marked("{name}: its weights are quantised for inference ({how}) and cannot be trained; get the original ones."),
    marked("for {task} Loracle trains decoders, and this model is an {kind}; use a decoder."),
    marked("max_length is {length}, and {model} reads {positions} tokens at most."),
    marked(
        "hub id {name} is not in the local cache, and the hub cannot be reached at {address} ({why}); give the "
        "path of a model folder, or try again with a network."
    ),
    marked("hub id {name} is not in the local cache, and HF_HUB_OFFLINE is set; unset it, or give the path of a model folder."),
    marked(
        "there is no model {name} on the hub, and no such folder here; check the name (a private model needs `hf auth login`)."
    ),
    marked("hub model {name} is gated: accept its terms at {address}, log in with `hf auth login`, and try again."),
    marked("hub model {name}: the hub at {address} does not accept this machine's token; log in again with `hf auth login`."),
    marked(
        "{name}: there is no such file or folder, and the hub cannot be reached at {address} ({why}); give the "
        "path of a file, or try again with a network."
    ),
    marked("{name}: is neither a folder nor a hub id (like org/name)."),
    marked("{name}: is neither a file nor a hub id (like org/name)."),
    marked(
        "{path}: column {column} has {distinct} distinct values in {rows} rows: that looks like free text, not labels; name "
        "{which} one with --label-column."
    ),
    marked(
        "{path}: column {column} has {distinct} distinct values in {rows} rows: that looks like free text, not labels; name "
        "{which} one with --label-column, or, if it is an answer to be generated, name the columns with --column prompt=… "
        "and --column completion=…."
    ),
    marked(
        "{path}: column {column} has {distinct} distinct values in {rows} rows: that looks like free text, not labels; name "
        "another one with {flag}."
    ),
    marked("the right"),
    marked("another"),
    marked(
        "{path}: column {column} has more than {most} distinct values: that looks like free text, not labels; name another "
        "one with --label-column."
    ),
    marked("{place}: column {column} holds a nested value; one {role} per row is needed."),
    marked(
        "{place}: column {column} holds a nested value; one label per row is needed (--task continued_pretraining learns "
        "the text as it is)."
    ),
    marked("{path}: its columns ({known}) do not show what to use{task}; name {needs} with --column."),
    marked(" for {task}"),
    marked("{role}: columns have no such role; the roles are {known}."),
    marked("{name}: {dropped} of {rows} rows have {what}."),
    marked("no text or no label"),
    marked("no text or no number"),
    marked("no text"),
    marked("nothing to read or nothing to learn"),
    marked("{name}: every text appears with several labels; without those rows nothing is left."),
    marked("{place}: column {column} holds {value}, where other rows hold {usual}; write all labels alike."),
    marked(
        "{place}: column {column} holds {value}, which programs write for missing values; leave such rows out, or "
        "give them a class."
    ),
    marked("{path}: column {column} holds numbers with a comma or a sign ({value}); write them like 1.5 or 1500."),
    marked("{place}: column {column} holds {kind}, {value}, where other rows hold {others}; write all labels alike."),
    marked("a word"),
    marked("a number"),
    marked("words"),
    marked("numbers"),
    marked(
        "{place}: column {column} holds {value}, where the other labels are the whole numbers {first} to {last}; fix it or "
        "leave the row out."
    ),
    marked("If it is meant, name the classes with words."),
    marked("If it is meant, use --task regression."),
    marked("{path}: has {columns} columns, and at most {most} are read; keep those that are read or learned."),
    marked("{place} holds a null byte, so it is not text; fix the file, or leave the row out."),
    marked("{place} holds a text of {length} characters; at most {most} are read."),
    marked("Split it."),
    marked("{place}: has {actual} where {wanted}; quote the text or fix the row."),
    marked("{n} columns"),
    marked("{n} column"),
    marked("the header has {n}"),
    marked("the first row has {n}"),
    marked("{path}: begins like UTF-16 but is not; save it as UTF-8."),
    marked("{place}: a line of more than {size} MiB; is this a file of rows?"),
    marked("{path}: unpacks to more than {size} MiB, where reading stops; unpack it yourself if that is meant."),
    marked("{place}: the header cannot be read ({why})."),
    marked("{name} holds no tagged tokens."),
    marked("{place}: a paragraph of over {size} bytes; split it with blank lines."),
    marked("{path}: not usable as JSON (nested too deeply, or with numbers too long)."),
    marked("{place}: not usable as JSON (nested too deeply, or numbers too long)."),
    marked("{path}: more than {most} distinct fields; keep those that are read or learned."),
    marked("{name}: names files of different formats; give those of one format."),
    marked("{path}: names the split {split}, which is not in the folder."),
    marked("{path}: the saved data set is not complete."),
    marked("{path}: the saved data set is not complete; {file} is missing."),
    marked("{path}: does not list the splits of a data set."),
    marked("{path}: does not say which files hold the rows."),
    marked("{path}: has the splits {splits} and none called train; give the folder of one of them."),
    marked("hub data set {name} comes as {configs}; name one, like {example}."),
    marked("{name}: there is no such file or folder, and no data set of that name in the hub cache (HF_HUB_OFFLINE is set)."),
    marked("{path}: data set {name} takes {needed} of disk and {free} is free."),
    marked("Free some space, or set HF_HOME."),
    marked("{name}: the files of a split lie in several folders; give one of them by its path."),
    marked("hub data set {name} has no csv, json or parquet files; a loading script, if it has one, is never run."),
    marked("hub data set {name} is gated: accept its terms at {address}, log in with `hf auth login`, and try again."),
    marked("hub data set {name}: the hub at {address} does not accept this machine's token; log in again with `hf auth login`."),
    marked(
        "{name}: there is no such file or folder here, and no data set of that name on the hub; check the name (a "
        "private one needs `hf auth login`)."
    ),
    marked("{name}: there is no such file or folder, and the hub at {address} answered with HTTP {code}; try again later."),
    marked("hub id {name} is not in the local cache, and the hub at {address} answered with HTTP {code}; try again later."),
    marked("hub model {name} has no config.json; it holds GGUF files, which are made for inference; choose another."),
    marked("hub model {name} has no config.json; so it is not a transformers model; choose another."),
    marked("hub model {name} has no revision {revision}; check it, or leave it out."),
    marked("hub model {name} has no model.safetensors; pickled weights can run code and are not read."),
    marked("Choose a revision or another model with safetensors."),
    marked("{path}: is not a folder; give the folder with config.json and model.safetensors."),
    marked("{path}: is larger than 10 MB, which no model's config is; download the model again."),
    marked("{path}: is no model's config; download the model again."),
    marked("{path}: names no model_type, so the kind of model is not known; get the model in the usual layout."),
    marked("{path}: not usable as JSON ({why}); download the model again."),
    marked("{path}: {field} is {value}; a whole number from 1 to {most} was expected."),
    marked("{path}: the safetensors file holds no tensors; download the model again."),
    marked("{path}: holds {file} but neither {single} nor {index}; rename it, or get the model in the usual layout."),
    marked("{path}: is damaged (it lists no weight files); download the model again."),
    marked("{path}: names {file}, which is not a safetensors file beside it."),
    marked("{path}: damaged GGUF file ({why}); download it again."),
    marked("{path}: holds no tensors; download it again."),
    marked("{path}: holds {n} GGUF models; name one of them, for example {example}."),
    marked("{path}: {missing} of {all} parts are missing, first {file}; finish the download."),
    marked("{path}: has no weights for {part}; take a model that comes with its {what}."),
    marked("{path}: models of type {kind} have no {head} in transformers."),
    marked("{path}: the weights do not match config.json; missing are {missing} and others."),
    marked("{name} is no longer in the hub cache; `hf download {what}` fetches it."),
    marked("{path}: its tokenizer has neither a padding nor an end token."),
    marked("{path}: config.json is not usable: {why}"),
    marked("{path}: its tokenizer cannot map tokens to words (it has no tokenizer.json)."),
    marked("{path}: its tokenizer cannot give the positions of tokens (no tokenizer.json)."),
    marked("{path}: models of type {kind} read text and do not generate it."),
    marked("the model's tokenizer has neither a chat template nor an end token; take a model that has one."),
    marked("{place}: the model's chat template rewrites the question, so the answer to it cannot be found."),
    marked("{place}: the model's chat template does not take this conversation: {why}"),
    marked(
        "{place}: an encoder-decoder reads one text and writes one, and this is a conversation of several turns; use a decoder."
    ),
    marked(
        "{name}: {cut} of {rows} rows (the first is row {row}) leave nothing to learn: their answers begin after max_length "
        "({length} tokens)."
    ),
    marked(
        "{name}: {cut} of {rows} rows (the first is row {row}) leave nothing to learn: within max_length ({length} tokens) both"
        " answers are the same, or one of them has not begun."
    ),
    marked("Raise max_length, or shorten the prompts."),
    marked(
        "{name}: {cut} of {rows} rows (the first is row {row}) leave nothing to learn, though they are not cut: both answers are"
        " the same, or one of them is empty. `loracle inspect data --tokens 3` shows what is learned."
    ),
    marked(
        "{name}: {cut} of {rows} rows (the first is row {row}) leave nothing to learn, though they are not cut: the model's "
        "chat template marks nothing in them as an answer. `loracle inspect data --tokens 3` shows what is learned."
    ),
    marked(
        "{name}: {cut} of {rows} rows (the first is row {row}) leave nothing to learn, though they are not cut: they call "
        "tools, which the model's chat template leaves out; use a model whose template supports tools. `loracle inspect "
        "data --tokens 3` shows what is learned."
    ),
    marked(
        "{name}: {cut} of {rows} rows call tools, which the model's chat template leaves out: nothing is learned from those "
        "turns. Use a model whose template supports tools."
    ),
    marked(
        "{name}: {some} of {rows} rows hold what tools answered, which the model's chat template leaves out: the answers "
        "after it are learned as if made up. Use a model whose template supports tools."
    ),
    marked(
        "{name}: {some} of {rows} rows hold reasoning that the model's chat template leaves out: their answers are learned "
        "without it."
    ),
    marked(
        "{name}: {some} of {rows} rows hold reasoning that the model's chat template leaves out once another turn follows: "
        "those answers are read, not learned."
    ),
    marked(
        "{place}: the model's chat template leaves reasoning (<think>) out of answers, so it cannot be learned; remove it "
        "from the rows, or give the tokenizer a template that keeps it."
    ),
    marked("{name}: nothing is left to learn from."),
    marked("{name}: {rows} rows are too few for {folds} folds; take fewer folds."),
    marked("{place}: larger than 1 MB, which no plan is."),
    marked(
        "{place}: a plan is a list of `name: value` lines, and no line here names a setting; `loracle plan -o plan.yaml` "
        "writes a plan."
    ),
    marked("{place}: holds a tab where a plan has spaces; put spaces in its place."),
    marked("{place}: is not a `name: value` line."),
    marked("{place}: opens a quotation mark that is never closed."),
    marked("{place}: opens a bracket that is never closed, or lacks a comma in it."),
    marked("{place}: holds a backslash, which means something else within double quotes; use single ones."),
    marked("{place}: begins a second plan; a file holds one."),
    marked("{place}: continues after a quoted value; put all of it in quotes."),
    marked("{place}: has a bracket or comma too many; put a value that contains one in quotes."),
    marked("{place}: is indented more or less than the lines it belongs to; start them in the same column."),
    marked("{place}: holds a second colon; put the value in quotes."),
    marked("{place}: has a value that begins with `{sign}`; put it in quotes."),
    marked("{place}: names {field} twice; keep one of them."),
    marked("{place}: is not written as in a plan, `name: value`."),
    marked("{place}: not readable as YAML: {why}."),
    marked("{place}: {field}: no such field."),
    marked("{place}: {field} is missing."),
    marked("{place}: {field} must be text: put it in quotes."),
    marked("{place}: {field} must be text: put it in quotes (it is {value})."),
    marked("{place}: {field} must be a list, e.g. [a, b]."),
    marked("{place}: {field} must be a list, e.g. [a, b] (it is {value})."),
    marked("{place}: {field} must be a whole number (it is {value})."),
    marked("{place}: {field} must be a number (it is {value})."),
    marked("{place}: {field} must be true or false (it is {value})."),
    marked("{place}: {field} must be a whole number."),
    marked("{place}: {field} must be a number."),
    marked("{place}: {field} must be true or false."),
    marked("{place}: and {n} more errors."),
    marked("{place}: holds a number that is too long."),
    marked("{place}: anchors and aliases are not allowed in a plan."),
    marked("{place}: tags (`!...`) are not allowed in a plan."),
    marked("{place}: nested too deeply for a plan."),
    marked("--set {name}: use {flag} instead, so that the advice takes it into account."),
    marked("--set {name}: use {flag} instead."),
    marked("{path}: is not UTF-8 text."),
    marked("{path} is a folder; name a file with -o."),
    marked("{file}: there is no folder {folder}."),
    marked("{path} cannot be written ({why})."),
    marked("--seed {value}: must not be negative."),
    marked("--facts takes the place of --model and --data; give one or the other."),
    marked("--facts decides from facts alone and writes no plan; leave out {flags}."),
    marked("{name}: holds no facts; they have the parts machine, model, data and goal."),
    marked("{name}: is nested too deeply to be facts."),
    marked("{name}: is empty; facts are a JSON object with the parts machine, model, data and goal."),
    marked("{name}: its JSON is cut off; write it again, or get it again."),
    marked("{name}:{line}: is not JSON from column {column} on; facts are what `loracle inspect ... --json` prints."),
    marked("{name}: is not JSON; facts are what `loracle inspect ... --json` prints."),
    marked("--tokens N shows the first N rows as a model reads them; name it with --model."),
    marked("{place}: {name}: no such setting."),
    marked("Known are {known}."),
    marked("{place}: {name} belongs to one run and cannot be set for all of them."),
    marked("{name}: its rows are for {task}; tokens are shown for tasks that generate text."),
    marked("cannot be opened"),
    marked("not a path"),
    marked("A comparison needs two or three different methods, or several seeds of one (--seeds 1,2,3)."),
    marked("the plan does not say which column holds the {role} (data.columns)."),
    marked("{path}: a plan in its group.json is damaged ({why})."),
    marked("{path}: is not a language model (it says {kind}); give another file."),
    marked("{path}: is a GGUF file {version}, and versions 2 and 3 are read; convert it again."),
    marked("{place}: plans are YAML 1.2; leave the %YAML line out."),
    marked("{place}: the name of a field must be a word."),
    marked("Use `--set {setting}`."),
)
