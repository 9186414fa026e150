"""The catalogues hold every text that code marks, with its placeholders, and the right one is spoken."""

import ast
import errno
import io
import os
import re
import string
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic_core import PydanticKnownError
from rich.console import Console

from engine.rundir import RunDirectory
from engine.state import fold
from recommender import language
from recommender.catalogue import SENTENCES
from recommender.catalogue_settings import SETTINGS
from recommender.decide import recommend
from recommender.facts import Facts, Machine
from recommender.reasons import sentence
from tui import cli, i18n, show
from tui.advice_words import cautions
from tui.endings import ending
from tui.error_words import in_words, warning_words

ROOT = Path(__file__).parents[2]


@pytest.fixture
def _english_afterwards() -> Iterator[None]:
    yield
    language.use({})


def marked() -> dict[str, str]:
    """Texts within `_(...)`, `plural(...)`, `marked(...)` and `said(...)`, with the place of one occurrence."""
    found: dict[str, str] = {}
    for file in [*sorted((ROOT / "tui").rglob("*.py")), *sorted((ROOT / "recommender").rglob("*.py"))]:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            name = node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else ""
            if isinstance(node, ast.Call) and name in ("_", "plural", "marked", "said"):
                count = 2 if name == "plural" else 1
                for argument in node.args[:count]:
                    where = f"{file.relative_to(ROOT)}:{node.lineno}"
                    assert isinstance(argument, ast.Constant | ast.Name | ast.Attribute | ast.Subscript | ast.IfExp), (
                        f"{where}: a text that is marked must be written out; fill in what varies with format"
                    )
                    if isinstance(argument, ast.Constant):
                        found[str(argument.value)] = where
    return found


def fields(text: str) -> list[str]:
    """Names of the placeholders, with their formats."""
    return sorted(f"{name}:{form}" for _, name, form, _ in string.Formatter().parse(text) if name is not None)


@pytest.mark.parametrize("name", [n for n in i18n.languages() if n != "en"])
def test_a_catalogue_has_every_text_with_its_placeholders(name: str) -> None:
    engine = dict(i18n.catalogue(i18n.FOLDER / f"{name}.engine.po"))
    catalogue = engine | dict(i18n.catalogue(i18n.FOLDER / f"{name}.po"))
    wrong = [f"{text!r} → {said!r}" for text, said in catalogue.items() if fields(text) != fields(said)]
    assert not wrong, "\n".join(wrong)
    missing = [f"{where}: {text!r}" for text, where in marked().items() if text not in catalogue]
    missing += [f"{code}: {text!r}" for code, text in (SENTENCES | SETTINGS).items() if text not in catalogue]
    assert not missing, "\n".join(missing)


@pytest.mark.parametrize(
    ("wanted", "found"),
    [("zh_CN.UTF-8", "zh_CN"), ("zh", "zh_CN"), ("zh-Hans", "zh_CN"), ("zh_SG", "zh_CN"), ("zh_TW", "en"), ("de_DE", "en"),
     ("C", "en"), ("", "en")],
)  # fmt: skip
def test_the_locale_names_the_language(wanted: str, found: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(i18n, "languages", lambda: ["en", "zh_CN"])
    assert i18n.nearest(wanted) == found


def test_loracle_lang_outranks_the_locale(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(i18n, "languages", lambda: ["en", "zh_CN"])
    monkeypatch.setenv("LC_ALL", "zh_CN.UTF-8")
    assert i18n.chosen() == "en"
    monkeypatch.delenv("LORACLE_LANG")
    assert i18n.chosen() == "zh_CN"


@pytest.mark.usefixtures("_english_afterwards")
def test_a_catalogue_is_read_as_gettext_reads_it(tmp_path: Path) -> None:
    file = tmp_path / "xx.po"
    file.write_text(
        'msgid ""\nmsgstr "Language: xx\\n"\n\n'
        '# a comment\n#: tui/a.py:3\nmsgid "Say \\"{words}\\"\\n"\nmsgstr ""\n"Sag "\n"\\"{words}\\"\\n"\n\n'
        'msgid "one row"\nmsgid_plural "{n} rows"\nmsgstr[0] "{n} Reihen"\n\n'
        '#, fuzzy\nmsgid "unsure"\nmsgstr "unsicher"\n\nmsgid "later"\nmsgstr ""\n\n#~ msgid "gone"\n#~ msgstr "weg"\n',
        encoding="utf-8",
    )
    assert dict(i18n.catalogue(file)) == {'Say "{words}"\n': 'Sag "{words}"\n', "one row": "{n} Reihen", "{n} rows": "{n} Reihen"}
    language.use(dict(i18n.catalogue(file)))
    assert i18n._("later") == "later"
    assert i18n.plural("one row", "{n} rows", 3).format(n=3) == "3 Reihen"


def test_the_program_speaks_the_language_of_the_locale() -> None:
    env = {n: v for n, v in os.environ.items() if n != "LORACLE_LANG"} | {"LC_ALL": "zh_CN.UTF-8", "PYTHONUTF8": "1"}
    command = [sys.executable, "-m", "tui.cli", "--plain"]
    done = subprocess.run(command, input="", capture_output=True, encoding="utf-8", timeout=60, check=False, env=env)
    assert done.returncode == 2
    assert "选择并运行一次微调" in done.stderr
    assert "没有启动任何东西" in done.stderr


@pytest.mark.usefixtures("_english_afterwards")
def test_a_reason_is_said_in_the_language_with_the_same_figures() -> None:
    template = SENTENCES["does_not_fit"]
    language.use({template: "{method} braucht {needed:size}, frei sind {free:size}.", "Full fine-tuning": "Volles Training"})
    known = {"method": "Full fine-tuning", "needed": 13e9, "free": 11.6e9}
    assert sentence("does_not_fit", known) == "Volles Training braucht 13.0 GB, frei sind 11.6 GB."
    language.use({"labels": "Klassen", SENTENCES["leak"]: "Spalte {column}", SENTENCES["leak_in_text"]: "Wort {word}"})
    assert sentence("leak", {"column": "labels"}) == "Spalte labels"  # a person's own name is no word of ours
    assert sentence("leak_in_text", {"word": "labels"}) == "Wort labels"


@pytest.mark.usefixtures("_english_afterwards")
def test_help_and_complaints_about_what_was_typed_are_said_in_the_language(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LORACLE_LANG", "zh_CN")
    assert cli.main(["plan", "--help"]) == 0
    help_of_plan = capsys.readouterr().out
    assert "用法：loracle plan" in help_of_plan
    assert "显示此帮助并退出" in help_of_plan
    assert "训练行的一个随机样本" in help_of_plan
    assert cli.main(["--nonsense"]) == 2
    assert "没有 --nonsense 这个选项" in capsys.readouterr().err
    for flags, told in (("plan --hours 0", "不是大于 0 的小时数"), ("pilot --model a --data b --share 2", "不超过 0.5 的比例")):
        assert cli.main(flags.split()) == 2
        assert told in capsys.readouterr().err


def skeletons() -> str:
    """All texts that the code writes out, with a mark where something is filled in."""
    found = []
    for folder in ("engine", "recommender", "tui"):
        for file in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    found.append(node.value)
                elif isinstance(node, ast.JoinedStr):
                    found.append("".join(str(v.value) if isinstance(v, ast.Constant) else "{}" for v in node.values))
    return "\n".join(found)


@pytest.mark.parametrize("name", [n for n in i18n.languages() if n != "en"])
def test_every_sentence_about_what_is_wrong_is_one_that_the_code_says(name: str) -> None:
    bounds = {"greater_than": "gt", "greater_than_equal": "ge", "less_than": "lt", "less_than_equal": "le"}
    pydantic = [PydanticKnownError(kind, {name: 1}).message_template for kind, name in bounds.items()]  # type: ignore[arg-type]
    libraries = [text.replace("Input should", "must") for text in (*pydantic, *map(os.strerror, errno.errorcode))]
    said, unknown = "\n".join([skeletons(), *libraries]), []
    for template, _translated in i18n.catalogue(i18n.FOLDER / f"{name}.engine.po"):
        pieces = [clause for piece, *_ in string.Formatter().parse(template) for clause in re.split(r"[.:;,?()]", piece)]
        if max(pieces, key=len).strip() not in said:
            unknown.append(template)
    assert not unknown, "changed where they are said; change them in tui/locale/*.engine.po too:\n" + "\n".join(unknown)


@pytest.mark.usefixtures("_english_afterwards")
@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: b.csv: there is no such file. Did you mean c.csv?", "a: b.csv：没有这个文件。您是指 c.csv 吗？"),
        ("rows.csv: has no column [/]x; its columns are a, b.", "rows.csv：没有 [/]x 列；现有的列：a, b。"),
        ("The disk of /runs/a was full while the result was saved; what was saved before is intact.",
         "/runs/a 所在磁盘已满（当时正在保存结果）；之前保存的内容完好。"),
        ("Tried before the first step: There is not enough memory for even one row of 512 tokens. Close other programs, "
         "lower max_length (it is 512), or choose QLoRA; or take a smaller model.",
         "第一步之前的试运行：内存连一行 512 个词元的数据都放不下。请关闭其他占用内存的程序，降低 max_length（现为 512），"
         "或选择 QLoRA；或换较小的模型。"),
        ("The gradient is no longer a number at step 7. Most likely learning_rate is too high (it is 0.5).",
         "第 7 步起梯度不再是数值。很可能是学习率过高（现为 0.5）。"),
        ("Not shown to differ: -0.5 points of span F1 against the untouched model (95% interval -1.2 to +0.1); the interval"
         " contains zero, so this may be chance.",
         "未显示出差异：片段 F1 相对于原模型 -0.5 个百分点（95% 区间 -1.2 到 +0.1）；区间包含零，所以可能只是偶然。"),
        ("p.yaml:3: epochs must be greater than or equal to 1 (it is 0).\np.yaml:4: rnak: no such field. Did you mean rank?",
         "p.yaml:3：epochs 必须大于或等于 1（现为 0）。\np.yaml:4：rnak：没有这个字段。您是指 rank 吗？"),
        ("G4_too_few", "G4_too_few"),
        ("Full fine-tuning: needs about 13.0 GB, you have 11.6 GB free: does not fit. --anyway runs it regardless.",
         "全量微调：约需 13.0 GB，可用 11.6 GB：放不下。--anyway 仍会运行。"),
        ("ValueError: something of a library", "ValueError: something of a library"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_in_the_language(text: str, told: str) -> None:
    assert in_words(text) == text
    i18n.speak("zh_CN")
    assert in_words(text) == told


@pytest.mark.usefixtures("_english_afterwards")
def test_why_a_gpu_lies_idle_is_part_of_the_advice_in_the_language() -> None:
    """It was told by `loracle inspect machine` only, and runs went on for days on the processor."""
    facts = Facts(machine=Machine(problems=("CUDA_VISIBLE_DEVICES is -1, so no GPU is used.",)))
    assert "On this machine: CUDA_VISIBLE_DEVICES is -1, so no GPU is used." in cautions(recommend(facts).warnings)
    i18n.speak("zh_CN")
    assert "本机：CUDA_VISIBLE_DEVICES 为 -1，因此不使用 GPU。" in cautions(recommend(facts).warnings)


@pytest.mark.usefixtures("_english_afterwards")
def test_a_failed_runs_cause_and_cure_are_said_in_the_language() -> None:
    i18n.speak("zh_CN")
    told = {"cause": "Memory ran out while the optimizer took a step.", "cure": "Details are in /runs/a/worker.log."}
    state = fold([{"v": 1, "seq": 1, "time": 1.0, "kind": "end", "status": "failed", **told}])
    assert "内存耗尽（当时优化器正在走一步）。 详情见 /runs/a/worker.log。" in ending(state)
    assert in_words("its worker died unexpectedly") == "训练进程意外中断"  # of a run of a comparison


@pytest.mark.usefixtures("_english_afterwards")
def test_a_workers_warning_is_said_in_the_language_with_its_cure() -> None:
    overfitting = {
        "text": "Since step 20 the validation loss has risen from 0.5 to 0.9 while the training loss fell from 0.4 to 0.1: the"
        " model is memorising the training rows. The best checkpoint is kept. Fewer epochs are enough; more rows, or more varied"
        " ones, would help."
    }
    cut = {"text": "6 of 40 training rows are longer than 8 tokens and were cut (218 tokens lost)."}
    assert warning_words(overfitting) == overfitting["text"]
    i18n.speak("zh_CN")
    assert "自第 20 步起，验证损失从 0.5 升到 0.9" in warning_words(overfitting)
    assert warning_words(overfitting).endswith("会有帮助。")
    assert warning_words(cut) == "40 个训练行中有 6 个超过 8 个词元而被截断（丢失 218 个词元）。"
    printed = io.StringIO()
    show.report({"left_out": [cut["text"]]}, RunDirectory(Path("a-run")), Console(file=printed, width=200))
    assert "\n  40 个训练行中有 6 个超过 8 个词元" in printed.getvalue()
    assert warning_words({"text": "Since step 20 ..."}) == "Since step 20 ..."
    assert warning_words({}) == ""
