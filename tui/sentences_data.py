"""What is wrong with rows of a kind that is known, as the engine writes it, what varies in braces."""

from recommender.language import marked

SENTENCES: tuple[str, ...] = (
    marked("{path} is a spreadsheet, whatever its name says; save it as csv, in UTF-8, and give that file."),
    marked(
        "{path}: every row has the label {label} in column {column}; name another one with --label-column, add rows of another"
        " class, or say with --task what else is to be learned."
    ),
    marked("{path}: every row is among the held-out rows, too; name other held-out rows with --eval."),
    marked("Rows with faults: {rows}; correct them, or take them out of the file."),
    marked("{place}: labels that the plan does not name (data.labels): {labels}; the known ones are {known}."),
    marked("{plan}: is a file of rows, not a plan; `loracle plan --data {name}` makes one."),
    marked("{path}: every row has the same labels ({labels}), so there is nothing to learn."),
    marked("{place}: column {column} marks the characters {start} to {end} of a text of {length}."),
    marked("{place}: column {column} holds something other than a span (start, end, label)."),
    marked(
        "{path}: holds annotations of brat (.ann), which are not read; write them to one jsonl file, one row per text, with "
        "text and spans (start, end, label)."
    ),
    marked(
        "{path}: holds trees of messages, as OASST and exports of ChatGPT do; write each path from a first message to an answer"
        " as a row of messages, with role (user, assistant) and content."
    ),
    marked(
        "{path}: holds two answers per row ({names}); write the preferred one as chosen and the other as rejected, beside "
        "their prompt."
    ),
    marked(
        "{path}: holds questions inside paragraphs, as SQuAD's own file does; write one question per row, with columns "
        "instruction, input (the paragraph) and output (the answer)."
    ),
    marked(
        "{path}: holds turns of role and parts, as Gemini does; write them as messages, with role (system, user, assistant) and"
        " content."
    ),
    marked(
        "{path}: its columns ({columns}) look like measurements and short values, not like texts to learn from; such a table is"
        " work for gradient boosting (scikit-learn, XGBoost)."
    ),
    marked("If one column is text, name it with --text-column, and the label with --label-column."),
    marked("{place}: column {column} holds a text, where chosen holds messages; write both alike."),
    marked("{place}: column {column} holds messages, where chosen holds a text; write both alike."),
    marked("{place}: column {column} holds no question, and chosen and rejected are answers alone; leave such rows out."),
    marked(
        "{place}: column {column} holds an answer and no question; name the column of the question with --column prompt=NAME."
    ),
    marked("{place}: column {column} holds a message that is not an object with a speaker and a text."),
    marked("{place}: column {column} holds a message that names no speaker (role)."),
    marked("{place}: column {column} holds a message of an unknown speaker, {who}."),
    marked("{place}: column {column} holds a message whose text is an object."),
    marked("{place}: column {column} holds a message of the user without a text (content)."),
    marked("{place}: column {column} holds a message with a part that is not text ({kind}), which Loracle cannot read."),
    marked("{place}: column {column} holds a message of the {role} with tool_calls; only the assistant calls tools."),
    marked("{place}: column {column} holds tool_calls that are not a list of calls with a function's name and arguments."),
    marked(
        "{place}: column {column} does not hold a list of tools, each an object as chat templates expect it; write it so, "
        "or rename the column."
    ),
    marked("{place}: column {column} holds a tool's answer as message {number} without a call before it."),
    marked(
        "{place}: column {column} holds a tool's answer as message {number} whose tool_call_id, {id}, is that of no call before"
        " it."
    ),
    marked("{place}: column {column} holds a system message as message {number}; it must come first."),
    marked("{place}: column {column} holds two messages of the {role} in a row ({one} and {other})."),
    marked(
        "{place}: column {column} holds the tag {tag}, and tags written as numbers count from 0; fix it or leave the row out."
    ),
    marked(
        "{place}: column {column} holds the tag {tag}, where others are O or begin with B-, I- or the like; fix it or leave "
        "the row out."
    ),
    marked("{place}: column {column} holds {value}, which is not a number."),
    marked("{place}: column {column} holds {value}, too large to compute with (at most {most})."),
    marked("{place}: column {column} holds {tags} tags for {tokens} tokens."),
    marked("{place}: column {column} holds an empty tag."),
    marked("{place}: column {column} does not hold a list."),
    marked("{place}: column {column} holds a list within its list."),
    marked("{place}: column {column} holds an empty label within its list."),
    marked("{place}: column {column} holds {value}, where other rows hold 0 or 1; fix it or leave the row out."),
    marked("If it is not the label, use --task multi_label, or name the label with --label-column."),
    marked(
        "{path}: columns {columns} hold 0 or 1 each; name the one to predict with --label-column, or use --task multi_label "
        "if all are labels of one text."
    ),
    marked(
        "{path}: column {column} marks each answer as good or bad (true or false), as for KTO, which Loracle does not "
        "train; write pairs of chosen and rejected, or leave the bad ones and that column out."
    ),
    marked("To tell good answers from bad ones, use --task classification."),
    marked("{path}: its rows are empty in all columns ({columns})."),
    marked("{place}: repeats the header; remove it."),
    marked(
        "{path}: holds one value where the row below has {columns}; remove what stands above the header, or name the "
        "columns in the first line."
    ),
    marked("{place}: has {actual} where {wanted}; most likely it opens a quotation mark and does not close it."),
    marked("{path}: is a parquet or Arrow file, packed; unpack it and give the file inside."),
    marked("{path}: is one text of {bytes} bytes; at most {most} characters are read."),
    marked("cannot predict: a step of {what} is not traced yet."),
    marked("cannot predict: transformers has no models of type {kind}."),
    marked("cannot predict: Loracle has no task with the head {head}; use loss plain."),
    marked("step: length is {length}, and the model reads {most} tokens at most."),
    marked("--trace goes with --facts; when model and data are given, every step is counted anyway."),
    marked("{model} has no module of that name; it has {known}."),
    marked(
        "{path}: the model's chat template leaves out or rewrites answers and marks none ({{% generation %}}), so what is "
        "to be learned cannot be found; give the tokenizer a template with such marks, or rows of one answer each, without "
        "reasoning that it leaves out."
    ),
    marked("step.trained: no parameter of the model has {name} in its name."),
    marked("cannot predict: the loss {loss} of an encoder-decoder outside of Loracle is not known."),
    marked("max_length is {most}, and the answers of {rows} rows begin after that: nothing would be learned from them."),
    marked("The process that merges ended unexpectedly; {why}."),
    marked(
        "{path}: column {column} holds a list of 0 and 1, one for each label; write the names of the row's labels, or a "
        "column of 0 and 1 for each label."
    ),
    marked(
        "{path}: column {column} holds several answers per row; write the preferred one as chosen and the other as "
        "rejected, or the one to be learned as a text."
    ),
    marked(
        "{path}: column {column} holds pictures or sounds that belong to the texts, which Loracle cannot read; leave such "
        "rows out, and the column."
    ),
    marked(
        "{path}: holds texts beside others that are close to them (column {name}), as for training embedding models, which "
        "Loracle does not train."
    ),
    marked("{path}: column patterns holds several texts per row; write one text per row, with its tag beside it as the label."),
    marked(
        "{path}: describes data sets, as LLaMA-Factory's dataset_info.json does, and holds no rows; give the file of one of them."
    ),
    marked("{path}: {kind} files are not read; write the rows to a csv or jsonl file."),
    marked("{path}: {kind} files are not read; write the rows to a csv or jsonl file, or the text to a txt file."),
    marked("{place}: has {found} columns where CoNLL-U has {wanted}; fix the line."),
    marked("{place}: column {column} does not hold a list of earlier questions and answers, two texts each."),
    marked("no question or no answer"),
    marked("{place}: has the field {name} twice; keep one of them."),
)
