// Products of symmetric matrices in double precision, and the copies around them, for Muon's orthogonal steps.
#pragma once

#include "gemm.hpp"
#include "table.hpp"

namespace fastlenet::FASTLENET_LEVEL {
namespace {

typedef double UnalignedDoubleVector __attribute__((vector_size(8 * kDoubleLanes), aligned(8), may_alias));

inline __attribute__((always_inline)) DoubleVector load(const double* from) {
  return *reinterpret_cast<const UnalignedDoubleVector*>(from);
}

inline __attribute__((always_inline)) void store(double* to, DoubleVector value) {
  *reinterpret_cast<UnalignedDoubleVector*>(to) = value;
}

// A tile of the sum: rows from `row` on, vectors from column `column` on. Each element is one chain over the depth, so that its
// bits do not depend on the tile.
template <int rows, int vectors>
__attribute__((noinline)) void symmetric_tile(const SymmetricSum& s, std::int64_t row, std::int64_t column) {
  DoubleVector sum[rows][vectors] = {};
  const double *scalar = s.a + row * s.a_row, *line = s.b + column;
  for (std::int64_t l = 0; l < s.depth; ++l) {
    DoubleVector value[vectors];
    for (int j = 0; j < vectors; ++j) value[j] = load(line + j * kDoubleLanes);
    for (int i = 0; i < rows; ++i) {
      const DoubleVector factor = scalar[i * s.a_row] - DoubleVector{};
      for (int j = 0; j < vectors; ++j) sum[i][j] += factor * value[j];
    }
    scalar += s.a_step;
    line += s.pitch;
  }
  for (int i = 0; i < rows; ++i) {
    const std::int64_t at = (row + i) * s.pitch + column;
    for (int j = 0; j < vectors; ++j) {
      DoubleVector value = s.factor * sum[i][j];
      if (s.d != nullptr) value += s.d_factor * load(s.d + at + j * kDoubleLanes);
      store(s.c + at + j * kDoubleLanes, value);
    }
  }
}

template <int... cell>
inline void symmetric_tile(const SymmetricSum& s, std::int64_t row, int rows, std::int64_t column, int vectors,
                           std::integer_sequence<int, cell...>) {
  using Tile = void (*)(const SymmetricSum&, std::int64_t, std::int64_t);
  static constexpr Tile kTiles[] = {symmetric_tile<cell / kTileVectors + 1, cell % kTileVectors + 1>...};
  kTiles[(rows - 1) * kTileVectors + vectors - 1](s, row, column);
}

void symmetric_upper(const SymmetricSum& s, Range rows) {
  for (std::int64_t row = rows.begin; row < rows.end; row += kTileRows) {
    const int height = static_cast<int>(at_most(rows.end - row, kTileRows));
    for (std::int64_t column = row / kDoubleLanes * kDoubleLanes; column < s.n; column += kTileVectors * kDoubleLanes) {
      const std::int64_t left = (s.n - column + kDoubleLanes - 1) / kDoubleLanes;
      symmetric_tile(s, row, height, column, static_cast<int>(at_most(left, kTileVectors)),
                     std::make_integer_sequence<int, kTileRows * kTileVectors>{});
    }
    for (std::int64_t i = row; i < row + height; ++i) s.c[i * s.pitch + i] += s.diagonal;
  }
}

// By squares of 8 x 8, so that the column that is read stays in the cache.
void symmetric_mirror(double* c, std::int64_t pitch, Range rows) {
  constexpr std::int64_t side = 8;
  for (std::int64_t top = rows.begin; top < rows.end; top += side) {
    const std::int64_t bottom = at_most(rows.end, top + side);
    for (std::int64_t left = 0; left < bottom; left += side) {
      for (std::int64_t i = top; i < bottom; ++i) {
        for (std::int64_t j = left; j < at_most(i, left + side); ++j) c[i * pitch + j] = c[j * pitch + i];
      }
    }
  }
}

void widen_columns(double* tall, const float* matrix, std::int64_t rows, std::int64_t columns, std::int64_t pitch,
                   Range lines) {
  const bool wide = rows <= columns;
  const std::int64_t n = wide ? rows : columns, along = wide ? columns : 1, across = wide ? 1 : columns;
  for (std::int64_t l = lines.begin; l < lines.end; ++l) {
    double* to = tall + (l - lines.begin) * pitch;
    const float* from = matrix + l * across;
    for (std::int64_t i = 0; i < n; ++i) to[i] = static_cast<double>(from[i * along]);
    for (std::int64_t i = n; i < pitch; ++i) to[i] = 0.0;
  }
}

void multiply_by(float* x, double factor, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) x[i] = static_cast<float>(static_cast<double>(x[i]) * factor);
}

}  // namespace
}  // namespace fastlenet::FASTLENET_LEVEL
