// Convolution + bias + ReLU + max-pooling by VDPBF16PS. Two neighbouring taps of a filter row are a pair; the last tap of an
// odd row is paired with a zero, and its pixel's neighbour is masked, since it may be infinite. So a row of 5 taps takes 3 dot
// products in place of 5 multiply-adds. Every sum is one chain over (c, r, pairs of s) from the bias on, so the bits are the
// same one image at a time and in blocks.
#pragma once

#include <utility>

#include "blocks.hpp"
#include "table.hpp"

namespace fastlenet::FASTLENET_UNIT {
namespace {

// A row of up to 5 filters x 4 positions = 20 sums + 4 pixels + 1 filter = 25 of 32 registers.
constexpr int kFilters = 5, kPlaces = 4;

inline std::int64_t row_pairs(const ConvShape& conv) { return (conv.s + 1) / 2; }

void pack_filters(Pair* packed, const float* weight, const ConvShape& conv) {
  const std::int64_t pairs = row_pairs(conv);
  for (std::int64_t row = 0; row < conv.k * conv.c * conv.r; ++row) {
    for (std::int64_t pair = 0; pair < pairs; ++pair) {
      const float* tap = weight + row * conv.s + 2 * pair;
      const float taps[2 * kSums] = {tap[0], 2 * pair + 1 < conv.s ? tap[1] : 0.0f};
      Pair rounded[kSums];
      store_pairs(rounded, round_pairs(taps));
      packed[row * pairs + pair] = rounded[0];
    }
  }
}

void pair_columns(Pair* pairs, const float* block, std::int64_t lines, std::int64_t width) {
  for (std::int64_t line = 0; line < lines; ++line) {
    for (std::int64_t column = 0; column < width; ++column, pairs += kSums, block += kSums) {
      store_pairs(pairs, pair_lines(block, column + 1 < width ? block + kSums : nullptr, kSums));
    }
  }
}

// The positions of a window, four at a time, as offsets in a plane; where fewer are left, the first of them is repeated. With
// two_by_two all sizes are known to the compiler, and no division is left.
template <bool two_by_two>
inline __attribute__((always_inline)) void place(std::int64_t (&offset)[kPlaces], const PoolShape& pool, std::int64_t corner,
                                                 std::int64_t first, std::int64_t width) {
  const std::int64_t s = two_by_two ? 2 : pool.s, area = two_by_two ? kPlaces : pool.r * pool.s;
  for (int j = 0; j < kPlaces; ++j) {
    const std::int64_t position = first + j < area ? first + j : first;
    offset[j] = corner + position / s * width + position % s;
  }
}

template <bool two_by_two>
inline __attribute__((always_inline)) int places_left(const PoolShape& pool, std::int64_t first) {
  const std::int64_t left = two_by_two ? kPlaces : pool.r * pool.s - first;
  return left < kPlaces ? static_cast<int>(left) : kPlaces;
}

// Adds a pair of taps under each filter, at[j] + offset; only the first tap of the pair if it is the last one of a row.
template <int filters, bool last>
inline __attribute__((always_inline)) void add_taps(Sums (&sums)[filters][kPlaces], const Pair* const (&at)[kPlaces],
                                                    std::int64_t offset, const Pair* filter, std::int64_t depth) {
  Pairs pixels[kPlaces];
  for (int j = 0; j < kPlaces; ++j) {
    pixels[j] = load_pairs(at[j] + offset);
    if (last) pixels[j] = first_halves(pixels[j]);
  }
  for (int i = 0; i < filters; ++i) {
    const Pairs taps = broadcast_pair(filter + i * depth);
    for (int j = 0; j < kPlaces; ++j) sums[i][j] = dot(sums[i][j], pixels[j], taps);
  }
}

// A block of 16 images; `filters` filters from k on.
template <int filters, bool two_by_two>
__attribute__((noinline)) void pool_block(float* y, std::int32_t* winners, const Pair* x, const Pair* packed, const float* bias,
                                          std::int64_t k, const ConvPoolShape& shape) {
  const ConvShape& conv = shape.conv;
  const PoolShape& pool = shape.pool;
  const std::int64_t depth = conv.c * conv.r * row_pairs(conv), windows = pool.p * pool.q;
  const std::int64_t width = conv.w + 2 * conv.padding.w, plane = (conv.h + 2 * conv.padding.h) * width;
  Sums start[filters];
  for (int i = 0; i < filters; ++i) start[i] = broadcast_sum(bias != nullptr ? bias[k + i] : 0.0f);
  y += k * windows * kSums, winners += k * windows * kSums;
  for (std::int64_t window = 0; window < windows; ++window, y += kSums, winners += kSums) {
    const std::int64_t corner = window / pool.q * pool.r * width + window % pool.q * pool.s;
    Best best[filters];
    for (std::int64_t first = 0; first < (two_by_two ? 1 : pool.r * pool.s); first += kPlaces) {
      std::int64_t offset[kPlaces];
      place<two_by_two>(offset, pool, corner, first, width);
      const Pair* at[kPlaces];
      Sums sums[filters][kPlaces];
      for (int j = 0; j < kPlaces; ++j) {
        at[j] = x + offset[j] * kSums;
        for (int i = 0; i < filters; ++i) sums[i][j] = start[i];
      }
      const Pair* filter = packed + k * depth;
      for (std::int64_t c = 0; c < conv.c; ++c) {
        for (std::int64_t r = 0; r < conv.r; ++r) {
          const std::int64_t row = (c * plane + r * width) * kSums;
          for (std::int64_t tap = 0; tap + 1 < conv.s; tap += 2) {
            add_taps<filters, false>(sums, at, row + tap * kSums, filter++, depth);
          }
          if (conv.s % 2 == 1) add_taps<filters, true>(sums, at, row + (conv.s - 1) * kSums, filter++, depth);
        }
      }
      const int left = places_left<two_by_two>(pool, first);
      for (int i = 0; i < filters; ++i) {
        for (int j = 0; j < left; ++j) keep_best(best[i], sums[i][j], static_cast<std::int32_t>(first) + j);
      }
    }
    for (int i = 0; i < filters; ++i) store_best(y + i * windows * kSums, winners + i * windows * kSums, best[i]);
  }
}

using PoolBlock = void (*)(float*, std::int32_t*, const Pair*, const Pair*, const float*, std::int64_t, const ConvPoolShape&);

template <int... filter>
inline PoolBlock pool_block_of(std::int64_t filters, bool two_by_two, std::integer_sequence<int, filter...>) {
  static constexpr PoolBlock kBlocks[][sizeof...(filter)] = {{pool_block<filter + 1, false>...},
                                                             {pool_block<filter + 1, true>...}};
  return kBlocks[two_by_two][filters - 1];
}

void conv_pool(float* y, std::int32_t* winners, const Pair* x, const Pair* filters, const float* bias,
               const ConvPoolShape& shape) {
  const bool two_by_two = shape.pool.r == 2 && shape.pool.s == 2;
  for (std::int64_t k = 0; k < shape.conv.k; k += kFilters) {
    const std::int64_t left = shape.conv.k - k;
    const PoolBlock pool =
        pool_block_of(left < kFilters ? left : kFilters, two_by_two, std::make_integer_sequence<int, kFilters>{});
    pool(y, winners, x, filters, bias, k, shape);
  }
}

// One image: the lanes are filters, `vectors` vectors of them at a time. x: halves [c][h][w], with their padding and one more
// at the end.
template <int vectors, bool two_by_two>
__attribute__((noinline)) void pool_filters(float* y, std::int32_t* winners, const std::uint16_t* x, const Pair* filters,
                                            const float* bias, const ConvPoolShape& shape) {
  const ConvShape& conv = shape.conv;
  const PoolShape& pool = shape.pool;
  const std::int64_t pairs = row_pairs(conv), pitch = conv.c * conv.r * pairs * kSums, windows = pool.p * pool.q;
  const std::int64_t width = conv.w + 2 * conv.padding.w, plane = (conv.h + 2 * conv.padding.h) * width;
  for (std::int64_t window = 0; window < windows; ++window, y += kSums, winners += kSums) {
    const std::int64_t corner = window / pool.q * pool.r * width + window % pool.q * pool.s;
    Best best[vectors];
    for (std::int64_t first = 0; first < (two_by_two ? 1 : pool.r * pool.s); first += kPlaces) {
      std::int64_t offset[kPlaces];
      place<two_by_two>(offset, pool, corner, first, width);
      Sums sums[kPlaces][vectors];
      for (int i = 0; i < kPlaces; ++i) {
        for (int j = 0; j < vectors; ++j) sums[i][j] = load_sums(bias + j * kSums);
      }
      const Pair* filter = filters;
      for (std::int64_t c = 0; c < conv.c; ++c) {
        for (std::int64_t r = 0; r < conv.r; ++r) {
          const std::uint16_t* row = x + c * plane + r * width;
          for (std::int64_t pair = 0; pair < pairs; ++pair, filter += kSums) {
            const Pair used = 2 * pair + 1 == conv.s ? 0xFFFF : 0xFFFFFFFF;
            Pairs taps[vectors];
            for (int j = 0; j < vectors; ++j) taps[j] = load_pairs(filter + j * pitch);
            for (int i = 0; i < kPlaces; ++i) {
              Pair pixels;
              __builtin_memcpy(&pixels, row + offset[i] + 2 * pair, sizeof pixels);
              pixels &= used;
              const Pairs both = broadcast_pair(&pixels);
              for (int j = 0; j < vectors; ++j) sums[i][j] = dot(sums[i][j], both, taps[j]);
            }
          }
        }
      }
      const int left = places_left<two_by_two>(pool, first);
      for (int j = 0; j < vectors; ++j) {
        for (int i = 0; i < left; ++i) keep_best(best[j], sums[i][j], static_cast<std::int32_t>(first) + i);
      }
    }
    for (int j = 0; j < vectors; ++j) store_best(y + j * windows * kSums, winners + j * windows * kSums, best[j]);
  }
}

using PoolFilters = void (*)(float*, std::int32_t*, const std::uint16_t*, const Pair*, const float*, const ConvPoolShape&);

template <int... vector>
inline PoolFilters pool_filters_of(std::int64_t vectors, bool two_by_two, std::integer_sequence<int, vector...>) {
  static constexpr PoolFilters kFunctions[][sizeof...(vector)] = {{pool_filters<vector + 1, false>...},
                                                                  {pool_filters<vector + 1, true>...}};
  return kFunctions[two_by_two][vectors - 1];
}

// 4 positions x 4 vectors = 16 sums + 4 filters + 1 pixel = 21 of 32 registers.
constexpr int kFilterVectors = 4;

void conv_pool_one(float* y, std::int32_t* winners, const std::uint16_t* x, const Pair* filters, const float* bias,
                   const ConvPoolShape& shape) {
  const std::int64_t pitch = shape.conv.c * shape.conv.r * row_pairs(shape.conv), windows = shape.pool.p * shape.pool.q;
  const bool two_by_two = shape.pool.r == 2 && shape.pool.s == 2;
  for (std::int64_t k = 0; k < shape.conv.k; k += kFilterVectors * kSums) {
    const std::int64_t groups = (shape.conv.k - k + kSums - 1) / kSums;
    const PoolFilters pool = pool_filters_of(groups < kFilterVectors ? groups : kFilterVectors, two_by_two,
                                             std::make_integer_sequence<int, kFilterVectors>{});
    pool(y + k * windows, winners + k * windows, x, filters + k * pitch, bias + k, shape);
  }
}

}  // namespace
}  // namespace fastlenet::FASTLENET_UNIT
