"""The units of bfloat16: chosen at their first use, forced by FASTLENET_BF16, refused in one line; and the soak of tiles."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

import fastlenet
from fastlenet import _core, bf16
from fastlenet.cli import bench, soak
from fastlenet.testing.units import using
from helpers.bf16 import HARDWARE, LACKING, UNITS

USE = """
import numpy, fastlenet
from fastlenet import bf16
before = fastlenet.config()["bf16"]
one = numpy.ones((1, 1), numpy.float32)
try:
    bf16.linear_forward(one, one)
except ValueError as error:
    print(error)
else:
    print(before, fastlenet.config()["bf16"], bf16.level())
"""


def use(unit: str) -> str:
    """What a process says that multiplies once, with this FASTLENET_BF16."""
    environment = os.environ | {"FASTLENET_BF16": unit}
    done = subprocess.run([sys.executable, "-c", USE], env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("unit", UNITS)
def test_forced(unit: str) -> None:
    level = f"{_core.level()}+{unit.removesuffix('-emulated')}"
    assert use(unit) == f"not used yet {unit} {level}"


def test_chosen_at_the_first_use() -> None:
    """The best instruction that the CPU has; never an emulation, which is slow, unless it is asked for."""
    if HARDWARE:
        assert use("") == f"not used yet {HARDWARE[0]} {_core.level()}+{HARDWARE[0]}"
    else:
        assert use("").startswith("linear_forward: precision bf16: this CPU has no ") and "FASTLENET_BF16=" in use("")


def test_refused() -> None:
    assert use("avx9000") == (
        "linear_forward: precision bf16: FASTLENET_BF16: unknown unit 'avx9000'; built: "
        f"{', '.join(_core.units_built())}; available on this CPU: {', '.join(UNITS)}"
    )
    for unit in set(LACKING) & set(_core.units_built()):
        line = use(unit)
        assert line.startswith(f"linear_forward: precision bf16: FASTLENET_BF16: {unit} cannot be used: this CPU has no ")
        assert "\n" not in line


def test_the_same_instruction_is_the_same_level() -> None:
    for instruction in ("vdpbf16ps", "tdpbf16ps"):
        levels = set()
        for unit in UNITS:
            if unit.startswith(instruction):
                with using(unit):
                    levels.add(bf16.level())
        assert levels == {f"{_core.level()}+{instruction}"}


def test_config() -> None:
    assert fastlenet.config()["bf16_available"] == UNITS
    assert set(UNITS) <= set(_core.units_built())
    assert (fastlenet.config()["amx"] == "not on this CPU") == ("tdpbf16ps" in LACKING)
    with using(UNITS[-1]):
        assert fastlenet.config()["bf16"] == UNITS[-1]


def test_soak_on_this_machine(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FASTLENET_BF16", raising=False)
    code, found = bench.main(["--amx-soak", "--seconds", "0.3"]), capsys.readouterr()
    if "tdpbf16ps" in LACKING:
        reason = f"this CPU has no AMX tiles of bfloat16; available on this CPU: {', '.join(UNITS)}"
        expected = f"fastlenet bench: error: --amx-soak: tdpbf16ps cannot be used: {reason}\n"
        assert (code, found.out, found.err) == (2, "", expected)
    else:
        assert code == 0 and found.out.startswith("tdpbf16ps: ") and found.err == ""


def test_soak_of_the_emulation(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTLENET_BF16", "tdpbf16ps-emulated")
    assert bench.main(["--amx-soak", "--seconds", "0.1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["verdict"] == "reliable" and found["rounds"] > 0 and found["lost"] == found["undetected"] == 0
    assert soak.soak(0, as_json=False, lose_every=2) == 0
    line = capsys.readouterr().out
    rounds = 3 * found["threads"] * 200
    assert line == (
        f"tdpbf16ps-emulated: loses tiles, and the sentinel tells; {rounds:,} rounds on {found['threads']} threads, "
        f"{rounds // 2:,} lost, 0 of them undetected\n"
    )


def test_a_loss_that_goes_unnoticed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_core, "soak_tiles", lambda *arguments: (200, 3, 1))
    assert soak.soak(0, as_json=False) == 1
    assert "loses tiles unnoticed; 600 rounds" in capsys.readouterr().out
