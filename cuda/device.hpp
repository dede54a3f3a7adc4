// The device, as the kernels' launchers and cuda_ops.cpp use it.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "cuda_ops.hpp"

namespace fastlenet::cuda {

// A wrong value that a kernel found in device memory.
enum class Fault : int { kNone, kIndices, kWinners, kLabels, kIndex };

// The stream that all work runs on, in order. Made at first use; throws DeviceError if there is no usable device.
cudaStream_t stream();
// The memory in which kernels store a Fault.
Fault* fault();
// Throw DeviceError for an error code. The message names what was tried; the second is called after a launch and names the
// kernel.
void check(cudaError_t error, const char* what);
void check_launch(const char* name);

// Throws unless 32-bit indices reach every element of one image and one filter; batches may be larger.
void expect_narrow(const char* op, std::int64_t elements);

}  // namespace fastlenet::cuda
