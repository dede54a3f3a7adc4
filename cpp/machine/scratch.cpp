#include "scratch.hpp"

#include <algorithm>
#include <cstdlib>
#include <new>

namespace fastlenet {

namespace {

constexpr std::int64_t kCacheLine = 16;  // floats

std::int64_t padded(std::int64_t size) { return (size + kCacheLine - 1) / kCacheLine * kCacheLine; }

// What all workers share, and then as much again for each worker.
struct Sizes {
  std::int64_t shared = 0, worker = 0, workers = 0;

  std::int64_t total() const { return shared + workers * worker; }
};

Sizes largest(const Sizes& a, const Sizes& b) {
  return {std::max(a.shared, b.shared), std::max(a.worker, b.worker), std::max(a.workers, b.workers)};
}

struct Block {
  float* data = nullptr;
  Sizes sizes;
  ~Block() { std::free(data); }

  void grow(const Sizes& wanted) {
    const Sizes grown = largest(sizes, wanted);
    if (grown.shared == sizes.shared && grown.worker == sizes.worker && grown.workers == sizes.workers) return;
    std::free(data);
    sizes = {};
    data = static_cast<float*>(std::aligned_alloc(64, static_cast<std::size_t>(grown.total()) * sizeof(float)));
    if (data == nullptr) throw std::bad_alloc();
    sizes = grown;
  }
};

}  // namespace

void take_scratch(std::initializer_list<ScratchArray> arrays) {
  static thread_local Block block;
  Sizes wanted;
  for (const ScratchArray& array : arrays) {
    (array.workers() == 0 ? wanted.shared : wanted.worker) += padded(array.size());
    wanted.workers = std::max<std::int64_t>(wanted.workers, array.workers());
  }
  block.grow(wanted);
  float *shared = block.data, *of_worker = block.data + block.sizes.shared;
  for (const ScratchArray& array : arrays) {
    float*& at = array.workers() == 0 ? shared : of_worker;
    array.point_to(at, block.sizes.worker);
    at += padded(array.size());
  }
}

}  // namespace fastlenet
