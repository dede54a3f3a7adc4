// The element-wise ops: a kernel of the table on any number of elements, in pieces that the threads share.
#pragma once

#include <cstdint>

#include "batches.hpp"

namespace fastlenet::cpu {

// y = kernel(x): map<&KernelTable::relu_forward>(y, x, count). y may be x. The kernel gets the parameters last.
template <auto kernel, typename... Parameters>
void map(float* y, const float* x, std::int64_t count, Parameters... parameters) {
  const auto function = kernels().*kernel;
  for_pieces(count, kPiece, [&](Range r) { function(y + r.begin, x + r.begin, r.end - r.begin, parameters...); });
}

// dx = kernel(dy, other), where other is an array of the forward pass. dx may be either.
template <auto kernel, typename... Parameters>
void map_gradient(float* dx, const float* dy, const float* other, std::int64_t count, Parameters... parameters) {
  const auto function = kernels().*kernel;
  for_pieces(count, kPiece,
             [&](Range r) { function(dx + r.begin, dy + r.begin, other + r.begin, r.end - r.begin, parameters...); });
}

}  // namespace fastlenet::cpu
