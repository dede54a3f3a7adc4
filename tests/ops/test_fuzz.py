"""Random calls of every op against the reference; tests/fuzz.py says how to repeat one."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastlenet import _core, get_num_threads, ops, set_num_threads
from fastlenet.backend import OPS
from fastlenet.reference import bf16 as bf16_twin
from fastlenet.testing.values import Draw
from helpers.backends import thread_orders
from helpers.fuzz.calls import GENERATORS
from helpers.fuzz.case import drawn_op
from helpers.fuzz.int8_network import wrong_layers
from helpers.fuzz.runner import Report, main, run, run_here

LEVELS = _core.levels_available()
DEFAULT = -(-1000 // len(LEVELS))  # cases of each level, 1,000 or more in all
SLOW = 50_000


@pytest.fixture
def machine() -> Iterator[None]:
    """The level and the number of threads as before."""
    level, threads = _core.level(), get_num_threads()
    yield
    _core.set_level(level)
    set_num_threads(threads)


def expect_none(report: Report, cases: int) -> None:
    assert not report.failures, "\n".join(report.failures)
    assert report.taken > 0.4 * cases and report.refused > 0.15 * cases, "too few of a kind to mean anything"


def test_every_op_has_a_generator() -> None:
    in_bf16 = [f"{name}_bf16" for name in bf16_twin.__all__ if name in OPS]
    assert sorted(GENERATORS) == sorted([*OPS, *in_bf16, "Int8Network", "empty"])


@pytest.mark.parametrize("level", LEVELS)
def test_cases(level: str) -> None:
    expect_none(run(LEVELS.index(level), range(DEFAULT), level=level), DEFAULT)


@pytest.mark.slow
def test_many_cases() -> None:
    """At levels of their own choice, in two processes at a time."""
    halves = range(SLOW // 2), range(SLOW // 2, SLOW)
    with ThreadPoolExecutor(2) as pool:
        for report in pool.map(lambda cases: run(100, cases), halves):
            expect_none(report, SLOW // 2)


@pytest.mark.cuda
def test_on_a_gpu(machine: None) -> None:
    """The checks there are others: those of fastlenet.cuda.ops."""
    for seed, order in enumerate(thread_orders()):
        lines = [line for line in run_here(200 + seed, range(240), device=order) if line != "left out"]
        failures = [line for line in lines if line.startswith("python")]
        expect_none(Report(lines.count("taken"), lines.count("refused"), failures), len(lines))


# --- the fuzzer itself -----------------------------------------------------------------------------------------------------


def last_index_off_by_one(x: Any, kernel_size: Any, **options: Any) -> Any:
    """Max-pooling whose last index is that of the pixel behind."""
    y, indices = max_pool2d_forward(x, kernel_size, **options)
    if indices.size:
        indices.reshape(-1)[-1] += 1
    return y, indices


def overlap_not_checked(x: Any, rate: Any, seed: Any, counter: Any, *, offset: Any = 0, out: Any = None) -> Any:
    """Dropout that writes one output over the other, as it would if nobody looked."""
    try:
        return dropout_forward(x, rate, seed, counter, offset=offset, out=out)
    except ValueError as error:
        if "share memory" not in str(error):
            raise
        y, mask = dropout_forward(x, rate, seed, counter, offset=offset)
        out[0][...] = y
        out[1][...] = mask
        return out


def labels_not_checked(logits: Any, labels: Any, **options: Any) -> Any:
    """A loss that takes whatever label as one that there is."""
    array = np.asarray(labels)
    if array.dtype.kind in "iu" and logits.ndim == 2:
        labels = np.clip(array, 0, max(logits.shape[1] - 1, 0))
    return softmax_cross_entropy(logits, labels, **options)


max_pool2d_forward, dropout_forward, softmax_cross_entropy = (
    ops.max_pool2d_forward,
    ops.dropout_forward,
    ops.softmax_cross_entropy,
)


@pytest.mark.parametrize(
    ("op", "planted", "message"),
    [
        ("max_pool2d_forward", last_index_off_by_one, "indices expected"),
        ("dropout_forward", overlap_not_checked, "must not share memory with"),
        ("softmax_cross_entropy", labels_not_checked, "labels expects values in"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_planted_fault_is_found(
    op: str, planted: Callable[..., Any], message: str, monkeypatch: pytest.MonkeyPatch, machine: None
) -> None:
    """By the cases that every test run has; which find nothing without it."""
    cases = [(seed, case) for seed in range(len(LEVELS)) for case in range(DEFAULT) if drawn_op(seed, case) == op]

    def failures() -> list[str]:
        lines = (next(run_here(seed, range(case, case + 1), level=LEVELS[seed])) for seed, case in cases)
        return [line for line in lines if line.startswith("python")]

    assert not failures()
    monkeypatch.setattr(ops, op, planted)
    found = failures()
    assert found and any(message in line for line in found), found


def test_a_network_without_layers_can_be_made_wrong() -> None:
    assert wrong_layers(Draw(0), ()) == (("flatten", 0),)
    assert {len(wrong_layers(Draw(seed), (("flatten", 0), ("scores", 1)))) for seed in range(30)} == {0, 1, 2, 3}


def test_a_crash_is_told_from_a_failure(tmp_path: Path) -> None:
    """The line names the case that the process died of, and those behind it run all the same."""
    program = tmp_path / "crashing.py"
    program.write_text(f"""
import os, sys
sys.path.insert(0, {str(Path(__file__).parent.parent)!r})
from helpers.fuzz import runner as fuzz
def run_case(seed, case, *_):
    if case == 3:
        raise fuzz.FuzzError("not what it should be")
    if case == 7:
        os._exit(134)
    return "taken"
fuzz.run_case = run_case
sys.exit(fuzz.main())
""")
    report = run(5, range(12), level=LEVELS[0], program=str(program))
    repeat = f"python tests/fuzz.py --seed 5 --case {{}} --level {LEVELS[0]}: "
    assert report.failures == [repeat.format(3) + "not what it should be", repeat.format(7) + "the process died of 134"]
    assert report.taken == 10


def test_a_line_repeats_its_case(monkeypatch: pytest.MonkeyPatch, machine: None) -> None:
    """The command that a failure names fails too, by the same line; and passes when the fault is gone."""
    case = next(case for case in range(DEFAULT) if drawn_op(0, case) == "relu_forward")
    with monkeypatch.context() as patch:
        patch.setattr(ops, "relu_forward", lambda x, out=None: np.float32(1))
        (line,) = run_here(0, range(case, case + 1), level=LEVELS[0])
        command, _ = line.split(": ", 1)
        program, *arguments = shlex.split(command)[1:]
        assert program == "tests/fuzz.py" and main(arguments) == 1
    assert main(arguments) == 0
