"""The network on an NVIDIA GPU: a backend with the names of `fastlenet.ops`, so that LeNet(ops=fastlenet.cuda) runs there.

Hand-written kernels, no cuDNN or cuBLAS. A build without CUDA has this module too; using it raises a DeviceError that names the
command that installs it.
"""

from fastlenet._core import DeviceError
from fastlenet.cuda import ops as _ops
from fastlenet.cuda.array import DeviceArray, from_dlpack, from_numpy
from fastlenet.cuda.graph import Graph, synchronize
from fastlenet.cuda.ops import *  # noqa: F403
from fastlenet.cuda.training_step import TrainingStep

__all__ = [
    "DeviceArray",
    "DeviceError",
    "Graph",
    "TrainingStep",
    "from_dlpack",
    "from_numpy",
    "synchronize",
    *_ops.__all__,
]
