"""Plans as text: strict YAML 1.2 in, YAML out, every error at once with its line and the nearest known key."""

import difflib
import io
import json
import re
from typing import Any

from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import AliasEvent
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode
from ruamel.yaml.representer import SafeRepresenter

from recommender import plan_form
from recommender.errors import InputError
from recommender.plan import Plan

MAX_BYTES = 1_000_000
MAX_DEPTH = 20
MAX_ERRORS = 20


_NOT_PLAIN = re.compile("[^\t\n\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\uffef\U00010000-\U0010ffff]")
"""Characters that a YAML reader takes for line breaks, or refuses, unless they are written as escapes."""


_OLD = re.compile("y|n|yes|no|on|off|[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+([.][0-9_]*)?", re.IGNORECASE)
"""What readers of YAML 1.1, most of them, take for true, false or a time in seconds; a class may be called so."""


class _Representer(SafeRepresenter):
    """Writes strings so that every character comes back, and words and numbers so that any reader of YAML takes them as such."""

    def represent_text(self, text: str) -> ScalarNode:
        """Double quotes allow escapes; other strings get the plainest form."""
        style = '"' if _NOT_PLAIN.search(text) else "'" if _OLD.fullmatch(text) else None
        return self.represent_scalar("tag:yaml.org,2002:str", text, style=style)

    def represent_number(self, number: float) -> ScalarNode:
        """YAML 1.1 reads `5e-06` as a text and `5.0e-06` as a number."""
        node: ScalarNode = self.represent_float(number)
        if "." not in node.value:
            node.value = node.value.replace("e", ".0e")
        return node


_Representer.add_representer(str, _Representer.represent_text)
_Representer.add_representer(float, _Representer.represent_number)


def _yaml() -> YAML:
    yaml = YAML(typ="safe", pure=True)  # YAML 1.2: 1e-4 is a number and `no` is a word
    yaml.Representer = _Representer
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    yaml.width = 4096
    return yaml


def dump(plan: Plan) -> str:
    """The plan as YAML, in the order of its fields."""
    out = io.StringIO()
    _yaml().dump(plan.model_dump(mode="json"), out)
    return out.getvalue()


def parse(text: str, name: str = "plan") -> Plan:
    """The plan in `text`. `name` stands in messages.

    Raises:
        InputError: with all errors, each with its line.
    """
    content, lines = parse_mapping(text, name)
    return validate(content, name, lines)


def parse_mapping(text: str, name: str) -> tuple[dict[str, Any], dict[tuple[str, ...], int]]:
    """The YAML mapping in `text` and the line of each key.

    Raises:
        InputError: not a single YAML mapping, or with aliases, tags, duplicate keys or too deep nesting.
    """
    if len(text.encode("utf-8", "replace")) > MAX_BYTES:
        raise InputError(f"{name}: larger than 1 MB, which no plan is.")
    yaml = _yaml()
    try:
        depth = 0
        for event in yaml.parse(io.StringIO(text)):
            if isinstance(event, AliasEvent) or getattr(event, "anchor", None):
                raise InputError(f"{name}:{event.start_mark.line + 1}: anchors and aliases are not allowed in a plan.")
            if getattr(event, "version", None) not in (None, (1, 2)):
                raise InputError(f"{name}:{event.start_mark.line + 1}: plans are YAML 1.2; leave the %YAML line out.")
            if getattr(event, "tag", None):
                raise InputError(f"{name}:{event.start_mark.line + 1}: tags (`!...`) are not allowed in a plan.")
            depth += type(event).__name__ in ("MappingStartEvent", "SequenceStartEvent")
            depth -= type(event).__name__ in ("MappingEndEvent", "SequenceEndEvent")
            if depth > MAX_DEPTH:
                raise InputError(f"{name}:{event.start_mark.line + 1}: nested too deeply for a plan.")
        lines = _lines(_yaml().compose(text), name)
        content = _yaml().load(text)
    except MarkedYAMLError as error:
        line, what = plan_form.fault(error, text)
        raise InputError(f"{name}: {what}." if line is None else f"{name}:{line}: {what}.") from None
    except (YAMLError, ValueError) as error:
        raise InputError(f"{name}: not readable as YAML: {str(error).splitlines()[0]}.") from None
    if not isinstance(content, dict) or not (plan_form.names_a_setting(map(str, content)) or not content):
        raise InputError(f"{name}: {plan_form.NO_PLAN}.")
    return content, lines


def validate(content: dict[str, Any], name: str, lines: dict[tuple[str, ...], int] | None = None) -> Plan:
    """A mapping as a plan.

    Raises:
        InputError: naming every wrong field.
    """
    try:
        return Plan.model_validate_json(json.dumps(content, default=str))
    except ValidationError as error:
        found = sorted((_line(e, lines or {}), n, e) for n, e in enumerate(error.errors()))
        told = [_message(e, name, line) for line, _, e in found[:MAX_ERRORS]]
        if len(found) > MAX_ERRORS:
            told.append(f"{name}: and {len(found) - MAX_ERRORS} more errors.")
        raise InputError("\n".join(told)) from None
    except ValueError:  # a whole number of more digits than Python writes out
        raise InputError(f"{name}: holds a number that is too long.") from None


def set_fields(content: dict[str, Any], assignments: list[str]) -> dict[str, Any]:
    """`content` with `NAME=VALUE` pairs put in; a NAME is dotted (`data.text_column`) or unique by itself.

    Raises:
        InputError: no `=`, or no such field.
    """
    changed: dict[str, Any] = json.loads(json.dumps(content, default=str))
    known = field_paths(Plan)
    for assignment in assignments:
        name, equals, value = assignment.partition("=")
        name = name.strip()
        if not equals:
            raise InputError(f"--set {assignment}: write it as NAME=VALUE.")
        matches = [p for p in known if ".".join(p) == name] or [p for p in known if p[-1] == name and "." not in name]
        if len(matches) != 1:
            raise InputError(f"--set {name}: no such field of a plan.{_nearest(name, ['.'.join(p) for p in known])}")
        target = changed
        for key in matches[0][:-1]:
            target = target.setdefault(key, {})
        target[matches[0][-1]] = _scalar(value)
    return changed


def field_paths(kind: type[BaseModel], prefix: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Paths of all fields that hold a value, e.g. `("data", "text_column")`."""
    paths: list[tuple[str, ...]] = []
    for name, field in kind.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            paths += field_paths(inner, (*prefix, name))
        else:
            paths.append((*prefix, name))
    return paths


def _scalar(text: str) -> Any:
    try:
        return _yaml().load(text) if text.strip() else None
    except (YAMLError, ValueError, RecursionError):  # a day that there is not, a thousand brackets
        return text


def _lines(node: Node | None, name: str, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], int]:
    found: dict[tuple[str, ...], int] = {}
    if isinstance(node, MappingNode):
        for key, value in node.value:
            if not isinstance(key, ScalarNode):
                raise InputError(f"{name}:{key.start_mark.line + 1}: the name of a field must be a word.")
            here = (*path, str(key.value))
            found[here] = key.start_mark.line + 1
            found |= _lines(value, name, here)
    return found


_EXPECTED = {
    "string_type": "must be text: put it in quotes",
    "list_type": "must be a list, e.g. [a, b]",
    "int_type": "must be a whole number",
    "float_type": "must be a number",
    "bool_type": "must be true or false",
    "model_type": "must hold `name: value` lines",
}


def _line(error: Any, lines: dict[tuple[str, ...], int]) -> int:
    """The line an error belongs to; beyond all lines where it has none."""
    path = tuple(str(part) for part in error["loc"])
    return next((lines[path[:n]] for n in range(len(path), 0, -1) if path[:n] in lines), MAX_BYTES)


def _message(error: Any, name: str, line: int) -> str:
    field = ".".join(str(part) for part in error["loc"])
    match error["type"]:
        case "extra_forbidden":
            text = f"{field}: no such field.{_nearest(field, ['.'.join(p) for p in field_paths(Plan)])}"
        case "missing":
            text = f"{field} is missing."
        case "value_error":
            text = f"{field + ': ' if field else ''}{error['ctx']['error']}."
        case kind:
            given = error["input"]
            shown = f" (it is {given!r:.60})" if isinstance(given, str | int | float) else ""
            expected = _EXPECTED.get(kind) or error["msg"].removeprefix("Input ").replace("should be", "must be")
            text = f"{field} {expected}{shown}."
    return f"{name}: {text}" if line == MAX_BYTES else f"{name}:{line}: {text}"


def _nearest(name: str, known: list[str]) -> str:
    last = {k.rsplit(".", 1)[-1]: k for k in known}
    close = difflib.get_close_matches(name.rsplit(".", 1)[-1], last, 1) or difflib.get_close_matches(name, known, 1)
    return f" Did you mean {last.get(close[0], close[0])}?" if close else ""
