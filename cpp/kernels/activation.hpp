// Element-wise kernels: ReLU, sigmoid, dropout. The compiler vectorises the plain loops.
#pragma once

#include "exponential.hpp"
#include "philox.hpp"
#include "table.hpp"

namespace fastlenet::FASTLENET_LEVEL {
namespace {

// Tests `x <= 0`, not `x > 0`, so that NaN stays NaN.
void relu_forward(float* y, const float* x, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) y[i] = x[i] <= 0.0f ? 0.0f : x[i];
}

void relu_backward(float* dx, const float* dy, const float* y, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) dx[i] = y[i] > 0.0f ? dy[i] : 0.0f;
}

// 1/(1+exp(-x)) through e = exp(-|x|), which cannot overflow: 1/(1+e) for x >= 0 and e/(1+e) below. In double, rounded
// once to float: the error is half an ulp and a few 1e-13 of the value.
inline void sigmoid_half(float* y, const float* x) {
  const DoubleVector u = load_double(x);
  const LongVector positive = u >= 0.0;
  const DoubleVector e = exponential(positive ? -u : u);
  store_float(y, (positive ? DoubleVector{} + 1.0 : e) / (1.0 + e));
}

void sigmoid_forward(float* y, const float* x, std::int64_t count) {
  std::int64_t i = 0;
  for (; i + kDoubleLanes <= count; i += kDoubleLanes) sigmoid_half(y + i, x + i);
  if (i < count) {
    float lanes[kDoubleLanes] = {};
    for (std::int64_t j = 0; i + j < count; ++j) lanes[j] = x[i + j];
    sigmoid_half(lanes, lanes);
    for (std::int64_t j = 0; i + j < count; ++j) y[i + j] = lanes[j];
  }
}

void sigmoid_backward(float* dx, const float* dy, const float* y, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) dx[i] = dy[i] * (y[i] * (1.0f - y[i]));
}

constexpr std::uint32_t kDropoutStream = 2;

void dropout_forward(float* y, float* mask, const float* x, std::uint64_t threshold, float scale, std::uint64_t seed,
                     std::uint64_t counter, Range range) {
  std::uint32_t words[kPhiloxWords];
  for (std::int64_t i = range.begin; i < range.end;) {
    const std::int64_t first = i / kPhiloxWords * kPhiloxWords, next = first + kPhiloxWords;
    philox(words, seed, kDropoutStream, counter, static_cast<std::uint32_t>(first / 4));
    for (const std::int64_t end = next < range.end ? next : range.end; i < end; ++i) {
      mask[i] = words[i - first] >= threshold ? scale : 0.0f;
      y[i] = x[i] * mask[i];
    }
  }
}

void dropout_backward(float* dx, const float* dy, const float* mask, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) dx[i] = dy[i] * mask[i];
}

}  // namespace
}  // namespace fastlenet::FASTLENET_LEVEL
