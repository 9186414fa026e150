"""The other formats: packed, in other encodings, raw text, tagged tokens, Arrow, and sets that `datasets` has saved."""

import gzip
import json
import shutil
from pathlib import Path

import pytest

from engine.inspection.data import inspect_data
from engine.loading import load
from engine.tables import delimited, encoding, objects
from engine.tables.files import fingerprint
from engine.tables.read import open_source
from recommender.errors import InputError
from recommender.plan import DataChoice
from tests.engine.made_files import read_table

PAIRS = [(f"the parcel number {i} came late", "ab"[i % 2]) for i in range(30)]
CSV = "text,label\n" + "".join(f"{t},{x}\n" for t, x in PAIRS)
COLUMNS = {"text": [t for t, _ in PAIRS], "label": [x for _, x in PAIRS]}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv.gz", CSV),
        ("a.tsv.gz", CSV.replace(",", "\t")),
        ("a.json.gz", json.dumps([{"text": t, "label": x} for t, x in PAIRS])),
        ("a.jsonl.gz", "".join(json.dumps({"text": t, "label": x}) + "\n" for t, x in PAIRS)),
        ("packed.csv", CSV),
    ],
)
def test_packed_files_hold_what_was_packed(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_bytes(gzip.compress(content.encode()))
    assert read_table(str(tmp_path / name)).columns == COLUMNS


def test_unpacking_stops_at_the_cap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding, "UNPACKED_MOST", 3 << 20)
    (tmp_path / "bomb.csv.gz").write_bytes(gzip.compress(b"text,label\n" + b"a,b\n" * 2_000_000))
    with pytest.raises(InputError, match=r"bomb\.csv\.gz: unpacks to more than 3 MiB, where reading stops"):
        read_table(str(tmp_path / "bomb.csv.gz"))


@pytest.mark.parametrize("cut", [8, 60])
def test_a_torn_gzip_file(tmp_path: Path, cut: int) -> None:
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(CSV.encode())[:cut])
    with pytest.raises(InputError, match=r"a\.csv\.gz: damaged gzip file"):
        read_table(str(tmp_path / "a.csv.gz"))


def test_a_packed_archive_is_refused(tmp_path: Path) -> None:
    import io
    import tarfile

    with tarfile.open(tmp_path / "a.gz", "w:gz") as archive:
        entry = tarfile.TarInfo("../../evil.csv")
        entry.size = len(CSV)
        archive.addfile(entry, io.BytesIO(CSV.encode()))
    with pytest.raises(InputError, match="is an archive"):
        read_table(str(tmp_path / "a.gz"))


@pytest.mark.parametrize(
    ("codec", "word", "name"),
    [
        ("utf-8", "schön 🎈", "UTF-8"),
        ("utf-8-sig", "schön", "UTF-8"),
        ("utf-16", "schön 🎈", "UTF-16"),
        ("latin-1", "schön", "Latin-1"),
        ("cp1252", "schön – „gut“ €", "Windows-1252"),
    ],
)
def test_encodings_are_told_and_read(tmp_path: Path, codec: str, word: str, name: str) -> None:
    (tmp_path / "a.csv").write_bytes(f"text,label\nit is {word} here,x\nit is not,y\n".encode(codec))
    source = open_source(str(tmp_path / "a.csv"))
    assert source.encoding == name
    assert read_table(str(tmp_path / "a.csv")).columns["text"] == [f"it is {word} here", "it is not"]


def test_a_mark_of_utf8_before_what_is_none_is_no_part_of_a_name(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"\xef\xbb\xbf" + "text,label\nüberschön größer,x\nnot,y\n".encode("cp1252"))
    assert read_table(str(tmp_path / "a.csv")).columns == {"text": ["überschön größer", "not"], "label": ["x", "y"]}


def test_raw_text_is_a_row_a_paragraph_or_a_line(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("\n\nOnce, there was\na king.\n \n\nHe had, alas, no heir.\n")
    (tmp_path / "b.txt").write_text("Once, there was a king.\r\nHe had, alas, no heir.\r\n")
    (tmp_path / "c.txt.gz").write_bytes(b"Once, there was a king.\rHe had, alas, no heir.\r")
    assert read_table(str(tmp_path / "c.txt.gz")).columns == read_table(str(tmp_path / "b.txt")).columns
    assert read_table(str(tmp_path / "a.txt")).columns == {"text": ["Once, there was\na king.", "He had, alas, no heir."]}
    assert read_table(str(tmp_path / "b.txt")).columns == {"text": ["Once, there was a king.", "He had, alas, no heir."]}


def test_texts_behind_several_labels(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("__label__x __label__y one text\n__label__x another __label__\n  no label\n")
    found = read_table(str(tmp_path / "a.txt"))
    assert found.columns == {"text": ["one text", "another __label__", "no label"], "label": [["x", "y"], ["x"], []]}
    (tmp_path / "b.txt").write_text("__label__x one text\n<<<<<<< HEAD\n__label__y another\n")
    assert read_table(str(tmp_path / "b.txt")).columns["label"] == ["x", None, "y"]


def test_texts_before_their_label_and_lines_that_end_with_names(tmp_path: Path) -> None:
    said = [f"Sales of plant {i} rose by {i} mn euros ." for i in range(40)]
    bank, mail = tmp_path / "Sentences_AllAgree.txt", tmp_path / "mail.txt"
    bank.write_bytes("".join(f"{text}@{('neutral', 'positive')[i % 2]}\r\n" for i, text in enumerate(said)).encode("latin-1"))
    facts = inspect_data({"train": str(bank)})["facts"]
    assert (facts["task"], facts["labels"], facts["rows"]) == ("classification", ["neutral", "positive"], 40)
    assert read_table(str(bank)).columns["text"] == said
    mail.write_text("".join(f"{text} write to me@home{i}\n" for i, text in enumerate(said)))
    assert read_table(str(mail)).format == "text"
    mail.write_text("".join(f"{text} via @{('CNN', 'BBC')[i % 2]}\n" for i, text in enumerate(said)))
    assert read_table(str(mail)).format == "text", "whom it is from"
    far = [f"{text}@{('neutral', 'positive')[i % 2]}" for i, text in enumerate(said * 2_000)]
    bank.write_text("\n".join([*far, "Write to me@home.com now", "No mark"]))
    last = read_table(str(bank))
    assert (last.columns["text"][-2:], last.columns["label"][-2:]) == (["Write to me@home.com now", "No mark"], [None, None])


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.conll", "-DOCSTART- -X- O\n\nEU NNP B-ORG\n#tag NN O\n\nPeter NNP B-PER\n"),
        ("named.conll", "Token POS Tag\nEU NNP B-ORG\n#tag NN O\n\nPeter NNP B-PER\n"),
        ("a.txt", "EU\tB-ORG\n#tag\tO\n\t\nPeter\tB-PER\n"),
        ("a.tsv", "EU\tB-ORG\r\n#tag\tO\r\n\r\nPeter\tB-PER\r\n"),
        ("a.csv", "Sentence #,Word,POS,Tag\nSentence: 1,EU,NNP,B-ORG\n,#tag,NN,O\nSentence: 2,Peter,NNP,B-PER\n"),
        ("b.csv", "sentence_id,token,label\n7,EU,B-ORG\n7,#tag,O\n9,Peter,B-PER\n"),
        ("a.bio", "1\tEU\tB-ORG\n2\t#tag\tO\n\n1\tPeter\tB-PER\n"),
        ("c.csv", 'tokens,tags\n"[""EU"", ""#tag""]","[\'B-ORG\', \'O\']"\n[\'Peter\'],"[""B-PER""]"\n'),
    ],
)
def test_tagged_tokens(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content, newline="")
    assert read_table(str(tmp_path / name)).columns == {
        "tokens": [["EU", "#tag"], ["Peter"]],
        "tags": [["B-ORG", "O"], ["B-PER"]],
    }


def test_lines_that_say_where_a_sentence_is_from_are_no_words(tmp_path: Path) -> None:
    for name in ("a.tsv", "a.conll"):
        (tmp_path / name).write_text("#\tx:/a.b [2009]\n1\tAnn\tB-PER\n2\tran\tO\n\n#\tx:/a.c [2010]\n1\tEve\tB-PER\n\n" * 3)
        assert read_table(str(tmp_path / name)).columns["tokens"][:2] == [["Ann", "ran"], ["Eve"]]
    (tmp_path / "two.tsv").write_text("#\thttp://a.b [2009]\n1\tAnn\tB-PER\tO\n2\tran\tO\tO\n\n" * 3)
    with pytest.raises(InputError, match=r"two\.tsv:2: holds two tags per word; keep the column of those to be learned"):
        read_table(str(tmp_path / "two.tsv"))
    (tmp_path / "hash.conll").write_text("Ann\tB-PER\n#\tO\n\n" * 3)
    assert read_table(str(tmp_path / "hash.conll")).columns["tokens"][0] == ["Ann", "#"], "a word like others"


def test_who_speaks_in_turn_is_no_label_of_what_is_said(tmp_path: Path) -> None:
    said = [f"it is the parcel number {i} again" for i in range(40)]
    talk, labelled = tmp_path / "talk.txt", tmp_path / "labelled.txt"
    talk.write_text("".join(f"{'AB'[i % 2]}; {text}\n" for i, text in enumerate(said)))
    labelled.write_text("".join(f"{'AB'[i // 3 % 2]}; {text}\n" for i, text in enumerate(said)))
    assert list(read_table(str(talk)).columns) == ["text"]
    assert list(read_table(str(labelled)).columns) == ["column 1", "column 2"]
    labelled.write_text("".join(f"intent{i * 7 % 30}; {said[i % 40]}\n" for i in range(200)))
    assert list(read_table(str(labelled)).columns) == ["column 1", "column 2"], "of thirty the next one is another"


def test_universal_dependencies(tmp_path: Path) -> None:
    rows = ["# text = I don't", "1\tI\tI\tPRON" + "\t_" * 6, "2-3\tdon't\t_\t_" + "\t_" * 6, "2\tdo\tdo\tAUX" + "\t_" * 6, ""]
    for name in ("a.conllu", "a.txt", "a.tsv"):
        (tmp_path / name).write_text("\n".join(rows))
        assert read_table(str(tmp_path / name)).columns == {"tokens": [["I", "do"]], "tags": [["PRON", "AUX"]]}
    (tmp_path / "b.conllu").write_text("\n".join([*rows, *rows[:2], "2\tdo\tAUX"]))
    with pytest.raises(InputError, match=r"b\.conllu:8: has 3 columns where CoNLL-U has 10; fix the line"):
        read_table(str(tmp_path / "b.conllu"))
    (tmp_path / "ten.tsv").write_text("".join(f"{i}\t" + "a few words\t" * 8 + "label\n" for i in range(1, 9)))
    assert len(read_table(str(tmp_path / "ten.tsv")).columns) == 10


@pytest.mark.parametrize("kind", ["file", "stream"])
def test_arrow(tmp_path: Path, kind: str) -> None:
    import pyarrow as pa

    table = pa.table(COLUMNS | {"picture": [b"\x00"] * len(PAIRS)})
    opened = pa.ipc.new_file if kind == "file" else pa.ipc.new_stream
    with opened(str(tmp_path / "a.arrow"), table.schema) as writer:
        writer.write_table(table)
    assert read_table(str(tmp_path / "a.arrow")).columns == COLUMNS


def test_a_parquet_file_too_large_for_memory_is_not_called_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    def full(*_: object, **__: object) -> None:
        raise pa.ArrowMemoryError("malloc of size 9 failed")

    pq.write_table(pa.table({"text": ["a"], "label": ["b"]}), tmp_path / "a.parquet")
    monkeypatch.setattr(pq.ParquetFile, "iter_batches", full)
    with pytest.raises(InputError, match=r"a\.parquet: does not fit in memory"):
        read_table(str(tmp_path / "a.parquet"))


def test_a_damaged_arrow_file(tmp_path: Path) -> None:
    (tmp_path / "a.arrow").write_bytes(b"ARROW1\x00\x00 and nothing that follows")
    with pytest.raises(InputError, match=r"a\.arrow: damaged Arrow file"):
        read_table(str(tmp_path / "a.arrow"))


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A set of two splits as `datasets` saves it, its labels being numbers with names."""
    from datasets import ClassLabel, Dataset, DatasetDict, Features, Value

    features = Features({"text": Value("string"), "label": ClassLabel(names=["bad", "good"])})
    rows = {"text": COLUMNS["text"], "label": [i % 2 for i in range(len(PAIRS))]}
    new = {"text": ["a new one", "another"], "label": [1, -1]}
    parts = {"train": Dataset.from_dict(rows, features=features), "test": Dataset.from_dict(new, features=features)}
    DatasetDict(parts).save_to_disk(str(tmp_path / "saved"))
    return tmp_path / "saved"


def test_a_saved_set_is_read_with_the_names_of_its_classes(saved: Path) -> None:
    assert read_table(str(saved / "train")).columns["label"][:3] == ["bad", "good", "bad"]
    assert read_table(str(saved / "test")).columns["label"] == ["good", None]


def test_the_test_split_of_a_saved_set_is_held_out(saved: Path) -> None:
    answer = inspect_data({"train": str(saved)})
    assert (answer["path"], answer["eval_path"]) == (str(saved / "train"), str(saved / "test"))
    assert (answer["facts"]["rows"], answer["facts"]["eval_rows"], answer["facts"]["format"]) == (30, 1, "arrow")
    assert answer["splits"] == {"train": str(saved / "train"), "test": str(saved / "test")}
    # The plan names these paths; the worker finds the same rows in them.
    train, held_out = load(DataChoice(train=answer["path"], eval=answer["eval_path"], text_column="text", label_column="label"))
    assert (train.texts, held_out and held_out.texts) == (COLUMNS["text"], ["a new one"])
    assert fingerprint(answer["path"]) == answer["fingerprint"]


def test_where_the_labels_of_the_test_split_are_secret_the_validation_split_is_held_out(saved: Path) -> None:
    from datasets import Dataset, load_from_disk

    secret = load_from_disk(str(saved / "test")).map(lambda row: {"label": -1})
    assert isinstance(secret, Dataset)
    secret.save_to_disk(str(saved / "secret"))
    for file in (saved / "test").iterdir():
        file.unlink()
    (saved / "secret").rename(saved / "moved")
    for file in (saved / "moved").iterdir():
        file.rename(saved / "test" / file.name)
    answer = inspect_data({"train": str(saved)})
    assert answer["eval_path"] is answer["facts"]["eval_rows"] is answer["eval_fingerprint"] is None
    (saved / "validation").mkdir()
    for file in (saved / "train").iterdir():
        (saved / "validation" / file.name).write_bytes(file.read_bytes())
    (saved / "dataset_dict.json").write_text(json.dumps({"splits": ["train", "test", "validation"]}))
    for _ in range(2):  # found, and remembered
        answer = inspect_data({"train": str(saved)})
        assert (answer["eval_path"], answer["facts"]["eval_rows"]) == (str(saved / "validation"), 30)
        assert answer["eval_fingerprint"] == fingerprint(str(saved / "validation"))


def test_a_saved_set_that_lacks_a_file(saved: Path) -> None:
    next((saved / "train").glob("*.arrow")).unlink()
    with pytest.raises(InputError, match=r"the saved data set is not complete; data-.* is missing"):
        read_table(str(saved / "train"))


def test_a_saved_set_never_leads_out_of_its_folder(saved: Path, tmp_path: Path) -> None:
    (tmp_path / "other.arrow").write_bytes(next((saved / "train").glob("*.arrow")).read_bytes())
    state = json.loads((saved / "train" / "state.json").read_text())
    state["_data_files"] = [{"filename": "../../other.arrow"}]
    (saved / "train" / "state.json").write_text(json.dumps(state))
    with pytest.raises(InputError, match=r"other\.arrow is missing"):
        read_table(str(saved / "train"))


def test_a_cell_that_holds_no_list_where_others_do(tmp_path: Path) -> None:
    rows = ["\"['a', 'b']\",\"['O', 'O']\"\n"] * 600
    (tmp_path / "a.csv").write_text("tokens,tags\n" + "".join(rows) + "\"['a'\",O\n")
    with pytest.raises(InputError, match=r"a\.csv: row 601: column tokens does not hold a list, where other rows do\."):
        read_table(str(tmp_path / "a.csv"))
    # What numpy prints would be read as one word.
    (tmp_path / "b.csv").write_text("tokens,tags\n" + "['a' 'b'],['O' 'O']\n" * 3)
    assert read_table(str(tmp_path / "b.csv")).columns["tokens"] == ["['a' 'b']"] * 3


def test_a_folder_of_files_is_read_as_a_hub_data_set_would_be(tmp_path: Path) -> None:
    rows = "sentence,label\n" + "".join(f"words number {i} of {{0}},{i % 2}\n" for i in range(30))
    (tmp_path / "hub" / "data").mkdir(parents=True)
    for name in ("train-00000-of-00002", "train-00001-of-00002", "validation-00000-of-00001"):
        (tmp_path / "hub" / "data" / f"{name}.csv").write_text(rows.format(name))
    (tmp_path / "hub" / "data" / "test-00000-of-00001.csv").write_text("sentence,label\n" + "kept secret,-1\n" * 9)
    found = inspect_data({"train": str(tmp_path / "hub")})
    assert found["path"].endswith("hub/data/train-0000*-of-00002.csv")
    assert found["eval_path"].endswith("validation-00000-of-00001.csv")
    assert (found["facts"]["rows"], found["facts"]["eval_rows"]) == (60, 30)
    (tmp_path / "book").mkdir()
    for i in range(12):
        (tmp_path / "book" / f"{i}.txt").write_text(f"Chapter {i} begins.\n\nAnd here it ends, {i}.\n")
    found = inspect_data({"train": str(tmp_path / "book")})["facts"]
    assert (found["rows"], found["task"], found["layout"]) == (24, "continued_pretraining", "text")
    # Files of which nothing says that they belong together are not put together.
    (tmp_path / "hub" / "data" / "notes.csv").write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="is a folder"):
        inspect_data({"train": str(tmp_path / "hub")})
    for language in ("de", "en"):
        (tmp_path / "several" / language).mkdir(parents=True)
        (tmp_path / "several" / language / "rows.csv").write_text(rows)
    with pytest.raises(InputError, match=r"several: holds several sets of rows; .* like .*/several/de/rows\.csv\.$"):
        inspect_data({"train": str(tmp_path / "several")})
    for label in ("pos", "neg"):
        (tmp_path / "classes" / label).mkdir(parents=True)
        (tmp_path / "classes" / label / "0.txt").write_text("some words")
    (tmp_path / "classes" / "more" / "deep").mkdir(parents=True)
    (tmp_path / "classes" / "more" / "deep" / "0.txt").write_text("some words")
    for label in ("pos", "neg"):
        (tmp_path / "classes" / label / "0.txt").unlink()
    (tmp_path / "classes" / "0.txt").write_text("some words")
    with pytest.raises(InputError, match=r"holds texts in folders of their own \(the folder itself, more/deep\); give"):
        inspect_data({"train": str(tmp_path / "classes")})


def test_a_folder_of_texts_for_each_class_is_read_as_its_rows(tmp_path: Path) -> None:
    for place, text in (("neg/0", "bad"), ("neg/1", "nicht schön"), ("pos/0", "good"), ("unsup/0", "nobody knows")):
        file = tmp_path / "train" / f"{place}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text.encode("latin-1"))
    train = str(tmp_path / "train")
    assert read_table(train).columns == {"text": ["bad", "good", "nicht schön"], "label": ["neg", "pos", "neg"]}
    before = fingerprint(train)
    (tmp_path / "train" / "neg" / "0.txt").rename(tmp_path / "train" / "pos" / "1.txt")
    assert fingerprint(train) != before
    shutil.copytree(train, tmp_path / "test")
    answer = inspect_data({"train": str(tmp_path)})
    facts = answer["facts"]
    assert (answer["path"], answer["eval_path"]) == (train, str(tmp_path / "test"))
    assert (facts["rows"], facts["eval_rows"], facts["labels"]) == (3, 3, ["neg", "pos"])
    assert facts["format"] == "folders (without unsup)"
    (tmp_path / "train" / "pos" / "2.txt").touch()
    assert inspect_data({"train": train})["facts"]["empty_rows"] == 1
    (tmp_path / "train" / "neg" / "3.txt").write_bytes(b"a\0")
    with pytest.raises(InputError, match=r"neg/3\.txt:1:2: holds null bytes"):
        inspect_data({"train": train})


def test_texts_of_a_class_are_opened_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a hundred thousand files four looks at each were most of the work."""
    for label, text in (("neg", b"bad"), ("pos", b"\xef\xbb\xbfsch\xc3\xb6n\r\n")):
        (tmp_path / "train" / label).mkdir(parents=True)
        (tmp_path / "train" / label / "0.txt").write_bytes(text)
    monkeypatch.setattr("engine.tables.by_class.open_text", lambda file: pytest.fail(f"{file} is opened again"))
    assert read_table(str(tmp_path / "train")).columns == {"text": ["bad", "schön\r\n"], "label": ["neg", "pos"]}


def test_folders_that_look_like_parts_of_one_text_are_asked_about(tmp_path: Path) -> None:
    def written(places: str, texts: int, words: str) -> Path:
        for place in places.split(","):
            for i in range(texts):
                file = tmp_path / place / f"{i}.txt"
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(f"{words} {i}")
        return tmp_path / places.partition("/")[0]

    for folder in (
        written("book/part1,book/part2", 4, "it was a night"),
        written("novels/The Ring,novels/The Towers", 4, "a long night " * 3_000),
        written("project/docs,project/src", 1, "notes"),
        written("years/2019,years/2020", 4, "what happened"),
    ):
        with pytest.raises(InputError, match=r"\*\*/\*\.txt \(in quotes .* as raw text\. If the folders are classes"):
            inspect_data({"train": str(folder)})
    book = inspect_data({"train": str(tmp_path / "book" / "**" / "*.txt")})["facts"]
    assert (book["rows"], book["task"]) == (8, "continued_pretraining")
    written("Mails/Testing/1,Mails/Testing/2", 4, "hello")
    mails = inspect_data({"train": str(written("Mails/Training/1,Mails/Training/2", 4, "hello"))})
    assert mails["facts"]["labels"] == ["1", "2"]
    assert mails["eval_path"].endswith("Mails/Testing")
    assert inspect_data({"train": str(written("stars/star 1,stars/star 2", 4, "good"))})["facts"]["task"] == "classification"


def test_several_files_by_a_pattern_are_one_table(tmp_path: Path) -> None:
    for part in range(3):
        (tmp_path / f"train-{part}.csv").write_text(f"text,label\nword {part},x\n")
    (tmp_path / "other.csv").write_text(CSV)
    assert read_table(str(tmp_path / "train-*.csv")).columns == {"text": ["word 0", "word 1", "word 2"], "label": ["x"] * 3}
    before = fingerprint(str(tmp_path / "train-*.csv"))
    (tmp_path / "train-1.csv").write_text("text,label\nword changed,x\n")
    assert fingerprint(str(tmp_path / "train-*.csv")) != before


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl", "a.json"])
def test_batches_make_up_the_table_whatever_their_size(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"text": f'he said "{i},\n{"x" * (i * 37 % 900)}" ü', "label": str(i % 2)} for i in range(300)]
    quoted = "".join('"{}"\t{}\n'.format(r["text"].replace('"', '""'), r["label"]) for r in rows)
    content = {
        "a.csv": "text,label\n" + quoted.replace("\t", ","),
        "a.tsv": "text\tlabel\n" + quoted,
        "a.jsonl": "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows),
        "a.json": json.dumps(rows, ensure_ascii=False, indent=1),
    }
    (tmp_path / name).write_text(content[name])
    for module in (delimited, objects):
        monkeypatch.setattr(module, "BATCH_BYTES", 700)
    monkeypatch.setattr(encoding, "CHUNK", 61)
    source = open_source(str(tmp_path / name))
    batches = list(source.batches())
    assert len(batches) > 20
    assert [b.start for b in batches] == [sum(b.rows for b in batches[:i]) for i in range(len(batches))]
    assert [t for b in batches for t in b.columns["text"]] == [r["text"] for r in rows]
    some = list(source.batches(wanted={3, 250}))
    assert [(b.number(i), t) for b in some for i, t in enumerate(b.columns["text"])] == [
        (3, rows[2]["text"]), (250, rows[249]["text"]),
    ]  # fmt: skip


def test_a_broken_json_list_names_the_line_far_into_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding, "CHUNK", 50)
    lines = [f'{{"text": "row {i}", "label": 1}},' for i in range(200)]
    lines[150] = '{"text": "row 150" "label": 1},'
    (tmp_path / "a.json").write_text("[\n" + "\n".join(lines)[:-1] + "\n]")
    with pytest.raises(InputError, match=r"a\.json:152: not JSON \(Expecting ',' delimiter, column 20\)"):
        read_table(str(tmp_path / "a.json"))


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ('text,label\n"a ""b"" c",x\n"he said \\"no\\" twice",y\n', r'a\.csv:3: a quotation mark within a text is written \\"'),
        ('text;label\na;x\n\n"he said \\"no; no\\" twice";y\n', r"a\.csv:4: a quotation mark within a text"),
        ("Survey,,\n,,\nid,comment,kind\n1,good,x\n2,bad,y\n", r"a\.csv:1: holds one value where the row below has 3; remove"),
    ],
)
def test_what_csv_does_not_know_is_told_where_it_would_be_read_as_something_else(tmp_path: Path, content: str, told: str) -> None:
    (tmp_path / "a.csv").write_text(content)
    with pytest.raises(InputError, match=told):
        read_table(str(tmp_path / "a.csv"))


def test_backslashes_and_unnamed_columns_are_no_faults_by_themselves(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('text,kind\n"C:\\",x\n"a\\""b\\""c",y\n')
    assert read_table(str(tmp_path / "a.csv")).columns["text"] == ["C:\\", 'a\\"b\\"c']
    (tmp_path / "b.csv").write_text("survey,,\ngood,,\nbad,,\n")
    assert read_table(str(tmp_path / "b.csv")).columns["survey"] == ["good", "bad"]
    (tmp_path / "c.csv").write_text("text,\ngood,x\nbad,y\n")
    assert list(read_table(str(tmp_path / "c.csv")).columns) == ["text", "column 2"]


def test_a_quotation_mark_that_is_never_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delimited, "BATCH_BYTES", 1_000)
    monkeypatch.setattr(delimited, "LARGEST_BLOCK", 20_000)
    (tmp_path / "a.csv").write_text('text,label\nfine,x\n"open,y\n' + "row,x\n" * 20_000)
    with pytest.raises(InputError, match="never closed"):
        read_table(str(tmp_path / "a.csv"))


def test_a_file_that_changes_while_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.csv"
    path.write_text(CSV)

    def grow(done: int, total: int, unit: str) -> None:
        if path.stat().st_size == len(CSV):
            path.write_text(CSV + "one more,a\n")

    with pytest.raises(InputError, match="changed while it was read"):
        inspect_data({"train": str(path)}, grow)
