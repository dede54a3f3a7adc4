"""A frozen model is a snapshot, which several threads may call, with the model's bits and errors."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from fastlenet import LeNet, nn
from helpers.arrays import normals
from helpers.expect import expect_same_bits

Rng = np.random.Generator


@pytest.mark.parametrize("frozen", [False, True])
def test_evaluation_from_several_threads(frozen: bool, rng: Rng) -> None:
    model = LeNet()
    model.eval()
    run = model.freeze() if frozen else model
    inputs = [normals(rng, (n, 1, 28, 28)) for n in (1, 7, 20, 33)]
    expected = [run(x) for x in inputs]
    wrong: list[int] = []

    def work(which: int) -> None:
        for _ in range(20):
            if run(inputs[which]).tobytes() != expected[which].tobytes():
                wrong.append(which)

    workers = [threading.Thread(target=work, args=(which,)) for which in range(len(inputs))]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


def test_freeze_is_a_snapshot(rng: Rng) -> None:
    model = LeNet()
    x = normals(rng, (3, 1, 28, 28))
    expected = model(x)
    frozen = model.freeze()
    model.parameter_buffer.fill(0)
    expect_same_bits(frozen(x), expected)
    assert not model(x).any()


@pytest.mark.parametrize("algorithm", ["direct", "winograd"])
def test_a_frozen_model_takes_its_shortest_way_to_the_same_bits(algorithm: str, rng: Rng) -> None:
    """A few images of a shape that came before are only passed from op to op as then."""
    model = LeNet(algorithm=algorithm)
    model.eval()
    frozen = model.freeze()
    for n in (1, 2, 1, 4, 5, 1, 2):
        x = normals(rng, (n, 1, 28, 28))
        first, again = frozen(x), frozen(x[::-1])
        expect_same_bits(first, model(x))
        expect_same_bits(again, model(x[::-1]))
        assert not np.shares_memory(first, again)


@pytest.mark.parametrize(
    "layers",
    [
        (nn.Flatten(), nn.Linear(12, 3), nn.ReLU()),  # the first op has a view of x
        (nn.ReLU(), nn.Flatten()),  # the last step is no op
        (nn.Sigmoid(),),
        (nn.Flatten(),),
        (nn.Dropout(0.5), nn.ReLU(), nn.ReLU()),
    ],
    ids=repr,
)
def test_frozen_models_of_odd_layers(layers: tuple[nn.Layer, ...], rng: Rng) -> None:
    model = nn.Sequential(*layers)
    model.eval()
    frozen = model.freeze()
    for _ in range(3):
        x = normals(rng, (2, 3, 2, 2))
        expect_same_bits(frozen(x), model(x))


def test_a_frozen_model_refuses_what_the_model_refuses() -> None:
    frozen = LeNet().freeze()
    frozen(np.zeros((1, 1, 28, 28), np.float32))
    with pytest.raises(TypeError, match="x expects a numpy array of float32, got float64"):
        frozen(np.zeros((1, 1, 28, 28)))
    with pytest.raises(TypeError, match=r"x expects .*, got a masked array"):
        frozen(np.ma.zeros((1, 1, 28, 28), np.float32))
