// Element-wise activations and dropout. The threads share the pieces.
#include <cmath>

#include "batches.hpp"
#include "ops.hpp"

namespace fastlenet::cpu {

void relu_forward(float* y, const float* x, std::int64_t count) {
  const KernelTable& table = kernels();
  for_pieces(count, kPiece, [&](Range r) { table.relu_forward(y + r.begin, x + r.begin, r.end - r.begin); });
}

void relu_backward(float* dx, const float* dy, const float* y, std::int64_t count) {
  const KernelTable& table = kernels();
  for_pieces(count, kPiece, [&](Range r) { table.relu_backward(dx + r.begin, dy + r.begin, y + r.begin, r.end - r.begin); });
}

void sigmoid_forward(float* y, const float* x, std::int64_t count) {
  const KernelTable& table = kernels();
  for_pieces(count, kPiece, [&](Range r) { table.sigmoid_forward(y + r.begin, x + r.begin, r.end - r.begin); });
}

void sigmoid_backward(float* dx, const float* dy, const float* y, std::int64_t count) {
  const KernelTable& table = kernels();
  for_pieces(count, kPiece, [&](Range r) { table.sigmoid_backward(dx + r.begin, dy + r.begin, y + r.begin, r.end - r.begin); });
}

void dropout_forward(float* y, float* mask, const float* x, double rate, std::uint64_t seed, std::uint64_t counter,
                     std::int64_t count) {
  const KernelTable& table = kernels();
  const std::uint64_t threshold = static_cast<std::uint64_t>(std::nearbyint(rate * 4294967296.0));
  const float scale = static_cast<float>(1.0 / (1.0 - rate));
  for_pieces(count, kPiece, [&](Range r) { table.dropout_forward(y, mask, x, threshold, scale, seed, counter, r); });
}

void dropout_backward(float* dx, const float* dy, const float* mask, std::int64_t count) {
  const KernelTable& table = kernels();
  for_pieces(count, kPiece,
             [&](Range r) { table.dropout_backward(dx + r.begin, dy + r.begin, mask + r.begin, r.end - r.begin); });
}

}  // namespace fastlenet::cpu
