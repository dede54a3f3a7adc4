"""The optimizers' steps, which change their arguments: sgd_step, adam_step, ema_step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from fastlenet.testing.cases import Elements
from fastlenet.testing.description import Arguments, Array, Benchmark, Call, Judge, Op, Result, Results, Torch, Values
from fastlenet.testing.judging import LARGEST, TINY, expect_equal, expect_within, gamma, mixes_huge
from fastlenet.testing.values import Draw

__all__ = ["OPS"]

COUNTS = (17, 40_003)
LENET = 431_080  # LeNet's parameters

Bounds = Sequence[tuple[Array | float, Array]]  # of each array that changes: its error, and what its sums may reach


class _Leaf(Protocol):
    """A tensor of parameters."""

    def detach(self) -> Array: ...


class _Steps(Protocol):
    """An optimizer of PyTorch."""

    state: dict[object, dict[str, object]]

    def step(self) -> object: ...


def _torch_step(kind: Callable[..., _Steps], a: Arguments, names: Sequence[str], **others: object) -> tuple[_Leaf, _Steps]:
    """The parameters as a leaf with their gradients, and PyTorch's optimizer of them with those of its options."""
    leaf = a["parameters"].requires_grad_()
    leaf.grad = a["gradients"]
    return leaf, kind([leaf], **{name: a[name] for name in names if name in a}, **others)


def _random_count(draw: Draw) -> int:
    return draw.pick((0, 1, 3, 4, 7, 8, 15, 16, 17, 33, 100, 1000)) if draw.chance(0.97) else 9001


def _judge(bounds: Callable[[Arguments], Bounds]) -> Judge:
    """Each array within the roundings of its sums, if the rates are numbers that float32 has, to which they are rounded."""

    def judge(call: Call, actual: Results) -> None:
        op, arguments, exact = call.op, call.arguments, call.exact
        rates = {name: value for name, value in arguments.items() if isinstance(value, (float, np.floating))}
        if call.integers and op.integers and _binary(rates):
            for result, a, e in zip(op.results, actual, exact, strict=True):
                if e is not None:
                    expect_equal(result.name, a, e)
            return
        if not all(abs(rate) < 1e30 for rate in rates.values()) or rates.get("eps", 0) < 0:  # which may cancel the root
            return
        with np.errstate(all="ignore"):
            for result, a, e, (bound, largest) in zip(op.results, actual, exact, bounds(arguments), strict=True):
                if a is not None:
                    if mixes_huge(arguments):
                        largest = np.where(np.isfinite(largest), largest, LARGEST)
                    expect_within(result.name, a, e, bound, largest)

    return judge


def _binary(rates: Arguments) -> bool:
    """Whether they are multiples of 1/4 up to 1, so that a step on small integers does not round."""
    return all(4 * rate in (0, 1, 2, 3, 4) for rate in rates.values())


def _sizes(arguments: Arguments, *names: str) -> list[Array]:
    values = (arguments[name] for name in names)
    return [np.abs(np.asarray(0.0 if value is None else value, np.float64)) for value in values]


def _arguments(*names: str) -> Callable[[Elements, Values], Arguments]:
    """Flat arrays of these names, the second moment without negative numbers, and the case's options."""

    def draw(case: Elements, values: Values) -> Arguments:
        arrays = {name: values(*case.shape) for name in names if name not in case.options}
        if "second_moment" in arrays:
            arrays["second_moment"] = np.abs(arrays["second_moment"])
        return arrays | dict(case.options)

    return draw


# --- stochastic gradient descent --------------------------------------------------------------------------------------------


def _sgd_bounds(arguments: Arguments) -> Bounds:
    """Ten roundings at most lie on any term's way, the numbers' own included."""
    names = ("parameters", "gradients", "velocity", "lr", "momentum", "weight_decay")
    p, g, v, lr, momentum, decay = _sizes({"momentum": 0.0, "weight_decay": 0.0} | arguments, *names)
    gradient = g + decay * p
    velocity = momentum * v + gradient if momentum else gradient
    change = gradient + momentum * velocity if arguments.get("nesterov") else velocity
    parameters = p + lr * change
    moved = gamma(10) * parameters + 10 * TINY * (1 + lr), np.maximum(parameters, change)
    if not momentum:  # and the velocity is left alone
        return [moved, (0.0, v)]
    return [moved, (gamma(5) * velocity + 5 * TINY, velocity)]


def _random_sgd(draw: Draw) -> Elements:
    momentum = draw.pick((0, 0.0, 0.9, 0.5))
    options = {"lr": draw.pick((0.1, 1, 0.0, 1e-5, np.float32(0.5))), "momentum": momentum, "nesterov": draw.chance(0.5)}
    without: Arguments = {"velocity": None} if momentum == 0 and draw.chance(0.5) else {}
    return Elements((_random_count(draw),), {**options, "weight_decay": draw.pick((0.0, 0, 5e-4, 0.5)), **without})


def _torch_sgd(torch: Torch, a: Arguments) -> Callable[[], Results]:
    names = ("lr", "momentum", "nesterov", "weight_decay")
    parameters, optimizer = _torch_step(torch.optim.SGD, a, names)
    if a["velocity"] is not None:
        optimizer.state[parameters]["momentum_buffer"] = a["velocity"]

    def step() -> Results:
        optimizer.step()
        return parameters.detach(), a["velocity"]

    return step


SGD: tuple[Arguments, ...] = (
    {"lr": 0.5},
    {"lr": 0.5, "momentum": 0.5},
    {"lr": 0.25, "momentum": 0.5, "nesterov": True, "weight_decay": 0.25},
    {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 5e-4},
    {"lr": 0.5, "velocity": None},
)
SGD_STEP = Op(
    name="sgd_step",
    arrays=("parameters", "gradients", "velocity"),
    results=(Result("parameters"), Result("velocity")),
    changes=("parameters", "velocity"),
    arguments=_arguments("parameters", "gradients", "velocity"),
    cases=[Elements((count,), options) for count in COUNTS for options in SGD],
    small=[Elements((9,), {"lr": 0.5, "momentum": 0.5})],
    large=Elements((50_000,), {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 1e-3}),
    random=_random_sgd,
    judge=_judge(_sgd_bounds),
    torch=_torch_sgd,
    benchmarks=(Benchmark(", Nesterov", Elements((LENET,), {"lr": 1e-9, "momentum": 0.9, "nesterov": True})),),
)

# --- AdamW -----------------------------------------------------------------------------------------------------------------


def _adam_bounds(arguments: Arguments) -> Bounds:
    """The roundings of numbers that are not zero; and squares that are too small for float32.

    lr, the betas and the corrections are rounded to float32, the moments take 3 roundings each (v's root halves them), the
    root, its scale, the sum with eps, the quotient and the product 1 each; the final difference rounds the parameter.
    """
    defaults = {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "weight_decay": 0.0}
    names = ("parameters", "gradients", "first_moment", "second_moment", "lr", "beta1", "beta2", "eps", "weight_decay")
    p, g, m, v, lr, beta1, beta2, eps, decay = _sizes(defaults | arguments, *names)
    step = arguments["step"]
    first, second = beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g**2
    correction, rate = 1 / (1 - beta2**step), lr / (1 - beta1**step)
    denominator = np.sqrt(second * correction) + eps
    change = rate * first / denominator
    lost = np.sqrt(4 * TINY * correction) / denominator
    bound = gamma(3) * p * (1 + lr * decay) + (gamma(14) + lost) * change + 16 * TINY * (1 + (1 + rate) / denominator)
    largest = np.maximum(np.maximum(p, change + rate * first), np.maximum(g**2, second))
    return [
        # An infinite second moment is divided by: what it may round to is not looked at.
        (bound, np.where(np.isfinite(change + second) | np.isnan(change), largest, LARGEST)),
        (gamma(4) * first + 4 * TINY, first),
        (gamma(5) * second + 5 * TINY, np.maximum(g**2, second)),
    ]


def _random_adam(draw: Draw) -> Elements:
    numbers = {"step": draw.pick((1, 2, 10, 1000, 2**40)), "lr": draw.pick((1e-3, 1, 0.0)), "eps": draw.pick((1e-8, 1e-3))}
    rates = {"beta1": draw.pick((0.9, 0.5, 0.0)), "beta2": draw.pick((0.999, 0.5)), "weight_decay": draw.pick((0.0, 0.01, 0.5))}
    return Elements((_random_count(draw),), {**numbers, **rates})


def _torch_adam(torch: Torch, a: Arguments) -> Callable[[], Results]:
    betas = a.get("beta1", 0.9), a.get("beta2", 0.999)
    others = {"betas": betas, "weight_decay": a.get("weight_decay", 0.0)}
    parameters, optimizer = _torch_step(torch.optim.AdamW, a, ("lr", "eps"), **others)
    moments = a["first_moment"], a["second_moment"]
    done = torch.tensor(float(a["step"] - 1))
    optimizer.state[parameters] = {"step": done, "exp_avg": moments[0], "exp_avg_sq": moments[1]}

    def step() -> Results:
        optimizer.step()
        return parameters.detach(), *moments

    return step


ADAM: tuple[Arguments, ...] = (
    {"step": 1, "lr": 1e-3, "weight_decay": 1e-2},
    {"step": 10, "lr": 1e-3},
    {"step": 1000, "lr": 1e-2, "beta1": 0.5, "beta2": 0.9, "eps": 1e-3, "weight_decay": 0.1},
)
ADAM_STEP = Op(
    name="adam_step",
    arrays=("parameters", "gradients", "first_moment", "second_moment"),
    results=(Result("parameters"), Result("first_moment"), Result("second_moment")),
    changes=("parameters", "first_moment", "second_moment"),
    arguments=_arguments("parameters", "gradients", "first_moment", "second_moment"),
    cases=[Elements((count,), options) for count in COUNTS for options in ADAM],
    small=[Elements((9,), {"step": 2, "lr": 0.5})],
    large=Elements((50_000,), {"step": 3, "lr": 0.1}),
    random=_random_adam,
    judge=_judge(_adam_bounds),
    torch=_torch_adam,
    integers=False,
    benchmarks=(Benchmark("", Elements((LENET,), {"step": 5, "lr": 1e-9})),),
)

# --- the average of the weights ---------------------------------------------------------------------------------------------


def _ema_bounds(arguments: Arguments) -> Bounds:
    """The decay is rounded before it is taken from 1, which is then exact or rounded by less."""
    average, parameters, decay = _sizes(arguments, "average", "parameters", "decay")
    size = decay * average + (1 + decay) * parameters
    return [(gamma(4) * size + 4 * TINY, size)]


def _random_ema(draw: Draw) -> Elements:
    return Elements((_random_count(draw),), {"decay": draw.pick((0.0, 0.5, 0.999, 1, np.float32(0.75)))})


def _torch_ema(torch: Torch, a: Arguments) -> Callable[[], Results]:
    return lambda: (a["average"].lerp_(a["parameters"], 1 - a["decay"]),)


EMA_STEP = Op(
    name="ema_step",
    arrays=("average", "parameters"),
    results=(Result("average"),),
    changes=("average",),
    arguments=_arguments("average", "parameters"),
    cases=[Elements((count,), {"decay": decay}) for count in COUNTS for decay in (0.75, 0.999)],
    small=[Elements((9,), {"decay": 0.75})],
    large=Elements((50_000,), {"decay": 0.999}),
    random=_random_ema,
    judge=_judge(_ema_bounds),
    torch=_torch_ema,
    benchmarks=(Benchmark("", Elements((LENET,), {"decay": 0.999})),),
)
OPS = (SGD_STEP, ADAM_STEP, EMA_STEP)
