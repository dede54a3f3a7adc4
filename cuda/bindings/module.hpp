// The GPU ops as Python sees them.
#pragma once

#include <pybind11/pybind11.h>

#include "../cuda_ops.hpp"

namespace fastlenet::cuda {

// A module of the ops on addresses, which python/fastlenet/cuda calls. DeviceError where it is not built.
pybind11::object backend();

}  // namespace fastlenet::cuda
