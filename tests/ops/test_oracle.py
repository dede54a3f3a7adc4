"""PyTorch as an independent oracle: every op, the network's logits, and ten steps of training from the same weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fastlenet import LeNet, reference
from fastlenet.optim import SGD, AdamW
from fastlenet.testing.cases import CONV, FUSED, LINEAR, POOL, Conv, Fused, Linear, Pool
from helpers.arrays import normals
from helpers.backends import ops
from helpers.expect import expect_as_exact, expect_within, gamma

pytestmark = pytest.mark.oracle
Rng = np.random.Generator


def tensors(torch: Any, *arrays: Any) -> list[Any]:
    """Leaves in float64, so that PyTorch's own rounding does not count."""
    return [torch.tensor(array.astype(np.float64), requires_grad=True) for array in arrays]


def absolute(*arrays: Any) -> list[Any]:
    return [np.abs(array.astype(np.float64)) for array in arrays]


@pytest.mark.usefixtures("device_kind")
@pytest.mark.parametrize("case", CONV, ids=str)
def test_conv2d(case: Conv, rng: Rng, torch: Any) -> None:
    x, weight, bias = normals(rng, case.x_shape), normals(rng, case.weight_shape), normals(rng, (case.k,))
    leaves = tensors(torch, x, weight, bias)
    expected = torch.nn.functional.conv2d(*leaves, **case.options)
    y = ops.conv2d_forward(x, weight, bias, **case.options)
    dy = normals(rng, y.shape)
    expected.backward(torch.tensor(dy.astype(np.float64)))
    taps = case.c * case.filter[0] * case.filter[1]
    sizes = reference.conv2d_forward(*absolute(x, weight, bias), **case.options)
    expect_within(y, expected.detach().numpy(), gamma(taps + 1) * sizes)
    bounds = reference.conv2d_backward(*absolute(dy, x, weight), **case.options)
    count = max(dy[:, 0].size, case.k * case.filter[0] * case.filter[1])
    for actual, leaf, size in zip(ops.conv2d_backward(dy, x, weight, **case.options), leaves, bounds, strict=True):
        assert actual is not None and size is not None
        expect_within(actual, leaf.grad.numpy(), gamma(count) * size)


@pytest.mark.usefixtures("device_kind")
@pytest.mark.parametrize("case", [case for case in POOL if case.n], ids=str)
def test_max_pool2d(case: Pool, rng: Rng, torch: Any) -> None:
    x = rng.integers(-3, 4, case.x_shape).astype(np.float32)  # ties
    (leaf,) = tensors(torch, x)
    expected, expected_indices = torch.nn.functional.max_pool2d(leaf, case.kernel_size, **case.options, return_indices=True)
    y, indices = ops.max_pool2d_forward(x, case.kernel_size, **case.options)
    np.testing.assert_array_equal(y, expected.detach().numpy())
    np.testing.assert_array_equal(indices, expected_indices.numpy())
    dy = rng.integers(-3, 4, y.shape).astype(np.float32)
    expected.backward(torch.tensor(dy.astype(np.float64)))
    np.testing.assert_array_equal(ops.max_pool2d_backward(dy, indices, x.shape), leaf.grad.numpy())


@pytest.mark.usefixtures("device_kind")
@pytest.mark.parametrize("case", [case for case in FUSED if case.n], ids=str)
def test_conv2d_relu_max_pool2d(case: Fused, rng: Rng, torch: Any) -> None:
    """Integers: ties and dead windows abound, and everything is exact."""
    x, weight, bias = (rng.integers(-3, 4, shape).astype(np.float32) for shape in (case.x_shape, case.weight_shape, (case.k,)))
    leaves = tensors(torch, x, weight, bias)
    functional = torch.nn.functional
    expected = functional.max_pool2d(functional.relu(functional.conv2d(*leaves, padding=case.padding)), case.kernel_size)
    y, winners = ops.conv2d_relu_max_pool2d_forward(x, weight, bias, **case.options)
    np.testing.assert_array_equal(y, expected.detach().numpy())
    dy = rng.integers(-3, 4, y.shape).astype(np.float32)
    expected.backward(torch.tensor(dy.astype(np.float64)))
    gradients = ops.conv2d_relu_max_pool2d_backward(dy, winners, x, weight, **case.options)
    for actual, leaf in zip(gradients, leaves, strict=True):
        np.testing.assert_array_equal(actual, leaf.grad.numpy())


@pytest.mark.usefixtures("device_kind")
@pytest.mark.parametrize("case", LINEAR, ids=str)
def test_linear(case: Linear, rng: Rng, torch: Any) -> None:
    x, weight = normals(rng, (case.n, case.inputs)), normals(rng, (case.outputs, case.inputs))
    bias = normals(rng, (case.outputs,))
    leaves = tensors(torch, x, weight, bias)
    expected = torch.nn.functional.linear(*leaves)
    dy = normals(rng, (case.n, case.outputs))
    expected.backward(torch.tensor(dy.astype(np.float64)))
    sizes = reference.linear_forward(*absolute(x, weight, bias))
    expect_within(ops.linear_forward(x, weight, bias), expected.detach().numpy(), gamma(case.inputs + 1) * sizes)
    bounds = reference.linear_backward(*absolute(dy, x, weight))
    for actual, leaf, size in zip(ops.linear_backward(dy, x, weight), leaves, bounds, strict=True):
        assert actual is not None and size is not None
        expect_within(actual, leaf.grad.numpy(), gamma(max(case.outputs, case.n)) * size)


@pytest.mark.usefixtures("device_kind")
def test_element_wise(rng: Rng, torch: Any) -> None:
    x, dy = normals(rng, (1000,)), normals(rng, (1000,))
    for name in ("relu", "sigmoid"):
        (leaf,) = tensors(torch, x)
        expected = getattr(torch, name)(leaf)
        expected.backward(torch.tensor(dy.astype(np.float64)))
        y = getattr(ops, f"{name}_forward")(x)
        exact = expected.detach().numpy()
        expect_within(y, exact, np.spacing(np.abs(exact).astype(np.float32)))
        # y's own error of one ulp, through dy * y * (1 - y), and three roundings.
        expect_within(getattr(ops, f"{name}_backward")(dy, y), leaf.grad.numpy(), gamma(6) * np.abs(dy))


@pytest.mark.usefixtures("device_kind")
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_softmax_cross_entropy(smoothing: float, rng: Rng, torch: Any) -> None:
    logits, labels = 10 * normals(rng, (33, 10)), rng.integers(0, 10, 33)
    (leaf,) = tensors(torch, logits)
    expected = torch.nn.functional.cross_entropy(leaf, torch.tensor(labels), label_smoothing=smoothing)
    expected.backward()
    loss, dlogits = ops.softmax_cross_entropy(logits, labels, label_smoothing=smoothing)
    assert loss == pytest.approx(expected.item(), rel=1e-12, abs=1e-12)
    exact = leaf.grad.numpy()
    expect_within(dlogits, exact, np.spacing(np.abs(exact).astype(np.float32)) / 2 + 1e-13)


def torch_lenet(torch: Any) -> Any:
    """The PyTorch module of the assignment."""
    nn = torch.nn

    class Net(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.conv1, self.conv2 = nn.Conv2d(1, 20, 5), nn.Conv2d(20, 50, 5)
            self.fc1, self.fc2 = nn.Linear(800, 500), nn.Linear(500, 10)

        def forward(self, x: Any) -> Any:
            x = nn.functional.max_pool2d(nn.functional.relu(self.conv1(x)), 2)
            x = nn.functional.max_pool2d(nn.functional.relu(self.conv2(x)), 2)
            return self.fc2(nn.functional.relu(self.fc1(x.flatten(1))))

    return Net()


def test_logits_of_a_pytorch_state_dict(rng: Rng, torch: Any) -> None:
    torch.manual_seed(0)
    theirs, ours = torch_lenet(torch), LeNet()
    ours.load_state_dict(theirs.state_dict())
    x = normals(rng, (50, 1, 28, 28))
    with torch.no_grad():
        expected = theirs(torch.from_numpy(x)).numpy()
    assert np.abs(ours(x) - expected).max() < 1e-5  # what the README promises of weights that PyTorch made
    assert {k: v.shape for k, v in ours.state_dict().items()} == {k: tuple(v.shape) for k, v in theirs.state_dict().items()}


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
def test_tensors_of_any_float_dtype(dtype: str, torch: Any) -> None:
    ours, state = LeNet(), torch_lenet(torch).to(getattr(torch, dtype)).state_dict()
    ours.load_state_dict(state)
    for name, array in ours.state_dict().items():
        np.testing.assert_array_equal(array, state[name].float().numpy())
    with pytest.raises(ValueError, match=r"fc2\.bias expects floats, got int64"):
        ours.load_state_dict(state | {"fc2.bias": torch.zeros(10, dtype=torch.int64)})


@pytest.mark.parametrize("optimizer", ["sgd", "nesterov", "adamw"])
def test_ten_training_steps(optimizer: str, rng: Rng, torch: Any) -> None:
    """From the same weights, ten steps stray from float64 as little as PyTorch's float32 does, in each tensor and in the loss.

    Either rounds in another order, so neither error bounds the other.
    """
    ours = LeNet(seed=3)
    nets = {dtype: torch_lenet(torch).to(getattr(torch, dtype)) for dtype in ("float32", "float64")}
    for net in nets.values():
        net.load_state_dict({name: torch.tensor(array) for name, array in ours.state_dict().items()})
    rule: dict[str, Any] = {"lr": 1e-3}
    if optimizer != "adamw":
        rule = {"lr": 0.02, "momentum": 0.9, "nesterov": optimizer == "nesterov", "weight_decay": 1e-3}
    mine = (AdamW if optimizer == "adamw" else SGD)(ours, **rule)
    make = torch.optim.AdamW if optimizer == "adamw" else torch.optim.SGD
    others = {dtype: make(net.parameters(), **rule) for dtype, net in nets.items()}
    losses: dict[str, list[float]] = {"ours": [], "float32": [], "float64": []}
    for _ in range(10):
        x, labels = normals(rng, (16, 1, 28, 28)), rng.integers(0, 10, 16)
        loss, dlogits = ops.softmax_cross_entropy(ours(x), labels)
        ours.backward(dlogits)
        mine.step()
        losses["ours"].append(loss)
        for dtype, net in nets.items():
            others[dtype].zero_grad()
            of_net = torch.nn.functional.cross_entropy(net(torch.tensor(x.astype(dtype))), torch.tensor(labels))
            of_net.backward()
            others[dtype].step()
            losses[dtype].append(of_net.item())
    states = {dtype: {name: tensor.numpy() for name, tensor in net.state_dict().items()} for dtype, net in nets.items()}
    expect_as_exact(losses["ours"], losses["float32"], losses["float64"])
    for name, array in ours.state_dict().items():
        expect_as_exact(array, states["float32"][name], states["float64"][name])
