// Element by element: ReLU, sigmoid, dropout. The plain loops are left to the compiler's vectoriser.
#pragma once

#include "../kernels.hpp"
#include "exponential.hpp"

namespace fastlenet::FASTLENET_LEVEL {
namespace {

// `x <= 0` rather than `x > 0`, so that NaN, which is neither, passes.
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

// Philox4x32-10: ten rounds of two 32 x 32 -> 64 bit products on four counter words.
inline void philox(std::uint32_t (&word)[4], std::uint64_t seed, std::uint64_t counter, std::uint32_t stream,
                   std::uint32_t block) {
  std::uint32_t key0 = static_cast<std::uint32_t>(seed), key1 = static_cast<std::uint32_t>(seed >> 32);
  word[0] = block;
  word[1] = static_cast<std::uint32_t>(counter);
  word[2] = static_cast<std::uint32_t>(counter >> 32);
  word[3] = stream;
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t low = 0xD2511F53ull * word[0], high = 0xCD9E8D57ull * word[2];
    word[0] = static_cast<std::uint32_t>(high >> 32) ^ word[1] ^ key0;
    word[1] = static_cast<std::uint32_t>(high);
    word[2] = static_cast<std::uint32_t>(low >> 32) ^ word[3] ^ key1;
    word[3] = static_cast<std::uint32_t>(low);
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
}

constexpr std::uint32_t kDropoutStream = 2;

void dropout_forward(float* y, float* mask, const float* x, std::uint64_t threshold, float scale, std::uint64_t seed,
                     std::uint64_t counter, Range range) {
  std::uint32_t word[4];
  for (std::int64_t i = range.begin; i < range.end; ++i) {
    if (i % 4 == 0 || i == range.begin) philox(word, seed, counter, kDropoutStream, static_cast<std::uint32_t>(i / 4));
    mask[i] = word[i % 4] >= threshold ? scale : 0.0f;
    y[i] = x[i] * mask[i];
  }
}

void dropout_backward(float* dx, const float* dy, const float* mask, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) dx[i] = dy[i] * mask[i];
}

}  // namespace
}  // namespace fastlenet::FASTLENET_LEVEL
