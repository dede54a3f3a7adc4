"""Whatever a user can get wrong ends in one line and exit code 2, and leaves his files as they were."""

from __future__ import annotations

import ctypes
import os
import re
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from fastlenet.training.callbacks.saver import Saver
from fastlenet.training.trainer import Trainer
from helpers.command import Result, one_line, train_command
from helpers.idx import write_idx

Train = Callable[..., Result]

OUTPUTS = ("--checkpoint", "--save-model", "--log-json", "--plot")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--epochs", -1], r"--epochs expects an integer in 0\.\.2\^32, got -1"),
        (["--epochs", "two"], "argument --epochs: invalid int value: 'two'"),
        (["--batch-size", 0], "--batch-size expects a positive integer, got 0"),
        (["--test-batch-size", 0], "--test-batch-size expects a positive integer, got 0"),
        (["--lr", "nan"], "--lr expects a non-negative number, got nan"),
        (["--momentum", 1], r"--momentum expects a number in \[0, 1\), got 1.0"),
        (["--seed", -1], r"--seed expects an integer in 0\.\.2\^64-1, got -1"),
        (["--threads", 0], r"--threads expects an integer in 1\.\.4096, got 0"),
        (["--threads", 5000], r"--threads expects an integer in 1\.\.4096, got 5000"),
        (["--validation", 60000], r"--validation expects 1\.\.59999 images, got 60000"),
        (["--data-dir", "nowhere"], "nowhere: no such folder"),
        (["--data-dir", "a" * 5000], r"cannot be read \(File name too long\)"),
        (["--dataset", "CIFAR11"], r"CIFAR11: no such folder or file; did you mean cifar10\?"),
        (["--load-model", "missing"], "missing: no such file"),
        (["--load-model", "a" * 5000], r"a{200}\.\.\. \(5000 characters\)"),
        (["--resume", "missing"], "missing: no such file"),
        (["--resume", "a" * 5000], r"a{200}\.\.\. \(5000 characters\)"),
        (["--checkpoint", "no/such/folder"], "no/such/folder: there is no folder no/such"),
        (["--checkpoint", "/dev/null"], "/dev/null: not a file that could be replaced"),
        (["--save-model", "."], r"\.: is a folder"),
        (["--log-json", "no/log"], "no/log: there is no folder no"),
        *(
            ([flag, "a" * 5000], r"a{200}\.\.\. \(5000 characters\): cannot be written \(File name too long\)")
            for flag in OUTPUTS
        ),
        (["--recipe", "slow"], "argument --recipe: invalid choice: 'slow'"),
        (["--ensemble", 0], r"--ensemble expects an integer in 1\.\.1000, got 0"),
        (["--ensemble", 2, "--load-model", "m"], "--load-model m: an ensemble's networks start from new weights"),
        (["--elastic-sigma", 0], r"--elastic-sigma expects pixels in \[0\.001, 1000\], got 0\.0"),
        (["--speed", "fast"], "unrecognized arguments: --speed fast"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_wrong_usage(arguments: list[Any], message: str, train_here: Train) -> None:
    result = train_here(*arguments)
    assert re.search(message, one_line(result))
    assert "accuracy" not in result.out and not list(Path().iterdir())


@pytest.mark.parametrize("module", ["train", "speedrun"])
def test_wrong_environment(module: str) -> None:
    """`import fastlenet` raises, but a command of this package ends in one line."""
    environment = os.environ | {"FASTLENET_ISA": "foo"}
    for options in (["-m", f"fastlenet.{module}"], ["-c", "import fastlenet"]):
        done = subprocess.run([sys.executable, *options], env=environment, capture_output=True, text=True, timeout=300)
        last = done.stderr.splitlines()[-1]
        assert "FASTLENET_ISA: unknown instruction-set level 'foo'" in last and "x86-64-v2" in last
        assert (done.returncode, last == done.stderr[:-1]) == ((2, True) if "-m" in options else (1, False))


def test_foreign_parameters(train_here: Train, tmp_path: Path) -> None:
    save_file({"a": np.zeros(3, np.float32)}, tmp_path / "foreign.safetensors")
    message = one_line(train_here("--load-model", "foreign.safetensors"))
    assert "foreign.safetensors: not this network's parameters" in message and "a is unexpected" in message


def test_images_of_another_size(train_here: Train, tmp_path: Path) -> None:
    for part in ("train", "t10k"):
        write_idx(tmp_path / f"{part}-images-idx3-ubyte", np.zeros((3, 20, 3)))
        write_idx(tmp_path / f"{part}-labels-idx1-ubyte", np.arange(3))
    message = one_line(train_here("--data-dir", tmp_path))
    assert message.endswith(
        "input_shape expects (channels, height, width), at least 1 channel and 4 pixels a side, got (1, 20, 3)"
    )


# --- files that are written ---------------------------------------------------------------------------------------------


def test_an_existing_checkpoint_is_not_overwritten(train_here: Train, small_mnist: Path, tmp_path: Path) -> None:
    (tmp_path / "state").write_text("precious")
    result = train_here("--data-dir", small_mnist, "--checkpoint", "state")
    assert "state: exists; continue with --resume" in one_line(result)
    assert (tmp_path / "state").read_text() == "precious"


@pytest.mark.parametrize("first", [*OUTPUTS, "--resume", "--load-model"])
def test_two_flags_for_one_file(first: str, train_here: Train, tmp_path: Path) -> None:
    """Whatever way it is spelt; but a checkpoint may go on in its file, and a model be trained on in its own."""
    (tmp_path / "link").symlink_to("X.png")
    (tmp_path / "X.png").write_text("precious")
    for second in OUTPUTS:
        for spelling in ("X.png", "./X.png", tmp_path / "X.png", "link"):
            message = one_line(train_here(first, "X.png", second, spelling)) if first != second else ""
            allowed = first == second or (first, second) in (("--resume", "--checkpoint"), ("--load-model", "--save-model"))
            assert allowed or (f"{first} and {second} are" in message or f"{second} and {first} are" in message)
    assert (tmp_path / "X.png").read_text() == "precious"


def bounded(before: Callable[[], None], *arguments: Any, folder: Path) -> Result:
    """The command, after `before` in its process."""
    done = subprocess.run(
        train_command(*map(str, arguments)), cwd=folder, preexec_fn=before, capture_output=True, text=True, timeout=300
    )
    return Result(done.returncode, done.stdout, done.stderr)


def without_privileges() -> None:
    """Take from root, if that is who runs the tests, the capabilities to pass by the permissions of its own files."""
    drop, dac_override, dac_read_search = 24, 1, 2  # PR_CAPBSET_DROP, CAP_*: see prctl(2), capabilities(7)
    if os.geteuid() == 0:
        for capability in (dac_override, dac_read_search):
            assert ctypes.CDLL(None).prctl(drop, capability, 0, 0, 0) == 0


@pytest.mark.parametrize("flag", OUTPUTS)
def test_no_permission(flag: str, small_mnist: Path, tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o555)
    result = bounded(without_privileges, "--data-dir", small_mnist, flag, "closed/file.png", folder=tmp_path)
    assert "closed/file.png: no permission to write in closed" in one_line(result) and result.out == ""


def small_disk() -> None:
    """No file may be larger than a MiB; a checkpoint has several."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))


@pytest.mark.slow
def test_disk_full_while_saving(train_here: Train, small_mnist: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Told once, and at the end, after the accuracy; no half of a file, and the old one stays."""
    settings = ["--data-dir", small_mnist, "--epochs", 3, "--batch-size", 100, "--checkpoint", "state"]
    result = bounded(small_disk, *settings, folder=tmp_path)
    assert result.code == 2 and re.search(r"final accuracy \d+\.\d\d%\n$", result.out)
    during, end = result.err.splitlines()
    assert "state: cannot be written (File too large); the training goes on" in during
    assert "state: cannot be written (File too large)" in end and "could not be saved elsewhere" in end
    assert not list(tmp_path.iterdir())
    of_epoch = Saver.epoch
    monkeypatch.setattr(Saver, "epoch", lambda saver, run, epoch: run.state.epoch == 1 and of_epoch(saver, run, epoch))
    assert train_here(*settings).code == 0  # and leaves the state after its first epoch
    good = (tmp_path / "state").read_bytes()
    result = bounded(small_disk, "--resume", "state", folder=tmp_path)
    assert result.code == 2 and "state: cannot be written" in result.err and (tmp_path / "state").read_bytes() == good
    assert [path.name for path in tmp_path.iterdir()] == ["state"]


# --- outputs that take no more ------------------------------------------------------------------------------------------


def test_full_log(train_here: Train, small_mnist: Path) -> None:
    """Told when it happens, and after the accuracy: the training goes on."""
    result = train_here("--data-dir", small_mnist, "--dry-run", "--log-json", "/dev/full")
    assert result.code == 2 and "final accuracy" in result.out
    during, end = result.err.splitlines()
    assert "/dev/full: cannot be written (No space left on device); the training goes on" in during
    assert end.endswith("/dev/full: cannot be written (No space left on device)")


@pytest.mark.parametrize("flags", [["--help"], ["--dry-run"], ["--dry-run", "--quiet"]], ids=str)
def test_full_standard_output(flags: list[str], small_mnist: Path, tmp_path: Path) -> None:
    command = train_command(*flags, "--data-dir", small_mnist)
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, cwd=tmp_path, stdout=full, stderr=subprocess.PIPE, text=True, timeout=300)
    assert done.returncode == 2
    assert done.stderr == "fastlenet.train: error: standard output: No space left on device\n"


def test_a_reader_that_has_gone(small_mnist: Path, tmp_path: Path) -> None:
    """As `| head -1`: no word on standard error, and the code of a program that SIGPIPE ended."""
    command = train_command("--data-dir", small_mnist, "--epochs", 1)
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stderr is not None
    assert process.stdout.readline().startswith("fastlenet ")
    process.stdout.close()
    assert process.stderr.read() == "" and process.wait() == 141
    process.stderr.close()


# --- too much -----------------------------------------------------------------------------------------------------------


def test_batches_larger_than_the_data(train_here: Train, small_mnist: Path) -> None:
    """They are all of it, and take no more memory than that."""
    results = [
        train_here("--data-dir", small_mnist, "--epochs", 1, "--quiet", "--batch-size", size, "--test-batch-size", size)
        for size in (2000, 100_000_000)
    ]
    assert results[0] == results[1] and results[0].code == 0


def test_not_enough_memory(train_here: Train, small_mnist: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(trainer: Trainer, *callbacks: Any) -> None:
        np.empty(2**60, np.uint8)

    monkeypatch.setattr(Trainer, "run", run)
    message = one_line(train_here("--data-dir", small_mnist))
    assert message == "fastlenet.train: error: not enough memory; a smaller --batch-size or --test-batch-size needs less"
