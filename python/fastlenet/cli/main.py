"""The command `fastlenet`: a table of subcommands. Each is a module that is imported when it is called."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple

from fastlenet.cli.command import UsageError, fail_in_one_line, run_command
from fastlenet.cli.parser import Parser, did_you_mean

__all__ = ["COMMANDS", "main", "whole_parser"]


class Command(NamedTuple):
    """module: has make_parser(prog), and main(arguments, prog), which returns the exit code. sentence: its line of help."""

    module: str
    sentence: str


COMMANDS = {
    "train": Command("fastlenet.cli.train", "train a network and report its accuracy"),
    "evaluate": Command("fastlenet.cli.evaluate", "report a model's accuracy, in all and by class, and its confusion matrix"),
    "report": Command("fastlenet.cli.report", "write a page about a model: its errors, filters, activations, costs, recipe"),
    "predict": Command("fastlenet.cli.predict", "read the handwritten digits on pictures"),
    "export": Command("fastlenet.cli.export", "write a model for other programs: ONNX, C, a browser page"),
    "convert": Command("fastlenet.cli.convert", "convert a model of PyTorch, Keras, Caffe, ONNX or NumPy"),
    "speedrun": Command("fastlenet.speedrun.protocol", "train a recipe once per seed; report accuracies and times"),
    "search": Command("fastlenet.cli.search", "search for a better recipe on the validation split"),
    "bench": Command("fastlenet.cli.bench", "time each op, and compare it with what this CPU could reach"),
    "info": Command("fastlenet.cli.info", "print the version, the instruction-set level, the threads and the build"),
    "completion": Command("fastlenet.cli.completion", "print a script that lets your shell complete commands and flags"),
}


def _parser() -> Parser:
    return Parser(
        "fastlenet",
        "Train small convolutional networks on a CPU, with hand-written kernels.",
        [
            ("fastlenet train", "train on MNIST with the default recipe"),
            ("fastlenet train --save-model model.safetensors", "save the trained parameters"),
            ("fastlenet train --help", "list the flags of one command"),
        ],
        "python -m fastlenet is the same command.",
        commands={name: command.sentence for name, command in COMMANDS.items()},
    )


def whole_parser() -> Parser:
    """The parser of `fastlenet` with those of all its subcommands, for a shell's completion."""
    parser = _parser()
    commands = parser.add_subparsers()
    for name, command in COMMANDS.items():
        make: Callable[[str], Parser] = importlib.import_module(command.module).make_parser
        commands.add_parser(name, help=command.sentence, parents=[make(f"fastlenet {name}")], add_help=False)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line. Returns the exit code; exits with 2 for flags that do not exist."""
    if arguments is None:
        fail_in_one_line("fastlenet")
        arguments = sys.argv[1:]
    name = arguments[0] if arguments else None
    if name in COMMANDS:
        run: Callable[[Sequence[str], str], int] = importlib.import_module(COMMANDS[name].module).main
        return run(arguments[1:], f"fastlenet {name}")
    return run_command("fastlenet", lambda: _without_command(arguments))


def _without_command(arguments: Sequence[str]) -> int:
    """Handle --help, --version and unknown commands."""
    parser = _parser()
    if not arguments:
        parser.print_help()
        return 2
    if arguments[0].startswith("-"):
        parser.parse(arguments)
    word = arguments[0]
    raise UsageError(f"{word!r} is not a command; the commands are {', '.join(COMMANDS)}{did_you_mean(word, COMMANDS)}")
