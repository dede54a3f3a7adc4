// Between emulator.cpp, which runs kernels, and runtime.cpp, which keeps graphs of them and errors.
#pragma once

#include <cuda_runtime.h>

#include <functional>

namespace fastlenet::emulation {

// Does it now, or when the graph under capture is launched.
void submit(std::function<void()> work);
void set_last_error(cudaError_t error);

}  // namespace fastlenet::emulation
