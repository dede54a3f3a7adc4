// Convolution + bias + ReLU + max-pooling of one block of images; the convolution's output never reaches memory.
#pragma once

#include "../kernels.hpp"
#include "conv.hpp"
#include "pool.hpp"

namespace fastlenet::FASTLENET_LEVEL {
namespace {

// The vectors of a tile are positions of one pooling window: the maximum is taken between registers.
void conv2d_relu_max_pool2d_forward(float* y, std::int32_t* winners, const float* x, const float* weight, const float* bias,
                                    const ConvPoolShape& shape) {
  const ConvShape& conv = shape.conv;
  const PoolShape& pool = shape.pool;
  const Vectors vectors = filter_vectors(x, conv);
  const std::ptrdiff_t depth = conv.c * conv.r * conv.s;
  const int window = static_cast<int>(pool.r * pool.s);
  for (std::int64_t k = 0; k < conv.k; k += kTileRows) {
    const int rows = static_cast<int>(at_most(conv.k - k, kTileRows));
    const Scalars scalars{weight + k * depth, depth, 1};
    for (std::int64_t p = 0; p < pool.p; ++p) {
      for (std::int64_t q = 0; q < pool.q; ++q) {
        Vector best[kTileRows];
        IntVector winner[kTileRows];
        for (int position = 0; position < window; position += kTileVectors) {
          const int positions = static_cast<int>(at_most(window - position, kTileVectors));
          Vector tile[kTileRows][kTileVectors];
          std::ptrdiff_t offset[kTileVectors];
          for (int j = 0; j < positions; ++j) {
            const std::ptrdiff_t row = p * pool.r + (position + j) / pool.s, column = q * pool.s + (position + j) % pool.s;
            offset[j] = row * vectors.line + column * kLanes;
            for (int i = 0; i < rows; ++i) tile[i][j] = broadcast(bias ? bias[k + i] : 0.0f);
          }
          multiply_add(tile, rows, positions, scalars, vectors, offset);
          for (int i = 0; i < rows; ++i) {
            if (position == 0) {
              best[i] = tile[i][0];
              winner[i] = IntVector{};
            }
            for (int j = position == 0 ? 1 : 0; j < positions; ++j) keep_maximum(best[i], winner[i], tile[i][j], position + j);
          }
        }
        for (int i = 0; i < rows; ++i) {
          const std::ptrdiff_t at = (((k + i) * pool.p + p) * pool.q + q) * kLanes;
          const IntVector dead = best[i] <= Vector{};
          store(y + at, dead ? Vector{} : best[i]);
          store(winners + at, dead ? broadcast_int(255) : winner[i]);
        }
      }
    }
  }
}

}  // namespace
}  // namespace fastlenet::FASTLENET_LEVEL
