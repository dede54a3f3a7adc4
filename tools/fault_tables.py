"""The faults that tools/mutate.py plants: the tables in tools/faults, and whether their texts fit the sources."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

try:
    import tomllib
except ImportError:  # before Python 3.11, where pytest installs tomli
    import tomli as tomllib

__all__ = ["ROOT", "TABLES", "Fault", "expect_plantable", "read_faults", "read_toml"]

ROOT = Path(__file__).resolve().parent.parent
TABLES = ROOT / "tools" / "faults"


def read_toml(path: Path) -> dict[str, Any]:
    return tomllib.loads(path.read_text())


@dataclass(frozen=True)
class Fault:
    name: str
    file: str
    find: str
    plant: str
    breaks: str
    area: str  # the name of its table
    equivalent: str = ""

    @property
    def text(self) -> str:
        """What a result depends on, beside the sources."""
        return hashlib.sha256("\0".join((self.file, self.find, self.plant)).encode()).hexdigest()[:16]

    @property
    def compiled(self) -> bool:
        return not self.file.startswith("python/")

    @property
    def on_gpu(self) -> bool:
        return self.file.startswith("cuda/") or "/cuda" in self.file

    def planted(self, root: Path) -> str:
        """The file's text with the fault in it.

        Raises ValueError where the text to find is not there exactly once, and for what Python cannot read.
        """
        path = root / self.file
        if not path.is_file():
            raise ValueError(f"{self.name}: there is no {self.file}")
        text = path.read_text()
        found = text.count(self.find)
        if found != 1:
            raise ValueError(f"{self.name}: {self.file} has its text {found} times, not once: {self.find!r}")
        planted = text.replace(self.find, self.plant)
        if path.suffix == ".py":
            try:
                compile(planted, str(path), "exec")
            except SyntaxError as error:
                raise ValueError(f"{self.name}: {self.file} is no Python with it ({error})") from None
        return planted


def read_faults() -> list[Fault]:
    """All faults of the tables."""
    tables = sorted(TABLES.glob("*.toml"))
    return [Fault(area=table.stem, **fields) for table in tables for fields in read_toml(table)["fault"]]


def expect_plantable(faults: list[Fault]) -> None:
    """Raises ValueError for faults that can no longer be planted, and for a name that occurs twice."""
    wrong = []
    for fault in faults:
        try:
            fault.planted(ROOT)
        except ValueError as error:
            wrong.append(str(error))
    names = [fault.name for fault in faults]
    wrong += sorted({f"{name}: two faults of that name" for name in names if names.count(name) > 1})
    if wrong:
        raise ValueError("\n".join(wrong))
