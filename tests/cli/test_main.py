"""The command `fastlenet`: its commands, help that begins with what it does, mistyped words, completion."""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
from collections.abc import Callable

import pytest

import fastlenet
from fastlenet.cli.main import COMMANDS, main
from fastlenet.cli.parser import Parser
from fastlenet.training.recipe import RECIPES, Recipe
from helpers.command import Result, one_line

Run = Callable[..., Result]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*arguments: str) -> Result:
        try:
            code = main(arguments)
        except SystemExit as stop:  # argparse's
            assert isinstance(stop.code, int)
            code = stop.code
        return Result(code, *capsys.readouterr())

    return run


def parser_of(name: str) -> Parser:
    parser: Parser = importlib.import_module(COMMANDS[name].module).make_parser(f"fastlenet {name}")
    return parser


def test_help_lists_every_command(run: Run) -> None:
    result = run("--help")
    assert result.code == 0 and result.err == ""
    for name, command in COMMANDS.items():
        assert re.search(rf"^  {name} +{re.escape(command.sentence)}$", result.out, re.MULTILINE)
    assert run() == Result(2, result.out, "")  # nothing was asked for


@pytest.mark.parametrize("name", COMMANDS)
def test_help_begins_with_a_sentence(name: str, run: Run) -> None:
    """Then the usage, on one line, and examples that the command's parser accepts."""
    result = run(name, "--help")
    sentence, usage = re.split(r"\n\n", result.out)[:2]
    assert result.code == 0 and re.fullmatch(r"[A-Z][^\n]*(\n[^\n]+){0,4}\.", sentence), sentence
    assert re.fullmatch(rf"usage: fastlenet {name}( [^\n]+)?", usage)
    assert set(re.findall(r"(\d+)\s+a\s+fault", result.out)) <= {"70"}  # the exit code of run_command
    examples = result.out.partition("examples:")[2].partition("options:")[0]
    for line in re.findall(rf"^  (?:eval .\$\()?fastlenet {name}(.*?)(?:\).)?   ", examples, re.MULTILINE):
        parser_of(name).parse(line.split())


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_its_version(name: str, run: Run) -> None:
    assert run(name, "--version") == run("--version") == Result(0, f"fastlenet {fastlenet.config()['version']}\n", "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trian"], r"fastlenet: error: 'trian' is not a command; the commands are .*; did you mean train\?"),
        (["zzz"], "fastlenet: error: 'zzz' is not a command; the commands are .*completion"),
        (["--verison"], r"fastlenet: error: unrecognized arguments: --verison; did you mean --version\? .*"),
        (["train", "--epoch", "3"], r"fastlenet train: error: unrecognized arguments: --epoch 3; did you mean --epochs\? .*"),
        (["train", "--epochz=3"], r"fastlenet train: error: unrecognized arguments: --epochz=3; did you mean --epochs\? .*"),
        (["speedrun", "--seed", "1", "--qqq"], "fastlenet speedrun: error: unrecognized arguments: --qqq .*"),
        (["train", "--recipe", "quick"], "fastlenet train: error: argument --recipe: invalid choice: 'quick' .*"),
        (["train", "--data-dir", "nowhere"], "fastlenet train: error: nowhere: no such folder or file; names are mnist, .*"),
    ],
    ids=" ".join,
)
def test_mistyped(arguments: list[str], message: str, run: Run) -> None:
    """One line, with the nearest word; the beginning of a flag is not taken for the flag."""
    assert re.fullmatch(message, one_line(run(*arguments)))


def test_list_recipes(run: Run) -> None:
    """Every field that is on in one of them, and its value in each."""
    result = run("train", "--list-recipes")
    head, *rows = [line.split() for line in result.out.splitlines()]
    assert result.code == 0 and head == list(RECIPES)
    table = {row[0]: row[1:] for row in rows}
    for name in Recipe.__dataclass_fields__:
        values = [getattr(recipe, name) for recipe in RECIPES.values()]
        expected = ["-" if not value else "yes" if value is True else str(value) for value in values]
        assert table.get("--" + name.replace("_", "-"), ["-"] * len(RECIPES)) == expected


def test_info(run: Run) -> None:
    assert json.loads(run("info", "--json").out) == fastlenet.config()
    result = run("info")
    assert result.code == 0 and re.search(rf"^level +{fastlenet.config()['level']}$", result.out, re.MULTILINE)


def test_the_module_is_the_command() -> None:
    done = subprocess.run([sys.executable, "-m", "fastlenet", "info", "--json"], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 and done.stderr == "" and json.loads(done.stdout) == fastlenet.config()


def completions(line: str) -> list[str]:
    """What bash offers at the end of the line."""
    script = """
    eval "$1"; COMP_WORDS=($2); [[ $2 == *' ' ]] && COMP_WORDS+=('')
    COMP_CWORD=$(( ${#COMP_WORDS[@]} - 1 )); _shtab_fastlenet; printf '%s\\n' "${COMPREPLY[@]}"
    """
    made = subprocess.run([sys.executable, "-m", "fastlenet", "completion", "bash"], capture_output=True, text=True, check=True)
    done = subprocess.run(["bash", "-c", script, "bash", made.stdout, line], capture_output=True, text=True, check=True)
    return done.stdout.split()


@pytest.mark.slow
def test_completion_in_bash() -> None:
    assert set(completions("fastlenet ")) >= set(COMMANDS)
    assert completions("fastlenet tr") == ["train"]
    assert set(completions("fastlenet train --ema")) == {"--ema", "--ema-start", "--ema-every"}
    assert set(completions("fastlenet train --recipe ")) >= set(RECIPES)
    assert set(completions("fastlenet export --")) >= {"--int8", "--with-normalisation", "--data"}


def test_completion_without_shtab(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert one_line(run("completion", "bash")).endswith("install it by: pip install 'fastlenet[completion]'")


@pytest.mark.parametrize("shell", ["zsh", "tcsh"])
def test_completion_of_other_shells(shell: str, run: Run) -> None:
    result = run("completion", shell)
    assert result.code == 0 and all(name in result.out for name in [*COMMANDS, "label-smoothing", "save-model"])
