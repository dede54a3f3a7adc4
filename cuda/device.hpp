// The device as kernels' launchers and cuda_ops.cpp share it.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "cuda_ops.hpp"

namespace fastlenet::cuda {

// A value that a kernel found wrong where the host could not look.
enum class Fault : int { kNone, kIndices, kWinners, kLabels, kIndex };

// The stream that everything runs on, in order. Made at first use; throws DeviceError where there is no usable device.
cudaStream_t stream();
// Where kernels leave a Fault.
Fault* fault();
// Throw DeviceError, saying what was tried; the second, after a launch, of that kernel.
void check(cudaError_t error, const char* what);
void check_launch(const char* name);

// The sizes of one image and one filter, which index arithmetic in 32 bits must reach; batches may be larger.
void expect_narrow(const char* op, std::int64_t elements);

}  // namespace fastlenet::cuda
