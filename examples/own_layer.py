"""Writes a new layer and trains a network with it on MNIST: Swish with a learned slope, y = x * s(beta * x). s is the sigmoid.

    python examples/own_layer.py

A layer is a class with `forward` and `backward`. It takes its parameters, its memory and the ops from the context. `forward`
saves there what `backward` needs. On the CPU the arrays are NumPy's, so you can use NumPy where there is no op. Source of the
function: Ramachandran, Zoph and Le 2017.
"""

import numpy as np

from fastlenet import nn, ops
from fastlenet.backend import Array, Shape
from fastlenet.data import load_mnist
from fastlenet.optim import SGD
from fastlenet.philox import permutation


class Swish(nn.Layer):
    """y = x * s(beta * x), element-wise, with one parameter beta for the whole layer."""

    def shapes(self) -> dict[str, Shape]:
        return {"beta": (1,)}  # it starts uniform in +-1/sqrt(fan_in()), here +-1

    def forward(self, x: Array, context: nn.Context) -> Array:
        gate = context.scratch("gate", x.shape)  # keeps its contents until backward
        np.multiply(x, context.parameter("beta"), out=gate)
        context.ops.sigmoid_forward(gate, out=gate)
        context.save(x, gate)
        return np.multiply(x, gate, out=context.output(x.shape))

    def backward(self, dy: Array, context: nn.Context) -> Array | None:
        x: Array
        gate: Array
        x, gate = context.saved
        slope = x * gate * (1 - gate)  # the derivative of the gate by beta
        context.gradient("beta")[...] = (dy * x * slope).sum()
        if not context.need_dx:  # this is the first layer of a network
            return None
        dx = context.output(x.shape)
        np.multiply(dy, gate + context.parameter("beta") * slope, out=dx)
        return dx


def main(steps: int = 150, batch: int = 64) -> float:
    """Trains for `steps` steps. Returns the accuracy on the first 2,000 test images, a fraction."""
    data = load_mnist()
    model = nn.Sequential(
        nn.Conv2d(1, 8, 5, stride=2),  # 28 -> 12
        Swish(),
        nn.MaxPool2d(2),  # 12 -> 6
        nn.Flatten(),
        nn.Linear(8 * 6 * 6, 10),
    )
    print(model.summary((1, 28, 28)))
    optimizer = SGD(model, lr=0.05, momentum=0.9)
    order = permutation(len(data.train_images), 0, 0)
    for step in range(steps):
        index = order[step * batch : (step + 1) * batch]
        x = ops.gather_images(data.train_images, index, mean=data.mean, std=data.std)
        loss, dlogits = ops.softmax_cross_entropy(model(x), data.train_labels[index])
        model.backward(dlogits)
        optimizer.step()
        if step % 30 == 0:
            print(f"step {step:3}  loss {loss:.3f}  beta {model.parameters()['1.beta'][0]:.3f}")
    test = ops.gather_images(data.test_images, np.arange(2000), mean=data.mean, std=data.std)
    accuracy = float((model.eval()(test).argmax(axis=1) == data.test_labels[:2000]).mean())
    print(f"accuracy on 2,000 test images: {accuracy:.2%}")
    return accuracy


if __name__ == "__main__":
    main()
