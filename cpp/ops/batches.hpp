// Cuts a batch, or any array, into the parts that kernels and threads work on.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>

#include "../kernels/table.hpp"
#include "../machine/isa.hpp"
#include "../machine/parallel.hpp"

namespace fastlenet::cpu {

// Element-wise ops work on pieces of 64 KiB of float32, long enough to be worth a thread.
constexpr std::int64_t kPiece = 16384;

inline std::int64_t ceil_divide(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

// Calls body(range) for the pieces of 0..count. A piece starts at a multiple of its size, for any number of threads.
template <typename Body>
void for_pieces(std::int64_t count, std::int64_t piece, const Body& body) {
  parallel_for(ceil_divide(count, piece),
               [&](std::int64_t task) { body(Range{task * piece, std::min(count, (task + 1) * piece)}); });
}

// Fills gradients to which nothing contributes; does nothing if `to` is null.
inline void fill_zeros(float* to, std::int64_t count) {
  if (to != nullptr) for_pieces(count, kPiece, [&](Range r) { std::fill(to + r.begin, to + r.end, 0.0f); });
}

// A batch as blocks of `lanes` images; the last block may not be full.
struct Blocks {
  std::int64_t n, lanes, count;

  Blocks(std::int64_t images, const KernelTable& table)
      : n(images), lanes(table.lanes), count(ceil_divide(images, table.lanes)) {}
  std::int64_t first(std::int64_t block) const { return block * lanes; }
  std::int64_t images(std::int64_t block) const { return std::min(lanes, n - block * lanes); }
};

inline bool all_finite(const float* x, std::int64_t count) {
  const KernelTable& table = kernels();
  std::atomic<bool> finite{true};
  for_pieces(count, kPiece, [&](Range r) {
    if (!table.all_finite(x + r.begin, r.end - r.begin)) finite.store(false, std::memory_order_relaxed);
  });
  return finite.load();
}

// Prefetches the next image while this one is computed. The CPU's own prefetcher does not help here: shuffled images lie at
// unpredictable places, and reading across planes makes more streams than it follows.
inline void prefetch(const void* from, std::int64_t bytes) {
  for (std::int64_t i = 0; i < bytes; i += 64) __builtin_prefetch(static_cast<const char*>(from) + i);
}

}  // namespace fastlenet::cpu
