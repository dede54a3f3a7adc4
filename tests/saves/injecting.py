"""Saves files while each call of the C library fails once, or the process dies at it: python injecting.py SHIM FOLDER WRITER...

Runs with the compiled shim.c in LD_PRELOAD. Each case is a forked process. Prints a line of JSON for each writer: how many
calls a save makes, how many cases were tried, and what went wrong.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import shutil
import signal
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import numpy as np

import fastlenet
from fastlenet import nn
from fastlenet.data import Dataset
from fastlenet.distributed import results
from fastlenet.exports import export
from fastlenet.files import CheckpointError, write_atomically
from fastlenet.formats.parameters import load_model, save_model
from fastlenet.images.showing import save_sheet
from fastlenet.speedrun.report import write as write_text
from fastlenet.training.callbacks.json_log import JsonLog
from fastlenet.training.checkpoint import load_checkpoint, save_checkpoint
from fastlenet.training.figures import PlotError, new_figure, save_figure
from fastlenet.training.history import Epoch
from fastlenet.training.logs import read_log

WAYS = ("count", "fail", "die before", "die after", "short", "short, then fail", "short, then die")
COUNT, FAIL, DIE_BEFORE, DIE_AFTER, SHORT, SHORT_THEN_FAIL, SHORT_THEN_DIE = range(7)
ERRORS = (errno.EIO, errno.ENOSPC, errno.EINTR, errno.EACCES, errno.EMFILE)
DONE, REFUSED, UNNAMED, OTHER = 0, 10, 11, 12  # exit codes of a case


class Writer(NamedTuple):
    """name: of the file. save: writes a version, 0 or 1 or 2, to a path. whole: which versions the file at a path holds, or an
    error if it is not whole. grows: whether a save adds to what is there, so that a later one has both.
    """

    name: str
    save: Callable[[Path, int], object]
    whole: Callable[[Path], object]
    grows: bool = False


# --- the writers ---


def numbers(version: int) -> np.ndarray:
    return np.full(3000, version, np.float32)


def network(version: int) -> nn.Sequential:
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    model.parameter_buffer[...] = version
    model.set_facts(input_shape=(1, 2, 2), mean=0.5, std=0.25)
    return model.eval()


def append_run(path: Path, version: int) -> None:
    from fuzzing.make_corpus import outcome

    with results.opened(path, {"data": "x"}) as kept:
        if version not in [run.seed for run in kept.outcomes]:
            kept.append(outcome(version))


def runs_in(path: Path) -> object:
    return [run.seed for run in results.read(path).outcomes]


def save_runs(path: Path, version: int) -> None:
    from fuzzing.make_corpus import outcome

    kept = results.Results({"data": "x"})
    kept.append(outcome(version))
    kept.save(path)


def log_epoch(path: Path, version: int) -> None:
    log = JsonLog(path, resumed=True)
    log.tell = lambda text: None  # type: ignore[method-assign]
    try:
        run: Any = SimpleNamespace(state=SimpleNamespace(recipe=SimpleNamespace(seed=0)))
        log.epoch(run, Epoch(version + 1, 0.5, 0.5, 0.5, 0.5, 1.0, 1.0))
        if log.error is not None:
            raise log.error
    finally:
        log.close()


def epochs_in(path: Path) -> object:
    if not path.read_bytes().partition(b"\n")[1]:
        return []  # not even one line was finished
    (history,) = read_log(path)
    return [epoch.epoch - 1 for epoch in history.epochs]


def exported(path: Path, version: int) -> object:
    data = np.arange(40, dtype=np.uint8).reshape(10, 1, 2, 2) if path.suffix == ".html" else None
    return export(network(version), path, data=data)


@cache
def drawn(version: int) -> Any:
    """A figure without words, since matplotlib would read its fonts hundreds of times, in each save."""
    figure = new_figure()
    figure.set_size_inches(1, 1)
    axes = figure.subplots()
    axes.plot([0, version, 1])
    axes.set_axis_off()
    return figure


@cache
def evaluated(version: int) -> Any:
    images, labels = np.arange(80, dtype=np.uint8).reshape(20, 2, 2), np.arange(20, dtype=np.uint8) % 3
    data = Dataset("random", images, labels, images, labels, 3, 0.5, 0.25)
    return fastlenet.report(network(version), data)


def same(path: Path) -> object:
    """The bytes: they are those of one of the versions."""
    return path.read_bytes()


WRITERS: Mapping[str, Writer] = {
    "bytes": Writer("file", lambda path, version: write_atomically(path, bytes([version]) * 100_000), same),
    "model": Writer(
        "m.safetensors",
        lambda path, version: save_model(path, {"a": numbers(version)}),
        lambda path: load_model(path)["a"].tobytes(),
    ),
    "state": Writer(
        "s.safetensors",
        lambda path, version: save_checkpoint(path, {"a": numbers(version)}, {"version": version}),
        lambda path: str(load_checkpoint(path)),
    ),
    "runs": Writer("runs.jsonl", append_run, runs_in, grows=True),
    "all runs": Writer("runs.jsonl", save_runs, runs_in),
    "log": Writer("log.jsonl", log_epoch, epochs_in, grows=True),
    "onnx": Writer("net.onnx", exported, same),
    "c": Writer("net.h", exported, same),
    "html": Writer("net.html", exported, same),
    "sheet": Writer("sheet.png", lambda path, version: save_sheet([np.full((28, 28), version / 2, np.float32)], path), same),
    "plot": Writer("plot.png", lambda path, version: save_figure(drawn(version), path), same),
    "report": Writer("report.html", lambda path, version: evaluated(version).save(path), same),
    "speedrun": Writer("result.json", lambda path, version: write_text(path, str(version) * 5000), same),
}


# --- the cases ---


class Shim:
    def __init__(self, path: str) -> None:
        self._library = ctypes.CDLL(path)
        self._library.shim_disarm.restype = ctypes.c_char_p

    def arm(self, way: int, at: int, error: int) -> None:
        self._library.shim_arm(way, at, error)

    def disarm(self) -> list[str]:
        return self._library.shim_disarm().decode().split()


def in_child(shim: Shim, writer: Writer, path: Path, way: int, at: int, error: int) -> int:
    """Save version 1 in a forked process. Returns its exit code, or minus the signal that ended it."""
    child = os.fork()
    if child == 0:
        code = OTHER
        try:
            shim.arm(way, at, error)
            writer.save(path, 1)
            shim.disarm()
            code = DONE
        except (CheckpointError, PlotError) as caught:
            shim.disarm()
            code = REFUSED if writer.name in str(caught) else UNNAMED
            if code == UNNAMED:
                print(f"{WAYS[way]} {at} {error}: {caught}", file=sys.stderr)
        except BaseException:
            shim.disarm()
            print(f"{WAYS[way]} {at} {error}", file=sys.stderr)
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def emptied(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()


def calls_of(shim: Shim, writer: Writer, path: Path, there: bool) -> list[str]:
    """The calls of one save, in their order."""
    writer.save(path, 2)  # imports, once
    emptied(path.parent)
    if there:
        writer.save(path, 0)
    shim.arm(COUNT, 0, 0)
    try:
        writer.save(path, 1)
    finally:
        names = shim.disarm()
    return names


def cases(names: list[str]) -> Iterator[tuple[int, int, int]]:
    for at, name in enumerate(names, 1):
        yield from ((FAIL, at, error) for error in ERRORS)
        yield from ((way, at, errno.EIO) for way in (DIE_BEFORE, DIE_AFTER))
        if name == "write":
            yield from ((way, at, errno.ENOSPC) for way in (SHORT, SHORT_THEN_FAIL, SHORT_THEN_DIE))


def wrong(shim: Shim, writer: Writer, path: Path, there: bool, case: tuple[int, int, int], allowed: list[object]) -> str:
    """What is not as it should be after a case; empty if nothing. allowed: what the file may hold, the last after a success."""
    emptied(path.parent)
    if there:
        writer.save(path, 0)
    code = in_child(shim, writer, path, *case)
    dies = case[0] in (DIE_BEFORE, DIE_AFTER, SHORT_THEN_DIE)
    if code not in ((-signal.SIGKILL,) if dies else (DONE, REFUSED)):
        return f"exit code {code}"
    if there and not path.exists():
        return "the old file is gone"
    if path.exists():
        try:
            holds = writer.whole(path)
        except Exception as error:
            return f"damaged: {error}"
        if holds not in allowed or (code == DONE and holds != allowed[-1]):
            return f"holds {str(holds)[:80]} after exit code {code}"
    elif code == DONE:
        return "no file after a success"
    left = [each for each in path.parent.iterdir() if each != path]
    if len(left) > 2:
        return f"left {left}"
    writer.save(path, 2)
    expected = allowed[-1] if not writer.grows else None
    after = writer.whole(path)
    if writer.grows and (2 not in after or (there and 0 not in after)):  # type: ignore[operator]
        return f"a later save leaves {after}"
    if not writer.grows and after == expected:
        return "a later save did nothing"
    if debris := [each.name for each in path.parent.iterdir() if each != path]:
        return f"a later save leaves {debris}"
    return ""


def tried(shim: Shim, name: str, folder: Path) -> dict[str, object]:
    writer = WRITERS[name]
    path = folder / writer.name
    failures, tries, names = [], 0, []
    writer.save(path, 0)  # imports, once
    for there in (True, False):
        names = calls_of(shim, writer, path, there)
        new = writer.whole(path)
        emptied(folder)
        allowed: list[object] = [[]] if writer.grows else []
        if there:
            writer.save(path, 0)
            allowed.append(writer.whole(path))
        allowed.append(new)
        for case in cases(names):
            tries += 1
            if said := wrong(shim, writer, path, there, case, allowed):
                call = names[case[1] - 1]
                failures.append(f"{'a file' if there else 'no file'} before; {WAYS[case[0]]} at {call} {case[1:]}: {said}")
    return {"writer": name, "calls": len(names), "by_name": Counter(names), "cases": tries, "failures": failures}


def main() -> None:
    if sys.argv[1] == "once":  # for strace: a save between two marks
        folder, name = Path(sys.argv[2]), sys.argv[3]
        writer = WRITERS[name]
        writer.save(folder / writer.name, 2)  # imports, once
        emptied(folder)
        writer.save(folder / writer.name, 0)
        os.path.exists("/the save begins")
        writer.save(folder / writer.name, 1)
        os.path.exists("/the save ends")
        return
    if sys.argv[1] == "count":
        folder, name, library = Path(sys.argv[2]), *sys.argv[3:]
        print(*calls_of(Shim(library), WRITERS[name], folder / WRITERS[name].name, True))
        return
    shim, folder = Shim(sys.argv[1]), Path(sys.argv[2]).resolve()
    for name in sys.argv[3:] or WRITERS:
        place = folder / name.replace(" ", "-")
        place.mkdir()
        print(json.dumps(tried(shim, name, place)), flush=True)
        shutil.rmtree(place)


if __name__ == "__main__":
    main()
