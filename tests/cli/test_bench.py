"""fastlenet bench: its lines, its JSON, its errors. No figure is judged."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from fastlenet import get_num_threads, set_num_threads
from fastlenet.cli import bench
from fastlenet.cli.main import main
from fastlenet.testing import OPS


@pytest.fixture(autouse=True)
def a_known_peak(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(bench, "peak", lambda threads: 1e9)
    before = get_num_threads()
    yield
    set_num_threads(before)


def test_text(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--only", "avg_pool", "--rounds", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("level ") and lines[0].endswith("multiply-add peak 1 GFLOP/s")
    labels = [timed.label.strip(" ,") for op in OPS.values() for timed in op.benchmarks if "avg_pool" in op.name]
    assert [line for line in lines if line.startswith("avg_pool")] == ["avg_pool2d_forward", "avg_pool2d_backward"]
    rows = [line[2:].split("  ")[0] for line in lines if line.startswith("  ") and "time" not in line]
    assert rows == labels
    assert all(len(line) <= 80 for line in lines)


def test_a_row_fits_a_terminal() -> None:
    longest = max((timed.label.strip(" ,") for op in OPS.values() for timed in op.benchmarks), key=len)
    row = bench._row(f"  {longest}", "922,332.5 us", "1,205 GFLOP/s", "1372%", "1,100.2 x")
    assert len(row) <= 80 and row.split()[-2:] == ["1,100.2", "x"]


def test_json_beside_numpy(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--only", "linear_forward, fc2", "--numpy", "--rounds", "1", "--threads", "1", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    (line,) = said["lines"]
    assert said["threads"] == 1 and said["peak_flops"] == 1e9
    assert line["op"] == "linear_forward" and line["flops"] == 2 * 128 * 500 * 10
    assert line["of_peak"] == pytest.approx(line["flops"] / line["seconds"] / 1e9)
    assert line["numpy_seconds"] > 0 and line["seconds"] > 0


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--only", "conv3d"], "--only 'conv3d' is in no line"),
        (["--rounds", "0"], "--rounds expects an integer in 1..1000, got 0"),
        (["--threads", "0"], "--threads expects"),
        (["--round", "1"], "unrecognized arguments"),
    ],
)
def test_wrong_input(arguments: list[str], line: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        code = main(["bench", *arguments])
    except SystemExit as stop:
        assert isinstance(stop.code, int)
        code = stop.code
    out, err = capsys.readouterr()
    assert (code, out, err.count("\n")) == (2, "", 1) and line in err
