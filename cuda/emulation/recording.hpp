// The interface between emulator.cpp, which runs kernels, and runtime.cpp, which keeps graphs and errors.
#pragma once

#include <cuda_runtime.h>

#include <functional>

namespace fastlenet::emulation {

// Does the work now, or adds it to the graph under capture.
void submit(std::function<void()> work);
void set_last_error(cudaError_t error);

}  // namespace fastlenet::emulation
