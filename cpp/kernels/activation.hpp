// Element-wise kernels: ReLU, leaky ReLU, sigmoid, tanh, dropout. The compiler vectorises the plain loops.
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

void leaky_relu_forward(float* y, const float* x, std::int64_t count, float slope) {
  for (std::int64_t i = 0; i < count; ++i) y[i] = x[i] > 0.0f ? x[i] : slope * x[i];
}

void leaky_relu_backward(float* dx, const float* dy, const float* y, std::int64_t count, float slope) {
  for (std::int64_t i = 0; i < count; ++i) dx[i] = y[i] > 0.0f ? dy[i] : slope * dy[i];
}

// Applies function(y, x) to kDoubleLanes elements at a time. It computes in double.
template <void (*function)(float*, const float*)>
inline void map_in_double(float* y, const float* x, std::int64_t count) {
  std::int64_t i = 0;
  for (; i + kDoubleLanes <= count; i += kDoubleLanes) function(y + i, x + i);
  if (i < count) {
    float lanes[kDoubleLanes] = {};
    for (std::int64_t j = 0; i + j < count; ++j) lanes[j] = x[i + j];
    function(lanes, lanes);
    for (std::int64_t j = 0; i + j < count; ++j) y[i + j] = lanes[j];
  }
}

// 1/(1+exp(-x)) through e = exp(-|x|), which cannot overflow: 1/(1+e) for x >= 0 and e/(1+e) below. In double, rounded
// once to float: the error is half an ulp and a few 1e-13 of the value.
inline void sigmoid_half(float* y, const float* x) {
  const DoubleVector u = load_double(x);
  const LongVector positive = u >= 0.0;
  const DoubleVector e = exponential(positive ? -u : u);
  store_float(y, (positive ? DoubleVector{} + 1.0 : e) / (1.0 + e));
}

void sigmoid_forward(float* y, const float* x, std::int64_t count) { map_in_double<sigmoid_half>(y, x, count); }

void sigmoid_backward(float* dx, const float* dy, const float* y, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) dx[i] = dy[i] * (y[i] * (1.0f - y[i]));
}

constexpr std::int64_t kSign = std::int64_t{-1} - 0x7fffffffffffffff;  // the highest bit of a double

// With a = |x|: (1 - e)/(1 + e) where e = exp(-2a), or for a < 1/32, where 1 - e would lose digits, Taylor's series
// a (1 - a^2/3 + 2a^4/15 - 17a^6/315). Relative errors: e has 3e-13, so 1 - e has 3e-13 / (1 - e) < 5e-12 for a >= 1/32; the
// series leaves out 62a^8/2835 < 2e-14. The result takes the sign of x and is rounded once to float. A float's ulp is at least
// 2^-24 of it, so its error is at most 0.5 + 5e-12 * 2^24 < 0.5001 ulp.
inline void tanh_half(float* y, const float* x) {
  const DoubleVector u = load_double(x);
  const LongVector sign = reinterpret_cast<LongVector>(u) & kSign;
  const DoubleVector a = reinterpret_cast<DoubleVector>(reinterpret_cast<LongVector>(u) ^ sign), square = a * a;
  const DoubleVector series = a + a * square * (-1.0 / 3 + square * (2.0 / 15 - square * (17.0 / 315)));
  const DoubleVector e = exponential(-2.0 * a);
  const DoubleVector size = a < 1.0 / 32 ? series : (1.0 - e) / (1.0 + e);
  store_float(y, reinterpret_cast<DoubleVector>(reinterpret_cast<LongVector>(size) | sign));
}

void tanh_forward(float* y, const float* x, std::int64_t count) { map_in_double<tanh_half>(y, x, count); }

// As (1 - y) * (1 + y) and not as 1 - y * y, which loses all digits near 1.
void tanh_backward(float* dx, const float* dy, const float* y, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) dx[i] = dy[i] * ((1.0f - y[i]) * (1.0f + y[i]));
}

constexpr std::uint32_t kDropoutStream = 2;

void dropout_forward(float* y, float* mask, const float* x, std::uint64_t threshold, float scale, std::uint64_t seed,
                     std::uint64_t counter, std::uint64_t offset, Range range) {
  std::uint32_t words[kPhiloxWords];
  for (std::int64_t i = range.begin; i < range.end;) {
    const std::uint64_t word = offset + static_cast<std::uint64_t>(i), block = word / kPhiloxWords * kPhiloxWords;
    const std::int64_t first = i - static_cast<std::int64_t>(word - block), next = first + kPhiloxWords;
    philox(words, seed, kDropoutStream, counter, static_cast<std::uint32_t>(block / 4));
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
