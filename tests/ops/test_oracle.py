"""PyTorch as an independent oracle: every op, the network's logits, and ten steps of training from the same weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fastlenet import LeNet
from fastlenet.optim import SGD, AdamW
from fastlenet.testing import OPS, Op
from fastlenet.testing.description import Arguments, Call, Results
from fastlenet.testing.values import Numbers
from helpers.arrays import normals
from helpers.backends import ops
from helpers.expect import expect_as_exact, expect_same_bits, expect_within, gamma

pytestmark = pytest.mark.oracle
Rng = np.random.Generator


def tensors(torch: Any, arguments: Arguments) -> Arguments:
    """Floats in float64, so that PyTorch's own rounding does not count."""

    def tensor(array: Any) -> Any:
        return torch.tensor(array.astype(np.float64) if array.dtype == np.float32 else array)

    return {name: tensor(value) if isinstance(value, np.ndarray) else value for name, value in arguments.items()}


def by_torch(torch: Any, op: Op, arguments: Arguments, inputs: Arguments) -> Results:
    """What PyTorch computes of these arguments, and for a gradient, of the forward op's."""
    function = (op if op.gradient is None else op.gradient.forward).torch
    assert function is not None
    given = tensors(torch, inputs | arguments)
    if op.changes:
        results = function(torch, given)()
        return tuple(None if array is None else array.numpy() for array in results)
    leaves = [given[name].requires_grad_() for name in (op.gradient.of if op.gradient else op.arrays[:1])]
    out = function(torch, given)
    outs = out if isinstance(out, tuple) else (out,)
    if op.gradient:
        outs[0].backward(given["dy"])
        return tuple(leaf.grad.numpy() for leaf in leaves)
    if op.scalar:
        out.backward()
        return out.item(), leaves[0].grad.numpy()
    return tuple(array.detach().numpy() for array in outs)


def known() -> list[Any]:
    """Every op that PyTorch has, or whose forward op it has, with the same numbers; on each case with something in it."""
    found = []
    for op in OPS.values():
        source = op if op.gradient is None else op.gradient.forward
        if source.torch is not None and not source.timed_only:
            exact = op.gradient.cases if op.gradient and op.gradient.cases is not None else op.cases
            cases = [case for case in exact if not ({0} & {getattr(case, "n", 1), *getattr(case, "shape", ())})]
            found += [pytest.param(op, case, id=f"{op.name}-{case}") for case in cases]
    return found


@pytest.mark.usefixtures("device_kind")
@pytest.mark.parametrize(("op", "case"), known())
def test_every_op(op: Op, case: Any, torch: Any) -> None:
    """Exactly on integers: ties and dead windows abound; where an op rounds integers too, within its bound."""
    numbers = Numbers("integers" if op.integers else "normals", op.name, case, "oracle")
    inputs, _, arguments = op.chain(case, numbers, ops)
    call, theirs = Call(op, arguments, op.integers), by_torch(torch, op, arguments, inputs)
    actual = op.run(ops, call.copied())
    if op.gradient and op.gradient.saved_error:
        bound = gamma(op.gradient.saved_error) * np.abs(arguments["dy"].astype(np.float64))
        expect_within(actual[0], theirs[0], bound)
        return
    op.judge(call.against((*theirs, *call.exact[len(theirs) :])), actual)


def test_sigmoid(rng: Rng, torch: Any) -> None:
    """Within one unit in the last place on numbers of moderate size."""
    x = normals(rng, (1000,))
    exact = torch.sigmoid(torch.tensor(x.astype(np.float64))).numpy()
    expect_within(ops.sigmoid_forward(x), exact, np.spacing(np.abs(exact).astype(np.float32)))


@pytest.mark.usefixtures("device_kind")
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_softmax_cross_entropy(smoothing: float, rng: Rng, torch: Any) -> None:
    logits, labels = 10 * normals(rng, (33, 10)), rng.integers(0, 10, 33)
    leaf = torch.tensor(logits.astype(np.float64), requires_grad=True)
    expected = torch.nn.functional.cross_entropy(leaf, torch.tensor(labels), label_smoothing=smoothing)
    expected.backward()
    loss, dlogits = ops.softmax_cross_entropy(logits, labels, label_smoothing=smoothing)
    assert loss == pytest.approx(expected.item(), rel=1e-12, abs=1e-12)
    exact = leaf.grad.numpy()
    expect_within(dlogits, exact, np.spacing(np.abs(exact).astype(np.float32)) / 2 + 1e-13)


@pytest.mark.usefixtures("device_kind")
@pytest.mark.parametrize(("mix", "temperature"), [(0.0, 3.0), (0.9, 1.0), (0.7, 4.0), (1.0, 0.5)])
def test_softmax_distillation(mix: float, temperature: float, rng: Rng, torch: Any) -> None:
    """PyTorch's cross-entropies with labels and with probabilities, the latter of cooled logits and times the square."""
    logits, labels = 10 * normals(rng, (33, 10)), rng.integers(0, 10, 33)
    teacher = torch.softmax(torch.tensor(3 * normals(rng, (33, 10))), 1).numpy()
    leaf = torch.tensor(logits.astype(np.float64), requires_grad=True)
    cross_entropy = torch.nn.functional.cross_entropy
    of_labels = cross_entropy(leaf, torch.tensor(labels), label_smoothing=0.1)
    of_teacher = cross_entropy(leaf / temperature, torch.tensor(teacher.astype(np.float64)))
    expected = (1 - mix) * of_labels + mix * temperature**2 * of_teacher
    expected.backward()
    options = {"mix": mix, "temperature": temperature, "label_smoothing": 0.1}
    loss, dlogits = ops.softmax_distillation(logits, labels, teacher, **options)
    assert loss == pytest.approx(expected.item(), rel=1e-12, abs=1e-12)
    exact = leaf.grad.numpy()
    expect_within(dlogits, exact, np.spacing(np.abs(exact).astype(np.float32)) / 2 + 1e-13)
    if mix == 0:
        expect_same_bits(dlogits, ops.softmax_cross_entropy(logits, labels, label_smoothing=0.1)[1])


def torch_lenet(torch: Any) -> Any:
    """The PyTorch module of the assignment."""
    nn = torch.nn

    class Net(nn.Module):
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
