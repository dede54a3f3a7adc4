"""The layers, with PyTorch's names and arguments. They compute with the ops of a backend."""

from fastlenet.nn.layers.activation import LeakyReLU, ReLU, Sigmoid, Tanh
from fastlenet.nn.layers.base import Layer, MisfitError, gradient_outputs, slide
from fastlenet.nn.layers.conv import Conv2d
from fastlenet.nn.layers.dropout import PROBABILITY, Dropout
from fastlenet.nn.layers.flatten import Flatten
from fastlenet.nn.layers.linear import Linear
from fastlenet.nn.layers.pool import AvgPool2d, MaxPool2d

__all__ = [
    "PROBABILITY",
    "AvgPool2d",
    "Conv2d",
    "Dropout",
    "Flatten",
    "Layer",
    "LeakyReLU",
    "Linear",
    "MaxPool2d",
    "MisfitError",
    "ReLU",
    "Sigmoid",
    "Tanh",
    "gradient_outputs",
    "slide",
]
