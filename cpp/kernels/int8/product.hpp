// From the sums of a product to its outputs. With windows, as of a convolution behind which there is a maximum, only the
// largest sum of each is requantised: a multiplier is never negative, so the maximum may come first.
#pragma once

#include "dot.hpp"

namespace fastlenet::FASTLENET_INT8_UNIT {
namespace {

constexpr std::int32_t kLeast = -2147483647 - 1;

inline __attribute__((always_inline)) void finish(void* y, std::int64_t at, Sums sums, const Int8Product& product,
                                                  std::int64_t output) {
  const Floats multiplier = broadcast(product.multiplier[output]);
  if (product.scores) {
    const Floats scores = __builtin_convertvector(sums, Floats) * multiplier;
    __builtin_memcpy(static_cast<float*>(y) + at * kLanes, &scores, sizeof scores);
    return;
  }
  const Bytes bytes = requantised(sums, multiplier, product.zero_point);
  __builtin_memcpy(static_cast<std::uint8_t*>(y) + at * kLanes, &bytes, sizeof bytes);
}

// The outputs from k on, at one window.
template <int vectors>
inline __attribute__((always_inline)) void finish_one(const Int8Output& y, std::int64_t window, const Sums (&sums)[vectors],
                                                      const Int8Product& product, std::int64_t k) {
  for (int i = 0; i < vectors; ++i) {
    const std::int64_t first = k + i * kLanes, left = product.outputs - first;
    const Floats multiplier = load_vector<Floats>(product.multiplier + first);
    if (product.scores) {
      const Floats scores = __builtin_convertvector(sums[i], Floats) * multiplier;
      float each[kLanes];
      __builtin_memcpy(each, &scores, sizeof scores);
      for (int lane = 0; lane < kLanes && lane < left; ++lane) {
        static_cast<float*>(y.data)[y.at(first + lane, window)] = each[lane];
      }
      continue;
    }
    const Bytes bytes = requantised(sums[i], multiplier, product.zero_point);
    std::uint8_t each[kLanes];
    __builtin_memcpy(each, &bytes, sizeof bytes);
    std::uint8_t* to = static_cast<std::uint8_t*>(y.data) + y.at(first, window);
    if (left >= kLanes) {
      for (int lane = 0; lane < kLanes; ++lane, to += y.pitch) *to = each[lane];
    } else {
      for (int lane = 0; lane < left; ++lane, to += y.pitch) *to = each[lane];
    }
  }
}

}  // namespace
}  // namespace fastlenet::FASTLENET_INT8_UNIT
