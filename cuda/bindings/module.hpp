// The Python module of the GPU ops.
#pragma once

#include <pybind11/pybind11.h>

#include "../cuda_ops.hpp"

namespace fastlenet::cuda {

// Returns the module of the ops on addresses, which python/fastlenet/cuda calls. Throws DeviceError if CUDA was not built.
pybind11::object backend();

}  // namespace fastlenet::cuda
