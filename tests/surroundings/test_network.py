"""The same job on real network file systems: server and client on this machine; by nox -s long -- network."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastlenet import LeNet
from fastlenet.distributed.results import opened, read
from fastlenet.files import CheckpointError
from fastlenet.formats.parameters import save_model
from helpers.network import Network
from helpers.surroundings import expect_usual, job

pytestmark = pytest.mark.network


@pytest.fixture(params=["sshfs", "webdav"])
def network(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Network]:
    made = Network(request.param, tmp_path)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def sshfs(tmp_path: Path) -> Iterator[Network]:
    made = Network("sshfs", tmp_path)
    try:
        yield made
    finally:
        made.close()


def test_the_job(network: Network, usual: str) -> None:
    expect_usual(job(network.path), usual, network.path)


HOLDING = """
import sys, time
from fastlenet.distributed.results import opened
with opened(sys.argv[1], {"data": "x"}):
    print("open", flush=True)
    time.sleep(3600)
"""


def test_two_runs_with_one_file_of_results(network: Network) -> None:
    """The second is refused as long as the first one lives, and not after it was killed."""
    path = network.path / "runs.jsonl"
    with subprocess.Popen([sys.executable, "-c", HOLDING, str(path)], stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None
        try:
            assert first.stdout.readline() == "open\n"
            with pytest.raises(CheckpointError, match="another run writes it"), opened(path, {"data": "x"}):
                pass
        finally:
            first.send_signal(signal.SIGKILL)
    with opened(path, {"data": "x"}):
        pass
    assert read(path).about["data"] == "x"
    assert os.listdir(network.path) == ["runs.jsonl"]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_the_server_dies_in_a_save(call: str, sshfs: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error that names the file; the old file is whole once the server is back, and the next save removes the rest."""
    old, new = LeNet(seed=1), LeNet(seed=2)
    path = sshfs.path / "model.safetensors"
    save_model(path, old.state_dict())
    before = path.read_bytes()
    real = getattr(os, call)

    def dying(*arguments: object) -> object:
        sshfs.kill_server()
        return real(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(os, call, dying)
        with pytest.raises(
            CheckpointError, match=r"model\.safetensors: cannot be written \((Transport endpoint|Input/output)"
        ) as caught:
            save_model(path, new.state_dict())
    assert "\n" not in str(caught.value)
    sshfs.unmount()
    sshfs.start()
    assert path.read_bytes() == before
    save_model(path, new.state_dict())
    assert path.read_bytes() != before
    assert os.listdir(sshfs.path) == ["model.safetensors"]


TRAINING = """
import sys
import numpy as np
from fastlenet import LeNet, fit
from fastlenet.training.callbacks.base import Callback
class Steps(Callback):
    def batch(self, trainer, loss, images):
        print("step", trainer.state.optimizer.steps, flush=True)
        if trainer.state.optimizer.steps == int(sys.argv[2]):
            import os, signal
            os.kill(os.getpid(), signal.SIGKILL)
draw = np.random.default_rng(0)
images, labels = draw.integers(0, 256, (256, 28, 28), np.uint8), draw.integers(0, 10, 256, np.uint8)
model = LeNet(seed=1)
resume = sys.argv[1] if sys.argv[3:] else None
fit(model, images, labels, epochs=2, batch_size=16, callbacks=[Steps()], verbose=0, checkpoint=sys.argv[1],
    checkpoint_seconds=1e-9, resume=resume)
print("done", model.parameter_buffer.tobytes().hex())
"""


def training(path: Path, *more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", TRAINING, str(path), *more], capture_output=True, text=True, timeout=120)


def test_killed_and_resumed(network: Network, tmp_path: Path) -> None:
    """Killed after 21 of 32 steps, and resumed from its checkpoint there, a run ends with the bits of an undisturbed one."""
    whole = training(tmp_path / "whole.ckpt", "0")
    assert whole.returncode == 0, whole.stderr
    path = network.path / "run.ckpt"
    assert training(path, "21").returncode == -signal.SIGKILL
    resumed = training(path, "0", "resume")
    assert resumed.returncode == 0, resumed.stderr
    assert 1 < int(resumed.stdout.split()[1]) <= 22  # the first step after the checkpoint
    assert resumed.stdout.splitlines()[-1] == whole.stdout.splitlines()[-1]
    assert os.listdir(network.path) == ["run.ckpt"]
