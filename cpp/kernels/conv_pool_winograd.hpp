// Convolution + bias + ReLU + 2x2 max-pooling with fewer multiply-adds than the direct sums, and so with other rounding.
//
// Along one axis, m outputs of a filter of r taps are y = A^T ((G g) * (B^T x)), where * is element-wise: polynomials are
// multiplied by multiplying their values at m + r - 1 points. A 5x5 filter takes eight points along each axis, a 3x3 filter
// six. So m is 4, and 64 or 36 products give 4 x 4 outputs: 4 products per output of a 5x5 filter instead of 25, 9/4 per output
// of a 3x3 filter instead of 9. The sum over the channels is one matrix product for each point. No pooling window crosses a
// tile.
//
// The eight points are 0, +-1, +-1/2, +-2 and infinity, the six are 0, +-3/4, +-3/2 and infinity. With them, the elements of A
// and B are exact in float32, and the rows of opposite points share their even and odd halves. Only G rounds; it is applied in
// float64.
// Sources: Winograd 1980; Lavin & Gray 2016.
#pragma once

#include "gemm.hpp"
#include "lanes.hpp"
#include "pool.hpp"
#include "table.hpp"

namespace fastlenet::FASTLENET_LEVEL {
namespace {

constexpr int kOutputs = 4;  // m
constexpr int points_for(std::int64_t r) { return r == 5 ? 8 : 6; }

// Point 0 is 0, the last is infinity. Points 1, 3, ... are those listed; each is followed by its opposite. kFirst has the
// powers of the first, kRatio those of each over those of the first, kScale one over the product of their distances to the
// other points; kZeroScale is the same for 0.
template <int points>
struct Points;

template <>
struct Points<8> {  // 1, 1/2 and 2
  static constexpr int kPairs = 3;
  static constexpr float kFirst[5] = {1, 1, 1, 1, 1};
  static constexpr float kRatio[kPairs][5] = {{1, 1, 1, 1, 1}, {1, 1.0f / 2, 1.0f / 4, 1.0f / 8, 1.0f / 16}, {1, 2, 4, 8, 16}};
  static constexpr double kScale[kPairs] = {-2.0 / 9, 32.0 / 45, 1.0 / 90}, kZeroScale = 1;
};

template <>
struct Points<6> {  // 3/4 and 3/2
  static constexpr int kPairs = 2;
  static constexpr float kFirst[4] = {1, 3.0f / 4, 9.0f / 16, 27.0f / 64};
  static constexpr float kRatio[kPairs][4] = {{1, 1, 1, 1}, {1, 2, 4, 8}};
  static constexpr double kScale[kPairs] = {-128.0 / 243, 32.0 / 243}, kZeroScale = 64.0 / 81;
};

// Applies G: the filter's values at the points.
template <int points, int r>
inline __attribute__((always_inline)) void evaluate_filter(DoubleVector (&value)[points], const DoubleVector (&g)[r]) {
  using At = Points<points>;
  value[0] = At::kZeroScale * g[0];
  value[points - 1] = g[r - 1];
  for (int i = 0; i < At::kPairs; ++i) {
    DoubleVector even = {}, odd = {};
    for (int l = 0; l < r; ++l) (l % 2 ? odd : even) += At::kScale[i] * At::kFirst[l] * At::kRatio[i][l] * g[l];
    value[1 + 2 * i] = even + odd;
    value[2 + 2 * i] = even - odd;
  }
}

// Applies B^T in 24 operations. Row i contains the coefficients of the polynomial that is zero at all other points.
inline __attribute__((always_inline)) void evaluate_input(Vector (&value)[8], const Vector (&x)[8]) {
  value[0] = (x[0] - x[6]) + 5.25f * (x[4] - x[2]);
  value[7] = (x[7] - x[1]) + 5.25f * (x[3] - x[5]);
  const Vector even0 = (x[2] + x[6]) - 4.25f * x[4], odd0 = (x[1] + x[5]) - 4.25f * x[3];
  const Vector even1 = (x[6] - 5.0f * x[4]) + 4.0f * x[2], odd1 = (x[5] - 5.0f * x[3]) + 4.0f * x[1];
  const Vector even2 = (x[6] - 1.25f * x[4]) + 0.25f * x[2], odd2 = (x[5] - 1.25f * x[3]) + 0.25f * x[1];
  value[1] = even0 + odd0;
  value[2] = even0 - odd0;
  value[3] = even1 + 0.5f * odd1;
  value[4] = even1 - 0.5f * odd1;
  value[5] = even2 + 2.0f * odd2;
  value[6] = even2 - 2.0f * odd2;
}

// The same in 12 operations. x (x^2 - 9/16) (x^2 - 9/4) = x^5 - 45/16 x^3 + 81/64 x.
inline __attribute__((always_inline)) void evaluate_input(Vector (&value)[6], const Vector (&x)[6]) {
  value[0] = (x[4] - 2.8125f * x[2]) + 1.265625f * x[0];
  value[5] = (x[5] - 2.8125f * x[3]) + 1.265625f * x[1];
  const Vector even0 = x[4] - 2.25f * x[2], odd0 = x[3] - 2.25f * x[1];
  const Vector even1 = x[4] - 0.5625f * x[2], odd1 = x[3] - 0.5625f * x[1];
  value[1] = even0 + 0.75f * odd0;
  value[2] = even0 - 0.75f * odd0;
  value[3] = even1 + 1.5f * odd1;
  value[4] = even1 - 1.5f * odd1;
}

// Applies A^T: output l is the sum over the points of their l-th power times the product at the point. Every product is
// rounded before it becomes a term beside another product, since the compiler may choose either of the two to fuse.
template <int points>
inline __attribute__((always_inline)) void combine(Vector (&y)[kOutputs], const Vector (&product)[points]) {
  using At = Points<points>;
  Vector sum[At::kPairs], difference[At::kPairs];
  for (int i = 0; i < At::kPairs; ++i) {
    sum[i] = product[1 + 2 * i] + product[2 + 2 * i];
    difference[i] = product[1 + 2 * i] - product[2 + 2 * i];
  }
  for (int l = 0; l < kOutputs; ++l) {
    const Vector(&half)[At::kPairs] = l % 2 ? difference : sum;
    y[l] = half[0];
    for (int i = 1; i < At::kPairs; ++i) y[l] += At::kRatio[i][l] * half[i];
    y[l] = rounded(At::kFirst[l] * y[l]);
  }
  y[0] += product[0];
  y[kOutputs - 1] += product[points - 1];
}

// A pitch of an odd number of vectors. A transform reads or writes a vector at each point of both axes; if the points lie an
// even number of cache lines apart, as with 32 channels, they share a few sets of the first-level cache and evict one another.
inline std::ptrdiff_t odd_vectors(std::ptrdiff_t size) { return (size / kLanes | 1) * kLanes; }

// The layout of the work on a block: kTileVectors tiles at a time, and kTileRows channels of these.
struct WinogradPitches {
  std::ptrdiff_t weights;   // weights[group][point][row][c]: from point to point, in whole vectors
  std::ptrdiff_t inputs;    // inputs[point][c][tile][lanes]
  std::ptrdiff_t products;  // products[point][row][tile][lanes]

  explicit WinogradPitches(const ConvShape& shape)
      : weights((kTileRows * shape.c + kLanes - 1) / kLanes * kLanes),
        inputs(odd_vectors(shape.c * kTileVectors * kLanes)),
        products(odd_vectors(kTileRows * kTileVectors * kLanes)) {}
};

std::int64_t winograd_products(const ConvShape& shape) { return points_for(shape.r) * points_for(shape.r); }

inline WinogradSizes winograd_sizes(const ConvPoolShape& shape) {
  const ConvShape& conv = shape.conv;
  const WinogradPitches pitch(conv);
  const std::int64_t windows = kOutputs / 2;  // in a tile, along one axis
  const std::int64_t products = winograd_products(conv);
  const std::int64_t down = (shape.pool.p + windows - 1) / windows, across = (shape.pool.q + windows - 1) / windows;
  return {products,
          down,
          across,
          2 * windows * down + conv.r - 1,
          2 * windows * across + conv.s - 1,
          (conv.k + kTileRows - 1) / kTileRows * products * pitch.weights,
          products * (pitch.inputs + pitch.products),
          products * kTileRows * (whole_vectors(conv.c) + whole_vectors(conv.k))};
}

// Transforms up to kLanes filters, which are `apart` floats apart, to the points of both axes; a filter has a lane.
template <int points, int r>
inline void transform_filters(float* to, std::ptrdiff_t pitch, const float* weight, std::ptrdiff_t apart,
                              std::int64_t filters) {
  float block[r * r * kLanes];
  interleave_row(block, kLanes, weight, apart, filters, r * r);
  for (int lane = 0; lane < kLanes; lane += kDoubleLanes) {
    DoubleVector half[r][points];
    for (int i = 0; i < r; ++i) {
      DoubleVector line[r];
      for (int j = 0; j < r; ++j) line[j] = load_double(block + (i * r + j) * kLanes + lane);
      evaluate_filter<points, r>(half[i], line);
    }
    for (int j = 0; j < points; ++j) {
      DoubleVector column[r], value[points];
      for (int i = 0; i < r; ++i) column[i] = half[i][j];
      evaluate_filter<points, r>(value, column);
      for (int i = 0; i < points; ++i) store_float(to + (i * points + j) * pitch + lane, value[i]);
    }
  }
}

inline auto transform_filters_function(const ConvShape& shape) {
  return shape.r == 5 ? transform_filters<points_for(5), 5> : transform_filters<points_for(3), 3>;
}

void winograd_weights(float* weights, const float* weight, std::int64_t group, const ConvShape& shape) {
  const WinogradPitches pitch(shape);
  const std::int64_t filter = shape.r * shape.s, first = group * kTileRows;
  const std::int64_t products = winograd_products(shape);
  const std::int64_t filters = at_most(shape.k - first, kTileRows) * shape.c;  // contiguous
  for (std::int64_t i = 0; i < filters; i += kLanes) {
    transform_filters_function(shape)(weights + group * products * pitch.weights + i, pitch.weights,
                                      weight + (first * shape.c + i) * filter, filter, at_most(filters - i, kLanes));
  }
}

// Transforms one tile of one channel, 8 x 8 or 6 x 6 inputs at x, to the points of both axes.
template <int points>
inline void transform_input(float* to, std::ptrdiff_t pitch, const float* x, std::ptrdiff_t line) {
  Vector half[points][points];
  for (int j = 0; j < points; ++j) {
    Vector column[points], value[points];
    for (int i = 0; i < points; ++i) column[i] = load(x + i * line + j * kLanes);
    evaluate_input(value, column);
    for (int i = 0; i < points; ++i) half[i][j] = value[i];
  }
  for (int i = 0; i < points; ++i) {
    Vector value[points];
    evaluate_input(value, half[i]);
    for (int j = 0; j < points; ++j) store(to + (i * points + j) * pitch, value[j]);
  }
}

// At every point, for `rows` channels of `vectors` tiles: sums over the c channels of x.
template <int rows, int vectors>
__attribute__((noinline)) void multiply_points(float* products, const float* weights, const float* inputs,
                                               const WinogradPitches& pitch, int count, std::int64_t c) {
  std::ptrdiff_t offset[kTileVectors];
  for (int j = 0; j < vectors; ++j) offset[j] = j * kLanes;
  for (int point = 0; point < count; ++point) {
    Vector tile[kTileRows][kTileVectors];
    for (int i = 0; i < rows; ++i) {
      for (int j = 0; j < vectors; ++j) tile[i][j] = Vector{};
    }
    multiply_add<rows, vectors>(tile, {weights + point * pitch.weights, c, 1},
                                {inputs + point * pitch.inputs, 1, 1, c, 0, 0, kTileVectors * kLanes}, offset);
    for (int i = 0; i < rows; ++i) {
      for (int j = 0; j < vectors; ++j) {
        store(products + point * pitch.products + (i * kTileVectors + j) * kLanes, tile[i][j]);
      }
    }
  }
}

using MultiplyPoints = void (*)(float*, const float*, const float*, const WinogradPitches&, int, std::int64_t);

template <int... cell>
inline MultiplyPoints multiply_points_function(int rows, int vectors, std::integer_sequence<int, cell...>) {
  static constexpr MultiplyPoints kFunctions[] = {multiply_points<cell / kTileVectors + 1, cell % kTileVectors + 1>...};
  return kFunctions[(rows - 1) * kTileVectors + vectors - 1];
}

// Transforms one tile of one channel: the products at its points become 4 x 4 outputs, and those of windows within p x q are
// pooled and stored.
template <int points>
inline void pool_tile(float* y, std::int32_t* winners, std::int64_t line, const float* products, std::ptrdiff_t pitch,
                      Vector bias, std::int64_t p, std::int64_t q) {
  Vector half[kOutputs][points];
  for (int j = 0; j < points; ++j) {
    Vector column[points], value[kOutputs];
    for (int i = 0; i < points; ++i) column[i] = load(products + (i * points + j) * pitch);
    combine<points>(value, column);
    for (int i = 0; i < kOutputs; ++i) half[i][j] = value[i];
  }
  for (int i = 0; i < at_most(p, kOutputs / 2); ++i) {
    Vector upper[kOutputs], lower[kOutputs];
    combine<points>(upper, half[2 * i]);
    combine<points>(lower, half[2 * i + 1]);
    for (int j = 0; j < kOutputs / 2; ++j) {
      if (j >= q) break;
      Vector best = upper[2 * j];
      IntVector winner = {};
      keep_maximum(best, winner, upper[2 * j + 1], 1);
      keep_maximum(best, winner, lower[2 * j], 2);
      keep_maximum(best, winner, lower[2 * j + 1], 3);
      best += bias;
      const Mask dead = not_positive(best);
      store(y + (i * line + j) * kLanes, select(dead, Vector{}, best));
      store(winners + (i * line + j) * kLanes, select(dead, broadcast_int(kDeadWindow), winner));
    }
  }
}

// A tile's first window.
inline Pair first_window(std::int64_t tile, const WinogradSizes& sizes) {
  return {tile / sizes.across * (kOutputs / 2), tile % sizes.across * (kOutputs / 2)};
}

template <int points>
inline void winograd_block(float* y, std::int32_t* winners, const float* x, const float* weights, const float* bias,
                           float* scratch, const ConvPoolShape& shape) {
  constexpr int kProducts = points * points;
  const ConvShape& conv = shape.conv;
  const PoolShape& pool = shape.pool;
  const WinogradSizes sizes = winograd_sizes(shape);
  const WinogradPitches pitch(conv);
  const std::ptrdiff_t line = sizes.frame_w * kLanes;
  float *inputs = scratch, *products = scratch + kProducts * pitch.inputs;
  for (std::int64_t first = 0; first < sizes.down * sizes.across; first += kTileVectors) {
    const int vectors = static_cast<int>(at_most(sizes.down * sizes.across - first, kTileVectors));
    Pair window[kTileVectors];
    for (int j = 0; j < vectors; ++j) window[j] = first_window(first + j, sizes);
    for (std::int64_t c = 0; c < conv.c; ++c) {
      for (int j = 0; j < vectors; ++j) {
        transform_input<points>(inputs + (c * kTileVectors + j) * kLanes, pitch.inputs,
                                x + (c * sizes.frame_h + 2 * window[j].h) * line + 2 * window[j].w * kLanes, line);
      }
    }
    for (std::int64_t k = 0; k < conv.k; k += kTileRows) {
      const int rows = static_cast<int>(at_most(conv.k - k, kTileRows));
      const auto multiply =
          multiply_points_function(rows, vectors, std::make_integer_sequence<int, kTileRows * kTileVectors>{});
      multiply(products, weights + k / kTileRows * kProducts * pitch.weights, inputs, pitch, kProducts, conv.c);
      for (int i = 0; i < rows; ++i) {
        for (int j = 0; j < vectors; ++j) {
          const std::ptrdiff_t at = (((k + i) * pool.p + window[j].h) * pool.q + window[j].w) * kLanes;
          pool_tile<points>(y + at, winners + at, pool.q, products + (i * kTileVectors + j) * kLanes, pitch.products,
                            broadcast(bias ? bias[k + i] : 0.0f), pool.p - window[j].h, pool.q - window[j].w);
        }
      }
    }
  }
}

void winograd_relu_max_pool2d_forward(float* y, std::int32_t* winners, const float* x, const float* weights, const float* bias,
                                      float* scratch, const ConvPoolShape& shape) {
  (shape.conv.r == 5 ? winograd_block<points_for(5)> : winograd_block<points_for(3)>)(y, winners, x, weights, bias, scratch,
                                                                                      shape);
}

// One image. The lanes are channels: of x for the input transform, of y for the products and the output transform. The rows of
// a product are tiles. Every output takes the same steps as above, so its bits are those of the same image in a batch.
// weights[point][c][groups of k][lanes]; inputs[point][tile][groups of c][lanes]; products[point][tile][groups of k][lanes].
struct WinogradOnePitches {
  std::ptrdiff_t k, c;  // channels, rounded up to whole vectors
  explicit WinogradOnePitches(const ConvShape& shape) : k(whole_vectors(shape.k)), c(whole_vectors(shape.c)) {}
};

void winograd_weights_one(float* weights, const float* weight, const ConvShape& shape) {
  const WinogradOnePitches pitch(shape);
  const std::int64_t filter = shape.r * shape.s;
  for (std::int64_t c = 0; c < shape.c; ++c) {
    for (std::int64_t k = 0; k < shape.k; k += kLanes) {
      transform_filters_function(shape)(weights + c * pitch.k + k, shape.c * pitch.k, weight + (k * shape.c + c) * filter,
                                        shape.c * filter, at_most(shape.k - k, kLanes));
    }
  }
}

template <int points>
inline void winograd_image(float* y, std::int32_t* winners, const float* x, const float* weights, const float* bias,
                           float* scratch, const ConvPoolShape& shape) {
  constexpr int kProducts = points * points;
  const ConvShape& conv = shape.conv;
  const PoolShape& pool = shape.pool;
  const WinogradSizes sizes = winograd_sizes(shape);
  const WinogradOnePitches pitch(conv);
  const std::ptrdiff_t line = sizes.frame_w * kLanes, plane = sizes.frame_h * line, windows = pool.p * pool.q * kLanes;
  const std::ptrdiff_t input_point = kTileRows * pitch.c, product_point = kTileRows * pitch.k;
  float *inputs = scratch, *products = scratch + kProducts * input_point;
  for (std::int64_t first = 0; first < sizes.down * sizes.across; first += kTileRows) {
    const int tiles = static_cast<int>(at_most(sizes.down * sizes.across - first, kTileRows));
    Pair window[kTileRows];
    for (int i = 0; i < tiles; ++i) {
      window[i] = first_window(first + i, sizes);
      const float* corner = x + 2 * window[i].h * line + 2 * window[i].w * kLanes;
      for (std::int64_t c = 0; c < pitch.c; c += kLanes) {
        transform_input<points>(inputs + i * pitch.c + c, input_point, corner + c / kLanes * plane, line);
      }
    }
    for (std::int64_t k = 0; k < pitch.k; k += kTileVectors * kLanes) {
      const int vectors = static_cast<int>(at_most(pitch.k - k, kTileVectors * kLanes) / kLanes);
      std::ptrdiff_t offset[kTileVectors];
      for (int j = 0; j < vectors; ++j) offset[j] = k + j * kLanes;
      for (int point = 0; point < kProducts; ++point) {
        Vector tile[kTileRows][kTileVectors] = {};
        multiply_add(tile, tiles, vectors, {inputs + point * input_point, pitch.c, 1},
                     {weights + point * conv.c * pitch.k, 1, 1, conv.c, 0, 0, pitch.k}, offset);
        for (int i = 0; i < tiles; ++i) {
          for (int j = 0; j < vectors; ++j) store(products + point * product_point + i * pitch.k + offset[j], tile[i][j]);
        }
      }
    }
    for (int i = 0; i < tiles; ++i) {
      for (std::int64_t k = 0; k < pitch.k; k += kLanes) {
        const std::ptrdiff_t at = k / kLanes * windows + (window[i].h * pool.q + window[i].w) * kLanes;
        pool_tile<points>(y + at, winners + at, pool.q, products + i * pitch.k + k, product_point, load(bias + k),
                          pool.p - window[i].h, pool.q - window[i].w);
      }
    }
  }
}

void winograd_relu_max_pool2d_forward_one(float* y, std::int32_t* winners, const float* x, const float* weights,
                                          const float* bias, float* scratch, const ConvPoolShape& shape) {
  (shape.conv.r == 5 ? winograd_image<points_for(5)> : winograd_image<points_for(3)>)(y, winners, x, weights, bias, scratch,
                                                                                      shape);
}

}  // namespace
}  // namespace fastlenet::FASTLENET_LEVEL
