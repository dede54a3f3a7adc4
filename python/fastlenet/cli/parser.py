"""The parser of every command line: help that begins with a sentence and examples, and errors of one line."""

from __future__ import annotations

import argparse
import difflib
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, NoReturn

from fastlenet import _core
from fastlenet.streams import one_line, tell

if TYPE_CHECKING:
    from _typeshed import SupportsWrite

__all__ = ["Parser", "did_you_mean", "file_name", "flag_of"]


def flag_of(name: str) -> str:
    """How the command line spells a setting: --save-model for save_model."""
    return "--" + name.replace("_", "-")


def file_name(text: str) -> str:
    """The type of a flag that names a file or a folder."""
    if not text or "\0" in text:
        raise argparse.ArgumentTypeError(f"a name is expected, got {text!r}")
    return os.path.expanduser(text)  # which a shell leaves as it is in --flag=~/name


def did_you_mean(word: str, words: Iterable[str]) -> str:
    """Returns "; did you mean X?" with the nearest of the words, "" if none is near."""
    nearest = difflib.get_close_matches(word, list(words), n=1)
    return f"; did you mean {nearest[0]}?" if nearest else ""


class Parser(argparse.ArgumentParser):
    """argparse's, except that errors are one line, flags are spelt out, and help begins with what the command does.

    sentence: what the command does. examples: command lines, each with what it is for. epilog: printed last. commands: of a
    command that has some, what each does.
    """

    def __init__(
        self,
        prog: str | None = None,
        sentence: str = "",
        examples: Sequence[tuple[str, str]] = (),
        epilog: str | None = None,
        *,
        add_help: bool = True,
        parents: Sequence[argparse.ArgumentParser] = (),
        commands: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        super().__init__(
            prog, description=sentence, epilog=epilog, parents=list(parents), add_help=add_help, allow_abbrev=False
        )
        self._examples = examples
        self._commands = commands
        if add_help:
            self.add_argument("--version", action="version", version=f"fastlenet {_core.version()}", help="print the version")

    def parse(self, arguments: Sequence[str] | None) -> argparse.Namespace:
        """Of the process where None is given; exits with 2 for flags that do not exist."""
        values, unknown = self.parse_known_args(arguments)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}{self._nearest(unknown)}")
        for name, value in vars(values).items():
            if value == ["--"] or value == []:  # what argparse before Python 3.13 makes of --epochs=--
                self.error(f"argument {flag_of(name)}: expected one argument")
        return values

    def _nearest(self, unknown: Sequence[str]) -> str:
        flags = [part.partition("=")[0] for part in unknown if part.startswith("--") and len(part) > 2]
        return did_you_mean(flags[0], self._option_string_actions) if flags else ""

    def every_action(self) -> Iterator[argparse.Action]:
        """The flags and arguments of this command and of the commands below it."""
        for action in self._actions:
            yield action
            if isinstance(action.choices, dict):
                for parser in action.choices.values():
                    yield from parser.every_action()

    def format_usage(self) -> str:
        """One line; the flags have their help."""
        positionals = [self._positional(action) for action in self._get_positional_actions()]
        if self._commands:
            positionals = ["COMMAND"]
        return f"usage: {' '.join([self.prog, *positionals, '[option ...]'])}\n"

    @staticmethod
    def _positional(action: argparse.Action) -> str:
        name = str(action.metavar or action.dest)
        name = {"+": f"{name} ...", "*": f"[{name} ...]", "?": f"[{name}]"}.get(str(action.nargs), name)
        return name

    def format_help(self) -> str:
        """The sentence, the usage, the examples, the flags by group, the epilog."""
        formatter = self._get_formatter()
        formatter.add_text(self.description)
        help = [formatter.format_help(), "\n", self.format_usage()]
        for title, table in (("commands", tuple(self._commands.items())), ("examples", self._examples)):
            wide = max((len(line) for line, _ in table), default=0)
            help += [f"\n{title}:\n"] * bool(table)
            help += [f"  {line:<{wide}}   {purpose}\n" for line, purpose in table]
        formatter = self._get_formatter()
        for group in self._action_groups:
            formatter.start_section(group.title)
            formatter.add_text(group.description)
            formatter.add_arguments(group._group_actions)
            formatter.end_section()
        formatter.add_text(self.epilog)
        return "".join([*help, "\n", formatter.format_help()])

    def print_help(self, file: SupportsWrite[str] | None = None) -> None:
        """Unlike argparse's, fails if the output does not take it all."""
        print(self.format_help(), end="", file=file)

    def error(self, message: str) -> NoReturn:
        """One line, and where to read on; exit code 2."""
        tell(f"{self.prog}: error: {one_line(message)} (see {self.prog} --help)")
        sys.exit(2)
