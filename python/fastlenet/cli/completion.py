"""fastlenet completion: prints a script that lets a shell complete commands and flags."""

from __future__ import annotations

from collections.abc import Sequence

from fastlenet.cli.command import UsageError, run_command
from fastlenet.cli.parser import Parser, file_name

__all__ = ["main", "make_parser"]

_SHELLS = ("bash", "zsh", "tcsh")


def make_parser(prog: str) -> Parser:
    parser = Parser(
        prog,
        "Print a script that lets your shell complete the commands and flags of fastlenet.",
        [
            (f'eval "$({prog} bash)"', "put this line into ~/.bashrc"),
            (f'eval "$({prog} zsh)"', "put this line into ~/.zshrc, after compinit"),
            (f"{prog} tcsh", "write the output to a file that ~/.tcshrc sources"),
        ],
    )
    parser.add_argument("shell", choices=_SHELLS)
    return parser


def main(arguments: Sequence[str] | None = None, prog: str = "fastlenet completion") -> int:
    """Run the command line. Returns the exit code; exits with 2 for flags that do not exist."""

    def command() -> int:
        from fastlenet.cli.main import whole_parser  # which imports every command

        shell = make_parser(prog).parse(arguments).shell
        try:
            import shtab
        except ImportError:
            raise UsageError("shell completion needs shtab; install it by: pip install 'fastlenet[completion]'") from None
        parser = whole_parser()
        for action in parser.every_action():
            if action.type is file_name:
                vars(action)["complete"] = shtab.FILE
        print(shtab.complete(parser, shell))
        return 0

    return run_command(prog, command)
