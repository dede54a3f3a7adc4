// Linked instead of scratch.cpp under the address sanitizer. Every array is a separate allocation of exactly its size, so that
// the sanitizer finds an access to the first byte past its end; behind each worker's array lies a poisoned gap. Memory is
// filled with NaN, so that no op can use old contents.
#include <sanitizer/asan_interface.h>

#include <algorithm>
#include <cstdlib>
#include <limits>
#include <memory>
#include <new>
#include <vector>

#include "scratch.hpp"

namespace fastlenet {

namespace {

constexpr std::int64_t kCacheLine = 16;  // elements

// From a worker's array to the next worker's, in elements: a gap of one to two cache lines lies between them.
std::int64_t distance(const ScratchArray& array) { return (array.size() / kCacheLine + 2) * kCacheLine; }

}  // namespace

void take_scratch(std::initializer_list<ScratchArray> arrays) {
  struct Free {
    void operator()(void* memory) const { std::free(memory); }
  };
  static thread_local std::vector<std::unique_ptr<void, Free>> kept;
  kept.clear();
  for (const ScratchArray& array : arrays) {
    void* memory = nullptr;
    const std::int64_t apart = distance(array), size = array.workers() == 0 ? array.size() : array.workers() * apart;
    if (posix_memalign(&memory, 64, static_cast<std::size_t>(size) * sizeof(float)) != 0) throw std::bad_alloc();
    kept.emplace_back(memory);
    float* floats = static_cast<float*>(memory);
    std::fill_n(floats, size, std::numeric_limits<float>::quiet_NaN());
    for (int worker = 0; worker < array.workers(); ++worker) {
      const std::int64_t end = worker * apart + array.size();
      ASAN_POISON_MEMORY_REGION(floats + end, static_cast<std::size_t>((worker + 1) * apart - end) * sizeof(float));
    }
    array.point_to(memory, apart);
  }
}

}  // namespace fastlenet
