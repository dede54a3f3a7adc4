"""The file of finished runs: a line of JSON for each, written and synced as soon as the run is done."""

from __future__ import annotations

import contextlib
import json
import os
import reprlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO

from fastlenet.distributed.task import Outcome
from fastlenet.files import CheckpointError, expect_own_links, reserve, shown_path, sync_folder, user_path, write_atomically

__all__ = ["Results", "opened", "read"]

_FORMAT = "fastlenet runs 1"
_START = b'{"format":"fastlenet runs'  # of the first line
_FIELDS = Outcome.__dataclass_fields__
_Run = tuple[Outcome, Mapping[str, object]]  # with what else its line has


class Results:
    """The finished runs of a file, or of no file.

    about: what holds for all runs, such as the checksum of the data. notes: what else the first line has. outcomes: the runs.
    extras: what else each line has.
    """

    def __init__(
        self, about: Mapping[str, object], path: Path | None = None, notes: Mapping[str, object] = MappingProxyType({})
    ) -> None:
        self.about, self.path, self.notes = dict(about), path, dict(notes)
        self.outcomes: list[Outcome] = []
        self.extras: list[Mapping[str, object]] = []
        self._file: BinaryIO | None = None
        self._end = 0  # of the last whole line

    def append(self, outcome: Outcome, **extra: object) -> None:
        """Keep a finished run, on disk too when this returns. extra: more entries of its line. Raises CheckpointError."""
        if self._file is not None:
            self._write(outcome.as_row() | extra)
        self.outcomes.append(outcome)
        self.extras.append(extra)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write all runs to a file as a whole. Raises CheckpointError."""
        rows = [run.as_row() | dict(extra) for run, extra in zip(self.outcomes, self.extras, strict=True)]
        write_atomically(path, b"".join(map(_line, [self._first(), *rows])))

    def _first(self) -> dict[str, object]:
        return {"format": _FORMAT, **self.about, **self.notes}

    def _write(self, row: Mapping[str, object]) -> None:
        assert self._file is not None
        line = memoryview(_line(row))
        end = self._end
        try:
            while line:
                line = line[self._file.write(line) :]
            os.fsync(self._file.fileno())
            self._end = self._file.tell()
        except OSError as error:
            with contextlib.suppress(OSError):  # else the next start does it
                self._file.truncate(end)
            reason = error.strerror or error
            raise CheckpointError(
                f"{shown_path(str(self.path))}: cannot be written ({reason}); it holds all runs before this one"
            ) from None

    def _start(self) -> None:
        """Read what is there, without an unfinished last line, and go on behind it."""
        assert self.path is not None
        expect_own_links(self.path)
        try:
            self._file = self.path.open("a+b", buffering=0)
            if self.path.stat().st_size:
                self._take(*_lines(self.path))
            if self._end == 0:
                self._write(self._first())
                sync_folder(self.path.absolute().parent)
        except OSError as error:
            raise CheckpointError(f"{shown_path(self.path)}: cannot be read ({error.strerror or error})") from None

    def _take(self, about: Mapping[str, object], runs: list[_Run], end: int) -> None:
        assert self._file is not None and self.path is not None
        for name, there, here in _differences(about, self.about):
            words = f"its runs have {name} {reprlib.repr(there)}, this one has {reprlib.repr(here)}"
            raise CheckpointError(f"{shown_path(self.path)}: {words}; choose another file")
        self._file.truncate(end)
        self._file.seek(end)
        self._end = end
        self._keep(runs)

    def _keep(self, runs: list[_Run]) -> None:
        self.outcomes.extend(outcome for outcome, _ in runs)
        self.extras.extend(extra for _, extra in runs)

    def close(self) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):  # every line is synced
                self._file.close()


def _differences(there: Mapping[str, object], here: Mapping[str, object]) -> Iterator[tuple[str, object, object]]:
    """The names of both that have different values, those of a recipe's fields too, and the values."""
    for name in here:
        one, other = there.get(name), here[name]
        if isinstance(one, dict) and isinstance(other, dict):
            yield from _differences(one, other)
        elif name in there and one != other:
            yield name, one, other


def _line(row: Mapping[str, object]) -> bytes:
    return json.dumps(row, allow_nan=False, separators=(",", ":")).encode() + b"\n"


def _lines(path: Path) -> tuple[dict[str, object], list[_Run], int]:
    """The first line of a file, the runs, and where the last whole line ends. Raises CheckpointError."""
    about: dict[str, object] = {}
    runs: list[_Run] = []
    end = 0
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n") and (number > 1 or line.startswith(_START[: len(line)])):
                break  # the writer was killed in the middle of it
            try:
                row = json.loads(line, parse_constant=_no_number)
                if number > 1:
                    runs.append((Outcome.of_row(row), {name: value for name, value in row.items() if name not in _FIELDS}))
                elif isinstance(row, dict) and row.get("format") == _FORMAT:
                    about = row
                else:
                    raise ValueError(f"its first line is not that of {_FORMAT!r}")
            except (ValueError, TypeError, RecursionError) as error:
                raise CheckpointError(f"{shown_path(path)}: not a file of runs; line {number}: {error}") from None
            end += len(line)
    return about, runs, end


def _no_number(text: str) -> object:
    raise ValueError(f"{text} is not a number of JSON")


@contextmanager
def opened(path: str | os.PathLike[str] | None, about: Mapping[str, object], **notes: object) -> Iterator[Results]:
    """A context with the finished runs of a file, which is made if there is none, and to which no other run writes meanwhile.

    path: None keeps the runs in memory alone. about: facts that must be those of the file. notes: what a new file says beside
    them. Raises CheckpointError if the file has other facts, cannot be written, or is no file of runs.
    """
    if path is None:
        yield Results(about, None, notes)
        return
    place = user_path(path)
    with reserve(place, goes_on=place), contextlib.closing(Results(about, place, notes)) as results:
        results._start()
        yield results


def read(path: str | os.PathLike[str]) -> Results:
    """Returns the finished runs of a file, which is not changed. Raises CheckpointError."""
    place = user_path(path)
    try:
        about, runs, _ = _lines(place)
    except OSError as error:
        raise CheckpointError(f"{shown_path(place)}: cannot be read ({error.strerror or error})") from None
    results = Results(about, place)
    results._keep(runs)
    return results
