"""How a model is to be talked to and what it may be used for: chat template, instruct or base, licence."""

import json
import re
from pathlib import Path
from typing import Any

from engine.files import unpiped
from engine.text import one_line

LARGEST_FILE = 10_000_000
LARGEST_FRONT = 262_144
_INSTRUCT = re.compile(r"(^|[-_.])(instruct|chat|it|dpo|sft|rlhf)($|[-_.])")
_BASE = re.compile(r"(^|[-_.])(base|pt|pretrain|pretrained)($|[-_.])")


def chat_template(folder: Path) -> str | None:
    """The chat template, from a file of its own or from the tokenizer's; the first of several."""
    for name in ("chat_template.jinja", "chat_template.json", "tokenizer_config.json"):
        text = _text(folder / name)
        if text is None:
            continue
        found: Any = text if name.endswith(".jinja") else _content(text).get("chat_template")
        if isinstance(found, list) and found and isinstance(found[0], dict):  # named templates
            found = found[0].get("template")
        if isinstance(found, str) and found.strip():
            return found
    return None


def end_of_turn(folder: Path) -> str | None:
    """The text of the token that ends what the model writes."""
    found = _content(_text(folder / "tokenizer_config.json") or "").get("eos_token")
    if isinstance(found, dict):  # an added token with its settings
        found = found.get("content")
    return found if isinstance(found, str) and found else None


def tokenizer_class(folder: Path) -> str | None:
    """What transformers calls the tokenizer."""
    found = _content(_text(folder / "tokenizer_config.json") or "").get("tokenizer_class")
    return found if isinstance(found, str) else None


def instruct(name: str, template: str | None, end: str | None) -> bool:
    """Whether a decoder was tuned to follow instructions: by its name, else by its chat template.

    Some base models carry the template of their tuned siblings. They end with the end of a text, not of a turn, so
    that the template does not write their last token.
    """
    last = Path(name).name.lower()
    if _INSTRUCT.search(last):
        return True
    if template is None or _BASE.search(last):
        return False
    return end is None or "eos_token" in template or end in template


def licence(folder: Path) -> str | None:
    """The licence in the front matter of the model card; its name where it is called `other`."""
    named = {
        key: one_line(value.strip().strip("'\"[]"), 80)
        for key, value in re.findall(r"^(license|license_name):[ \t]*(\S.*)$", front_matter(folder), re.MULTILINE)
    }
    found = named.get("license")
    return named.get("license_name", found) if found == "other" else found


def front_matter(folder: Path) -> str:
    """What stands between the marks at the beginning of README.md; empty where there is none."""
    try:
        with unpiped(folder / "README.md").open(encoding="utf-8", errors="replace") as file:
            found = re.match(r"\ufeff?---\s*\n(.*?)\n---", file.read(LARGEST_FRONT), re.DOTALL)
    except OSError:
        return ""
    return found.group(1) if found else ""


def _text(path: Path) -> str | None:
    try:
        if path.stat().st_size > LARGEST_FILE:
            return None
        return unpiped(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None


def _content(text: str) -> dict[str, Any]:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}
