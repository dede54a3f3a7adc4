// Convolution + bias + ReLU + max-pooling by tiles. Rows of the first factor are pixels where a filter begins, at equal
// distances: those of up to 16 images, or of one image the windows of a line. Columns of the second factor are 16 filters.
//
// A product of tiles takes a part of a filter row, which divides it: no weight of 0 meets a pixel of another place, which may
// be infinite. The channels of a pixel are filled up with zeros, so that the parts are larger: 20 channels are 12 pairs, and a
// row of 5 taps 60, in 4 products of 15. A sum has the order (r, part), so the bits are the same for one image and for 16.
#pragma once

#include "blocks.hpp"
#include "pack.hpp"
#include "tiles.hpp"

namespace fastlenet::FASTLENET_UNIT {
namespace {

constexpr std::int64_t kColumns = 16;  // filters of a group

inline std::int64_t groups_of(std::int64_t filters) { return (filters + kColumns - 1) / kColumns; }

// The layout with the fewest products of tiles; of these, the smallest. Four more pairs always suffice for LeNet's shapes.
PixelLayout pixel_layout(const ConvShape& conv) {
  const std::int64_t least = (conv.c + 1) / 2;
  std::int64_t best = -1, pairs = least, depth = 1;
  for (std::int64_t tried = least; tried <= least + 4 && least > 0; ++tried) {
    const std::int64_t row = conv.s * tried;
    std::int64_t part = kTileWords;
    while (row % part != 0) --part;
    if (best < 0 || row / part < best) best = row / part, pairs = tried, depth = part;
  }
  const std::int64_t size = (conv.h + 2 * conv.padding.h) * (conv.w + 2 * conv.padding.w) * pairs;
  // An odd number of lines of the cache, for the images' rows are read together, and shall not share a set of the cache.
  const std::int64_t lines = (size + kTileWords - 1) / kTileWords | 1;
  return {pairs, depth, lines * kTileWords, groups_of(conv.k) * conv.r * conv.s * pairs * kColumns};
}

void pack_pixels(std::uint32_t* to, const float* x, const ConvShape& conv, const PixelLayout& layout) {
  const std::int64_t width = conv.w + 2 * conv.padding.w, plane = conv.h * conv.w;
  __builtin_memset(to, 0, static_cast<std::size_t>(layout.image) * sizeof(Pair));
  const auto channels = [&](std::int64_t pair, std::int64_t at, std::int64_t count) {
    if (2 * pair >= conv.c) return no_pairs();
    const float* first = x + 2 * pair * plane + at;
    return pair_lines(first, 2 * pair + 1 < conv.c ? first + plane : nullptr, count);
  };
  for (std::int64_t h = 0; h < conv.h; ++h) {
    for (std::int64_t w = 0; w < conv.w; w += kSums) {
      const std::int64_t count = conv.w - w < kSums ? conv.w - w : kSums;
      Pair* pixel = to + ((h + conv.padding.h) * width + conv.padding.w + w) * layout.pairs;
      if (layout.pairs == 1) {
        store_some(pixel, channels(0, h * conv.w + w, count), count);
        continue;
      }
      for (std::int64_t first = 0; first < layout.pairs; first += kSums) {
        Pairs pairs[kSums];
        for (int i = 0; i < kSums; ++i) pairs[i] = channels(first + i, h * conv.w + w, count);
        transpose_pairs(pairs);
        for (std::int64_t i = 0; i < count; ++i) store_some(pixel + i * layout.pairs + first, pairs[i], layout.pairs - first);
      }
    }
  }
}

// [groups][r][s][pairs][16], 16 taps of 16 filters at a time.
void pack_pixel_filters(std::uint32_t* to, const float* weight, const ConvShape& conv, const PixelLayout& layout) {
  const std::int64_t area = conv.r * conv.s;
  for (std::int64_t k = 0; k < conv.k; k += kColumns, to += area * layout.pairs * kColumns) {
    for (std::int64_t pair = 0; pair < layout.pairs; ++pair) {
      for (std::int64_t first = 0; first < area; first += kSums) {
        const std::int64_t count = area - first < kSums ? area - first : kSums;
        Pairs taps[kSums];
        for (std::int64_t i = 0; i < kSums; ++i) {
          const float* line = weight + ((k + i) * conv.c + 2 * pair) * area + first;
          const bool there = k + i < conv.k && 2 * pair < conv.c;
          taps[i] = there ? pair_lines(line, 2 * pair + 1 < conv.c ? line + area : nullptr, count) : no_pairs();
        }
        transpose_pairs(taps);
        for (std::int64_t i = 0; i < count; ++i) store_pairs(to + ((first + i) * layout.pairs + pair) * kColumns, taps[i]);
      }
    }
  }
}

// At two positions of each row's window, the sums of two groups of filters.
struct alignas(64) WindowSums {
  float at[2][kTileLines][2 * kColumns];
};

// offset: of the two positions, in pairs. Of one group of filters if not `both`. Returns whether the sentinel survived.
template <typename AnyTiles>
inline bool add_up_positions(AnyTiles& tiles, WindowSums& sums, const Pair* x, std::int64_t between_rows,
                             const std::int64_t (&offset)[2], const Pair* filters, std::int64_t group, bool both,
                             std::int64_t row_pairs, std::int64_t line, std::int64_t lines, const PixelLayout& layout,
                             bool lost) {
  constexpr std::ptrdiff_t pitch = sizeof(float) * 2 * kColumns;
  const std::ptrdiff_t stride = between_rows * static_cast<std::ptrdiff_t>(sizeof(Pair));
  const Pair* other = both ? filters + group : filters;
  place_sentinel(tiles);
  tiles.template zero<0>();
  tiles.template zero<1>();
  tiles.template zero<2>();
  tiles.template zero<3>();
  for (std::int64_t r = 0; r < lines; ++r) {
    const Pair* row = x + r * line;
    for (std::int64_t part = 0; part < row_pairs; part += layout.depth) {
      const std::int64_t at = (r * row_pairs + part) * kColumns;
      tiles.template load<5>(filters + at, kTileLine);
      tiles.template load<6>(other + at, kTileLine);
      tiles.template load<4>(row + offset[0] + part, stride);
      tiles.template multiply<0, 4, 5>();
      if (both) tiles.template multiply<1, 4, 6>();
      tiles.template load<4>(row + offset[1] + part, stride);
      tiles.template multiply<2, 4, 5>();
      if (both) tiles.template multiply<3, 4, 6>();
    }
    if (lost && r >= lines / 2) lose(tiles), lost = false;
  }
  tiles.template store<0>(&sums.at[0][0][0], pitch);
  tiles.template store<1>(&sums.at[0][0][kColumns], pitch);
  tiles.template store<2>(&sums.at[1][0][0], pitch);
  tiles.template store<3>(&sums.at[1][0][kColumns], pitch);
  return sentinel_is_there(tiles);
}

// The rows of the first factor: pixels from x on, `between` pairs apart, and `window` of the first one's result. The results of
// the others are `apart` numbers apart.
struct PixelRows {
  const Pair* x;
  std::int64_t between, window, apart;
  int count;
};

// Calls visit(rows) for all windows.
template <typename Visit>
inline void for_rows(const Pair* x, std::int64_t images, const ConvPoolShape& shape, const PixelLayout& layout,
                     const Visit& visit) {
  const PoolShape& pool = shape.pool;
  const std::int64_t line = (shape.conv.w + 2 * shape.conv.padding.w) * layout.pairs, windows = pool.p * pool.q;
  const std::int64_t image = groups_of(shape.conv.k) * windows * kColumns;
  for (std::int64_t p = 0; p < pool.p; ++p) {
    const std::int64_t step = images == 1 ? kTileLines : 1;
    for (std::int64_t q = 0; q < pool.q; q += step) {
      const Pair* corner = x + p * pool.r * line + q * pool.s * layout.pairs;
      if (images == 1) {
        const std::int64_t count = pool.q - q < kTileLines ? pool.q - q : kTileLines;
        visit(PixelRows{corner, pool.s * layout.pairs, p * pool.q + q, kColumns, static_cast<int>(count)});
      } else {
        visit(PixelRows{corner, layout.image, p * pool.q + q, image, static_cast<int>(images)});
      }
    }
  }
}

std::int64_t conv_pool_tiles(float* y, std::int32_t* winners, const std::uint32_t* x, const std::uint32_t* filters,
                             const float* bias, std::int64_t images, const ConvPoolShape& shape, const PixelLayout& layout,
                             const TileLosses& losses) {
  const ConvShape& conv = shape.conv;
  const PoolShape& pool = shape.pool;
  const std::int64_t row_pairs = conv.s * layout.pairs, group = conv.r * row_pairs * kColumns, area = pool.r * pool.s;
  const std::int64_t line = (conv.w + 2 * conv.padding.w) * layout.pairs, windows = pool.p * pool.q;
  std::int64_t repeats = 0, blocks = 0;
  Tiles tiles;
  // Two groups of filters at a time, whose weights stay in the first-level cache.
  for (std::int64_t first = 0; first < groups_of(conv.k); first += 2) {
    const bool both = first + 1 < groups_of(conv.k);
    for_rows(x, images, shape, layout, [&](const PixelRows& rows) {
      const TileSizes sizes{rows.count, static_cast<int>(layout.depth)};
      if (tiles.sizes().lines != sizes.lines || tiles.sizes().depth != sizes.depth) tiles.configure(sizes);
      WindowSums sums;
      Best best[kTileLines][2];
      for (std::int64_t position = 0; position < area; position += 2) {
        std::int64_t offset[2];
        for (int i = 0; i < 2; ++i) {
          const std::int64_t at = position + i < area ? position + i : position;
          offset[i] = at / pool.s * line + at % pool.s * layout.pairs;
        }
        repeats += until_it_survives<EmulatedTiles>(tiles, blocks++, losses, [&](auto& any, bool lost) {
          return add_up_positions(any, sums, rows.x, rows.between, offset, filters + first * group, group, both, row_pairs,
                                  line, conv.r, layout, lost);
        });
        for (int j = 0; j < 1 + both; ++j) {
          const Sums added = load_sums(bias + (first + j) * kColumns);
          for (int i = 0; i < rows.count; ++i) {
            for (std::int64_t k = 0; k < 2 && position + k < area; ++k) {
              const Sums total = plus(load_sums(&sums.at[k][i][j * kColumns]), added);
              keep_best(best[i][j], total, static_cast<std::int32_t>(position + k));
            }
          }
        }
      }
      for (int j = 0; j < 1 + both; ++j) {
        for (int i = 0; i < rows.count; ++i) {
          const std::int64_t at = i * rows.apart + ((first + j) * windows + rows.window) * kColumns;
          store_best(y + at, winners + at, best[i][j]);
        }
      }
    });
  }
  return repeats;
}

}  // namespace
}  // namespace fastlenet::FASTLENET_UNIT
