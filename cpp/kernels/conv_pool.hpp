// Convolution + bias + ReLU + max-pooling of one block of images. The convolution's output stays in registers.
#pragma once

#include "conv.hpp"
#include "pool.hpp"
#include "table.hpp"

namespace fastlenet::FASTLENET_LEVEL {
namespace {

// Computes one row of windows for `rows` channels from k on. The vectors of a tile are positions of one pooling window, so that
// the maximum is taken between registers. one_tile: a window has as many positions as a tile, as a 2x2 window on CPUs with 32
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
      const Mask dead = not_positive(best[i]);
      store(y + i * plane, select(dead, Vector{}, best[i]));
      store(winners + i * plane, select(dead, broadcast_int(kDeadWindow), winner[i]));
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

// One image, where a block of images would be mostly empty. The lanes are output channels instead of images: the weights are
// interleaved, and x is broadcast. Every sum is the same chain, so the bits are those of the same image in a batch.
//
// 4 positions x 4 vectors of channels = 16 sums + 4 weights + 1 scalar = 21 of 32 registers; 4 x 2 + 2 + 1 = 11 of 16.
constexpr int kPositions = 4;
constexpr int kChannelVectors = kRegisters == 32 ? 4 : 2;

// sum[i][j] += sum over (c, r, s) of x under the filter at offset[i] times the weights of channel vector j.
template <int vectors>
inline __attribute__((always_inline)) void multiply_add_channels(Vector (&sum)[kPositions][vectors], const float* x,
                                                                 const std::ptrdiff_t* offset, const float* weight,
                                                                 const ConvShape& shape) {
  const std::ptrdiff_t width = shape.w + 2 * shape.padding.w, plane = (shape.h + 2 * shape.padding.h) * width;
  const std::ptrdiff_t pitch = shape.c * shape.r * shape.s * kLanes;
  for (std::int64_t c = 0; c < shape.c; ++c) {
    for (std::int64_t r = 0; r < shape.r; ++r) {
      const float* at[kPositions];
      for (int i = 0; i < kPositions; ++i) at[i] = x + c * plane + r * width + offset[i];
      for (std::int64_t s = 0; s < shape.s; ++s, weight += kLanes) {
        Vector value[vectors];
        for (int j = 0; j < vectors; ++j) value[j] = load(weight + j * pitch);
        for (int i = 0; i < kPositions; ++i) {
          const Vector factor = broadcast(at[i][s]);
          for (int j = 0; j < vectors; ++j) sum[i][j] += factor * value[j];
        }
      }
    }
  }
}

// Computes all windows for `vectors` vectors of channels: y, winners [vectors][pool.p * pool.q][lanes]. A window of more than 4
// positions takes several rounds; if the last round has fewer than 4, it repeats its first position.
template <int vectors>
__attribute__((noinline)) void pool_channels(float* y, std::int32_t* winners, const float* x, const float* weight,
                                             const float* bias, const ConvPoolShape& shape) {
  const ConvShape& conv = shape.conv;
  const PoolShape& pool = shape.pool;
  const std::ptrdiff_t width = conv.w + 2 * conv.padding.w, windows = pool.p * pool.q;
  const std::int64_t area = pool.r * pool.s;
  for (std::ptrdiff_t window = 0; window < windows; ++window) {
    const std::ptrdiff_t corner = window / pool.q * pool.r * width + window % pool.q * pool.s;
    Vector best[vectors] = {};
    IntVector winner[vectors] = {};
    for (std::int64_t first = 0; first < area; first += kPositions) {
      std::ptrdiff_t offset[kPositions];
      Vector sum[kPositions][vectors];
      for (int i = 0; i < kPositions; ++i) {
        const std::int64_t position = first + i < area ? first + i : first;
        offset[i] = corner + position / pool.s * width + position % pool.s;
        for (int j = 0; j < vectors; ++j) sum[i][j] = load(bias + j * kLanes);
      }
      multiply_add_channels<vectors>(sum, x, offset, weight, conv);
      for (int j = 0; j < vectors; ++j) {
        if (first == 0) best[j] = sum[0][j];
        for (int i = first == 0 ? 1 : 0; i < at_most(area - first, kPositions); ++i) {
          keep_maximum(best[j], winner[j], sum[i][j], static_cast<std::int32_t>(first) + i);
        }
      }
    }
    for (int j = 0; j < vectors; ++j) {
      const Mask dead = not_positive(best[j]);
      store(y + (j * windows + window) * kLanes, select(dead, Vector{}, best[j]));
      store(winners + (j * windows + window) * kLanes, select(dead, broadcast_int(kDeadWindow), winner[j]));
    }
  }
}

using PoolChannels = void (*)(float*, std::int32_t*, const float*, const float*, const float*, const ConvPoolShape&);

template <int... vector>
inline PoolChannels pool_channels_function(int vectors, std::integer_sequence<int, vector...>) {
  static constexpr PoolChannels kFunctions[] = {pool_channels<vector + 1>...};
  return kFunctions[vectors - 1];
}

void conv2d_relu_max_pool2d_forward_one(float* y, std::int32_t* winners, const float* x, const float* weight, const float* bias,
                                        const ConvPoolShape& shape) {
  const ConvShape& conv = shape.conv;
  const std::ptrdiff_t depth = conv.c * conv.r * conv.s, windows = shape.pool.p * shape.pool.q;
  for (std::int64_t k = 0; k < conv.k; k += kChannelVectors * kLanes) {
    const int vectors = static_cast<int>((at_most(conv.k - k, kChannelVectors * kLanes) + kLanes - 1) / kLanes);
    pool_channels_function(vectors, std::make_integer_sequence<int, kChannelVectors>{})(y + k * windows, winners + k * windows,
                                                                                        x, weight + k * depth, bias + k, shape);
  }
}

}  // namespace
}  // namespace fastlenet::FASTLENET_LEVEL
