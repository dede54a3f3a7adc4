"""fastlenet bench --scaling: how fast several hosts would train; under mpiexec, how fast these ranks do."""

from __future__ import annotations

import json
import statistics
import time
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import numpy as np

from fastlenet import ops
from fastlenet.cli.ranks import join
from fastlenet.config import config, get_num_threads
from fastlenet.data import Dataset, load_mnist
from fastlenet.distributed.step_time import NETWORKS, Compute, Network, speed_up, step_seconds
from fastlenet.models import LeNet
from fastlenet.training.recipe import RECIPES
from fastlenet.training.trainer import Trainer

if TYPE_CHECKING:
    from fastlenet.distributed.mpi import MpiRanks

__all__ = ["scaling"]

_BATCHES = (64, 256, 1024, 4096, 16384)
_HOSTS = tuple(2**level for level in range(11))
_MEASURED = (64, 256, 1024)  # batches that are timed
_SECONDS = 0.3  # that each of these takes
_RECIPE = replace(RECIPES["default"], epochs=1)


def scaling(rounds: int, as_json: bool) -> int:
    """Measure, and print what follows. rounds: of each measurement. Returns the exit code."""
    ranks = join("auto")
    whole = load_mnist()
    data = replace(whole, test_images=whole.test_images[:16], test_labels=whole.test_labels[:16])  # evaluated after each run
    compute = _compute(data, rounds)
    found: dict[str, object] = {"level": config()["level"], "threads": get_num_threads(), "compute": asdict(compute)}
    if ranks is None:
        rows = {name: _table(compute, network) for name, network in NETWORKS.items()}
        print(json.dumps(found | {"speed_up": rows}) if as_json else _predictions(compute, rows))
        return 0
    network = _network(ranks, rounds)
    measured = {batch: _step(data, batch, ranks, rounds) for batch in _MEASURED}
    predicted = {batch: step_seconds(batch, ranks.size, compute, network) for batch in _MEASURED}
    found |= {"ranks": ranks.size, "network": asdict(network), "measured": measured, "predicted": predicted}
    if ranks.rank == 0:
        print(json.dumps(found) if as_json else _comparison(compute, ranks.size, network, measured, predicted))
    ranks.leave()
    return 0


# --- measuring ------------------------------------------------------------------------------------------------------------


def _step(data: Dataset, batch: int, ranks: MpiRanks | None, rounds: int) -> float:
    """The median seconds of a step."""
    recipe = replace(_RECIPE, batch_size=batch, shards=1 if ranks is None else ranks.size)
    steps = max(4, min(len(data.train_labels) // batch, round(_SECONDS / (20e-6 * batch))))
    seconds = []
    for _ in range(rounds):
        trainer = Trainer(LeNet.of(recipe), data, recipe, evaluate_every_epoch=False, ranks=ranks, batches_per_epoch=steps)
        trainer.run()
        seconds.append(trainer.state.history.epochs[0].seconds / steps)
    return statistics.median(seconds)


def _compute(data: Dataset, rounds: int) -> Compute:
    """From the steps of two batches."""
    small, large = _MEASURED[0], _MEASURED[-1]
    at_small, at_large = _step(data, small, None, rounds), _step(data, large, None, rounds)
    image = (at_large - at_small) / (large - small)
    parameters = LeNet.of(_RECIPE).parameter_buffer.size
    a, b = ops.empty((parameters,)), ops.empty((parameters,))
    a.fill(0)
    b.fill(0)
    add = _median(lambda: ops.sgd_step(a, b, None, lr=-1.0), 10 * rounds) / a.nbytes
    return Compute(max(0.0, at_small - small * image), image, parameters, add)


def _network(ranks: MpiRanks, rounds: int) -> Network:
    """Between the first rank and its farthest partner in the tree: the slowest, if hosts have neighbouring ranks."""
    distance = ranks.size // 2
    few, many = np.zeros(2, np.float32), np.zeros(1 << 20, np.float32)
    received = np.empty_like(many)
    latency = _median(lambda: ranks.exchange(few, received[:2], ranks.rank ^ distance), 100 * rounds)
    whole = _median(lambda: ranks.exchange(many, received, ranks.rank ^ distance), 5 * rounds)
    return Network(latency, many.nbytes / max(whole - latency, 1e-9))


def _median(function: object, times: int) -> float:
    assert callable(function)
    seconds = []
    for _ in range(times):
        start = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


# --- printing -------------------------------------------------------------------------------------------------------------


def _table(compute: Compute, network: Network) -> dict[int, dict[int, float]]:
    """By batch and hosts."""
    return {
        batch: {hosts: round(speed_up(batch, hosts, compute, network), 3) for hosts in _HOSTS if hosts <= batch}
        for batch in _BATCHES
    }


def _facts(compute: Compute) -> str:
    return (
        f"level {config()['level']}   threads {get_num_threads()}   a step takes {compute.fixed * 1e3:.2f} ms and "
        f"{compute.image * 1e6:.1f} us for each image; the gradient has {4e-6 * compute.parameters:.2f} MB"
    )


def _predictions(compute: Compute, rows: dict[str, dict[int, dict[int, float]]]) -> str:
    lines = [_facts(compute), "", "predicted speed of several hosts like this one, as a multiple of one host's:"]
    for batch in _BATCHES:
        lines += ["", f"batch {batch:,}".ljust(16) + "".join(f"{name:>18}" for name in rows)]
        for hosts in _HOSTS:
            if hosts <= batch:
                cells = "".join(f"{row[batch][hosts]:>16.2f} x" for row in rows.values())
                lines.append(f"{hosts:>6,} host{'s' if hosts > 1 else ' '}    {cells}")
    return "\n".join(lines)


def _comparison(compute: Compute, size: int, network: Network, measured: dict[int, float], predicted: dict[int, float]) -> str:
    lines = [
        _facts(compute),
        f"{size} ranks; a message takes {network.latency * 1e6:.0f} us, and {network.bandwidth / 1e6:,.0f} MB/s go each way",
        "",
        f"{'batch':>8}{'one rank':>14}{'predicted':>14}{'measured':>14}{'measured speed':>18}",
    ]
    for batch, seconds in measured.items():
        alone = step_seconds(batch, 1, compute, network)
        cells = "".join(f"{1e3 * value:>11.2f} ms" for value in (alone, predicted[batch], seconds))
        lines.append(f"{batch:>8,}{cells}{alone / seconds:>16.2f} x")
    return "\n".join(lines)
