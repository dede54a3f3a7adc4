"""A network as a module of PyTorch, and back."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest

from fastlenet import LeNet, nn
from helpers.arrays import Array
from helpers.expect import expect_within
from helpers.networks import NETWORKS, normalised, some_images
from helpers.rounding import exact_logits
from helpers.small_networks import QUANTIZED


@pytest.mark.oracle
@pytest.mark.parametrize("name", NETWORKS)
def test_there_and_back(name: str) -> None:
    """Both sum the same products in other orders: of 800 of them, an error of 1e-5 of the largest output is far away."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    model = NETWORKS[name]()
    module, x = model.to_torch(), normalised(model, some_images(model, 7))
    assert not module.training and [key for key, _ in module.named_children()] == model.names
    with torch.no_grad():
        found = module(torch.from_numpy(x)).numpy()
    exact = model(x)
    assert np.allclose(found, exact, rtol=0, atol=1e-5 * max(1.0, float(np.abs(exact).max())))
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 1  # a copy: the model does not change with it
    assert np.array_equal(model(x), exact)
    kept = {key: array.copy() for key, array in model.state_dict().items()}
    model.load_state_dict(module.state_dict())
    assert all(np.array_equal(array, kept[key] + 1) for key, array in model.state_dict().items())


@pytest.mark.oracle
def test_training_modes() -> None:
    """Dropout has its probability there, and does nothing in evaluation."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    module = nn.Sequential(nn.Dropout(0.25)).to_torch()
    assert module[0].p == 0.25
    assert torch.equal(module(torch.ones(3, 4)), torch.ones(3, 4))


@pytest.mark.oracle
@pytest.mark.parametrize("name", QUANTIZED)
def test_scores_are_exact_but_for_rounding(name: str, torch: Any, rng: np.random.Generator) -> None:
    model = QUANTIZED[name]
    images = rng.integers(0, 256, (20, *(model.input_shape or ())), np.uint8)
    with torch.no_grad():
        found = model.to_torch()(torch.from_numpy(normalised(model, images))).numpy()
    expect_within(found, *exact_logits(model, images))


@pytest.mark.oracle
def test_the_generator_of_pytorch_stays(torch: Any) -> None:
    """Else an export in between would change what the user's script draws."""
    before = torch.get_rng_state()
    module = LeNet().to_torch()
    assert torch.equal(torch.get_rng_state(), before)
    assert all(parameter.requires_grad and parameter.device.type == "cpu" for parameter in module.parameters())


@pytest.mark.oracle
@pytest.mark.parametrize("name", ["a.b", "", "forward"])
def test_names_that_pytorch_does_not_take(name: str, torch: Any) -> None:
    with pytest.raises(ValueError, match=r"^to_torch: layer '.*': PyTorch does not take this name: .+") as refused:
        nn.Sequential(nn.ReLU(), nn.ReLU(), names=["first", name]).to_torch()
    assert "\n" not in str(refused.value) and repr(name) in str(refused.value)


class Swish(nn.ReLU):
    """A layer of one's own."""


@pytest.mark.oracle
def test_a_layer_of_ones_own_is_refused() -> None:
    pytest.importorskip("torch", reason="PyTorch is not installed")
    with pytest.raises(TypeError, match=r"to_torch: layer '0': Swish is not a layer of the library; save model\.state_dict"):
        nn.Sequential(Swish()).to_torch()


class Doubled(nn.Sequential):
    """A class that computes otherwise."""

    def __call__(self, x: Array) -> Array:
        return 2 * super().__call__(x)


def test_a_class_that_computes_otherwise_is_refused() -> None:
    with pytest.raises(TypeError, match=r"^to_torch: Doubled defines __call__, which no file can describe; .*load_state_dict"):
        Doubled(nn.ReLU()).to_torch()


def test_without_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ImportError, match=r"to_torch needs PyTorch \(.*\); pip install 'fastlenet\[torch\]'"):
        LeNet().to_torch()
