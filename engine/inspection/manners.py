"""How a model is to be talked to and what it may be used for: chat template, instruct or base, licence."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engine.files import unpiped
from engine.text import one_line

TEMPLATE, CONFIGURATION = "chat_template.jinja", "tokenizer_config.json"
FOR_TOOLS = "additional_chat_templates/tool_use.jinja"
"""Where transformers saves a second template, which it takes for rows with tools."""
LARGEST_FILE = 10_000_000
LARGEST_FRONT = 262_144
_INSTRUCT = re.compile(r"(^|[-_.])(instruct|chat|it|dpo|sft|rlhf)($|[-_.])")
_BASE = re.compile(r"(^|[-_.])(base|pt|pretrain|pretrained)($|[-_.])")


def chat_template(folder: Path, wanted: str = "default") -> str | None:
    """The chat template as a tokenizer takes it, from a file of its own or from its configuration; of several the wanted one."""
    own = folder / (FOR_TOOLS if wanted == "tool_use" and (folder / FOR_TOOLS).is_file() else TEMPLATE)
    found: Any = _text(own) if own.is_file() else of_tokenizer(folder).get("chat_template")
    if isinstance(found, list):  # several, by name
        named = {t.get("name"): t.get("template") for t in found if isinstance(t, dict)}
        found = named.get(wanted) or named.get("default")
    return found if isinstance(found, str) and found.strip() else None


def end_of_turn(folder: Path) -> str | None:
    """The text of the token that ends what the model writes."""
    return special_token(of_tokenizer(folder), "eos_token") or None


def tokenizer_class(folder: Path) -> str | None:
    """What transformers calls the tokenizer."""
    found = of_tokenizer(folder).get("tokenizer_class")
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


def of_tokenizer(folder: Path) -> dict[str, Any]:
    """What `tokenizer_config.json` says; nothing where it cannot be read."""
    try:
        content = json.loads(_text(folder / CONFIGURATION) or "")
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def special_token(config: Mapping[str, Any], name: str) -> str:
    """The text of a special token of such a configuration; empty where there is none."""
    found = config.get(name)
    if isinstance(found, dict):  # an added token with its settings
        found = found.get("content")
    return found if isinstance(found, str) else ""
