"""What is wrong with rows of a kind that is known, as the engine writes it, what varies in braces."""

from recommender.language import marked

SENTENCES: tuple[str, ...] = (
    marked("{path} is a spreadsheet, whatever its name says; save it as csv, in UTF-8, and give that file."),
    marked(
        "{path}: every row has the label {label} in column {column}; name another one with --label-column, or add rows of another"
        " class."
    ),
    marked("{name}: row {row}: labels that the plan does not name (data.labels): {labels}; the known ones are {known}."),
    marked("{plan}: is a file of rows, not a plan; loracle plan --data {name} makes one."),
    marked("{path}: every row has the same labels ({labels}), so there is nothing to learn."),
    marked("{place}: column {column} marks the characters {start} to {end} of a text of {length}."),
    marked("{place}: column {column} holds something else than a span (start, end, label)."),
    marked(
        "{path}: holds annotations of brat (.ann), which are not read; write them to one jsonl file, a row a text, with text and"
        " spans (start, end, label)."
    ),
    marked(
        "{path}: holds trees of messages, as OASST does; write each path from a first message to an answer as a row of messages,"
        " with role (user, assistant) and content."
    ),
    marked(
        "{path}: holds two answers a row ({names}); write the preferred one as chosen and the other as rejected, beside their"
        " prompt."
    ),
    marked(
        "{path}: holds questions inside of paragraphs, as SQuAD's own file does; write a question a row, with columns"
        " instruction, input (the paragraph) and output (the answer)."
    ),
    marked(
        "{path}: holds turns of role and parts, as Gemini does; write them as messages, with role (system, user, assistant) and"
        " content."
    ),
    marked(
        "{path}: its columns ({columns}) look like measurements and short values, not like texts to learn from; such a table is"
        " work for gradient boosting (scikit-learn, XGBoost)."
    ),
    marked("If one column is a text, name it with --text-column, and what is to be told with --label-column."),
)
