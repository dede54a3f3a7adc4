// Linked instead of scratch.cpp under the address sanitizer. Every array is a separate allocation of exactly its size, so that
// the sanitizer finds an access to the first byte past its end. It is filled with NaN, so that no op can use old contents.
#include <algorithm>
#include <cstdlib>
#include <limits>
#include <memory>
#include <new>
#include <vector>

#include "scratch.hpp"

namespace fastlenet {

void take_scratch(std::initializer_list<ScratchArray> arrays) {
  struct Free {
    void operator()(void* memory) const { std::free(memory); }
  };
  static thread_local std::vector<std::unique_ptr<void, Free>> kept;
  kept.clear();
  for (const ScratchArray& array : arrays) {
    void* memory = nullptr;
    const std::int64_t size = std::max(array.workers(), 1) * array.size();
    const std::size_t bytes = static_cast<std::size_t>(size) * sizeof(float);
    if (posix_memalign(&memory, 64, bytes) != 0) throw std::bad_alloc();
    kept.emplace_back(memory);
    std::fill_n(static_cast<float*>(memory), size, std::numeric_limits<float>::quiet_NaN());
    array.point_to(memory, array.size());
  }
}

}  // namespace fastlenet
