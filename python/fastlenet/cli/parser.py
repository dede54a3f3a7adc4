"""The parser of all commands: its help begins with a sentence and examples, and its errors are one line."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, NoReturn

from fastlenet import _core
from fastlenet.fields import nearest
from fastlenet.streams import one_line, tell

if TYPE_CHECKING:
    from _typeshed import SupportsWrite

__all__ = ["Parser", "did_you_mean", "file_name", "flag_of"]


def flag_of(name: str) -> str:
    """Returns the flag of a setting: --save-model for save_model."""
    return "--" + name.replace("_", "-")


def file_name(text: str) -> str:
    """The argparse type of a flag that names a file or a folder."""
    if not text or "\0" in text:
        raise argparse.ArgumentTypeError(f"expected the name of a file or a folder, got {text!r}")
    return os.path.expanduser(text)  # a shell does not expand --flag=~/name


def did_you_mean(word: str, words: Iterable[str]) -> str:
    """Returns "; did you mean X?" with the nearest of the words, "" if none is near."""
    near = nearest(word, words)
    return f"; did you mean {near}?" if near else ""


class Parser(argparse.ArgumentParser):
    """An argparse parser with errors of one line, without abbreviated flags, and with help that begins with what the command
    does.

    sentence: what the command does. examples: command lines, each with its purpose. epilog: printed last. commands: the
    sentences of its subcommands by name, if it has any.
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
        """Parse the arguments, or the process's if they are None. Exits with 2 for flags that do not exist."""
        values, unknown = self.parse_known_args(arguments)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}{self._nearest(unknown)}")
        for name, value in vars(values).items():
            if value == ["--"] or value == []:  # argparse before Python 3.13 makes this of --epochs=--
                self.error(f"argument {flag_of(name)}: expected one argument")
        return values

    def _nearest(self, unknown: Sequence[str]) -> str:
        flags = [part.partition("=")[0] for part in unknown if part.startswith("--") and len(part) > 2]
        return did_you_mean(flags[0], self._option_string_actions) if flags else ""

    def every_action(self) -> Iterator[argparse.Action]:
        """The flags and arguments of this command and of its subcommands."""
        for action in self._actions:
            yield action
            if isinstance(action.choices, dict):
                for parser in action.choices.values():
                    yield from parser.every_action()

    def format_usage(self) -> str:
        """One line without the flags, which the help lists."""
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
        """Print the help. Unlike argparse's, raises an error if it could not be written."""
        print(self.format_help(), end="", file=file)

    def error(self, message: str) -> NoReturn:
        """Print one line that names the help, and exit with code 2."""
        tell(f"{self.prog}: error: {one_line(message)} (see {self.prog} --help)")
        sys.exit(2)
