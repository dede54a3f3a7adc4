"""fastlenet info: prints the build and the machine."""

from __future__ import annotations

import json
from collections.abc import Sequence

from fastlenet.cli.command import run_command
from fastlenet.cli.parser import Parser
from fastlenet.config import config, show_config

__all__ = ["main", "make_parser"]


def make_parser(prog: str) -> Parser:
    parser = Parser(prog, "Print the version, the instruction-set level in use, the threads, CUDA and the compiler.")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


def main(arguments: Sequence[str] | None = None, prog: str = "fastlenet info") -> int:
    """Run the command line. Returns the exit code; exits with 2 for flags that do not exist."""

    def command() -> int:
        if make_parser(prog).parse(arguments).json:
            print(json.dumps(config(), indent=1))
        else:
            show_config()
        return 0

    return run_command(prog, command)
