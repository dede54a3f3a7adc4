"""Runs the contenders in turns, one at a time, each in its own process and interpreter."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fastlenet import LeNet, fit
from fastlenet.data import load_mnist
from peers import TRAINED

__all__ = ["Contender", "add_arguments", "prepare", "run_rounds", "start"]

HERE = Path(__file__).parent
# Each peer's interpreter, where it is not this one: benchmarks/README.md tells how to install them.
PEERS = ("pytorch", "tensorflow", "jax", "tinygrad", "onnxruntime", "openvino", "ncnn", "litert", "zentorch")


@dataclass
class Contender:
    """A worker process, and the seconds, checks and memory of its jobs."""

    name: str
    version: str
    process: subprocess.Popen[str]
    seconds: list[float] = field(default_factory=list)
    check: float = 0.0
    memory: float = 0.0

    def do(self, job: str, batch: int, images: int) -> float:
        assert self.process.stdin is not None and self.process.stdout is not None
        print(json.dumps({"job": job, "batch": batch, "images": images}), file=self.process.stdin, flush=True)
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.name} ended with code {self.process.wait()} in {job} at batch {batch}")
        answer = json.loads(line)
        self.check, self.memory = answer["check"], answer["memory"]
        return float(answer["seconds"])

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def add_arguments(parser: argparse.ArgumentParser, peers: list[str]) -> None:
    """The flags that every contest has."""
    parser.add_argument("--peers", nargs="*", default=peers, metavar="PEER", help=f"(default: {' '.join(peers)})")
    for peer in PEERS:
        parser.add_argument(f"--{peer}", default=sys.executable, metavar="PYTHON", help=f"a Python interpreter that has {peer}")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)


def prepare(folder: Path) -> Path:
    """MNIST and the parameters after one epoch of training, in one file for every worker."""
    data, model = load_mnist(), LeNet()
    fit(model, data, evaluate_every_epoch=False, verbose=0, **TRAINED)
    path = folder / "data.npz"
    np.savez(
        path,
        images=data.train_images,
        labels=data.train_labels,
        test_images=data.test_images,
        test_labels=data.test_labels,
        mean=data.mean,
        std=data.std,
        **model.state_dict(),
    )
    return path


def start(name: str, python: str, data: Path, threads: int, label: str = "", **environment: str) -> Contender | None:
    """A contender's process, ready to work; None, and a line that says so, if it is not installed.

    label: what tells it from another contender of that name.
    """
    settings = {"OMP_NUM_THREADS": str(threads), "TF_CPP_MIN_LOG_LEVEL": "3", **environment}
    process = subprocess.Popen(
        [python, str(HERE / "worker.py"), name, str(data), str(threads)],
        env=os.environ | settings,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    answer = json.loads(line) if line else {"missing": f"it ended with code {process.wait()}"}
    if "missing" in answer:
        print(f"{name}: missing ({answer['missing']})")
        return None
    return Contender(label or name, answer["version"], process)


def run_rounds(contenders: list[Contender], job: str, batch: int, images: int, rounds: int) -> dict[str, dict[str, Any]]:
    """Each contender does the job once unmeasured, then in each round all in turn; images/s of every round, and the checks."""
    for contender in contenders:
        contender.do(job, batch, max(batch, images // 10 // batch * batch))
        contender.seconds = []
    for _ in range(rounds):
        for contender in contenders:
            contender.seconds.append(contender.do(job, batch, images))
    return {
        contender.name: {
            "version": contender.version,
            "images_per_second": [images / seconds for seconds in contender.seconds],
            "median": images / statistics.median(contender.seconds),
            "check": contender.check,
            "memory_mb": contender.memory,
        }
        for contender in contenders
    }


def temporary_folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="fastlenet-bench-")
