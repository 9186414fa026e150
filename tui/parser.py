"""The parser of the command line, whose complaints are one sentence each. Imports nothing but the parser's own library."""

import argparse
import difflib
import sys
from collections.abc import Collection, Iterable, Sequence
from typing import Any, NoReturn

from recommender.errors import Exit
from recommender.language import marked, said
from tui.i18n import _
from tui.streams import complain

WORDS = {
    "argument %(argument_name)s: %(message)s": marked("%(argument_name)s: %(message)s"),
    "the following arguments are required: %s": marked("missing: %s"),
    "expected one argument": marked("a value is missing"),
    "ignored explicit argument %r": marked("it takes no value, and %r is one"),
    "invalid %(type)s value: %(value)r": marked("%(value)r is not a whole number"),
    "not allowed with argument %s": marked("cannot be given together with %s"),
}
"""argparse's phrases, shorter. Values of other types than whole numbers have sentences of their own."""


def _as_argparse(text: str) -> str:
    words = WORDS.get(text, text)
    return said(words)


class Parser(argparse.ArgumentParser):
    """`argparse`'s, but for what it says when something is wrong."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        # argparse looks its own words up under this name, as gettext has it.
        argparse._ = _as_argparse  # type: ignore[attr-defined]
        super().__init__(*arguments, **options)

    def error(self, message: str) -> NoReturn:
        """Say it in one line on standard error, with the command that lists what there is, and exit with 2."""
        from engine.text import clean

        more = _("`{command} --help` lists what there is.").format(command=self.prog)
        complain(_("loracle: {problem}. {more}").format(problem=clean(message.rstrip(".")), more=more))
        sys.exit(int(Exit.USAGE))

    def _print_message(self, message: str, file: Any = None) -> None:
        """argparse's hook, which keeps it to itself that a disk is full."""
        print(message, end="", file=file or sys.stderr)

    def read(self, typed: Sequence[str]) -> argparse.Namespace:
        """What was typed; a misplaced or unknown word ends the program with a sentence on it."""
        chain, names = self._chain(typed)
        if names or (typed and typed[0].startswith("-")):  # else the value of an unknown option is taken for a command
            self._check_place(typed[: typed.index(names[0])] if names else typed, chain[:2])
        given, left = self.parse_known_args(list(typed))
        if left:
            option = next((word for word in left if word.startswith("-")), None)
            if option is None:
                words = _("unexpected argument {word}")
                chain[-1].error(words.format(word=left[0]))
            chain[-1].error(self._about(option.partition("=")[0], chain))
        return given

    def _check_place(self, before: Iterable[str], chain: "Sequence[Parser]") -> None:
        """An unknown option before the command would swallow it, or its value be taken for the command."""
        known = self.options()
        for word in before:
            option = word.partition("=")[0]
            if option.startswith("--") and not any(flag.startswith(option) for flag in known):
                self.error(self._about(option, chain))

    def _about(self, option: str, chain: "Sequence[Parser]") -> str:
        """What is wrong with an option that the parsers in `chain` did not take, and where it belongs."""
        last = chain[-1]
        if option in last.options():  # it stands before the command
            return _("{option} goes after the command: `{command} {option}`").format(option=option, command=last.prog)
        field = option.removeprefix("--").replace("-", "_")
        if "--set" in last.options() and field in _fields():
            return _("there is no option {option}; `--set {field}=...` sets it").format(option=option, field=field)
        near = difflib.get_close_matches(option, last.options(), n=1, cutoff=0.7)
        if near:
            return _("there is no option {option}; the nearest is {near}").format(option=option, near=near[0])
        others = [name for name, command in self.commands().items() if option in command.options()]
        if others:
            words = _("`{command}` has no option {option}; these commands have it: {others}")
            return words.format(command=last.prog, option=option, others=", ".join(others))
        return _("there is no option {option}").format(option=option)

    def _chain(self, typed: Iterable[str]) -> "tuple[list[Parser], list[str]]":
        """This parser and those of the commands that were typed, and these commands."""
        chain, names = [self], []
        for word in typed:
            if word in (commands := chain[-1].commands()):
                chain.append(commands[word])
                names.append(word)
        return chain, names

    def commands(self) -> "dict[str, Parser]":
        """Its commands by name."""
        found = [a for a in self._actions if isinstance(a, argparse._SubParsersAction)]
        return dict(found[0].choices) if found else {}

    def options(self) -> list[str]:
        """What may be typed with a dash."""
        return [text for action in self._actions for text in action.option_strings]

    def _get_value(self, action: argparse.Action, arg_string: str) -> Any:
        """argparse's hook: an empty word is what a shell makes of a variable that nobody has set."""
        if not arg_string and not isinstance(action, argparse._SubParsersAction):  # that one is given all words behind it, too
            raise argparse.ArgumentError(action, _as_argparse("expected one argument"))
        return super()._get_value(action, arg_string)

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """argparse's hook, with the nearest known word."""
        if action.choices is None or value in action.choices:
            return
        choices = [str(choice) for choice in action.choices]
        if not isinstance(action, argparse._SubParsersAction):
            words = _("{value} is not one of {choices}").format(value=value, choices=", ".join(choices))
            raise argparse.ArgumentError(action, words)
        near = difflib.get_close_matches(value, choices, n=1)
        if near:
            words = _("there is no command {value}; the nearest is {near}")
            raise argparse.ArgumentError(None, words.format(value=value, near=near[0]))
        words = _("there is no command {value}; the commands are {choices}")
        raise argparse.ArgumentError(None, words.format(value=value, choices=", ".join(choices)))


def _fields() -> Collection[str]:
    """What --set takes."""
    from recommender.plan import Plan

    return Plan.model_fields


def command(commands: "argparse._SubParsersAction[Parser]", name: str, does: str, *examples: str) -> Parser:
    """One more of these: what it `does`, which the list of commands says and its own help begins with, and lines to type."""
    typed = "\n  ".join([_("for example:"), *examples]) if examples else None
    plain = argparse.RawDescriptionHelpFormatter
    return commands.add_parser(name, help=does, description=does[:1].upper() + does[1:], epilog=typed, formatter_class=plain)
