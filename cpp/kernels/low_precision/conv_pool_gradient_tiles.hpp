// The dense gradients of convolution + ReLU + max-pooling by tiles. dconv is the gradient of the convolution's output: dy,
// rounded, at the winners, and zeros elsewhere. Zeros are multiplied too, so all factors must be finite when they are rounded.
//
//     dx       rows are channels of x, columns 16 images, depth a filter row of (s, k) of the flipped filters
//     dweight  rows are filters, columns a filter row of (s, c), depth 32 images
//
// A sum has the order (r, part of the filter row) in dx, and that of the places of dconv in dweight. Weights and dconv are the
// rows of the first factor, since an instruction takes as many cycles as that has rows: 20 channels are 10 and 10.
#pragma once

#include "pack.hpp"
#include "tiles.hpp"

namespace fastlenet::FASTLENET_UNIT {
namespace {

constexpr std::int64_t kImages = 16;  // of a block of dx, the columns of a tile; and the pairs of a block of dweight, its depth
static_assert(kImages == kImagesOfInputGradient && 2 * kImages == kImagesOfWeightGradient && kSums == kBiasSums);

inline std::int64_t whole(std::int64_t size, std::int64_t of) { return (size + of - 1) / of * of; }

// The fewest tiles of rows, of equal size.
inline std::int64_t groups_of_lines(std::int64_t rows) { return (rows + kTileLines - 1) / kTileLines; }
inline std::int64_t lines_of_group(std::int64_t rows) { return (rows + groups_of_lines(rows) - 1) / groups_of_lines(rows); }

GradientLayout gradient_layout(const ConvPoolShape& shape) {
  const ConvShape& conv = shape.conv;
  const PoolShape& pool = shape.pool;
  GradientLayout layout;
  layout.pairs = (conv.k + 1) / 2;
  layout.row = whole(conv.s * layout.pairs, kTileWords);
  layout.channels = groups_of_lines(conv.c) * lines_of_group(conv.c);
  layout.flipped = layout.channels * conv.r * layout.row;
  // And a place for dead windows. The last part of the last filter row may reach into it and beyond it.
  layout.frame = (((conv.h + conv.r - 1) * (conv.w + conv.s - 1) + 1) * layout.pairs + kTileWords) * kImages;
  layout.dx = layout.channels * conv.h * conv.w * kImages;
  layout.filters = groups_of_lines(conv.k) * lines_of_group(conv.k);
  layout.columns = whole(conv.s * conv.c, kTileWords);
  // The last columns may reach beyond the line. An odd number of lines of the cache, as in pixel_layout.
  layout.line = (whole((conv.w + 2 * conv.padding.w) * conv.c + kTileWords, kTileWords) / kTileWords | 1) * kTileWords;
  layout.x = (conv.h + 2 * conv.padding.h) * kImages * layout.line;
  layout.dconv = (pool.p * pool.r * pool.q * pool.s + 1) * layout.filters * kImages;
  layout.sums = layout.filters * conv.r * layout.columns;
  return layout;
}

bool rounds_to_finite(const float* from, std::int64_t count) {
  constexpr std::uint32_t kFirst = 0x7F7F8000;  // from here on a number rounds to infinity, or is infinite or NaN
  std::uint32_t largest = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    const std::uint32_t size = as_bits(from[i]) & ~kSignBit;
    largest = size > largest ? size : largest;
  }
  return largest < kFirst;
}

std::int64_t count_living(const std::uint8_t* winners, std::int64_t count) {
  std::int64_t living = 0;
  for (std::int64_t i = 0; i < count; ++i) living += winners[i] != kDeadWindow;
  return living;
}

void sum_living(float* sums, const float* dy, const std::uint8_t* winners, std::int64_t images, const ConvPoolShape& shape) {
  const std::int64_t windows = shape.pool.p * shape.pool.q;
  for (std::int64_t image = 0; image < images; ++image) {
    for (std::int64_t k = 0; k < shape.conv.k; ++k, dy += windows, winners += windows) {
      float* lanes = sums + k * kSums;
      std::int64_t i = 0;
      for (; i + kSums <= windows; i += kSums) {
        for (int j = 0; j < kSums; ++j) lanes[j] += winners[i + j] != kDeadWindow ? dy[i + j] : 0.0f;
      }
      for (std::int64_t j = 0; i + j < windows; ++j) lanes[j] += winners[i + j] != kDeadWindow ? dy[i + j] : 0.0f;
    }
  }
}

inline void set_half(Pair* to, std::int64_t half, std::uint16_t value) {
  __builtin_memcpy(reinterpret_cast<std::uint16_t*>(to) + half, &value, sizeof value);
}

// [c][r][(s, pair of k)], both r and s in reverse.
void pack_flipped_filters(Pair* to, const std::uint16_t* weight, const ConvShape& conv, const GradientLayout& layout) {
  __builtin_memset(to, 0, static_cast<std::size_t>(layout.flipped) * sizeof(Pair));
  for (std::int64_t k = 0; k < conv.k; ++k) {
    for (std::int64_t c = 0; c < conv.c; ++c) {
      for (std::int64_t r = conv.r - 1; r >= 0; --r) {
        Pair* row = to + (c * conv.r + r) * layout.row;
        for (std::int64_t s = conv.s - 1; s >= 0; --s) set_half(row, (s * layout.pairs + k / 2) * 2 + k % 2, *weight++);
      }
    }
  }
}

// Calls set(image, k, place, value) for all windows: a dead one's place is the last one, which nothing adds up. So there is no
// branch, which would be mispredicted for a quarter of the windows. A winner is read once, for another thread may change it.
template <typename Set>
inline void for_windows(const std::uint16_t* dy, const std::uint8_t* winners, const std::int32_t* places, std::int64_t images,
                        const ConvPoolShape& shape, const Set& set) {
  const std::int64_t area = shape.pool.r * shape.pool.s, windows = shape.pool.p * shape.pool.q;
  for (std::int64_t image = 0; image < images; ++image) {
    for (std::int64_t k = 0; k < shape.conv.k; ++k) {
      const std::int32_t* of_window = places;
      for (std::int64_t i = 0; i < windows; ++i, ++dy, ++winners, of_window += area + 1) {
        const std::int64_t winner = *winners;
        set(image, k, of_window[winner < area ? winner : area], *dy);
      }
    }
  }
}

void scatter_to_frame(Pair* to, const std::uint16_t* dy, const std::uint8_t* winners, const std::int32_t* places,
                      std::int64_t images, const ConvPoolShape& shape, const GradientLayout& layout) {
  const std::int64_t pairs = layout.pairs;
  __builtin_memset(to, 0, static_cast<std::size_t>(layout.frame) * sizeof(Pair));
  for_windows(dy, winners, places, images, shape,
              [=](std::int64_t image, std::int64_t k, std::int64_t place, std::uint16_t value) {
                set_half(to, ((place * pairs + k / 2) * kImages + image) * 2 + k % 2, value);
              });
}

void scatter_by_place(Pair* to, const std::uint16_t* dy, const std::uint8_t* winners, const std::int32_t* places,
                      std::int64_t images, const ConvPoolShape& shape, const GradientLayout& layout) {
  const std::int64_t filters = layout.filters;
  __builtin_memset(to, 0, static_cast<std::size_t>(layout.dconv) * sizeof(Pair));
  for_windows(dy, winners, places, images, shape,
              [=](std::int64_t image, std::int64_t k, std::int64_t place, std::uint16_t value) {
                set_half(to, ((place * filters + k) * kImages + image / 2) * 2 + image % 2, value);
              });
}

void pack_image_pairs(Pair* to, const float* x, std::int64_t images, const ConvShape& conv, const GradientLayout& layout) {
  const std::int64_t plane = conv.h * conv.w, size = conv.c * plane;
  __builtin_memset(to, 0, static_cast<std::size_t>(layout.x) * sizeof(Pair));
  for (std::int64_t pair = 0; 2 * pair < images; ++pair, x += 2 * size) {
    const bool both = 2 * pair + 1 < images;
    for (std::int64_t h = 0; h < conv.h; ++h) {
      Pair* line = to + ((h + conv.padding.h) * kImages + pair) * layout.line + conv.padding.w * conv.c;
      for (std::int64_t w = 0; w < conv.w; w += kSums) {
        const std::int64_t count = conv.w - w < kSums ? conv.w - w : kSums;
        for (std::int64_t c = 0; c < conv.c; c += kSums) {
          Pairs pairs[kSums];
          for (std::int64_t i = 0; i < kSums; ++i) {
            const float* first = x + (c + i) * plane + h * conv.w + w;
            pairs[i] = c + i < conv.c ? pair_lines(first, both ? first + size : nullptr, count) : no_pairs();
          }
          transpose_pairs(pairs);
          for (std::int64_t i = 0; i < count; ++i) store_some(line + (w + i) * conv.c + c, pairs[i], conv.c - c);
        }
      }
    }
  }
}

// Up to 2 x 2 tiles of sums, of two tiles of the first factor and two of the second; the other one is `other` further, or not
// there if that is 0. Both factors take outer * inner steps. Distances are in pairs, those of the sums in floats.
struct Walk {
  struct Factor {
    const Pair* first;
    std::int64_t pitch, other, outer, inner;
  } a, b;
  std::int64_t outer, inner;
  struct {
    float* first;
    std::int64_t pitch, other_a, other_b;
  } sums;
};

// Returns whether the sentinel survived.
template <typename AnyTiles>
inline bool add_up_walk(AnyTiles& tiles, const Walk& walk, bool lost) {
  const auto bytes = [](std::int64_t words) { return static_cast<std::ptrdiff_t>(words * 4); };
  const std::ptrdiff_t a_pitch = bytes(walk.a.pitch), b_pitch = bytes(walk.b.pitch), pitch = bytes(walk.sums.pitch);
  const bool other_a = walk.a.other != 0, other_b = walk.b.other != 0;
  place_sentinel(tiles);
  tiles.template zero<0>();
  tiles.template zero<1>();
  tiles.template zero<2>();
  tiles.template zero<3>();
  for (std::int64_t i = 0; i < walk.outer; ++i) {
    const Pair *a = walk.a.first + i * walk.a.outer, *b = walk.b.first + i * walk.b.outer;
    for (std::int64_t j = 0; j < walk.inner; ++j, a += walk.a.inner, b += walk.b.inner) {
      tiles.template load<5>(b, b_pitch);
      tiles.template load<4>(a, a_pitch);
      tiles.template multiply<0, 4, 5>();
      if (other_b) {
        tiles.template load<6>(b + walk.b.other, b_pitch);
        tiles.template multiply<1, 4, 6>();
      }
      if (other_a) {
        tiles.template load<4>(a + walk.a.other, a_pitch);
        tiles.template multiply<2, 4, 5>();
        if (other_b) tiles.template multiply<3, 4, 6>();
      }
    }
    if (lost && i >= walk.outer / 2) lose(tiles), lost = false;
  }
  tiles.template store<0>(walk.sums.first, pitch);
  if (other_b) tiles.template store<1>(walk.sums.first + walk.sums.other_b, pitch);
  if (other_a) tiles.template store<2>(walk.sums.first + walk.sums.other_a, pitch);
  if (other_a && other_b) tiles.template store<3>(walk.sums.first + walk.sums.other_a + walk.sums.other_b, pitch);
  return sentinel_is_there(tiles);
}

std::int64_t gradient_of_input(float* dx, const Pair* frame, const Pair* flipped, const ConvShape& conv,
                               const GradientLayout& layout, const TileLosses& losses) {
  const std::int64_t lines = lines_of_group(conv.c), channel = conv.r * layout.row, pixel = layout.pairs * kImages;
  const std::int64_t width = conv.w + conv.s - 1, positions = conv.h * conv.w;
  const auto place = [&](std::int64_t position) { return (position / conv.w * width + position % conv.w) * pixel; };
  std::int64_t repeats = 0, blocks = 0;
  Tiles tiles(TileSizes{static_cast<int>(lines), kTileWords});
  for (std::int64_t c = 0; c < layout.channels; c += 2 * lines) {
    const std::int64_t other = c + lines < layout.channels ? lines : 0;
    for (std::int64_t position = 0; position < positions; position += 2) {
      const std::int64_t at = place(position), next = position + 1 < positions ? place(position + 1) - at : 0;
      const Walk walk{{flipped + c * channel, channel, other * channel, layout.row, kTileWords},
                      {frame + at, kImages, next, width * pixel, kTileWords * kImages},
                      conv.r,
                      layout.row / kTileWords,
                      {dx + (c * positions + position) * kImages, positions * kImages, other * positions * kImages, kImages}};
      repeats += until_it_survives<EmulatedTiles>(tiles, blocks++, losses,
                                                  [&](auto& any, bool lost) { return add_up_walk(any, walk, lost); });
    }
  }
  return repeats;
}

std::int64_t gradient_of_weight(float* sums, const Pair* dconv, const Pair* x, std::int64_t images, const ConvPoolShape& shape,
                                const GradientLayout& layout, const TileLosses& losses) {
  const ConvShape& conv = shape.conv;
  const std::int64_t lines = lines_of_group(conv.k), height = shape.pool.p * shape.pool.r, width = shape.pool.q * shape.pool.s;
  const std::int64_t place = layout.filters * kImages, filter = conv.r * layout.columns;
  std::int64_t repeats = 0, blocks = 0;
  Tiles tiles(TileSizes{static_cast<int>(lines), static_cast<int>((images + 1) / 2)});
  for (std::int64_t k = 0; k < layout.filters; k += 2 * lines) {
    const std::int64_t other = k + lines < layout.filters ? lines : 0;
    for (std::int64_t r = 0; r < conv.r; ++r) {
      for (std::int64_t column = 0; column < layout.columns; column += 2 * kTileWords) {
        const std::int64_t next = column + kTileWords < layout.columns ? kTileWords : 0;
        const Walk walk{{dconv + k * kImages, kImages, other * kImages, width * place, place},
                        {x + r * kImages * layout.line + column, layout.line, next, kImages * layout.line, conv.c},
                        height,
                        width,
                        {sums + k * filter + r * layout.columns + column, filter, other * filter, kTileWords}};
        repeats += until_it_survives<EmulatedTiles>(tiles, blocks++, losses,
                                                    [&](auto& any, bool lost) { return add_up_walk(any, walk, lost); });
      }
    }
  }
  return repeats;
}

}  // namespace
}  // namespace fastlenet::FASTLENET_UNIT
