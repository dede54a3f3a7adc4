"""Layers and Sequential: they hold parameters and buffers, and call the ops of a backend; no arithmetic happens here.

A backend is a module with the names of `fastlenet.ops`, such as `fastlenet.reference`. Parameters and gradients are each one
flat, aligned float32 buffer, of which the named arrays are views: an optimizer step, a moving average or a checkpoint is one
call on one block. The arrays in the state_dict are the only truth: nothing derived from a weight outlives a call.
"""

from fastlenet.nn.context import Context as Context
from fastlenet.nn.frozen import Frozen
from fastlenet.nn.layers import Conv2d, Dropout, Flatten, Layer, Linear, MaxPool2d, ReLU, Sigmoid
from fastlenet.nn.sequential import Sequential

__all__ = ["Conv2d", "Dropout", "Flatten", "Frozen", "Layer", "Linear", "MaxPool2d", "ReLU", "Sequential", "Sigmoid"]
