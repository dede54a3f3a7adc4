// What a GPU and the emulated one differ in besides launching.
#pragma once

namespace fastlenet::cuda {

constexpr const char* kBuild = "built for CUDA " FASTLENET_CUDA_VERSION;
// Freed memory is kept for the next allocation of that size: cudaMalloc and cudaFree wait for the whole device.
constexpr bool kKeepFreedMemory = true;

}  // namespace fastlenet::cuda
