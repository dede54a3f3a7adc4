// The multiply-add loop that the convolutions' forward pass, their input gradients and the linear layers share.
#pragma once

#include "simd.hpp"

namespace fastlenet::FASTLENET_LEVEL {
namespace {

// A copy of pieces of rows prefetches the piece of the row that comes as many rows later.
constexpr std::ptrdiff_t kRowsAhead = 4;

// The scalars of a product: that of row i and step l is at[i*row + l*step].
struct Scalars {
  const float* at;
  std::ptrdiff_t row, step;
};

// The vectors of a product: that of step l = (c, r, s), counted in this order, is at[c*channel + r*line + s*column].
// A plain matrix has one channel, one line and `columns` columns.
struct Vectors {
  const float* at;
  std::ptrdiff_t channels, lines, columns;
  std::ptrdiff_t channel, line, column;
};

// tile[i][j] += sum over l, ascending, of scalars(i, l) * vectors(l, offset[j]).
//
// Each sum is one chain over l, for any tile size. So an output has the same bits at any position in a tile.
// Per step, `vectors` loads and `rows` broadcasts feed rows * vectors multiply-adds; 4 + 5 feed 20.
template <int rows, int vectors>
inline __attribute__((always_inline)) void multiply_add(Vector (&tile)[kTileRows][kTileVectors], const Scalars& a,
                                                        const Vectors& b, const std::ptrdiff_t* offset) {
  Vector sum[rows][vectors];
  for (int i = 0; i < rows; ++i) {
    for (int j = 0; j < vectors; ++j) sum[i][j] = tile[i][j];
  }
  const float* scalar = a.at;
  for (std::ptrdiff_t c = 0; c < b.channels; ++c) {
    for (std::ptrdiff_t r = 0; r < b.lines; ++r) {
      const float* at = b.at + c * b.channel + r * b.line;
      const float* column[vectors];
      for (int j = 0; j < vectors; ++j) column[j] = at + offset[j];
      for (std::ptrdiff_t s = 0; s < b.columns; ++s) {
        Vector value[vectors];
        for (int j = 0; j < vectors; ++j) value[j] = load(column[j] + s * b.column);
        for (int i = 0; i < rows; ++i) {
          const Vector factor = broadcast(scalar[i * a.row]);
          for (int j = 0; j < vectors; ++j) sum[i][j] += factor * value[j];
        }
        scalar += a.step;
      }
    }
  }
  for (int i = 0; i < rows; ++i) {
    for (int j = 0; j < vectors; ++j) tile[i][j] = sum[i][j];
  }
}

template <int rows, int vectors>
__attribute__((noinline)) void multiply_add_tile(Vector (&tile)[kTileRows][kTileVectors], const Scalars& a, const Vectors& b,
                                                 const std::ptrdiff_t* offset) {
  multiply_add<rows, vectors>(tile, a, b, offset);
}

using TileFunction = void (*)(Vector (&)[kTileRows][kTileVectors], const Scalars&, const Vectors&, const std::ptrdiff_t*);

template <int... cell>
inline void multiply_add(Vector (&tile)[kTileRows][kTileVectors], int rows, int vectors, const Scalars& a, const Vectors& b,
                         const std::ptrdiff_t* offset, std::integer_sequence<int, cell...>) {
  static constexpr TileFunction kTiles[] = {multiply_add_tile<cell / kTileVectors + 1, cell % kTileVectors + 1>...};
  kTiles[(rows - 1) * kTileVectors + vectors - 1](tile, a, b, offset);
}

// The same for sizes that are known only at run time: 1..kTileRows rows and 1..kTileVectors vectors.
inline void multiply_add(Vector (&tile)[kTileRows][kTileVectors], int rows, int vectors, const Scalars& a, const Vectors& b,
                         const std::ptrdiff_t* offset) {
  multiply_add(tile, rows, vectors, a, b, offset, std::make_integer_sequence<int, kTileRows * kTileVectors>{});
}

inline std::ptrdiff_t at_most(std::ptrdiff_t value, std::ptrdiff_t most) { return value < most ? value : most; }

}  // namespace
}  // namespace fastlenet::FASTLENET_LEVEL
