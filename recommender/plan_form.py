"""What is wrong with how a plan file is written down, in the words of people who have never read those of YAML."""

import difflib
import re
from collections.abc import Iterable

from ruamel.yaml.error import MarkedYAMLError

from recommender.plan import Plan

NO_PLAN = "a plan is a list of `name: value` lines, and no line here names a setting; `loracle plan -o plan.yaml` writes a plan"

_NAME = re.compile(r"^(?:\{\s*)?[\"']?(\w+)[\"']?\s*:", re.MULTILINE)
"""What stands before a colon at the beginning of a line."""
_CANNOT_BEGIN = re.compile(r"found character '([^\\])' that cannot start")
_TWICE = re.compile(r'found duplicate key "([^"]{1,60})')
_INDENTED = "is indented more or less than the lines it belongs to; start them in the same column"
_WORDS = (
    ("character '\\\\t'", "holds a tab where a plan has spaces; put spaces in its place"),
    ("could not find expected ':'", "is not a `name: value` line"),
    ("unexpected (end of stream|document)", "opens a quotation mark that is never closed"),
    ("expected ',' or", "opens a bracket that is never closed, or lacks a comma in it"),
    ("escape", "holds a backslash, which means something else within double quotes; use single ones"),
    ("another document", "begins a second plan; a file holds one"),
    (r"found '(<scalar>|\[|\{)'", "continues after a quoted value; put all of it in quotes"),
    (r"found '[],}]'", "has a bracket or comma too many; put a value that contains one in quotes"),
    ("<block end>|sequence entries", _INDENTED),
)


def names_a_setting(names: Iterable[str]) -> bool:
    """Whether one of them is that of a setting of a plan, or nearly."""
    return any(difflib.get_close_matches(name.lower(), Plan.model_fields, 1) for name in names)


def fault(error: MarkedYAMLError, text: str) -> tuple[int | None, str]:
    """Why `text` cannot be read: the line, counted from 1, and what that line does; no line where all of it is no plan."""
    if not names_a_setting(_NAME.findall(text)):
        return None, NO_PLAN
    problem = error.problem or error.context or ""
    mark = error.problem_mark or error.context_mark
    if error.context_mark is not None and re.search("could not|unexpected|',' or", problem):
        mark = error.context_mark  # where it began: it was noticed at the end of the file only
    if mark is None:
        return None, _words(problem, "")
    return mark.line + 1, _words(problem, text.splitlines()[mark.line][: mark.column] if problem.startswith("mapping") else "")


def _words(problem: str, before: str) -> str:
    if problem.startswith("mapping values"):
        return "holds a second colon; put the value in quotes" if ":" in before else _INDENTED
    if found := _CANNOT_BEGIN.search(problem):
        return f"has a value that begins with `{found[1]}`; put it in quotes"
    if found := _TWICE.search(problem):
        return f"names {found[1]} a second time; keep one of them"
    return next((words for part, words in _WORDS if re.search(part, problem)), "is not written as in a plan, `name: value`")
