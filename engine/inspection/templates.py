"""What a model's chat template writes around messages, in tokens: marks, speakers, and the system message that many add by
themselves. Rendered without transformers, as transformers renders it."""

import contextlib
import json
import re
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from engine.examples.turns import THOUGHT_END, THOUGHTS
from engine.inspection.manners import CONFIGURATION, FOR_TOOLS, TEMPLATE, chat_template, of_tokenizer, special_token

ASKED, ANSWERED, CALLED, THOUGHT = "a question", "an answer", "called_tool", "a thought"
"""What is rendered to see what stands around it, and whether it is written."""
_EMPTY = re.compile(r"<think>\s*</think>")


PLAIN = (
    "{% for message in messages %}"
    "{% if message['role'] == 'user' %}{{ '### Instruction:\n' + message['content'] + '\n\n' }}"
    "{% elif message['role'] == 'assistant' %}{{ '### Response:\n' + message['content'] + eos_token + '\n\n' }}"
    "{% elif message['role'] == 'tool' %}{{ '### Input:\n' + message['content'] + '\n\n' }}"
    "{% else %}{{ message['content'] + '\n\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '### Response:\n' }}{% endif %}"
)
"""For models that come without a template: the form of the Alpaca data, each answer closed by the end token."""


class Around(NamedTuple):
    """Tokens that a template adds."""

    once: int
    """A conversation: a default system message, a date; less than nothing where it lacks the ends that a text alone gets."""
    turn: float
    """A message."""
    tools: tuple[float, float] = (0.0, 1.0)
    """A list of tools: around it, and for each token of it as plain JSON; nothing where it is not written."""


USUAL = Around(0, 4)
"""Where a template cannot be rendered here: a mark, the speaker, a line end and a closing mark (ChatML: 4 to 5)."""
_TAKEN = {"type": "object", "properties": {"number": {"type": "integer", "description": "which one"}}, "required": ["number"]}
_TOOL = {"type": "function", "function": {"name": CALLED, "description": "what it does", "parameters": _TAKEN}}


def around(model: str | None, tokens: Callable[[str, bool], int]) -> Around:
    """What the template of that model folder adds; `tokens` counts those of a text, with or without special ones."""
    template, names = _template(model) if model is not None else (PLAIN, {})
    exchange = [{"role": "user", "content": ASKED}, {"role": "assistant", "content": ANSWERED}]
    try:
        one, two = (tokens(_rendered(template, exchange * n, names), False) for n in (1, 2))
    except Exception:  # a template is a program of somebody else's, and may fail in any way
        return USUAL
    asked, answered = tokens(ASKED, False), tokens(ANSWERED, False)
    turn = max((two - one - asked - answered) / 2, 0.0)
    said = tokens(ASKED, True) + answered + 1  # as a row is counted: its special tokens, and the end that is learned
    return Around(round(one - said - 2 * turn), turn, _around_tools(model, exchange, tokens))


def _around_tools(model: str | None, exchange: list[dict[str, Any]], tokens: Callable[[str, bool], int]) -> tuple[float, float]:
    """What lists of one and of two tools add. Some templates explain how to call them, and write them otherwise."""
    template, names = _template(model, "tool_use") if model is not None else (PLAIN, {})
    try:
        none, *written = (_rendered(template, exchange, names, tools=[_TOOL] * n) for n in range(3))
    except Exception:  # as above
        return USUAL.tools
    if CALLED not in written[0]:
        return 0.0, 0.0
    one, two = (tokens(text, False) - tokens(none, False) for text in written)
    listed = [tokens(json.dumps([_TOOL] * n, ensure_ascii=False), False) for n in (1, 2)]
    rate = max(two - one, 0) / max(listed[1] - listed[0], 1)
    return one - rate * listed[0], rate


def writes_calls(model: str) -> bool | None:
    """Whether the template of that model folder writes down which tools an answer calls; `None` where it cannot be rendered."""
    call = {"id": "abcdefghi", "type": "function", "function": {"name": CALLED, "arguments": {}}}  # Mistral wants nine signs
    return _writes(model, ("tool_use", "default"), CALLED, {"content": "", "tool_calls": [call]})


class Thoughts(NamedTuple):
    """What becomes of thoughts under a template."""

    learned: bool
    """Whether what stands in a field for thoughts is."""
    known: bool
    """Whether it knows what ends a thought within an answer, for which that is no text like any other."""
    wanted: bool
    """Whether it has answers begin with one, be it empty."""


def thoughts(model: str) -> Thoughts | None:
    """Those of the template of that model folder; `None` where it cannot be rendered."""
    template, names = _template(model)
    question, answer = {"role": "user", "content": ASKED}, {"role": "assistant", "content": ANSWERED}
    try:
        asked = _rendered(template, [question], names, ask=True).rstrip()
        plain, thinking = (
            _rendered(template, [question, answer | field], names) for field in ({}, dict.fromkeys(THOUGHTS, THOUGHT))
        )
    except Exception:  # as above
        return None
    known, refuses = THOUGHT_END in template, asked.endswith(THOUGHT_END)
    learned = THOUGHT in thinking or (known and not refuses)  # as `with_last_thought` has it where the template cuts them out
    return Thoughts(learned, known, asked.endswith("<think>") or (not refuses and bool(_EMPTY.search(plain))))


def _writes(model: str, templates: tuple[str, ...], wanted: str, answer: dict[str, Any]) -> bool | None:
    talk = [{"role": "user", "content": ASKED}, {"role": "assistant", **answer}]
    written: list[bool] = []
    for which in templates:
        template, names = _template(model, which)
        with contextlib.suppress(Exception):  # as above
            written.append(wanted in _rendered(template, talk, names))
    return any(written) if written else None


def files(model: str | None) -> list[Path]:
    """The files of a model folder that its template may stand in."""
    if model is None:
        return []
    return [p for name in (TEMPLATE, FOR_TOOLS, CONFIGURATION) if (p := Path(model) / name).is_file()]


def _template(model: str, wanted: str = "default") -> tuple[str, dict[str, str]]:
    """The template, of several the wanted one, else the default; and the special tokens it may name."""
    config = of_tokenizer(Path(model))
    names = {name: special_token(config, name) for name in ("bos_token", "eos_token", "pad_token", "unk_token")}
    return chat_template(Path(model), wanted) or PLAIN, names


def _rendered(
    template: str, messages: list[dict[str, Any]], names: dict[str, str], tools: list[Any] | None = None, *, ask: bool = False
) -> str:
    """Raises whatever the template raises."""
    from jinja2 import TemplateError
    from jinja2.ext import Extension, loopcontrols
    from jinja2.nodes import CallBlock
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        """The marks around answers, which change nothing of the text."""

        tags = {"generation"}  # noqa: RUF012 - as jinja2 declares it

        def parse(self, parser: Any) -> Any:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return CallBlock(self.call_method("_same"), [], [], body).set_lineno(line)

        def _same(self, caller: Callable[[], str]) -> str:
            return caller()

    def fail(message: str) -> None:
        raise TemplateError(message)

    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols])
    environment.filters["tojson"] = lambda value, **how: json.dumps(value, **{"ensure_ascii": False, **how})
    environment.globals["raise_exception"] = fail
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    return environment.from_string(template).render(messages=messages, tools=tools or None, add_generation_prompt=ask, **names)
