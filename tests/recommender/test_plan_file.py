"""Plans as text: strict in, readable out."""

import importlib
import json
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recommender import plan_file
from recommender.errors import Exit, InputError
from recommender.facts import Task
from recommender.plan import DataChoice, ModelChoice, Plan

TEXT = """\
version: 1
model: {id: bert-base-uncased}
data:
  train: reviews.csv
  labels: [no, yes]
method: full
learning_rate: 1e-4
epochs: 3
effective_batch: 8
max_length: 512
"""


def content() -> dict[str, Any]:
    return plan_file.parse(TEXT).model_dump(mode="json")


def refusal(text: str) -> str:
    with pytest.raises(InputError) as caught:
        plan_file.parse(text, "plan.yaml")
    assert caught.value.exit is Exit.USAGE
    return caught.value.message


def test_numbers_and_words_mean_what_they_look_like() -> None:
    plan = plan_file.parse(TEXT)
    assert plan.learning_rate == 0.0001
    assert plan.data.labels == ["no", "yes"]
    assert plan.epochs == 3.0


def test_labels_and_columns_written_as_whole_numbers_are_their_names() -> None:
    plan = plan_file.parse(TEXT.replace("[no, yes]", "[0, 1]\n  text_column: 2"))
    assert plan.data.labels == ["0", "1"]
    assert plan.data.text_column == "2"


@pytest.mark.parametrize("labels", ["[true, false]", "[1.0, 2.0]", "[~, a]"])
def test_labels_that_yaml_takes_for_something_else_ask_for_quotes(labels: str) -> None:
    assert "plan.yaml:5: data.labels.0 must be text: put it in quotes" in refusal(TEXT.replace("[no, yes]", labels))


def test_a_label_named_twice_is_an_error() -> None:
    assert refusal(TEXT.replace("[no, yes]", "[no, no]")) == "plan.yaml:5: data.labels: 'no' is named more than once."


def test_all_errors_come_at_once_with_their_lines_in_order() -> None:
    text = TEXT + "learnin_rate: 3\nseed: -1\nschedule: sine\nearly_stopping: no\n"
    assert refusal(text).splitlines() == [
        "plan.yaml:11: learnin_rate: no such field. Did you mean learning_rate?",
        "plan.yaml:12: seed must be greater than or equal to 0 (it is -1).",
        "plan.yaml:13: schedule must be 'linear', 'cosine' or 'constant' (it is 'sine').",
        "plan.yaml:14: early_stopping must be true or false (it is 'no').",
    ]


def test_missing_fields_are_named() -> None:
    assert "plan.yaml: data is missing." in refusal("method: full\n")


def test_unknown_fields_inside_a_part_suggest_the_nearest() -> None:
    message = refusal(TEXT.replace("  train:", "  text_colum: a\n  train:"))
    assert message == "plan.yaml:4: data.text_colum: no such field. Did you mean data.text_column?"


def test_adapters_need_rank_and_alpha() -> None:
    assert "method lora needs rank and alpha" in refusal(TEXT.replace("method: full", "method: lora"))


def test_modules_are_names_and_no_pattern() -> None:
    adapters = TEXT.replace("method: full", "method: lora\nrank: 8\nalpha: 16")
    assert plan_file.parse(adapters + "target_modules: [q_proj, layers.0.v_proj]\n").target_modules == "q_proj,layers.0.v_proj"
    for pattern in (r"'.*\.(q|v)_proj'", "q_proj|v_proj", "model.layers.[0-9]"):
        said = refusal(f"{adapters}target_modules: {pattern}\n")
        assert said.startswith("plan.yaml:13: target_modules: is read as module names separated by commas"), said


@pytest.mark.parametrize("value", [".nan", ".inf", "1e400", "0", "-1e-4", "fast"])
def test_a_learning_rate_that_is_none_is_refused_on_its_line(value: str) -> None:
    assert refusal(TEXT.replace("1e-4", value)).startswith("plan.yaml:7: learning_rate must be ")


def test_a_newer_plan_says_update_whatever_else_it_holds() -> None:
    message = refusal(TEXT.replace("version: 1", "version: 2") + "new_idea: 3\n")
    assert message == "plan.yaml: this plan is of version 2; this Loracle reads up to 1: update Loracle."


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: &x 1\nb: *x\n", "plan.yaml:1: anchors and aliases are not allowed"),
        ("a: *x\n", "plan.yaml:1: anchors and aliases are not allowed"),
        ("method: full\nmethod: lora\n", "plan.yaml:2: names method a second time"),
        ("rank: !!python/object:os.system x\n", "plan.yaml:1: tags"),
        ("%YAML 1.1\n---\na: no\n", "plans are YAML 1.2"),
        ("[" * 50_000, "plan.yaml:1: nested too deeply"),
        ("{a: " * 50, "plan.yaml:1: nested too deeply"),
        ("? [a, b]\n: c\n", "plan.yaml:1: the name of a field must be a word"),
        ("", "no line here names a setting; `loracle plan -o plan.yaml` writes"),
        ("a: \x00\n", "not readable as YAML"),
        ("a: " + "9" * 5000 + "\n", "not readable as YAML"),
        ("rank: 0x" + "9" * 5000 + "\n", "a number that is too long"),
        ("a: " + "x" * 1_000_001, "larger than 1 MB"),
    ],
)
def test_files_that_are_no_plan_are_one_clear_sentence(text: str, told: str) -> None:
    assert told in refusal(text)


@pytest.mark.parametrize(
    "text", ["- a\n", "# Notes\n\nhello: you\n**x**: [y\n", "all:\n\tcc x.c\n", "[project]\nname = 1\n", '{"a": 1}', "a: b: c\n"]
)
def test_any_other_file_is_told_to_be_no_plan_without_a_line(text: str) -> None:
    assert refusal(text).startswith("plan.yaml: a plan is a list of `name: value` lines, and no line here names a setting")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("model: a: b\n", "1: holds a second colon; put the value in quotes"),
        ("model:\n  id: a\n   revision: b\n", "3: is indented more or less"),
        ("model:\n  id: a\n data: b\n", "3: is indented more or less"),
        ("model: m\n- data\n", "2: is indented more or less"),
        ("model: m\nLoRA\nrank: 4\n", "2: is not a `name: value` line"),
        ("model: @m\n", "1: has a value that begins with `@`; put it in quotes"),
        ("model:\n\tid: m\n", "2: holds a tab where a plan has spaces"),
        ("model: 'm\nrank: 4\n", "1: opens a quotation mark that is never closed"),
        ("model: m\ntarget_modules: [a, b\nrank: 4\n", "2: opens a bracket that is never closed"),
        ("model: {id: m\nrank: 4\n", "1: opens a bracket that is never closed"),
        ("model: 'it's'\n", "1: continues after a quoted value"),
        ('model: "C:\\models"\n', "1: holds a backslash, which means something else within double quotes"),
        ("model: m\n}\n", "2: has a bracket or comma too many"),
        ("model: a\n---\nmodel: b\n", "2: begins a second plan"),
        ("model: |x\n", "1: is not written as in a plan"),
        ("Model: a: b\n", "1: holds a second colon"),
    ],
)
def test_a_slip_of_the_pen_is_told_with_its_line_and_not_in_yamls_words(text: str, told: str) -> None:
    assert refusal(text).startswith(f"plan.yaml:{told}")


def test_a_flood_of_errors_is_cut_short() -> None:
    message = refusal("rank: 8\n" + "".join(f"k{n}: 1\n" for n in range(100)))
    assert len(message.splitlines()) == 21
    assert message.endswith("and 87 more errors.")


def test_long_values_are_not_echoed_whole() -> None:
    assert len(refusal(TEXT.replace("linear", "") + f"schedule: {'x' * 10_000}\n")) < 300


WORDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12) | st.sampled_from(
    ["no", "null", "~", "0", "1e-4", "true", "- a", "a: b", "#", "'", '"', " x ", "\n", "2026-01-01", "1_000", "0o7", "=", "<<"]
)
FLOATS = st.floats(min_value=1e-12, max_value=1, exclude_min=False)
PLANS = st.builds(
    Plan,
    model=st.builds(ModelChoice, id=WORDS, revision=st.none() | WORDS),
    data=st.builds(
        DataChoice,
        train=WORDS,
        eval=st.none() | WORDS,
        text_column=st.none() | WORDS,
        labels=st.none() | st.lists(WORDS, max_size=4, unique=True),
        train_rows=st.none() | st.integers(1, 10**9),
    ),
    task=st.sampled_from(get_args(Task)),
    method=st.sampled_from(["full", "lora", "qlora"]),
    seed=st.integers(0, 2**31 - 1),
    learning_rate=FLOATS,
    epochs=st.floats(min_value=0.01, max_value=10_000),
    effective_batch=st.integers(1, 10**6),
    max_length=st.integers(2, 10**7),
    rank=st.integers(1, 4096),
    alpha=st.integers(1, 65_536),
    dropout=st.none() | st.floats(0, 0.99),
    early_stopping=st.booleans(),
    overrides=st.lists(WORDS, max_size=3),
)


def test_a_reader_of_yaml_1_1_takes_numbers_and_words_of_a_written_plan_as_such() -> None:
    labels = ["no", "Yes", "off", "y", "1:30", "1:30.5", "1e5", "010", "null", "2026-11-29", "é"]
    changed = plan_file.set_fields(content(), ["learning_rate=5e-6", f"data.labels={json.dumps(labels)}", "weight_decay=1e-12"])
    written = plan_file.dump(plan_file.validate(changed, "--set"))
    read = importlib.import_module("yaml").safe_load(written)  # PyYAML, without types; transformers needs it
    assert (read["learning_rate"], read["weight_decay"], read["data"]["labels"]) == (5e-6, 1e-12, labels)


@settings(max_examples=60)
@given(PLANS)
def test_a_plan_written_and_read_again_is_the_same_plan(plan: Plan) -> None:
    assert plan_file.parse(plan_file.dump(plan)) == plan


@settings(max_examples=100)
@given(st.text(max_size=60) | st.text(alphabet="a:-[]{}?!&*'\"#|>%@ \n,0", max_size=40))
def test_no_text_raises_anything_but_an_input_error(text: str) -> None:
    with pytest.raises(InputError):
        plan_file.parse(text)


@pytest.mark.parametrize(
    ("assignment", "path", "value"),
    [
        ("learning_rate=1e-4", ("learning_rate",), 0.0001),
        ("seed=7", ("seed",), 7),
        ("data.text_column=body", ("data", "text_column"), "body"),
        ("text_column=body", ("data", "text_column"), "body"),
        ("text_column=no", ("data", "text_column"), "no"),
        ("text_column=7", ("data", "text_column"), "7"),
        ("data.labels=[0, 1]", ("data", "labels"), ["0", "1"]),
        ("early_stopping=false", ("early_stopping",), False),
        ("dropout=null", ("dropout",), None),
        ("dropout=", ("dropout",), None),
        ("train=a=b.csv", ("data", "train"), "a=b.csv"),
        (" epochs = 2 ", ("epochs",), 2.0),
    ],
)
def test_fields_are_set_from_the_command_line(assignment: str, path: tuple[str, ...], value: object) -> None:
    changed: Any = plan_file.validate(plan_file.set_fields(content(), [assignment]), "--set").model_dump()
    for key in path:
        changed = changed[key]
    assert changed == value


@pytest.mark.parametrize(
    ("assignment", "told"),
    [
        ("learning_rat=1", "no such field of a plan. Did you mean learning_rate?"),
        ("data.text_colum=a", "no such field of a plan. Did you mean data.text_column?"),
        ("data=1", "no such field of a plan"),
        ("seed", "write it as NAME=VALUE"),
        ("=3", "no such field of a plan"),
    ],
)
def test_a_wrong_assignment_says_what_would_be_right(assignment: str, told: str) -> None:
    with pytest.raises(InputError, match="--set") as caught:
        plan_file.set_fields(content(), [assignment])
    assert told in caught.value.message


@pytest.mark.parametrize("assignment", ["seed=often", "learning_rate=null", "epochs={a: 1}", "data.train=[a]"])
def test_a_value_of_the_wrong_kind_is_refused(assignment: str) -> None:
    with pytest.raises(InputError, match=r"--set: .* must "):
        plan_file.validate(plan_file.set_fields(content(), [assignment]), "--set")


def test_a_value_that_is_no_yaml_is_taken_as_written() -> None:
    for text in ("[a.csv", "2024-13-45", "[" * 400):
        assert plan_file.set_fields(content(), [f"train={text}"])["data"]["train"] == text


def test_setting_a_field_leaves_the_original_alone() -> None:
    original = content()
    kept = json.dumps(original)
    plan_file.set_fields(original, ["data.text_column=x"])
    assert json.dumps(original) == kept


def test_steps_follow_from_rows_batch_and_epochs() -> None:
    plan = plan_file.parse(TEXT)
    assert (plan.steps_per_epoch(1000), plan.total_steps(1000)) == (125, 375)
    assert plan.steps_per_epoch(1001) == 126


@pytest.mark.parametrize("name", ["\x85", "a\u2028b", "\ufeffid", "bell\x07", "\ufffe", "tab\tbed", "two\nlines", "\x7f"])
def test_names_with_characters_that_yaml_takes_for_something_else_come_back(name: str) -> None:
    plan = Plan(
        model=ModelChoice(id="m"),
        data=DataChoice(train="t", text_column=name),
        method="full",
        learning_rate=1e-4,
        epochs=3.0,
        effective_batch=8,
        max_length=64,
    )
    assert plan_file.parse(plan_file.dump(plan)) == plan
