// Linked instead of scratch.cpp under the address sanitizer. Every array is a separate allocation of exactly its size, so that
// the sanitizer finds an access to the first byte past its end. It is filled with NaN, so that no op can use old contents.
#include <cstdlib>
#include <limits>
#include <memory>
#include <new>
#include <vector>

#include "scratch.hpp"

namespace fastlenet {

void Scratch::take(float** pointers, const std::int64_t* sizes, int arrays) {
  struct Free {
    void operator()(void* memory) const { std::free(memory); }
  };
  static thread_local std::vector<std::unique_ptr<void, Free>> kept;
  kept.clear();
  for (int i = 0; i < arrays; ++i) {
    void* memory = nullptr;
    const std::size_t bytes = static_cast<std::size_t>(sizes[i]) * sizeof(float);
    if (posix_memalign(&memory, 64, bytes) != 0) throw std::bad_alloc();
    kept.emplace_back(memory);
    pointers[i] = static_cast<float*>(memory);
    for (std::int64_t j = 0; j < sizes[i]; ++j) pointers[i][j] = std::numeric_limits<float>::quiet_NaN();
  }
}

}  // namespace fastlenet
