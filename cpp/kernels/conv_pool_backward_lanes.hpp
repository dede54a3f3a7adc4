// Gradients through convolution + ReLU + max-pooling, for filters whose row of s*c floats does not fill a vector. There the
// rows of conv_pool_backward_rows.hpp would leave most lanes idle.
//
// Here the lanes are images. dy is spread out to the convolution's positions: the winner of a window gets dy, the others 0.
// This is done for a strip of one row of windows at a time, which stays in the first-level cache. Then the plain convolution's
// gradients follow. The zeros are multiplied too, so neither images nor weights may contain infinity or NaN.
#pragma once

#include "conv.hpp"
#include "conv_pool_backward_select.hpp"
#include "table.hpp"

namespace fastlenet::FASTLENET_LEVEL {
namespace {

// Spreads one row of windows of one channel, dy and winners [pool.q][lanes], out to plane[frame_h][frame_w][lanes], with its
// first position at (top, left). Positions outside are dropped. side: the side of square windows, if known at compile time;
// else 0.
template <int side>
inline void unpool_row(float* plane, const float* dy, const std::int32_t* winners, const PoolShape& pool, const Frame& place,
                       std::int64_t top) {
  const std::int64_t height = side ? side : pool.r, width = side ? side : pool.s;
  const bool inside =
      top >= 0 && top + height <= place.frame_h && place.left >= 0 && place.left + pool.q * width <= place.frame_w;
  for (std::int64_t q = 0; q < pool.q; ++q) {
    const Vector gradient = load(dy + q * kLanes);
    const IntVector winner = load_int(winners + q * kLanes);
    for (std::int64_t r = 0; r < height; ++r) {
      for (std::int64_t s = 0; s < width; ++s) {
        const std::int64_t row = top + r, column = place.left + q * width + s;
        if (!inside && (row < 0 || row >= place.frame_h || column < 0 || column >= place.frame_w)) continue;
        const IntVector won = winner == static_cast<std::int32_t>(r * width + s);
        store(plane + (row * place.frame_w + column) * kLanes, won ? gradient : Vector{});
      }
    }
  }
}

using UnpoolRow = void (*)(float*, const float*, const std::int32_t*, const PoolShape&, const Frame&, std::int64_t);

inline UnpoolRow unpool_row_function(const PoolShape& pool) {
  return pool.r == 2 && pool.s == 2 ? unpool_row<2> : unpool_row<0>;
}

void unpool(float* frame, const float* dy, const std::int32_t* winners, const PoolShape& pool, const Frame& place) {
  const UnpoolRow unpool_row = unpool_row_function(pool);
  const std::ptrdiff_t plane = place.frame_h * place.frame_w * kLanes;
  for (std::ptrdiff_t i = 0; i < place.c * plane; i += kLanes) store(frame + i, Vector{});
  for (std::int64_t k = 0; k < place.c; ++k) {
    for (std::int64_t p = 0; p < pool.p; ++p) {
      const std::ptrdiff_t at = (k * pool.p + p) * pool.q * kLanes;
      unpool_row(frame + k * plane, dy + at, winners + at, pool, place, p * pool.r + place.top);
    }
  }
}

// sums[k*c*r*s][lanes] for windows of any size.
inline void unpool_weight_gradient(float* sums, float* strip, const float* dy, const std::int32_t* winners, const float* x,
                                   const ConvPoolShape& shape) {
  const ConvShape& conv = shape.conv;
  const PoolShape& pool = shape.pool;
  const std::ptrdiff_t depth = conv.c * conv.r * conv.s, columns = pool.q * pool.s;
  const std::ptrdiff_t plane = pool.r * columns * kLanes, windows = pool.p * pool.q * kLanes;
  const std::ptrdiff_t line = (conv.w + 2 * conv.padding.w) * kLanes;
  const UnpoolRow unpool_row = unpool_row_function(pool);
  const Frame place{1, pool.r, columns, pool.r, columns, 0, 0, {1, 1}};
  for (std::ptrdiff_t i = 0; i < conv.k * depth; ++i) store(sums + i * kLanes, Vector{});
  for (std::int64_t k = 0; k < conv.k; k += kWeightRows) {
    const int rows = static_cast<int>(at_most(conv.k - k, kWeightRows));
    for (std::int64_t p = 0; p < pool.p; ++p) {
      for (int i = 0; i < rows; ++i) {
        const std::ptrdiff_t at = (k + i) * windows + p * pool.q * kLanes;
        unpool_row(strip + i * plane, dy + at, winners + at, pool, place, 0);
      }
      for_tap_groups(conv, [&](std::ptrdiff_t l, int taps, std::ptrdiff_t offset) {
        correlate(sums + (k * depth + l) * kLanes, depth * kLanes, rows, taps,
                  {strip, plane, x + p * pool.r * line + offset, line, kLanes, pool.r, columns});
      });
    }
  }
}

void conv2d_relu_max_pool2d_backward_weight_lanes(float* sums, float* strip, const float* dy, const std::int32_t* winners,
                                                  const float* x, const ConvPoolShape& shape) {
  const ConvShape& conv = shape.conv;
  if (kSelects && shape.pool.r == 2 && shape.pool.s == 2) {
    select_weight_gradient(sums, dy, winners, x, shape);
  } else {
    unpool_weight_gradient(sums, strip, dy, winners, x, shape);
  }
  float* bias_sums = sums + conv.k * conv.c * conv.r * conv.s * kLanes;
  const std::ptrdiff_t windows = shape.pool.p * shape.pool.q * kLanes;
  for (std::int64_t k = 0; k < conv.k; ++k, dy += windows, winners += windows) {
    Vector sum = {};
    for (std::ptrdiff_t i = 0; i < windows; i += kLanes) sum += load_int(winners + i) == kDeadWindow ? Vector{} : load(dy + i);
    store(bias_sums + k * kLanes, sum);
  }
}

void sum_blocks(float* sum, const float* sums, std::int64_t blocks, std::int64_t pitch, Range range) {
  for (std::int64_t i = range.begin; i < range.end; ++i) {
    Vector total = {};
    for (std::int64_t block = 0; block < blocks; ++block) total += load(sums + (block * pitch + i) * kLanes);
    sum[i] = sum_lanes(total);
  }
}

// x * 0 is 0, or NaN for infinities and NaN.
bool all_finite(const float* x, std::int64_t count) {
  Vector sum = {};
  std::int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) sum += load(x + i) * Vector{};
  float rest = sum_lanes(sum);
  for (; i < count; ++i) rest += x[i] * 0.0f;
  return rest == 0.0f;
}

}  // namespace
}  // namespace fastlenet::FASTLENET_LEVEL
