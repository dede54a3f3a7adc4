// Constants that differ between a GPU and the emulated GPU.
#pragma once

namespace fastlenet::cuda {

constexpr const char* kBuild = "built for CUDA " FASTLENET_CUDA_VERSION;
// Freed memory is kept for the next allocation of the same size, because cudaMalloc and cudaFree wait for the whole device.
constexpr bool kKeepFreedMemory = true;

}  // namespace fastlenet::cuda
