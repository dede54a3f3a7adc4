// Convolution of one block of images. All arrays are [...][lanes]; table.hpp describes blocks.
#pragma once

#include "gemm.hpp"
#include "table.hpp"

namespace fastlenet::FASTLENET_LEVEL {
namespace {

// The vectors under the filter at the image's first corner; a tile adds the offsets of its output positions.
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

// The places of a channel's dy, and of the x under the first of some taps in a filter row, for each output position.
struct Correlation {
  const float* dy;
  std::ptrdiff_t plane;  // from one channel of dy to the next; a channel's positions are contiguous
  const float* x;
  std::ptrdiff_t line, column;  // of x, from one output position to the next
  std::int64_t lines, columns;
};

// sums[i][j][lanes] += sum over positions of dy[channel i] * x[tap j]; both factors are vectors. 4 channels + 5 taps are loaded
// for 20 multiply-adds. The taps are neighbours, so each side needs one address only.
constexpr int kWeightRows = kRegisters == 32 ? 4 : 2;
constexpr int kWeightTaps = 5;

template <int rows, int taps>
__attribute__((noinline)) void correlate_tile(float* sums, std::ptrdiff_t pitch, const Correlation& c) {
  Vector sum[rows][taps];
  for (int i = 0; i < rows; ++i) {
    for (int j = 0; j < taps; ++j) sum[i][j] = load(sums + i * pitch + j * kLanes);
  }
  const float* dy = c.dy;
  const std::ptrdiff_t plane = c.plane, column = c.column;
  for (std::int64_t p = 0; p < c.lines; ++p) {
    const float* x = c.x + p * c.line;
    for (const float* end = dy + c.columns * kLanes; dy != end; dy += kLanes, x += column) {
      Vector gradient[rows];
      for (int i = 0; i < rows; ++i) gradient[i] = load(dy + i * plane);
      for (int j = 0; j < taps; ++j) {
        const Vector value = load(x + j * kLanes);
        for (int i = 0; i < rows; ++i) sum[i][j] += gradient[i] * value;
      }
    }
  }
  for (int i = 0; i < rows; ++i) {
    for (int j = 0; j < taps; ++j) store(sums + i * pitch + j * kLanes, sum[i][j]);
  }
}

using CorrelateTile = void (*)(float*, std::ptrdiff_t, const Correlation&);

template <int... cell>
inline CorrelateTile correlate_function(int rows, int taps, std::integer_sequence<int, cell...>) {
  static constexpr CorrelateTile kFunctions[] = {correlate_tile<cell / kWeightTaps + 1, cell % kWeightTaps + 1>...};
  return kFunctions[(rows - 1) * kWeightTaps + taps - 1];
}

inline void correlate(float* sums, std::ptrdiff_t pitch, int rows, int taps, const Correlation& c) {
  correlate_function(rows, taps, std::make_integer_sequence<int, kWeightRows * kWeightTaps>{})(sums, pitch, c);
}

// Calls body(l, taps, offset) for the filter's taps l, l + 1, ... of one filter row, which are at `offset` in x.
template <typename Body>
inline void for_tap_groups(const ConvShape& shape, const Body& body) {
  const std::ptrdiff_t line = (shape.w + 2 * shape.padding.w) * kLanes;
  const std::ptrdiff_t channel = (shape.h + 2 * shape.padding.h) * line;
  for (std::int64_t c = 0; c < shape.c; ++c) {
    for (std::int64_t r = 0; r < shape.r; ++r) {
      for (std::int64_t s = 0; s < shape.s; s += kWeightTaps) {
        body((c * shape.r + r) * shape.s + s, static_cast<int>(at_most(shape.s - s, kWeightTaps)),
             c * channel + r * line + s * kLanes);
      }
    }
  }
}

// dbias[k] = sum over blocks and positions of dy; the lanes are summed at the end.
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
  const std::ptrdiff_t line = (shape.w + 2 * shape.padding.w) * kLanes, plane = shape.p * shape.q * kLanes;
  const std::ptrdiff_t x_block = shape.c * (shape.h + 2 * shape.padding.h) * line;
  const std::ptrdiff_t depth = shape.c * shape.r * shape.s;
  for (std::int64_t row = k.begin; row < k.end; row += kWeightRows) {
    const int rows = static_cast<int>(at_most(k.end - row, kWeightRows));
    for_tap_groups(shape, [&](std::ptrdiff_t l, int taps, std::ptrdiff_t offset) {
      float sums[kWeightRows * kWeightTaps * kLanes] = {};
      for (std::int64_t block = 0; block < blocks; ++block) {
        correlate(sums, kWeightTaps * kLanes, rows, taps,
                  {dy + (block * shape.k + row) * plane, plane, x + block * x_block + offset, shape.stride.h * line,
                   shape.stride.w * kLanes, shape.p, shape.q});
      }
      for (int i = 0; i < rows; ++i) {
        for (int j = 0; j < taps; ++j)
          dweight[(row + i) * depth + l + j] = sum_lanes(load(sums + (i * kWeightTaps + j) * kLanes));
      }
    });
  }
  sum_positions(dbias, dy, blocks, k, shape);
}

}  // namespace
}  // namespace fastlenet::FASTLENET_LEVEL
