#include "scratch.hpp"

#include <algorithm>
#include <cstdlib>
#include <new>

namespace fastlenet {

namespace {

constexpr std::int64_t kCacheLine = 16;                // floats
constexpr std::int64_t kMost = std::int64_t{1} << 60;  // floats

std::int64_t padded(std::int64_t size) { return (size + kCacheLine - 1) / kCacheLine * kCacheLine; }

// What all workers share, and then as much again for each worker.
struct Sizes {
  std::int64_t shared = 0, worker = 0, workers = 0;

  // At most kMost, which no system grants, instead of a product that overflows.
  std::int64_t total() const {
    const bool small = shared <= kMost && (workers == 0 || worker <= (kMost - shared) / workers);
    return small ? shared + workers * worker : kMost;
  }
};

Sizes largest(const Sizes& a, const Sizes& b) {
  return {std::max(a.shared, b.shared), std::max(a.worker, b.worker), std::max(a.workers, b.workers)};
}

// One layout for all ops costs up to `workers` times more than any of them needs: one op wants a large part for one worker, as
// for one large image, another a small part for each of 64. An op that would make the common layout larger than this, and than
// twice what any op has needed, gets a layout of its own.
constexpr std::int64_t kCommonFloats = std::int64_t{1} << 26;  // 256 MiB

struct Block {
  float* data = nullptr;
  std::int64_t capacity = 0, needed = 0;  // needed: by any op so far
  Sizes common;
  ~Block() { std::free(data); }

  // Makes room for an op, and returns its layout.
  Sizes place(const Sizes& wanted) {
    const Sizes grown = largest(common, wanted);
    const std::int64_t most = std::max(needed, wanted.total());
    const bool fits = grown.total() <= std::max(kCommonFloats, 2 * most);
    reserve(fits ? grown.total() : wanted.total());
    needed = most;
    if (fits) common = grown;
    return fits ? grown : wanted;
  }

 private:
  void reserve(std::int64_t size) {
    if (size <= capacity) return;
    std::free(data);
    capacity = 0;
    data = static_cast<float*>(std::aligned_alloc(64, static_cast<std::size_t>(size) * sizeof(float)));
    if (data == nullptr) throw std::bad_alloc();
    capacity = size;
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
  const Sizes layout = block.place(wanted);
  float *shared = block.data, *of_worker = block.data + layout.shared;
  for (const ScratchArray& array : arrays) {
    float*& at = array.workers() == 0 ? shared : of_worker;
    array.point_to(at, layout.worker);
    at += padded(array.size());
  }
}

}  // namespace fastlenet
