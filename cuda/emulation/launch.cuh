// launch() and block_shared() for the CPU. hardware/launch.cuh has the same for a GPU.
#pragma once

#include <functional>

#include "../device.hpp"

namespace fastlenet::emulation {

// Runs the blocks one after the other, or adds the launch to the graph under capture. `name` is for error messages.
void launch(const char* name, dim3 grid, dim3 block, std::function<void()> thread);
// The block's memory with this key, the same for all of its threads. It is filled with NaN when a block starts.
void* shared(const void* key, std::size_t bytes);

}  // namespace fastlenet::emulation

namespace fastlenet::cuda {

template <typename... Parameters, typename... Arguments>
void launch(const char* name, void (*kernel)(Parameters...), dim3 grid, dim3 block, cudaStream_t,
            const Arguments&... arguments) {
  emulation::launch(name, grid, block, [=] { kernel(static_cast<Parameters>(arguments)...); });
  check_launch(name);
}

// A variable that the threads of a block share. Its type has no constructor.
template <typename Type>
Type& block_shared() {
  static const char key = 0;
  return *static_cast<Type*>(emulation::shared(&key, sizeof(Type)));
}

}  // namespace fastlenet::cuda
