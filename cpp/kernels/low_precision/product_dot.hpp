// The product of table.hpp by VDPBF16PS.
#pragma once

#include <utility>

#include "pack.hpp"
#include "product_dot_sparse.hpp"

namespace fastlenet::FASTLENET_UNIT {
namespace {

// 6 rows x 4 vectors = 24 sums + 4 vectors of b = 28 of 32 registers; the pairs of a are broadcast from memory.
constexpr int kDotRows = 6, kDotVectors = static_cast<int>(kPanelColumns) / kSums;

// Rows of c from `row` on, `width` columns from `column` on, of one panel at b.
template <int rows, int vectors>
__attribute__((noinline)) void multiply_block(const LowPrecisionProduct& product, std::int64_t row, std::int64_t column,
                                              const Pair* b) {
  const std::int64_t pitch = product.steps(), steps = (product.depth + 1) / 2;
  const Pair* a = product.a + row * pitch;
  Sums sums[rows][vectors];
  for (int i = 0; i < rows; ++i) {
    for (int j = 0; j < vectors; ++j) sums[i][j] = no_sums();
  }
  for (std::int64_t step = 0; step < steps; ++step) {
    Pairs right[vectors];
    for (int j = 0; j < vectors; ++j) right[j] = load_pairs(b + step * kPanelColumns + j * kSums);
    for (int i = 0; i < rows; ++i) {
      const Pairs left = broadcast_pair(a + i * pitch + step);
      for (int j = 0; j < vectors; ++j) sums[i][j] = dot(sums[i][j], right[j], left);
    }
  }
  for (int j = 0; j < vectors; ++j) {
    const std::int64_t at = column + j * kSums, count = product.columns - at;
    float bias[kSums] = {};
    for (int lane = 0; product.bias != nullptr && lane < kSums && lane < count; ++lane) bias[lane] = product.bias[at + lane];
    for (int i = 0; i < rows; ++i) {
      float* to = product.c + (row + i) * product.columns + at;
      const Sums total = plus(sums[i][j], plus(load_sums(bias), no_sums()));  // +0 for a sum of -0
      if (count >= kSums) {
        store_sums(to, total);
      } else {
        float some[kSums];
        store_sums(some, total);
        for (int lane = 0; lane < count; ++lane) to[lane] = some[lane];
      }
    }
  }
}

using MultiplyBlock = void (*)(const LowPrecisionProduct&, std::int64_t, std::int64_t, const Pair*);

template <int... cell>
inline MultiplyBlock multiply_block_of(int rows, int vectors, std::integer_sequence<int, cell...>) {
  static constexpr MultiplyBlock kBlocks[] = {multiply_block<cell / kDotVectors + 1, cell % kDotVectors + 1>...};
  return kBlocks[(rows - 1) * kDotVectors + vectors - 1];
}

std::int64_t multiply(const LowPrecisionProduct& product, Range rows, Range panels) {
  if (multiply_living(product, rows, panels)) return 0;
  for (std::int64_t panel = panels.begin; panel < panels.end; ++panel) {
    const std::int64_t column = panel * kPanelColumns, columns = product.columns - column;
    const int vectors = columns >= kPanelColumns ? kDotVectors : static_cast<int>((columns + kSums - 1) / kSums);
    const Pair* b = product.b + panel * product.steps() * kPanelColumns;
    for (std::int64_t row = rows.begin; row < rows.end; row += kDotRows) {
      const int height = rows.end - row < kDotRows ? static_cast<int>(rows.end - row) : kDotRows;
      multiply_block_of(height, vectors, std::make_integer_sequence<int, kDotRows * kDotVectors>{})(product, row, column, b);
    }
  }
  return 0;
}

void dot_alone(float* sums, const std::uint32_t* a, const std::uint32_t* b, std::int64_t count) {
  for (std::int64_t i = 0; i < count; i += kSums) {
    float sum[kSums] = {};
    Pair left[kSums] = {}, right[kSums] = {};
    const std::int64_t some = count - i < kSums ? count - i : kSums;
    for (int j = 0; j < some; ++j) sum[j] = sums[i + j], left[j] = a[i + j], right[j] = b[i + j];
    store_sums(sum, dot(load_sums(sum), load_pairs(left), load_pairs(right)));
    for (int j = 0; j < some; ++j) sums[i + j] = sum[j];
  }
}

}  // namespace
}  // namespace fastlenet::FASTLENET_UNIT
