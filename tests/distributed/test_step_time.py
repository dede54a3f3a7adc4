"""The model of a step's time, against sums by hand; and what fastlenet bench --scaling prints."""

from __future__ import annotations

import json

import pytest

from fastlenet.cli.bench import main
from fastlenet.distributed.step_time import NETWORKS, Compute, Network, speed_up, step_seconds

COMPUTE = Compute(fixed=1e-3, image=1e-5, parameters=1000, add=1e-9)
NETWORK = Network(latency=1e-4, bandwidth=1e6)


def test_one_host_sends_nothing() -> None:
    assert step_seconds(100, 1, COMPUTE, NETWORK) == pytest.approx(1e-3 + 100e-5)


def test_four_hosts() -> None:
    """25 images each; two levels; 3/4 of 4,000 bytes are sent there and back, and added once."""
    expected = 1e-3 + 25e-5 + 3 * 2 * 1e-4 + 2 * 3000 / 1e6 + 3000 * 1e-9
    assert step_seconds(100, 4, COMPUTE, NETWORK) == pytest.approx(expected)
    assert speed_up(100, 4, COMPUTE, NETWORK) == pytest.approx((1e-3 + 100e-5) / expected)


def test_a_batch_of_64_does_not_pay() -> None:
    """At 28 us for an image, as on two cores: four hosts of 10 Gbit/s are slower than one, but not with a batch of 1,024."""
    lenet = Compute(fixed=0.3e-3, image=28e-6, parameters=431_080, add=1e-10)
    assert speed_up(64, 4, lenet, NETWORKS["10 Gbit/s"]) < 1 < speed_up(1024, 4, lenet, NETWORKS["10 Gbit/s"])
    assert speed_up(1024, 4, lenet, NETWORKS["1 Gbit/s"]) < 2


@pytest.mark.slow
def test_the_command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastlenet.cli.scaling._SECONDS", 0.0)  # the fewest steps
    assert main(["--scaling", "--rounds", "1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found["speed_up"]) == set(NETWORKS) and found["compute"]["parameters"] == 431_080
    assert all(row["1024"]["1"] == 1.0 for row in found["speed_up"].values())
