"""Layers and Sequential. They hold parameters and buffers, and call the ops of a backend; they do no arithmetic.

A backend is a module with the names of `fastlenet.ops`, such as `fastlenet.reference`. All parameters are one flat, aligned
float32 buffer, and so are all gradients; the named arrays are views of them. So an optimizer step, a moving average or a
checkpoint is one call on one block. You may write to the arrays of the state_dict at any time, since a model keeps nothing
derived from them between calls.
"""

from fastlenet.nn.context import Context as Context
from fastlenet.nn.frozen import Frozen
from fastlenet.nn.layers.activation import LeakyReLU, ReLU, Sigmoid, Tanh
from fastlenet.nn.layers.base import Layer
from fastlenet.nn.layers.conv import Conv2d
from fastlenet.nn.layers.dropout import Dropout
from fastlenet.nn.layers.flatten import Flatten
from fastlenet.nn.layers.linear import Linear
from fastlenet.nn.layers.pool import AvgPool2d, MaxPool2d
from fastlenet.nn.sequential import Sequential

__all__ = [
    "AvgPool2d",
    "Conv2d",
    "Dropout",
    "Flatten",
    "Frozen",
    "Layer",
    "LeakyReLU",
    "Linear",
    "MaxPool2d",
    "ReLU",
    "Sequential",
    "Sigmoid",
    "Tanh",
]
