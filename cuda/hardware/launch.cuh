// launch() and block_shared() for nvcc. emulation/launch.cuh has the same for the CPU.
#pragma once

#include "../device.hpp"

namespace fastlenet::cuda {

// `name` is for error messages.
template <typename... Parameters, typename... Arguments>
void launch(const char* name, void (*kernel)(Parameters...), dim3 grid, dim3 block, cudaStream_t stream,
            const Arguments&... arguments) {
  kernel<<<grid, block, 0, stream>>>(static_cast<Parameters>(arguments)...);
  check_launch(name);
}

// A variable that the threads of a block share. Its type has no constructor.
template <typename Type>
__device__ __forceinline__ Type& block_shared() {
  __shared__ Type variable;
  return variable;
}

}  // namespace fastlenet::cuda
