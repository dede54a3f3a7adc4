// Dropout. elementwise.hpp has the other element-wise ops.
#include <cmath>

#include "batches.hpp"
#include "ops.hpp"

namespace fastlenet::cpu {

void dropout_forward(float* y, float* mask, const float* x, double rate, std::uint64_t seed, std::uint64_t counter,
                     std::uint64_t offset, std::int64_t count) {
  const KernelTable& table = kernels();
  const std::uint64_t threshold = static_cast<std::uint64_t>(std::nearbyint(rate * 4294967296.0));
  const float scale = static_cast<float>(1.0 / (1.0 - rate));
  for_pieces(count, kPiece, [&](Range r) { table.dropout_forward(y, mask, x, threshold, scale, seed, counter, offset, r); });
}

}  // namespace fastlenet::cpu
