// Rounds the factors of a product to bfloat16, in the layout of table.hpp.
#pragma once

#include "dot.hpp"
#include "table.hpp"

namespace fastlenet::FASTLENET_UNIT {
namespace {

inline std::int64_t padded_steps(std::int64_t depth) { return LowPrecisionProduct{{}, {}, {}, {}, {}, depth, {}}.steps(); }

// The first `count` of some pairs.
inline void store_some(Pair* to, const Pairs& pairs, std::int64_t count) {
  if (count >= kSums) return store_pairs(to, pairs);
  Pair all[kSums];
  store_pairs(all, pairs);
  for (std::int64_t i = 0; i < count; ++i) to[i] = all[i];
}

// to[pairs] <- from[count], and zeros up to `pairs`.
inline void round_row(Pair* to, const float* from, std::int64_t count, std::int64_t pairs) {
  std::int64_t i = 0;
  for (; 2 * (i + kSums) <= count; i += kSums) store_pairs(to + i, round_pairs(from + 2 * i));
  for (; i < pairs; i += kSums) {
    float rest[2 * kSums] = {};
    for (int j = 0; j < 2 * kSums; ++j) rest[j] = 2 * i + j < count ? from[2 * i + j] : 0.0f;
    store_pairs(to + i, round_pairs(rest));
  }
}

void round(std::uint16_t* to, const float* from, std::int64_t count) {
  std::int64_t i = 0;
  for (; i + 2 * kSums <= count; i += 2 * kSums) {
    const Pairs pairs = round_pairs(from + i);
    __builtin_memcpy(to + i, &pairs, sizeof pairs);
  }
  if (i == count) return;
  Pair rest[kSums];
  round_row(rest, from + i, count - i, kSums);
  __builtin_memcpy(to + i, rest, static_cast<std::size_t>(count - i) * sizeof(std::uint16_t));
}

void pack_rows(std::uint32_t* a, const float* from, Range rows, std::int64_t filled, std::int64_t depth) {
  const std::int64_t steps = padded_steps(depth);
  for (std::int64_t row = rows.begin; row < rows.end; ++row) {
    round_row(a + row * steps, from + row * depth, row < filled ? depth : 0, steps);
  }
}

// The pairs of lines `step` of from[depth][pitch], in 16 columns from `column` on, of which those below `columns` are there.
inline Pairs pairs_of_lines(const float* from, std::int64_t pitch, std::int64_t step, std::int64_t depth, std::int64_t column,
                            std::int64_t columns) {
  if (2 * step >= depth || column >= columns) return no_pairs();
  const float* line = from + 2 * step * pitch + column;
  return pair_lines(line, 2 * step + 1 < depth ? line + pitch : nullptr, columns - column);
}

void pack_columns_as_rows(std::uint32_t* a, const float* from, std::int64_t pitch, Range rows, std::int64_t filled,
                          std::int64_t depth) {
  const std::int64_t steps = padded_steps(depth);
  for (std::int64_t row = rows.begin; row < rows.end; row += kSums) {
    for (std::int64_t step = 0; step < steps; step += kSums) {
      Pairs pairs[kSums];
      for (int i = 0; i < kSums; ++i) pairs[i] = pairs_of_lines(from, pitch, step + i, depth, row, filled);
      transpose_pairs(pairs);
      for (int i = 0; i < kSums; ++i) store_pairs(a + (row + i) * steps + step, pairs[i]);
    }
  }
}

void pack_panel(std::uint32_t* b, const float* from, std::int64_t panel, std::int64_t columns, std::int64_t depth) {
  const std::int64_t steps = padded_steps(depth);
  b += panel * steps * kPanelColumns;
  for (std::int64_t step = 0; step < steps; ++step) {
    for (std::int64_t j = 0; j < kPanelColumns; j += kSums) {
      const std::int64_t column = panel * kPanelColumns + j;
      store_pairs(b + step * kPanelColumns + j, pairs_of_lines(from, columns, step, depth, column, columns));
    }
  }
}

void pack_rows_as_panel(std::uint32_t* b, const float* from, std::int64_t panel, std::int64_t columns, std::int64_t depth) {
  const std::int64_t steps = padded_steps(depth);
  b += panel * steps * kPanelColumns;
  for (std::int64_t step = 0; step < steps; step += kSums) {
    for (std::int64_t j = 0; j < kPanelColumns; j += kSums) {
      Pairs pairs[kSums];
      for (int i = 0; i < kSums; ++i) {
        const std::int64_t column = panel * kPanelColumns + j + i;
        const std::int64_t count = column < columns ? depth - 2 * step : 0;
        Pair row[kSums];
        round_row(row, from + column * depth + 2 * step, count < 2 * kSums ? count : 2 * kSums, kSums);
        pairs[i] = load_pairs(row);
      }
      transpose_pairs(pairs);
      for (int i = 0; i < kSums; ++i) store_pairs(b + (step + i) * kPanelColumns + j, pairs[i]);
    }
  }
}

}  // namespace
}  // namespace fastlenet::FASTLENET_UNIT
