// Convolution of one block of images: [...][lanes] throughout, see kernels.hpp.
#pragma once

#include "../kernels.hpp"
#include "gemm.hpp"

namespace fastlenet::FASTLENET_LEVEL {
namespace {

// The vectors under the filter at the image's corner; a tile adds the offset of each of its output positions.
inline Vectors filter_vectors(const float* x, const ConvShape& shape) {
  const std::ptrdiff_t line = (shape.w + 2 * shape.padding.w) * kLanes;
  const std::ptrdiff_t channel = (shape.h + 2 * shape.padding.h) * line;
  return {x, shape.c, shape.r, shape.s, channel, line, kLanes};
}

void conv2d_forward(float* y, const float* x, const float* weight, const float* bias, const ConvShape& shape) {
  const Vectors vectors = filter_vectors(x, shape);
  const std::ptrdiff_t depth = shape.c * shape.r * shape.s;
  for (std::int64_t k = 0; k < shape.k; k += kTileRows) {
    const int rows = static_cast<int>(at_most(shape.k - k, kTileRows));
    const Scalars scalars{weight + k * depth, depth, 1};
    for (std::int64_t p = 0; p < shape.p; ++p) {
      for (std::int64_t q = 0; q < shape.q; q += kTileVectors) {
        const int positions = static_cast<int>(at_most(shape.q - q, kTileVectors));
        Vector tile[kTileRows][kTileVectors];
        std::ptrdiff_t offset[kTileVectors];
        for (int j = 0; j < positions; ++j) {
          offset[j] = p * shape.stride.h * vectors.line + (q + j) * shape.stride.w * kLanes;
          for (int i = 0; i < rows; ++i) tile[i][j] = broadcast(bias ? bias[k + i] : 0.0f);
        }
        multiply_add(tile, rows, positions, scalars, vectors, offset);
        for (int i = 0; i < rows; ++i) {
          float* at = y + (((k + i) * shape.p + p) * shape.q + q) * kLanes;
          for (int j = 0; j < positions; ++j) store(at + j * kLanes, tile[i][j]);
        }
      }
    }
  }
}

void conv2d_flip(float* flipped, const float* weight, const ConvShape& shape) {
  const std::int64_t filter = shape.r * shape.s;
  for (std::int64_t c = 0; c < shape.c; ++c) {
    for (std::int64_t k = 0; k < shape.k; ++k) {
      for (std::int64_t i = 0; i < filter; ++i) {
        flipped[(c * shape.k + k) * filter + i] = weight[(k * shape.c + c) * filter + filter - 1 - i];
      }
    }
  }
}

// sum[i][j] = sum over blocks and positions of dy[channel i] * x[tap j]: vectors on both sides, lanes summed at the
// end. 4 channels + 5 taps are loaded for 20 multiply-adds.
constexpr int kWeightRows = kRegisters == 32 ? 4 : 2;
constexpr int kWeightTaps = 5;

template <int rows, int taps>
__attribute__((noinline)) void correlate(float* dweight, std::ptrdiff_t pitch, const float* dy, const float* x,
                                         const std::ptrdiff_t* tap, std::int64_t blocks, const ConvShape& shape) {
  const std::ptrdiff_t line = (shape.w + 2 * shape.padding.w) * kLanes;
  const std::ptrdiff_t x_block = shape.c * (shape.h + 2 * shape.padding.h) * line;
  const std::ptrdiff_t plane = shape.p * shape.q * kLanes;
  Vector sum[rows][taps] = {};
  for (std::int64_t block = 0; block < blocks; ++block) {
    const float* dy_at = dy + block * shape.k * plane;
    for (std::int64_t p = 0; p < shape.p; ++p) {
      const float* x_at = x + block * x_block + p * shape.stride.h * line;
      for (std::int64_t q = 0; q < shape.q; ++q, dy_at += kLanes, x_at += shape.stride.w * kLanes) {
        Vector gradient[rows];
        for (int i = 0; i < rows; ++i) gradient[i] = load(dy_at + i * plane);
        for (int j = 0; j < taps; ++j) {
          const Vector value = load(x_at + tap[j]);
          for (int i = 0; i < rows; ++i) sum[i][j] += gradient[i] * value;
        }
      }
    }
  }
  for (int i = 0; i < rows; ++i) {
    for (int j = 0; j < taps; ++j) dweight[i * pitch + j] = sum_lanes(sum[i][j]);
  }
}

using CorrelateFunction = void (*)(float*, std::ptrdiff_t, const float*, const float*, const std::ptrdiff_t*, std::int64_t,
                                   const ConvShape&);

template <int... cell>
inline CorrelateFunction correlate_function(int rows, int taps, std::integer_sequence<int, cell...>) {
  static constexpr CorrelateFunction kFunctions[] = {correlate<cell / kWeightTaps + 1, cell % kWeightTaps + 1>...};
  return kFunctions[(rows - 1) * kWeightTaps + taps - 1];
}

// dbias[k] = sum over blocks and positions of dy, lanes summed at the end.
inline void sum_positions(float* dbias, const float* dy, std::int64_t blocks, Range k, const ConvShape& shape) {
  const std::ptrdiff_t plane = shape.p * shape.q * kLanes;
  for (std::int64_t channel = k.begin; channel < k.end; ++channel) {
    Vector sum = {};
    for (std::int64_t block = 0; block < blocks; ++block) {
      const float* at = dy + (block * shape.k + channel) * plane;
      for (std::ptrdiff_t i = 0; i < plane; i += kLanes) sum += load(at + i);
    }
    dbias[channel] = sum_lanes(sum);
  }
}

void conv2d_backward_weight(float* dweight, float* dbias, const float* dy, const float* x, std::int64_t blocks, Range k,
                            const ConvShape& shape) {
  const std::ptrdiff_t line = (shape.w + 2 * shape.padding.w) * kLanes;
  const std::ptrdiff_t channel = (shape.h + 2 * shape.padding.h) * line;
  const std::ptrdiff_t depth = shape.c * shape.r * shape.s;
  for (std::int64_t row = k.begin; row < k.end; row += kWeightRows) {
    const int rows = static_cast<int>(at_most(k.end - row, kWeightRows));
    for (std::ptrdiff_t l = 0; l < depth; l += kWeightTaps) {
      const int taps = static_cast<int>(at_most(depth - l, kWeightTaps));
      std::ptrdiff_t tap[kWeightTaps];
      for (int j = 0; j < taps; ++j) {
        const std::ptrdiff_t c = (l + j) / (shape.r * shape.s), r = (l + j) / shape.s % shape.r, s = (l + j) % shape.s;
        tap[j] = c * channel + r * line + s * kLanes;
      }
      correlate_function(rows, taps, std::make_integer_sequence<int, kWeightRows * kWeightTaps>{})(
          dweight + row * depth + l, depth, dy + row * shape.p * shape.q * kLanes, x, tap, blocks, shape);
    }
  }
  sum_positions(dbias, dy, blocks, k, shape);
}

}  // namespace
}  // namespace fastlenet::FASTLENET_LEVEL
