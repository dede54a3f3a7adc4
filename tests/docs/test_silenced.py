"""Few lines of the package say Any, or silence a checker. Needs the source tree, where the tests lie beside it."""

from __future__ import annotations

import re
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "python" / "fastlenet"
SILENCED = re.compile(r"\bAny\b|type: ignore|noqa")
MOST = 60


def silenced(folder: Path) -> list[str]:
    """The lines, with their places."""
    return [
        f"{path.relative_to(folder)}:{number}: {line}"
        for path in sorted(folder.rglob("*.py"))
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if SILENCED.search(line)
    ]


def test_few_lines_are_silenced() -> None:
    """What is not known is `object`, which mypy makes a reader narrow; Any is for what no type can say."""
    found = silenced(PACKAGE)
    assert len(found) < MOST, "\n".join(found)


def test_each_way_is_counted(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x: Any = 1\ny = 2  # type: ignore[misc]\nz = 3  # noqa\nMany = any([0])\n")
    assert [line.partition(": ")[0] for line in silenced(tmp_path)] == ["a.py:1", "a.py:2", "a.py:3"]
