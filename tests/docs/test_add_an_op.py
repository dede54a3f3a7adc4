"""docs/add_an_op.md lists exactly the files that name its op. Needs the source tree, where the tests lie beside it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "add_an_op.md"
OP = re.compile(r"leaky_relu|leakyrelu", re.IGNORECASE)
FOLDERS = ("python", "cpp", "cuda", "tests", "tools", "examples")
SUFFIXES = {".py", ".pyi", ".hpp", ".cpp", ".cu", ".cuh", ".h", ".toml", ".md"}
GENERATED = {"python/fastlenet/_core.pyi", "cuda/ptxas.md"}  # by the tools that the page names


def naming(root: Path) -> set[str]:
    """The files that name the op."""
    files = (file for folder in FOLDERS for file in sorted((root / folder).rglob("*")) if file.suffix in SUFFIXES)
    return {file.relative_to(root).as_posix() for file in files if OP.search(file.read_text())}


def sections(text: str) -> dict[str, list[tuple[str, str]]]:
    """The page's sections with a list: the files of each, and what the page says to write there."""
    found = {}
    for section in text.split("\n## ")[1:]:
        rows = re.findall(r"^\| \[([^\]]+)\]\(([^)]+)\) \| (.*) \|$", section, re.MULTILINE)
        assert all(f"../{name}" == target for name, target in ((row[0].replace("\\", ""), row[1]) for row in rows))
        if rows:
            found[section.splitlines()[0]] = [(name.replace("\\", ""), what) for name, _, what in rows]
    return found


SECTIONS = sections(PAGE.read_text())


def test_the_lists_are_the_files_that_name_the_op() -> None:
    listed = [name for rows in SECTIONS.values() for name, _ in rows]
    assert len(listed) == len(set(listed)) > 15
    here = Path(__file__).relative_to(ROOT).as_posix()
    assert naming(ROOT) - {here} == {*listed, *GENERATED}


@pytest.mark.parametrize("title", SECTIONS)
def test_a_title_has_the_number_of_its_files(title: str) -> None:
    assert re.search(r": (\d+) files$", title)[1] == str(len(SECTIONS[title]))  # type: ignore[index]


def test_a_file_has_the_code_that_its_line_names() -> None:
    rows = [(name, code) for rows in SECTIONS.values() for name, what in rows for code in re.findall(r"`([^`]+)`", what)]
    assert len(rows) >= 8
    missing = [(name, code) for name, code in rows if "tools/" not in code and code not in (ROOT / name).read_text()]
    assert not missing


def test_a_file_too_many_or_too_few_is_noticed(tmp_path: Path) -> None:
    """The search finds a new file that names the op in any of the folders, in any spelling."""
    for name, text in (
        ("cpp/ops/new.cpp", "x = leaky_relu_forward(y)"),
        ("python/a/b.py", "nn.LeakyReLU()"),
        ("cuda/c.cu", "relu"),
    ):
        file = tmp_path / name
        file.parent.mkdir(parents=True)
        file.write_text(text)
    assert naming(tmp_path) == {"cpp/ops/new.cpp", "python/a/b.py"}
