"""The code in the documentation runs, and its links lead somewhere. Needs the source tree, where the tests lie beside it."""

from __future__ import annotations

import contextlib
import doctest
import importlib
import io
import re
import shutil
from pathlib import Path

import pytest

import fastlenet
from fastlenet.cli.main import main
from fastlenet.data import Dataset

ROOT = Path(__file__).parents[2]
PAGES = [*sorted(ROOT.glob("*.md")), ROOT / "benchmarks" / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def test_derivation() -> None:
    """A fence that closes a block of code would be part of its last output: each fence becomes an empty line."""
    text = re.sub(r"^```.*$", "", (ROOT / "docs" / "derivation.md").read_text(), flags=re.MULTILINE)
    test = doctest.DocTestParser().get_doctest(text, {}, "derivation.md", "docs/derivation.md", 0)
    failed, tried = doctest.DocTestRunner().run(test)
    assert failed == 0 and tried > 40


def modules_with_examples() -> list[str]:
    package = Path(fastlenet.__file__).parent
    paths = [path for path in sorted(package.rglob("*.py")) if ">>> " in path.read_text()]
    return [".".join(path.relative_to(package.parent).with_suffix("").parts).removesuffix(".__init__") for path in paths]


@pytest.mark.parametrize("name", modules_with_examples())
def test_examples_in_docstrings(name: str, mnist: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if name == "fastlenet.sklearn":
        pytest.importorskip("sklearn")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("fastlenet.data.load_mnist", lambda: mnist)
    failed, tried = doctest.testmod(importlib.import_module(name))
    assert failed == 0 and tried > 0


@pytest.mark.parametrize(
    "page",
    [
        "README.md",
        *(
            pytest.param(f"docs/{name}.md", marks=pytest.mark.slow)
            for name in ("data", "training", "models", "report", "predict", "export", "distributed")
        ),
    ],
)
def test_python_on_a_page(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every block that needs neither PyTorch nor a file of the reader's, other than a picture."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "examples" / "photo.png", tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)
    runnable = [block for block in blocks if "torch" not in block]
    assert runnable
    for block in runnable:
        with contextlib.redirect_stdout(io.StringIO()):
            exec(compile(block, page, "exec"), {"__name__": "__main__"})


def test_the_picture_of_the_readme(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Its command prints what the README shows; the last digits of probabilities depend on the CPU's level."""
    monkeypatch.chdir(ROOT)
    text = (ROOT / "README.md").read_text()
    (command,) = re.findall(r"^fastlenet (predict .*)$", text, re.MULTILINE)
    (shown,) = re.findall(r"```\n(examples/photo.png: .*?)```", text, re.DOTALL)
    assert main(command.split()) == 0
    without_decimals = re.compile(r"\.\d+")
    assert without_decimals.sub("", capsys.readouterr().out) == without_decimals.sub("", shown)


@pytest.mark.slow
def test_the_evaluation_on_the_page_of_models(capsys: pytest.CaptureFixture[str]) -> None:
    """Its command prints what the page shows; an image or two may differ at another level of the CPU."""
    (shown,) = re.findall(r"```\n\$ fastlenet evaluate\n(.*?)```", (ROOT / "docs" / "models.md").read_text(), re.DOTALL)
    assert main(["evaluate"]) == 0
    digits = re.compile(r"[\d,.]+")
    lines = [digits.sub("", line).split() for line in capsys.readouterr().out.splitlines()]
    assert lines == [digits.sub("", line).split() for line in shown.splitlines()]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
        assert target.startswith("https://") or (page.parent / target).exists(), f"{page.name}: {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_named_files_exist(page: Path) -> None:
    """What a page names as code, from one of the project's folders on; `tests/test_*.py` names no file."""
    folders = "benchmarks|cpp|cuda|docs|python|tests|tools"
    for command in re.findall(r"`([^`\n]+)`", page.read_text()):
        for name in re.findall(rf"(?:^|\s)((?:{folders})/[\w/.]+)(?![\w*{{])", command):
            assert (ROOT / name).exists(), f"{page.name}: {name}"
