// Convolution + bias + ReLU + max-pooling of one block of images; the convolution's output never reaches memory.
#pragma once

#include "../kernels.hpp"
#include "conv.hpp"
#include "pool.hpp"

namespace fastlenet::FASTLENET_LEVEL {
namespace {

// The vectors of a tile are positions of one pooling window, so that the maximum is taken between registers. One row of
// windows, of `rows` channels from k on; one_tile: a window has as many positions as a tile, as 2x2 has where there are 32
// registers.
template <int rows, bool one_tile>
__attribute__((noinline)) void pool_row(float* y, std::int32_t* winners, const Vectors& vectors, const Scalars& scalars,
                                        const float* bias, std::int64_t p, const ConvPoolShape& shape) {
  const PoolShape& pool = shape.pool;
  const std::ptrdiff_t plane = pool.p * pool.q * kLanes;
  const std::int64_t window = one_tile ? kTileVectors : pool.r * pool.s;
  for (std::int64_t q = 0; q < pool.q; ++q, y += kLanes, winners += kLanes) {
    Vector best[rows] = {};
    IntVector winner[rows] = {};
    std::int64_t r = p * pool.r, s = 0;  // the window's next position
    for (std::int64_t position = 0; position < window; position += kTileVectors) {
      const int positions = one_tile ? kTileVectors : static_cast<int>(at_most(window - position, kTileVectors));
      Vector tile[kTileRows][kTileVectors];
      std::ptrdiff_t offset[kTileVectors] = {};
      for (int j = 0; j < positions; ++j) {
        offset[j] = r * vectors.line + (q * pool.s + s) * kLanes;
        if (++s == pool.s) {
          s = 0;
          ++r;
        }
      }
      for (int i = 0; i < rows; ++i) {
        const Vector start = broadcast(bias ? bias[i] : 0.0f);
        for (int j = 0; j < kTileVectors; ++j) tile[i][j] = start;
      }
      if constexpr (one_tile) {
        multiply_add<rows, kTileVectors>(tile, scalars, vectors, offset);
      } else {
        multiply_add(tile, rows, positions, scalars, vectors, offset);
      }
      for (int i = 0; i < rows; ++i) {
        if (position == 0) best[i] = tile[i][0];
        for (int j = position == 0 ? 1 : 0; j < positions; ++j) {
          keep_maximum(best[i], winner[i], tile[i][j], static_cast<std::int32_t>(position) + j);
        }
      }
    }
    for (int i = 0; i < rows; ++i) {
      const IntVector dead = best[i] <= Vector{};
      store(y + i * plane, dead ? Vector{} : best[i]);
      store(winners + i * plane, dead ? broadcast_int(255) : winner[i]);
    }
  }
}

using PoolRow = void (*)(float*, std::int32_t*, const Vectors&, const Scalars&, const float*, std::int64_t,
                         const ConvPoolShape&);

template <int... row>
inline PoolRow pool_row_function(int rows, bool one_tile, std::integer_sequence<int, row...>) {
  static constexpr PoolRow kFunctions[][sizeof...(row)] = {{pool_row<row + 1, false>...}, {pool_row<row + 1, true>...}};
  return kFunctions[one_tile][rows - 1];
}

void conv2d_relu_max_pool2d_forward(float* y, std::int32_t* winners, const float* x, const float* weight, const float* bias,
                                    const ConvPoolShape& shape) {
  const ConvShape& conv = shape.conv;
  const PoolShape& pool = shape.pool;
  const Vectors vectors = filter_vectors(x, conv);
  const std::ptrdiff_t depth = conv.c * conv.r * conv.s;
  for (std::int64_t k = 0; k < conv.k; k += kTileRows) {
    const int rows = static_cast<int>(at_most(conv.k - k, kTileRows));
    const PoolRow pool_row =
        pool_row_function(rows, pool.r * pool.s == kTileVectors, std::make_integer_sequence<int, kTileRows>{});
    for (std::int64_t p = 0; p < pool.p; ++p) {
      const std::ptrdiff_t at = (k * pool.p + p) * pool.q * kLanes;
      pool_row(y + at, winners + at, vectors, {weight + k * depth, depth, 1}, bias ? bias + k : nullptr, p, shape);
    }
  }
}

}  // namespace
}  // namespace fastlenet::FASTLENET_LEVEL
