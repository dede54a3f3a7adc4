"""The optimizers' steps, which change their arguments: sgd_step, adam_step, muon_step, ema_step."""

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


def _torch_average(a: Arguments, parameters: _Leaf) -> Array | None:
    return None if a["average"] is None else a["average"].lerp_(parameters.detach(), 1 - a.get("decay", 0.0))


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


def _mixed(arguments: Arguments, moved: Array | float, largest: Array) -> tuple[Array, Array]:
    """The bound of the average, of those of the parameters."""
    average, parameters, mix = _sizes({"average": None, "decay": 0.0} | arguments, "average", "parameters", "decay")
    both = mix * average + (1 + mix) * np.maximum(parameters, largest)
    return gamma(4) * (both + (1 + mix) * moved) + (1 + mix) * moved + 4 * TINY, both


def _sgd_bounds(arguments: Arguments) -> Bounds:
    """Ten roundings at most lie on any term's way, the numbers' own included."""
    names = ("parameters", "gradients", "velocity", "lr", "momentum", "weight_decay")
    p, g, v, lr, momentum, decay = _sizes({"momentum": 0.0, "weight_decay": 0.0} | arguments, *names)
    gradient = g + decay * p
    velocity = momentum * v + gradient if momentum else gradient
    change = gradient + momentum * velocity if arguments.get("nesterov") else velocity
    parameters = p + lr * change
    moved = gamma(10) * parameters + 10 * TINY * (1 + lr), np.maximum(parameters, change)
    turned = (gamma(5) * velocity + 5 * TINY, velocity) if momentum else (0.0, v)  # which is then left alone
    return [moved, turned, _mixed(arguments, *moved)]


def _random_average(draw: Draw) -> Arguments:
    return {"average": None} if draw.chance(0.4) else {"decay": draw.pick((0.0, 0.75, 0.999))}


def _random_sgd(draw: Draw) -> Elements:
    momentum = draw.pick((0, 0.0, 0.9, 0.5))
    options = {"lr": draw.pick((0.1, 1, 0.0, 1e-5, np.float32(0.5))), "momentum": momentum, "nesterov": draw.chance(0.5)}
    without: Arguments = {"velocity": None} if momentum == 0 and draw.chance(0.5) else {}
    numbers = {"weight_decay": draw.pick((0.0, 0, 5e-4, 0.5))}
    return Elements((_random_count(draw),), {**options, **numbers, **without, **_random_average(draw)})


def _torch_sgd(torch: Torch, a: Arguments) -> Callable[[], Results]:
    names = ("lr", "momentum", "nesterov", "weight_decay")
    parameters, optimizer = _torch_step(torch.optim.SGD, a, names)
    if a["velocity"] is not None:
        optimizer.state[parameters]["momentum_buffer"] = a["velocity"]

    def step() -> Results:
        optimizer.step()
        return parameters.detach(), a["velocity"], _torch_average(a, parameters)

    return step


SGD: tuple[Arguments, ...] = (
    {"lr": 0.5, "average": None},
    {"lr": 0.5, "momentum": 0.5, "decay": 0.75},
    {"lr": 0.25, "momentum": 0.5, "nesterov": True, "weight_decay": 0.25, "average": None},
    {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 5e-4, "decay": 0.999},
    {"lr": 0.5, "velocity": None, "average": None},
)
SGD_STEP = Op(
    name="sgd_step",
    arrays=("parameters", "gradients", "velocity", "average"),
    results=(Result("parameters"), Result("velocity"), Result("average")),
    changes=("parameters", "velocity", "average"),
    arguments=_arguments("parameters", "gradients", "velocity", "average"),
    cases=[Elements((count,), options) for count in COUNTS for options in SGD],
    small=[Elements((9,), {"lr": 0.5, "momentum": 0.5, "decay": 0.5})],
    large=Elements((50_000,), {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 1e-3, "decay": 0.9}),
    random=_random_sgd,
    judge=_judge(_sgd_bounds),
    torch=_torch_sgd,
    benchmarks=(Benchmark(", Nesterov", Elements((LENET,), {"lr": 1e-9, "momentum": 0.9, "nesterov": True, "average": None})),),
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
    # An infinite second moment is divided by: what it may round to is not looked at.
    largest = np.where(np.isfinite(change + second) | np.isnan(change), largest, LARGEST)
    return [
        (bound, largest),
        (gamma(4) * first + 4 * TINY, first),
        (gamma(5) * second + 5 * TINY, np.maximum(g**2, second)),
        _mixed(arguments, bound, largest),
    ]


def _random_adam(draw: Draw) -> Elements:
    numbers = {"step": draw.pick((1, 2, 10, 1000, 2**40)), "lr": draw.pick((1e-3, 1, 0.0)), "eps": draw.pick((1e-8, 1e-3))}
    rates = {"beta1": draw.pick((0.9, 0.5, 0.0)), "beta2": draw.pick((0.999, 0.5)), "weight_decay": draw.pick((0.0, 0.01, 0.5))}
    return Elements((_random_count(draw),), {**numbers, **rates, **_random_average(draw)})


def _torch_adam(torch: Torch, a: Arguments) -> Callable[[], Results]:
    betas = a.get("beta1", 0.9), a.get("beta2", 0.999)
    others = {"betas": betas, "weight_decay": a.get("weight_decay", 0.0)}
    parameters, optimizer = _torch_step(torch.optim.AdamW, a, ("lr", "eps"), **others)
    moments = a["first_moment"], a["second_moment"]
    done = torch.tensor(float(a["step"] - 1))
    optimizer.state[parameters] = {"step": done, "exp_avg": moments[0], "exp_avg_sq": moments[1]}

    def step() -> Results:
        optimizer.step()
        return parameters.detach(), *moments, _torch_average(a, parameters)

    return step


ADAM: tuple[Arguments, ...] = (
    {"step": 1, "lr": 1e-3, "weight_decay": 1e-2, "average": None},
    {"step": 10, "lr": 1e-3, "decay": 0.9},
    {"step": 1000, "lr": 1e-2, "beta1": 0.5, "beta2": 0.9, "eps": 1e-3, "weight_decay": 0.1, "average": None},
)
ADAM_STEP = Op(
    name="adam_step",
    arrays=("parameters", "gradients", "first_moment", "second_moment", "average"),
    results=(Result("parameters"), Result("first_moment"), Result("second_moment"), Result("average")),
    changes=("parameters", "first_moment", "second_moment", "average"),
    arguments=_arguments("parameters", "gradients", "first_moment", "second_moment", "average"),
    cases=[Elements((count,), options) for count in COUNTS for options in ADAM],
    small=[Elements((9,), {"step": 2, "lr": 0.5, "decay": 0.5})],
    large=Elements((50_000,), {"step": 3, "lr": 0.1, "decay": 0.9}),
    random=_random_adam,
    judge=_judge(_adam_bounds),
    torch=_torch_adam,
    integers=False,
    benchmarks=(Benchmark("", Elements((LENET,), {"step": 5, "lr": 1e-9, "average": None})),),
)

# --- Muon ------------------------------------------------------------------------------------------------------------------

# Rounds x <- a x + b x^3 + c x^5 are an odd polynomial p(x) = x q(x^2). On [0, 1] the slope of p is steepest at 0, a^5 = 485,
# and that of q too: a^4 b (1 + a^2 + ... + a^8) = -1.5e7. A test evaluates both.
SLOPE, SLOPE_OF_Q = 485.0, 1.5e7
DOUBLE = 2.0**-53


def _orthogonal_error(x: Array, size: Array) -> tuple[Array, Array]:
    """The orthogonal step of x in float64, and how far a step may be from it.

    size: the sum of the magnitudes of the terms of x, which have 5 roundings at most. A change d of the normalised matrix moves
    the step by at most SLOPE * |d| (the singular values of an odd polynomial, in Frobenius norms), that of its Gram matrix by
    SLOPE_OF_Q times the change: m + 20 n double roundings of numbers up to 1 in n rows. The final sums add n products of
    rounded factors in float32.
    """
    if not x.any():
        return x, np.where(size > 0, np.inf, 0.0)
    norm = np.sqrt((x**2).sum())
    wide = x.shape[0] <= x.shape[1]
    left = (x if wide else x.T) / norm
    n, m = left.shape
    a, b, c = 3.4445, -4.7750, 2.0315
    iterated, factor = left, np.eye(n)
    for _ in range(5):
        gram = iterated @ iterated.T
        change = a * np.eye(n) + b * gram + c * gram @ gram
        iterated, factor = change @ iterated, change @ factor
    moved = 2 * np.sqrt(((gamma(5) * size + 5 * TINY) ** 2).sum()) / norm
    error = (
        SLOPE * moved + SLOPE_OF_Q * n * (m + 20 * n) * DOUBLE + gamma(n + 3) * np.abs(factor) @ np.abs(left) + n * SLOPE * TINY
    )
    return (iterated, error) if wide else (iterated.T, error.T)


def _muon_bounds(arguments: Arguments) -> Bounds:
    """Those of SGD outside the matrices."""
    a: Arguments = {"momentum": 0.0, "weight_decay": 0.0, "decay": 0.0} | arguments
    (moved, largest), (turning, turned), _ = _sgd_bounds(a)
    moved, largest = np.array(moved), np.array(largest)
    turning, turned = np.array(np.broadcast_to(turning, moved.shape)), np.array(np.broadcast_to(turned, moved.shape))
    p, g, v, rate, momentum, decay = _sizes(a, "parameters", "gradients", "velocity", "matrix_lr", "momentum", "weight_decay")
    for begin, rows, columns in a["matrices"]:
        part = slice(begin, begin + rows * columns)
        if not rows * columns:
            continue
        gradient = np.asarray(a["gradients"][part], np.float64)
        x, size = gradient, g[part]
        if a["momentum"]:
            kept = np.asarray(a["velocity"][part], np.float64)
            x = a["momentum"] * kept + gradient
            size = turned[part] = momentum * v[part] + g[part]
            turning[part] = gamma(5) * size + 5 * TINY
            if a.get("nesterov"):
                x, size = gradient + a["momentum"] * x, g[part] + momentum * size
        step, error = _orthogonal_error(x.reshape(rows, columns), size.reshape(rows, columns))
        speed = rate * np.sqrt(max(1.0, rows / columns))
        size_of_step = np.abs(step).reshape(-1) + decay * p[part]
        moved[part] = gamma(8) * (p[part] + speed * size_of_step) + 10 * TINY * (1 + speed)
        if speed:  # or else a step of any size, as that of rounding errors alone, moves nothing
            moved[part] += speed * error.reshape(-1)
        largest[part] = np.maximum(p[part], size.max() if np.isfinite(size).all() else np.nan)
    return [(moved, largest), (turning, turned), _mixed(a, moved, largest)]


def _draw_muon(case: Elements, values: Values) -> Arguments:
    """With the matrices that lie in the buffers."""
    drawn = _arguments("parameters", "gradients", "velocity", "average")(case, values)
    (count,) = case.shape
    inside = tuple((begin, rows, columns) for begin, rows, columns in drawn["matrices"] if begin + rows * columns <= count)
    return drawn | {"matrices": inside}


def _random_muon(draw: Draw) -> Elements:
    sgd = _random_sgd(draw)
    sides = (0, 1, 2, 3, 5, 8, 9, 16, 17, 20, 33, 50)
    matrices, end = [], 0
    for _ in range(draw.below(4)):
        begin = end + draw.pick((0, 0, 1, 5, 30))
        rows, columns = draw.pick(sides), draw.pick(sides)
        matrices.append(draw.pick((tuple, list))((begin, rows, columns)))
        end = begin + rows * columns
    count = end + draw.pick((0, 1, 17, 100))
    options = {
        "matrices": draw.pick((tuple, list))(matrices),
        "matrix_lr": draw.pick((0.02, 1, 0.0)),
        "decay": draw.pick((0.0, 0.75)),
    }
    return Elements((count,), {**sgd.options, **options})


MUON: tuple[Arguments, ...] = (
    {"lr": 0.5, "matrix_lr": 0.5, "average": None},
    {"lr": 0.5, "matrix_lr": 0.02, "momentum": 0.5, "decay": 0.75},
    {"lr": 0.1, "matrix_lr": 0.02, "momentum": 0.9, "nesterov": True, "weight_decay": 5e-4, "average": None},
    {"lr": 0.5, "matrix_lr": 0.25, "velocity": None, "weight_decay": 0.25, "decay": 0.999},
)
_LENET_MATRICES = (0, 20, 25), (520, 50, 500)
_NESTEROV = {"lr": 1e-9, "matrix_lr": 1e-9, "momentum": 0.9, "nesterov": True, "matrices": _LENET_MATRICES, "average": None}
# Sides of one, tall and wide matrices, an empty one, neighbours, and none at all.
_PARTS: tuple[tuple[tuple[int, int, int], ...], ...] = (
    (),
    ((0, 1, 1), (1, 1, 17), (18, 17, 1), (40, 0, 3)),
    ((3, 20, 25), (503, 25, 20)),
    ((7, 9, 33), (400, 65, 7), (900, 16, 16)),
    ((0, 50, 500), (25_000, 100, 50)),
)
MUON_STEP = Op(
    name="muon_step",
    arrays=("parameters", "gradients", "velocity", "average"),
    results=(Result("parameters"), Result("velocity"), Result("average")),
    changes=("parameters", "velocity", "average"),
    arguments=_draw_muon,
    cases=[
        Elements((max([50, *(begin + rows * columns for begin, rows, columns in parts)]) + 9,), {"matrices": parts, **options})
        for parts in _PARTS
        for options in MUON
    ],
    small=[Elements((13,), {"matrices": ((1, 2, 5),), "lr": 0.5, "matrix_lr": 0.5, "momentum": 0.5, "decay": 0.5})],
    # Of the threads, one takes the first and the last matrix, and all share the second.
    large=Elements(
        (70_000,),
        {**_NESTEROV, "lr": 0.1, "matrix_lr": 0.1, "matrices": ((5, 20, 25), (600, 150, 300), (45_600, 120, 10))},
    ),
    random=_random_muon,
    judge=_judge(_muon_bounds),
    integers=False,
    benchmarks=(
        Benchmark(", LeNet's matrices", Elements((25_520,), _NESTEROV), torch=False),
        Benchmark(", LeNet", Elements((LENET,), _NESTEROV), torch=False),
    ),
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
OPS = (SGD_STEP, ADAM_STEP, MUON_STEP, EMA_STEP)
