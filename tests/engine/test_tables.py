"""Files of rows: what was written is what is read, and what cannot be read is said with its place."""

import csv
import io
import json
import pickle
import zipfile
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.tables.read import first_rows, open_source
from recommender.errors import Exit, InputError
from tests.engine.made_files import read_table


def put(folder: Path, name: str, content: str | bytes) -> str:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


def columns(folder: Path, name: str, content: str | bytes) -> dict[str, list[object]]:
    return read_table(put(folder, name, content)).columns


def complaint(folder: Path, name: str, content: str | bytes) -> str:
    with pytest.raises(InputError) as caught:
        read_table(put(folder, name, content))
    assert caught.value.exit == Exit.USAGE
    return caught.value.message


def test_quotes_commas_and_newlines_inside_a_text_stay(tmp_path: Path) -> None:
    found = columns(tmp_path, "a.csv", 'text,label\n"one, ""two""\nthree",x\nb,y\n')
    assert found == {"text": ['one, "two"\nthree', "b"], "label": ["x", "y"]}


def test_tab_separated_text_may_hold_lone_quotes(tmp_path: Path) -> None:
    found = columns(tmp_path, "a.tsv", 'sentence\tlabel\n"an open quote\t1\nhe said "x"\t0\n"quoted" and on\t1\n')
    assert found == {"sentence": ['"an open quote', 'he said "x"', '"quoted" and on'], "label": ["1", "0", "1"]}


def test_the_first_of_tab_separated_rows_without_a_header_may_begin_with_a_lone_quote(tmp_path: Path) -> None:
    found = columns(tmp_path, "a.tsv", '"An open quote, said he\t1\n' + "some words of text\t0\nmore of them here\t1\n" * 5)
    assert found["column 1"][:2] == ['"An open quote, said he', "some words of text"]
    assert found["column 2"][:2] == ["1", "0"]


def test_tab_separated_fields_may_be_quoted(tmp_path: Path) -> None:
    found = columns(tmp_path, "a.tsv", 'sentence\tlabel\n"two\nlines"\t1\n"he said ""x"""\t0\n')
    assert found == {"sentence": ["two\nlines", 'he said "x"'], "label": ["1", "0"]}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("semicolon.csv", "text;label\na, b;x\nc;y\n"),
        ("spreadsheet.csv", 'sep=;\r\ntext;label\r\n"a, b";x\r\nc;y\r\n'),
        ("bar.csv", "text|label\na, b|x\nc|y\n"),
        ("tabs.txt", "text\tlabel\na, b\tx\nc\ty\n"),
        ("bom.csv", b'\xef\xbb\xbftext,label\n"a, b",x\nc,y\n'),
        ("utf16.csv", 'text,label\n"a, b",x\nc,y\n'.encode("utf-16")),
        ("windows.csv", 'text,label\r\n"a, b",x\r\nc,y\r\n'),
        ("oldmac.csv", 'text,label\r"a, b",x\rc,y\r'),
        ("spaced.csv", '"text", "label"\n"a, b", "x"\n"c", "y"\n'),
        ("spaced-bare.csv", 'label, text\nx, "a, b"\ny, c\n'),
        ("spaced-bar.csv", 'text| label\n"a, b"| "x"\n"c"| "y"\n'),
        ("blank-lines.csv", '\n\ntext,label\n\n"a, b",x\n\nc,y\n  \n'),
        ("no-end.csv", 'text,label\n"a, b",x\nc,y'),
        ("a.jsonl", '{"text": "a, b", "label": "x"}\n\n{"text": "c", "label": "y"}\n'),
        ("a.json", '[{"text": "a, b", "label": "x"}, {"text": "c", "label": "y"}]'),
        ("list.jsonl", '[{"text": "a, b", "label": "x"},\n {"text": "c", "label": "y"}]'),
        ("commas.jsonl", '{"text": "a, b", "label": "x"},\n{"text": "c", "label": "y"},\n'),
        ("printed.jsonl", '{\n  "text": "a, b",\n  "label": "x"\n}\n{\n  "text": "c",\n  "label": "y"\n}\n'),
        ("printed.json", '{"text": "a, b",\n "label": "x"}\n{"text": "c",\n "label": "y"}\n'),
        ("lists.json", '[["text", "label"], ["a, b", "x"], ["c", "y"]]'),
        ("lists.jsonl", '["text", "label"]\n\n["a, b", "x"]\n["c", "y"]\n'),
        ("sheet.json", '{"range": "A1:B3", "values": [["text", "label"], ["a, b", "x"], ["c", "y"]]}'),
        ("splits.json", '{"train": [["text", "label"], ["a, b", "x"], ["c", "y"]], "val": [["d", "y"]]}'),
        ("pandas.json", '{"text": {"0": "a, b", "1": "c"}, "label": {"0": "x", "1": "y"}}'),
        ("pandas-index.json", '{"one": {"text": "a, b", "label": "x"}, "two": {"text": "c", "label": "y"}}'),
        ("pandas-split.json", '{"columns": ["text", "label"], "index": [0, 1], "data": [["a, b", "x"], ["c", "y"]]}'),
        ("marked.txt", "__label__x a, b\n\n__label__y c\n"),
        ("wrapped.json", '{"version": 1, "data": [{"text": "a, b", "label": "x"}, {"text": "c", "label": "y"}]}'),
    ],
)
def test_the_same_rows_in_every_dress(tmp_path: Path, name: str, content: str | bytes) -> None:
    assert columns(tmp_path, name, content) == {"text": ["a, b", "c"], "label": ["x", "y"]}


def test_columns_of_parquet_that_nobody_needs_are_not_read(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    (tmp_path / "several").mkdir()
    for name in ("a", "b"):
        nested = [{"en": "x", "de": "y"}]
        columns = {"text": [name], "label": [0], "translation": nested, "page": ["z" * 1000]}
        pq.write_table(pa.table(columns), tmp_path / "several" / f"{name}.parquet")
    source = open_source(str(tmp_path / "several" / "*.parquet"))
    assert first_rows(source.only(["text", "translation.en"]), None).columns.keys() == {"text", "translation"}
    assert read_table(str(tmp_path / "several" / "*.parquet"), ["label"]).columns == {"label": [0, 0]}
    with pytest.raises(InputError, match="its columns are text, label, translation, page"):
        read_table(str(tmp_path / "several" / "*.parquet"), ["tetx"]).values("tetx")


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
def test_long_texts_come_a_few_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    monkeypatch.setattr("engine.tables.arrow.BATCH_BYTES", 8 << 10)
    monkeypatch.setattr("engine.tables.arrow._LEAST_ROWS", 10)
    texts = [f"{i} of so many words".ljust(1 << 10, "x") for i in range(100)]
    path = tmp_path / f"a.{kind}"
    if kind == "parquet":
        pq.write_table(pa.table({"text": texts}), path)
    else:
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, pa.schema({"text": pa.string()})) as writer:
            writer.write_table(pa.table({"text": texts}))
    source = open_source(str(path))
    assert max(table.rows for table in source.batches()) <= 8
    assert first_rows(source, None).columns["text"] == texts
    assert first_rows(source, 90, size=14 << 10).rows <= 21


def test_small_batches_are_not_few_rows(tmp_path: Path) -> None:
    for i in range(30):
        rows = [{"text": "x" * 90, "turns": [{"said": "y" * 90}], "score": n / 2} for n in range(2 * i, 2 * i + 2)]
        (tmp_path / f"{i:02}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = open_source(str(tmp_path / "*.jsonl"))
    assert first_rows(source, 50, size=64 << 20).rows == 50
    assert 15 < first_rows(source, 50, size=4000).rows <= 22  # what lies deeper counts too


def test_texts_that_parquet_holds_as_bytes_are_read_and_pictures_are_not(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path, later = tmp_path / "a.parquet", tmp_path / "b.parquet"
    family = "\U0001f468\u200d\U0001f469\u200d\U0001f467"  # one sign, of three that are joined by others
    held = {"text": [f"wört {family}".encode(), None, b"a\nb"], "image": [b"\x89PNG", b"\0", b""]}
    pq.write_table(pa.table(held | {"label": pa.array([b"x", b"y", b"x"]).dictionary_encode()}), path)
    assert read_table(str(path)).columns == {"text": [f"wört {family}", None, "a\nb"], "label": ["x", "y", "x"]}
    assert read_table(str(path), ["label"]).columns == {"label": ["x", "y", "x"]}
    pq.write_table(pa.table({"text": ["word"] * 31, "page": [b"word"] * 30 + [b"\xff"]}), later)
    assert read_table(str(later)).columns == {"text": ["word"] * 31, "page": ["word"] * 30 + [None]}


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
def test_columns_that_are_called_alike_are_refused(tmp_path: Path, kind: str) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / f"a.{kind}"
    table = pa.Table.from_arrays([pa.array(["a"]), pa.array(["x"]), pa.array(["y"])], names=["text", "label", "label"])
    if kind == "parquet":
        pq.write_table(table, path)
    else:
        with pa.OSFile(str(path), "wb") as out, pa.ipc.new_file(out, table.schema) as writer:
            writer.write_table(table)
    with pytest.raises(InputError, match=f"a.{kind}: has two columns called label; rename one of them"):
        read_table(str(path))


def test_parquet(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"text": ["a", "b"], "label": [0, 1]}), tmp_path / "a.parquet")
    assert read_table(str(tmp_path / "a.parquet")).columns == {"text": ["a", "b"], "label": [0, 1]}


def test_a_header_name_may_run_over_two_lines(tmp_path: Path) -> None:
    assert columns(tmp_path, "a.csv", '"text\nof it",label\na,x\n') == {"text\nof it": ["a"], "label": ["x"]}


def test_a_header_alone_is_a_table_without_rows(tmp_path: Path) -> None:
    assert read_table(put(tmp_path, "a.csv", "text,label")).rows == 0


def test_other_line_separators_are_part_of_the_text(tmp_path: Path) -> None:
    found = columns(tmp_path, "a.tsv", 'text\tlabel\na\u2028b "c\tx\nd\x0be\ty\n')
    assert found["text"] == ['a\u2028b "c', "d\x0be"]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("ragged.csv", "text,label\na,x\nb,y,z\nc,x\n", "row 2: has 3 columns where the header has 2"),
        ("ragged-after-lines.csv", 'text,label\n"a\nb",x\nb,y,z\n', "row 2: has 3 columns"),
        ("cyrillic.csv", "text,label\na,x\nпривет,да\n".encode("cp1251"), ":3: is not UTF-8 (byte 0xef)"),
        ("torn.csv", "text,label\nschön,x\n".encode() + b"sch\xc3n \xc3\xb6,y\n", ":3: is not UTF-8 (byte 0xc3)"),
        ("untagged.conll", "EU B-ORG\nrejects\n", "untagged.conll:2: has no tag"),
        ("utf16-unmarked.csv", "text,label\na,y\n".encode("utf-16-le"), "null bytes"),
        ("bad.jsonl", '{"text": "a"}\n\n{"text": "b" "label": 2}\n', "bad.jsonl:3: not JSON"),
        ("cut.jsonl", '{"text": "a"}\n{"text": "b\n', "cut.jsonl:2: not JSON (Unterminated string, column 10)"),
        ("list.jsonl", '{"text": "a"}\n\n5\n', "list.jsonl:3: an object"),
        ("lists.jsonl", '["text", "label"]\n["a", "x"]\n["b"]\n', "lists.jsonl:3: holds 1 and not 2 values as the first"),
        ("lists.json", '[["text", "label"], ["a", "x"], ["b", "y", 1]]', "lists.json: item 3: holds 3 and not 2 values"),
        ("comma.json", '[{"text": "a"},\n]', "comma.json:2: not JSON (Expecting value, column 1). Remove the comma before"),
        ("python.jsonl", "{'text': 'a'}\n", "column 2). Python prints objects like this; write them with json.dumps."),
        ("comments.json", '[\n// mine\n{"text": "a"}]', "comments.json:2: not JSON (Expecting value, column 1). Remove the c"),
        ("torn.jsonl", '{\n "text": "a"\n}\n{\n "text" "b"\n}\n', "torn.jsonl:5: not JSON (Expecting ':' delimiter, column 9)"),
        ("one.csv", "text\na, b\nc\nd, e, f\n", "holds one column of texts with commas in them and no quotation marks"),
        ("title.csv", "Reviews\n" + "text,label\n" * 4 + "a, b,y\na,b,c,y\n", "csv:1: holds one value where the row below has 2"),
        ("other.yml", "version: 1\nintents:\n- greet\n", "yml files are not read"),
        ("nlu.yml", "nlu:\n- intent: a\n  examples: |\n  - text: b\n", "nlu.yml:4: holds an example that has fields"),
        ("deep.json", "[" * 100_000, "nested too deeply"),
        ("text.json", '"text"', "a list of objects"),
        ("empty.csv", b"", "is empty"),
        ("blank.csv", "\n \n", "only blank lines"),
        ("none.json", "[]", "holds no rows"),
        ("a.zip", b"PK\x03\x04", "is an archive"),
        ("a.xlsx", b"PK\x03\x04", "is a spreadsheet; save it as csv"),
        ("page.csv", "\n<!DOCTYPE html>\n<html></html>", "is a web page"),
        ("pointer.parquet", b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "is a Git LFS pointer"),
        ("wrong.parquet", b"text,label\n", "is named parquet but is not one"),
        ("cut.parquet", b"PAR1....", "damaged parquet"),
    ],
)
def test_what_cannot_be_read_is_said_with_its_place(tmp_path: Path, name: str, content: str | bytes, said: str) -> None:
    message = complaint(tmp_path, name, content)
    assert name in message
    assert said in message
    assert "\n" not in message


def test_rows_behind_a_list_of_names_are_counted_from_one(tmp_path: Path) -> None:
    """What is inspected and what a sample is drawn of must be the same rows."""
    source = open_source(put(tmp_path, "a.jsonl", '["text", "label"]\n["a", "x"]\n["b", "y"]\n["c", "x"]\n'))
    (table,) = source.batches(wanted={1, 3})
    assert (table.columns["text"], table.numbers) == (["a", "c"], [1, 3])


@pytest.mark.parametrize("form", ["[{},{}]", "{}\n{}"])
def test_a_class_called_like_a_column_is_no_name_of_one(tmp_path: Path, form: str) -> None:
    content = form.format('["send a text to Ann", "text"]', '["say hello", "greet"]')
    found = {"column 1": ["send a text to Ann", "say hello"], "column 2": ["text", "greet"]}
    assert columns(tmp_path, "a.json", content) == found


@pytest.mark.parametrize(("name", "form"), [("a.json", "[{},\n{}]"), ("a.json", "{}\n{}"), ("a.jsonl", "{}\r\n{}\r\n")])
def test_lists_of_turns_are_conversations(tmp_path: Path, name: str, form: str) -> None:
    talk = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    content = form.format(json.dumps(talk), json.dumps(talk * 2))
    assert columns(tmp_path, name, content) == {"messages": [talk, talk * 2]}


def test_spans_of_spacy_are_words_with_tags(tmp_path: Path) -> None:
    rows = '[["Ann lives here", {"entities": [[0, 3, "PER"]]}], ["Nobody does", {"entities": []}]]'
    for name, content in (("a.json", rows), ("b.json", '{"classes": ["PER"], "annotations": ' + rows + "}")):
        found = columns(tmp_path, name, content)
        assert found["tokens"] == [["Ann", "lives", "here"], ["Nobody", "does"]]
        assert found["tags"] == [["B-PER", "O", "O"], ["O", "O"]]


RASA = """\
version: "3.1"
nlu:
- intent: greet
  examples: |
    - hey
    - note: hi, [Ann](name)
- synonym: tomorrow
  examples: |
    - the day after
- intent: faq/when
# asked often
  metadata:
    - mine
  examples: |
    - come [now]{"entity": "time"}?
responses:
  utter_greet:
  - text: Hey
stories:
- story: happy
  steps:
  - intent: greet
    entities:
    - name
  - action: utter_greet
"""
OLDER = """\
## intent:greet
- hey
- note: hi, [Ann](name:Anna)

## regex:zip
- [0-9]{5}

## intent: faq/when
- come [now](time)?
"""


@pytest.mark.parametrize(("name", "content"), [("nlu.yml", RASA), ("nlu.yaml", RASA.replace("\n", "\r\n")), ("nlu.md", OLDER)])
def test_examples_of_rasa_are_texts_with_their_intents(tmp_path: Path, name: str, content: str) -> None:
    assert columns(tmp_path, name, content) == {
        "text": ["hey", "note: hi, Ann", "come now?"],
        "label": ["greet", "greet", "faq/when"],
    }


def test_a_text_that_speaks_of_an_intent_is_a_text(tmp_path: Path) -> None:
    assert columns(tmp_path, "a.md", "# Plan\n\n## intent: what we want\n\n- less\n")["text"][0] == "# Plan"


def test_a_missing_file_names_its_neighbour(tmp_path: Path) -> None:
    put(tmp_path, "reviews.csv", "text,label\n")
    with pytest.raises(InputError, match=r"no such file. Did you mean .*reviews\.csv"):
        read_table(str(tmp_path / "reveiws.csv"))


def test_a_folder_names_the_file_inside(tmp_path: Path) -> None:
    put(tmp_path, "reviews.csv", "text,label\n")
    with pytest.raises(InputError, match=r"is a folder.*reviews\.csv"):
        read_table(str(tmp_path))
    put(tmp_path, "train.csv", "text,label\n")
    with pytest.raises(InputError, match=r"is a folder.*train\.csv"):
        read_table(str(tmp_path))


def test_an_address_is_not_a_file() -> None:
    with pytest.raises(InputError, match="download the file"):
        read_table("https://example.org/a.csv")


TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), min_size=1).filter(str.strip)


@settings(max_examples=60)
@given(rows=st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=8), delimiter=st.sampled_from([",", ";", "|"]))
def test_whatever_the_csv_module_writes_is_read_back(tmp_path: Path, rows: list[tuple[str, str]], delimiter: str) -> None:
    out = io.StringIO(newline="")
    csv.writer(out, delimiter=delimiter, quoting=csv.QUOTE_ALL).writerows([("text", "label"), *rows])
    found = columns(tmp_path, "a.csv", out.getvalue())
    assert found == {"text": [a for a, _ in rows], "label": [b for _, b in rows]}


@settings(max_examples=60)
@given(rows=st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=8))
def test_whatever_json_lines_hold_is_read_back(tmp_path: Path, rows: list[tuple[str, str]]) -> None:
    lines = "".join(json.dumps({"text": a, "label": b}, ensure_ascii=False) + "\n" for a, b in rows)
    assert columns(tmp_path, "a.jsonl", lines) == {"text": [a for a, _ in rows], "label": [b for _, b in rows]}


@settings(max_examples=100)
@given(content=st.binary(max_size=200), suffix=st.sampled_from([".csv", ".tsv", ".jsonl", ".json", ".parquet", ""]))
def test_any_bytes_are_a_table_or_one_sentence(tmp_path: Path, content: bytes, suffix: str) -> None:
    with suppress(InputError):
        table = read_table(put(tmp_path, f"a{suffix}", content))
        assert len({len(values) for values in table.columns.values()}) <= 1


def test_columns_that_are_called_alike_get_a_number(tmp_path: Path) -> None:
    found = columns(tmp_path, "jira.csv", "Summary,Labels,Labels,Labels.1\na,b,c,d\n")
    assert found == {"Summary": ["a"], "Labels": ["b"], "Labels.1": ["c"], "Labels.1.1": ["d"]}


def test_a_spreadsheet_is_one_whatever_it_is_called(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.csv", "w") as sheet:
        sheet.writestr("xl/workbook.xml", "<workbook/>")
    with pytest.raises(InputError, match=r"a\.csv is a spreadsheet, whatever its name says; save it as csv"):
        read_table(str(tmp_path / "a.csv"))


def test_other_kinds_of_files_are_told_what_to_write(tmp_path: Path) -> None:
    text = "or the text to a txt file"
    for name, said in (("a.yml", text), ("a.docx", text), *((f"a.{kind}", "csv or jsonl file") for kind in ("db", "sql", "ann"))):
        with pytest.raises(InputError, match=rf"{name}: {name[2:]} files are not read; write the rows to .*{said}\.$"):
            read_table(put(tmp_path, name, b"PK\x03\x04 nlu: greet"))
    with pytest.raises(InputError, match=r"a: pickle files are not read; write the rows to a csv or jsonl file\."):
        read_table(put(tmp_path, "a", pickle.dumps([{"text": "a"}])))


def test_whether_spacy_has_one_label_a_text_or_several(tmp_path: Path) -> None:
    rows = [["a b", {"cats": {"x": 1.0, "y": 0.0}}], ["c", {"cats": {"x": 0, "y": True}}], ["d", {"cats": {"x": "no"}}]]
    found = columns(tmp_path, "a.json", json.dumps(rows))
    assert (found["text"], found["label"]) == (["a b", "c", "d"], [["x"], ["y"], None])


def test_chinese_as_spreadsheets_save_it_is_read_and_korean_is_not_taken_for_it(tmp_path: Path) -> None:
    rows = "内容,情绪\n我今天很开心，因为他们来了,高兴\n这个服务太差了，我不会再来,生气\n"
    (tmp_path / "a.csv").write_bytes(rows.encode("gb18030"))
    source = open_source(str(tmp_path / "a.csv"))
    assert source.encoding == "GB18030"
    assert read_table(str(tmp_path / "a.csv")).columns["情绪"] == ["高兴", "生气"]
    for codec, text in (("euc_kr", "오늘은 날씨가 정말 좋고 기분이 좋습니다"), ("shift_jis", "今日はとても天気が良い")):
        (tmp_path / "b.csv").write_bytes(f"text,label\n{text},a\n{text},b\n".encode(codec))
        with pytest.raises(InputError, match="is not UTF-8"):
            open_source(str(tmp_path / "b.csv"))


@pytest.mark.parametrize("name", ["-", "/dev/fd/63"])
def test_rows_that_come_from_another_program_are_to_be_saved(name: str) -> None:
    with pytest.raises(InputError, match=rf"^{name} is not an ordinary file; save the rows"):
        read_table(name)


def test_two_columns_are_read_as_one_text(tmp_path: Path) -> None:
    rows = [{"mail": {"subject": " Hi "}, "n+m": 1, "body": "Where is it?"}, {"mail": {"subject": None}, "body": 7.0}]
    file = put(tmp_path, "a.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    table = read_table(file, ["mail.subject + body", "n+m"])
    assert table.values("mail.subject + body") == ["Hi\nWhere is it?", "7"]
    assert table.values("n+m") == [1, None], "a column may be called so"
    assert not table.holds("body+nothing")
    with pytest.raises(InputError, match=r"has no column body\+nothing"):
        table.values("body+nothing")
    some = table.only({1}).filled(["body+later"])
    assert some.values("body+later") == ["Where is it?"], "a batch of objects may lack one of them"
    nested = put(tmp_path, "b.jsonl", '{"a": "x", "b": ["y"]}\n')
    assert read_table(nested).values("a+b") == [["y"]], "which readers refuse"


def test_of_parquet_both_columns_of_a_text_are_read(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"subject": ["a"], "body": ["b"], "page": ["z"]}), tmp_path / "a.parquet")
    table = read_table(str(tmp_path / "a.parquet"), ["subject+body"])
    assert (table.values("subject+body"), set(table.columns)) == (["a\nb"], {"subject", "body"})
