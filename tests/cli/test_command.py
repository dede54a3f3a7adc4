"""The command lines: whatever flags, names, streams, environment and signals they meet, one line and an exit code."""

from __future__ import annotations

import itertools
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from fastlenet import get_num_threads, set_num_threads
from fastlenet.cli import train
from fastlenet.data import Dataset
from fastlenet.signals import STOP_SIGNALS, StopSignals
from fastlenet.speedrun import contenders
from fastlenet.speedrun import protocol as speedrun
from fastlenet.training import lr_finder
from fastlenet.training.recipe import CHOICES, RECIPES, Recipe
from helpers.command import Result, one_line, train_command
from helpers.idx import write_idx

Main = Callable[[list[str]], int]
Run = Callable[[Main, list[str]], Result]

# --- random command lines -----------------------------------------------------------------------------------------------

LONG = "9" * 10_000
HUGE = ["2147483648", str(2**64 - 1), str(2**64), str(2**70)]
NUMBERS = ["0", "1", "-1", "2", "0.5", "-0.0", "1e400", "nan", "inf", "-inf", "1e308", "1e-320"]
NUMBERS += [LONG, "", " 3", "1_0", "0x10", "٣", "--", "a\nb", "\x1b[31m", "\udce9"]
# All of them in the test's own folder: the tests may run as root, and what a flag names is written.
NAMES = ["out", "out.png", "out.safetensors", "", ".", "no/such/folder", "caf\udce9", "café", "two\nlines", "\x1b[31m", "a\0b"]
NAMES += ["a" * 10_000, "-", "--", "%s", "{}", "model", "state", "broken", "folder"]
PROGRAMS = ["false", "sh", "no-such-program", "folder", "broken", ""]  # which are run only
WORDS = ["", "DIRECT", "direct ", "--", *sum(CHOICES.values(), ()), *RECIPES, "cpu", "cuda", "\udce9", LONG]
ON_OR_OFF = ("dry-run", "profile", "find-lr", "times", "quiet", "allow-level-change", "help")
ENDLESS = ("epochs", "ensemble", "seeds")  # of so many the end would never come
FILES = ("data", "data-dir", "save-model", "load-model", "checkpoint", "resume", "log-json", "plot")
COUNTS = ("ensemble", "validation", "test-batch-size", "threads", "log-interval")
BOOLEANS = tuple(field.name.replace("_", "-") for field in fields(Recipe) if type(field.default) is bool)
FIELDS = tuple(field.name.replace("_", "-") for field in fields(Recipe))


def random_flag(rng: random.Random, extra: tuple[str, ...]) -> list[str]:
    """A flag with a value that it may or may not take."""
    name = rng.choice([*FIELDS, *COUNTS, *FILES, *ON_OR_OFF, *extra, "recipe", "device", "dataset", "unknown", "re", "s"])
    flag = "--" + name
    if name in BOOLEANS:
        return [rng.choice([flag, "--no-" + name])]
    if name in ON_OR_OFF and rng.random() < 0.9:
        return [flag]
    if name == "pytorch":
        return [f"{flag}={rng.choice(PROGRAMS)}"]
    if name in FILES or name in ("json", "results"):
        value = rng.choice(NAMES)
    elif name in ("recipe", "device", "dataset", "optimizer", "schedule", "algorithm"):
        value = rng.choice(WORDS)
    else:
        value = rng.choice(NUMBERS if name in ENDLESS else [*NUMBERS, *HUGE])
    if rng.random() < 0.1:
        flag = flag[: rng.randint(3, len(flag))]  # argparse takes the beginning of a flag for the flag
    return rng.choice([[flag, value], [f"{flag}={value}"], [flag, value], [flag]])


def random_line(rng: random.Random, *extra: str) -> list[str]:
    """Up to five flags; most lines are refused, and what is not ends soon."""
    flags = [part for _ in range(rng.randint(0, 5)) for part in random_flag(rng, extra)]
    return flags if rng.random() < 0.9 else [*flags, rng.choice(["stray", "", "\udce9", "-x", "--"])]


@pytest.fixture(scope="module")
def tiny_mnist(mnist: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with 40 training and 20 test images."""
    folder = tmp_path_factory.mktemp("tiny")
    for part, images, labels in (
        ("train", mnist.train_images[:40], mnist.train_labels[:40]),
        ("t10k", mnist.test_images[:20], mnist.test_labels[:20]),
    ):
        write_idx(folder / f"{part}-images-idx3-ubyte", images)
        write_idx(folder / f"{part}-labels-idx1-ubyte", labels)
    return folder


def expect_no_traceback(result: Result, codes: tuple[int, ...], line: object) -> None:
    """An exit code that is documented, and not that of an internal error; one line for a failure, and none else."""
    assert result.code in codes, (line, result)
    if result.code == 2:
        lines = [text for text in result.err.split("\n")[:-1] if not text.startswith(("usage:", " "))]
        assert len(lines) == 1 and re.match(r"(python -m )?fastlenet\.\w+: error: \S", lines[0]), (line, result)
    else:
        assert result.err == "", (line, result)
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f]", result.err + result.out), (line, result)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Run]:
    """Runs the main() that it is given in this process, in a folder of the test's own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))  # where a save that fails is tried again
    before = get_num_threads()

    def run(main: Callable[[list[str]], int], arguments: list[str]) -> Result:
        try:
            code: Any = main(arguments)
        except SystemExit as stop:  # argparse's
            code = stop.code
        return Result(code, *capsys.readouterr())

    yield run
    set_num_threads(before)


@pytest.mark.parametrize("part", [0, *(pytest.param(part, marks=pytest.mark.slow) for part in range(1, 10))])
def test_random_lines_of_train(part: int, run: Run, tiny_mnist: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred of them each; the files that earlier ones wrote are there."""
    monkeypatch.setattr(train, "find_lr", partial(lr_finder.find_lr, steps=2))
    (tmp_path / "broken").write_bytes(b"\xff" * 100)
    (tmp_path / "folder").mkdir()
    small = ["--data-dir", str(tiny_mnist), "--dry-run", "--epochs"]
    run(train.main, [*small, "1", "--save-model", "model", "--checkpoint", "state"])
    rng, codes = random.Random(part), set()
    for _ in range(100):
        line = [*small, rng.choice("00001"), *random_line(rng)]
        result = run(train.main, line)
        expect_no_traceback(result, (0, 2), line)
        codes.add(result.code)
    assert codes == {0, 2}


def test_random_lines_of_speedrun(run: Run, tiny_mnist: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The runs, which are processes of `train`, are left out."""

    def no_run(command: list[str], seed: int, signals: StopSignals) -> contenders.Run:
        assert all(isinstance(part, str) for part in command)
        return contenders.Run(seed, 0.9, 4.0, 1.0, 1.0, 1.0, 1.0)

    monkeypatch.setattr(contenders, "run_process", no_run)
    rng, codes = random.Random(0), set()
    for _ in range(300):  # few of which end with 0, since it takes a low --target
        line = [
            "--data-dir",
            str(tiny_mnist),
            "--seeds",
            "2",
            *random_line(rng, "seeds", "target", "json", "pytorch", "results"),
        ]
        result = run(speedrun.main, line)
        expect_no_traceback(result, (0, 1, 2), line)
        codes.add(result.code)
    assert codes == {0, 1, 2}


@pytest.mark.parametrize(
    ("program", "message"),
    [
        ("echo one >&2; echo two >&2; echo >&2; exit 3", "two"),
        ("kill -KILL $$", "ended by signal 9"),
        ("exit 0", "printed no result"),
        ("printf '\\377' >&2; exit 1", r"\xff"),
    ],
)
def test_a_run_that_fails(program: str, message: str) -> None:
    """Told by its last line, or by how it ended."""
    with pytest.raises(contenders.SpeedrunError) as raised, StopSignals(*STOP_SIGNALS) as signals:
        contenders.run_process(["sh", "-c", program], 0, signals)
    assert str(raised.value).endswith(f": {message}")


def test_an_interrupted_speedrun(run: Run, tiny_mnist: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*arguments: Any) -> None:
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(contenders, "run_process", interrupt)
    result = run(speedrun.main, ["--data-dir", str(tiny_mnist)])
    assert result.code == 130 and result.err == "\ninterrupted\n"


@pytest.mark.parametrize(
    ("main", "arguments", "message"),
    [
        (train.main, ["--momentum", "0"], "--momentum expects a number above 0 for optimizer muon, got 0.0"),
        (train.main, ["--ensemble", "2", "--seed", str(2**64 - 1)], f"--seed expects at most {2**64 - 2} for 2 networks"),
        (
            train.main,
            ["--test-batch-size", str(2**63)],
            "--test-batch-size expects a positive integer below 2^63",
        ),
        (train.main, ["--epochs=--"], "argument --epochs: "),  # the rest is of argparse, whose words change
        (train.main, ["--data-dir="], "argument --data-dir: expected the name of a file or a folder, got ''"),
        (train.main, ["--find-lr", "--save-model", "m"], "--find-lr does not train; leave out --save-model"),
        (speedrun.main, ["--momentum", "0"], "--momentum expects a number above 0 for optimizer muon, got 0.0"),
        (speedrun.main, ["--seed", str(2**64 - 1), "--seeds", "2"], f"--seed expects at most {2**64 - 2} for 2 networks"),
        (speedrun.main, ["--threads", "5000"], "--threads expects an integer in 1..4096, got 5000"),
        (speedrun.main, ["--seeds", "0"], "--seeds expects a positive integer, got 0"),
        (speedrun.main, ["--pytorch", "--network", "lenet5"], "--pytorch trains lenet; leave out --network lenet5"),
        (speedrun.main, ["--pytorch", "--data", "digits"], "--pytorch reads four IDX files; name their folder by --data"),
        (speedrun.main, ["--pytorch", "--data", "mnist", "--data-dir", "."], "--pytorch reads four IDX files"),
        (speedrun.main, ["--pytorch", "false"], "--pytorch false: has no PyTorch (printed no version)"),
        (speedrun.main, ["--pytorch", "."], "--pytorch .: cannot be run (Permission denied)"),
    ],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, list) else None,
)
def test_flags_that_do_not_go_together(main: Main, arguments: list[str], message: str, run: Run) -> None:
    """Told before any work."""
    result = run(main, arguments)
    assert message in one_line(result) and result.out == ""


# --- errors that nobody expected ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (KeyboardInterrupt(), 130, "interrupted"),
        (MemoryError(), 2, "error: not enough memory; a smaller"),
        (OSError(5, "Input/output error"), 2, "error: standard output: Input/output error"),
        (OSError(5, "Input/output error", "a\nb"), 2, "error: a\\nb: Input/output error"),
        (OSError(9999, "Unknown error 9999"), 2, "error: Unknown error 9999"),
        (OSError("no number"), 2, "error: no number"),
        (ImportError("no such module"), 2, "error: no such module"),
        (
            RecursionError("too deep"),
            70,
            "internal error: RecursionError: too deep (please report it; FASTLENET_TRACEBACK=1 prints",
        ),
        (ValueError("two\nlines"), 70, "internal error: ValueError: two\\nlines (please report it"),
    ],
    ids=repr,
)
@pytest.mark.parametrize(
    "place",
    ["fastlenet.cli.train.check_arguments", "fastlenet.cli.data.load", "fastlenet.training.trainer.Trainer.run"],
)
def test_any_error_anywhere(
    place: str, error: BaseException, code: int, message: str, run: Run, tiny_mnist: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: Any, **options: Any) -> None:
        raise error

    monkeypatch.setattr(place, fail)
    result = run(train.main, ["--data-dir", str(tiny_mnist)])
    assert message in one_line(Result(result.code, result.out, result.err.removeprefix("\n")), code)  # after a terminal's ^C
    monkeypatch.setenv("FASTLENET_TRACEBACK", "1")
    told = run(train.main, ["--data-dir", str(tiny_mnist)])
    assert told.code == code and "in fail" in told.err and message in told.err


# --- processes with odd streams, names, folders and limits ----------------------------------------------------------------


def process(
    line: str,
    *arguments: str | Path,
    folder: Path,
    module: str = "train",
    before: Callable[[], None] | None = None,
    **environment: str,
) -> Result:
    """The command in a shell's line, in which "$@" stands for it."""
    command = train_command(*arguments)
    done = subprocess.run(
        ["sh", "-c", line, "sh", *command],
        cwd=folder,
        env=os.environ | {"HOME": str(folder)} | environment,
        preexec_fn=before,
        capture_output=True,
        text=True,
        timeout=300,
    )
    return Result(done.returncode, done.stdout, done.stderr)


TOGETHER = max(2, len(os.sched_getaffinity(0)))  # processes
FULL = "fastlenet.train: error: standard output: No space left on device\n"
NO_FOLDER = "fastlenet.train: error: nowhere: no such folder or file; names are "


STREAMS: list[tuple[str, str, tuple[int, str, str]]] = [
    ('"$@" >&-', "small", (0, "", "")),
    ('"$@" 2>&-', "small", (0, "final accuracy", "")),
    ('"$@" <&- >&- 2>&-', "small", (0, "", "")),
    ('"$@" 2>&-', "nowhere", (2, "", "")),
    ('"$@" --wrong 2>&-', "small", (2, "", "")),
    ('"$@" 2>/dev/full', "small", (0, "final accuracy", "")),
    ('"$@" 2>/dev/full', "nowhere", (2, "", "")),
    ('"$@" --wrong 2>/dev/full', "small", (2, "", "")),
    ('"$@" >/dev/full 2>/dev/full', "small", (2, "", "")),
    ('"$@" >/dev/full 2>&-', "small", (2, "", "")),
    ('PYTHONUNBUFFERED=1 "$@" >/dev/full', "small", (2, "", FULL)),
    ('PYTHONUNBUFFERED=1 "$@" --help >/dev/full', "small", (2, "", FULL)),
    ('COLUMNS=200 "$@" --help >/dev/full', "small", (2, "", FULL)),
    ('{ "$@"; echo $? >&3; } 2>&1 3>code | true; exit $(cat code)', "small", (141, "", "")),
    ('{ "$@"; echo $? >&3; } 2>&1 3>code | true; exit $(cat code)', "nowhere", (2, "", "")),
    ('PYTHONIOENCODING=ascii:strict "$@"', "nowhere", (2, "", NO_FOLDER)),
    ('COLUMNS=1 "$@" --help', "small", (0, "Train", "")),
    (
        'COLUMNS=x FASTLENET_NUM_THREADS=x OMP_NUM_THREADS=-1 TERM=dumb TMPDIR=/x TQDM_NCOLS=x LANG=x "$@"',
        "small",
        (0, "final", ""),
    ),
    ('env -u HOME -u PATH LC_ALL=C "$@"', "small", (0, "final accuracy", "")),
    ('mkdir gone; cd gone; rmdir ../gone; "$@"', "small", (0, "final accuracy", "")),
    ('mkdir gone; cd gone; rmdir ../gone; "$@" --save-model m', "small", (2, "", "the working folder is gone")),
    ('ulimit -n 6; "$@"', "small", (0, "final accuracy", "")),
]


@pytest.fixture(scope="module")
def stream_results(tiny_mnist: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Result]:
    """Of all these lines, several at a time, since most of their time is that of starting Python."""

    def result(row: tuple[str, str, object]) -> Result:
        line, data, _ = row
        folder = tiny_mnist if data == "small" else data
        return process(line, "--quiet", "--epochs", "0", "--data-dir", folder, folder=tmp_path_factory.mktemp("streams"))

    with ThreadPoolExecutor(TOGETHER) as pool:
        return list(pool.map(result, STREAMS))


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(STREAMS)), ids=lambda number: STREAMS[number][0])
def test_odd_streams_and_environments(number: int, stream_results: list[Result]) -> None:
    result, (code, out, err) = stream_results[number], STREAMS[number][2]
    assert result.code == code and result.out.startswith(out) and err in result.err, result
    assert bool(out) == bool(result.out) and result.err.count("\n") == bool(err), result


@pytest.mark.slow
@pytest.mark.parametrize(
    ("encoding", "data", "model"),
    [
        ("ascii", b"caf\xc3\xa9", b"model-\xe7\x8c\xab"),
        ("ascii", b"caf\xe9", b"two\nlines"),
        ("utf-8", b"caf\xe9", b"model-\xff"),
        ("utf-8", b"two\r\nlines", b"\x1b[31mred"),
    ],
)
def test_names_that_cannot_be_printed(encoding: str, data: bytes, model: bytes, tiny_mnist: Path, tmp_path: Path) -> None:
    """The model is saved, its accuracy told, and a name is one line whatever is in it; in an error too."""
    shutil.copytree(tiny_mnist, tmp_path / os.fsdecode(data))
    environment = {"PYTHONIOENCODING": encoding, "PYTHONUTF8": "1"}
    arguments = ("--epochs", "0", "--data-dir", os.fsdecode(data), "--save-model", os.fsdecode(model))
    result = process('"$@"', *arguments, folder=tmp_path, **environment)
    assert result.code == 0 and result.err == "" and (tmp_path / os.fsdecode(model)).exists(), result
    lines = result.out.splitlines()
    assert "test images" in lines[1] and re.fullmatch(r"saved \S+", lines[-2]) and lines[-1].startswith("final accuracy ")
    wrong = process('"$@"', "--data-dir", os.fsdecode(model), folder=tmp_path, **environment)
    assert "not a known kind of data set" in one_line(wrong)
    assert "\x1b" not in result.out + wrong.err


def test_threads_without_memory_for_them(tiny_mnist: Path, tmp_path: Path) -> None:
    """As many as there is room for; or one line, where there is no room for the images either."""

    def limit(megabytes: int) -> None:
        resource.setrlimit(resource.RLIMIT_AS, (megabytes << 20, megabytes << 20))

    arguments = ("--quiet", "--epochs", "1", "--data-dir", tiny_mnist, "--threads", "4096", "--validation", "39")
    roomy = process('"$@"', *arguments, folder=tmp_path, before=partial(limit, 2500), OPENBLAS_NUM_THREADS="1")
    assert roomy.code == 0 and roomy.err == ""
    narrow = process('"$@"', *arguments, folder=tmp_path, before=partial(limit, 50), OPENBLAS_NUM_THREADS="1")
    assert one_line(narrow).startswith("fastlenet: error: ")


# --- interrupted, or short of memory, while modules are imported ----------------------------------------------------------

AT_AN_IMPORT = """
import os, signal, sys

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == os.environ["AT"]:
            if os.environ["WHAT"] == "SIGINT":
                signal.raise_signal(signal.SIGINT)
            else:
                raise getattr(__import__("builtins"), os.environ["WHAT"])("at an import")

sys.meta_path.insert(0, Finder())
"""


MODULES = ["numpy", "fastlenet.training.checkpoint", "fastlenet.training.trainer", "safetensors"]
TROUBLE = {
    "SIGINT": (130, "interrupted"),
    "MemoryError": (2, "error: not enough memory"),
    "RuntimeError": (70, "internal error: RuntimeError: at an import (please report it"),
}


@pytest.fixture(scope="module")
def import_results(tiny_mnist: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Result]:
    """Of the command with each kind of trouble at the import of each module, several at a time."""
    folder = tmp_path_factory.mktemp("imports")
    (folder / "sitecustomize.py").write_text(AT_AN_IMPORT)
    paths = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH", "")]))
    arguments = ("--epochs", "0", "--data-dir", tiny_mnist, "--save-model")

    def result(case: tuple[str, str]) -> Result:
        return process('"$@"', *arguments, "-".join(case), folder=folder, WHAT=case[0], AT=case[1], PYTHONPATH=paths)

    cases = list(itertools.product(TROUBLE, MODULES))
    with ThreadPoolExecutor(TOGETHER) as pool:
        return dict(zip(cases, pool.map(result, cases), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("module", MODULES)
@pytest.mark.parametrize("what", TROUBLE)
def test_trouble_during_imports(what: str, module: str, import_results: dict[tuple[str, str], Result]) -> None:
    result, (code, message) = import_results[what, module], TROUBLE[what]
    assert message in one_line(Result(result.code, result.out, result.err.removeprefix("\n")), code)


def test_in_a_thread_that_is_not_the_main_one(run: Run, tiny_mnist: Path) -> None:
    """Where Python allows no signal handlers."""
    results: list[Result] = []
    arguments = ["--data-dir", str(tiny_mnist), "--epochs", "1", "--quiet"]
    thread = threading.Thread(target=lambda: results.append(run(train.main, arguments)))
    thread.start()
    thread.join()
    (result,) = results
    assert result.code == 0 and result.out.startswith("final accuracy") and result.err == ""


AT_A_CALL = """
import os, signal, sys

count = 0

def profile(frame, event, argument):
    global count
    if event == "call" and "fastlenet" in sys.modules and sys.excepthook is not sys.__excepthook__:
        count += 1
        if count == int(os.environ["AT"]):
            sys.setprofile(None)
            signal.raise_signal(signal.SIGINT)

sys.setprofile(profile)
"""


@pytest.mark.parametrize(
    "call", [*(1, 3000), *(pytest.param(10 * 2**i, marks=pytest.mark.slow) for i in range(14)), 10**6], ids=lambda n: f"call{n}"
)
def test_interrupted_at_any_call(call: int, tiny_mnist: Path, tmp_path: Path) -> None:
    """From the moment on that the package has begun to be imported."""
    (tmp_path / "sitecustomize.py").write_text(AT_A_CALL)
    paths = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    arguments = ("--epochs", "1", "--data-dir", tiny_mnist, "--save-model", "model")
    result = process('"$@"', *arguments, folder=tmp_path, AT=str(call), PYTHONPATH=paths)
    assert "Traceback" not in result.err and result.code == (130 if "interrupted" in result.err else 0), result
    assert result.code == (0 if call == 10**6 else 130)
