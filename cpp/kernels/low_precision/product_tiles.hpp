// The product of table.hpp by tiles, and their soak.
#pragma once

#include "pack.hpp"
#include "tiles.hpp"

namespace fastlenet::FASTLENET_UNIT {
namespace {

constexpr int kBlock = 32;  // rows and columns: 2 x 2 tiles of sums, one of a, two of b, and the sentinel

// sums[32][32] <- 32 rows of a, or 16 if there are no more, and 32 columns of b. Returns whether the sentinel survived.
template <typename AnyTiles>
inline bool multiply_block(AnyTiles& tiles, float (&sums)[kBlock][kBlock], const Pair* a, bool both, const Pair* b,
                           std::int64_t steps, bool lost) {
  constexpr std::ptrdiff_t b_pitch = kPanelColumns * sizeof(Pair), line = kBlock * sizeof(float);
  const std::ptrdiff_t a_pitch = steps * static_cast<std::ptrdiff_t>(sizeof(Pair));
  place_sentinel(tiles);
  tiles.template zero<0>();
  tiles.template zero<1>();
  tiles.template zero<2>();
  tiles.template zero<3>();
  for (std::int64_t step = 0; step < steps; step += kTileWords) {
    tiles.template load<5>(b + step * kPanelColumns, b_pitch);
    tiles.template load<6>(b + step * kPanelColumns + kTileWords, b_pitch);
    tiles.template load<4>(a + step, a_pitch);
    tiles.template multiply<0, 4, 5>();
    tiles.template multiply<1, 4, 6>();
    if (both) {
      tiles.template load<4>(a + kTileLines * steps + step, a_pitch);
      tiles.template multiply<2, 4, 5>();
      tiles.template multiply<3, 4, 6>();
    }
    if (lost && step + kTileWords >= steps / 2) lose(tiles), lost = false;
  }
  tiles.template store<0>(&sums[0][0], line);
  tiles.template store<1>(&sums[0][kTileWords], line);
  tiles.template store<2>(&sums[kTileLines][0], line);
  tiles.template store<3>(&sums[kTileLines][kTileWords], line);
  return sentinel_is_there(tiles);
}

std::int64_t multiply(const LowPrecisionProduct& product, Range rows, Range panels) {
  const std::int64_t steps = product.steps();
  std::int64_t repeats = 0, blocks = 0;
  Tiles tiles;
  for (std::int64_t column = panels.begin * kPanelColumns; column < panels.end * kPanelColumns && column < product.columns;
       column += kBlock) {
    const Pair* b = product.b + column / kPanelColumns * steps * kPanelColumns + column % kPanelColumns;
    for (std::int64_t row = rows.begin; row < rows.end; row += kBlock, ++blocks) {
      alignas(64) float sums[kBlock][kBlock];
      const Pair* a = product.a + row * steps;
      const bool both = rows.end - row > kTileLines;
      repeats += until_it_survives<EmulatedTiles>(tiles, blocks, product.losses, [&](auto& any, bool lost) {
        return multiply_block(any, sums, a, both, b, steps, lost);
      });
      for (std::int64_t j = 0; j < kBlock && column + j < product.columns; ++j) {
        const float bias = (product.bias != nullptr ? product.bias[column + j] : 0.0f) + 0.0f;  // +0 for a sum of -0
        for (std::int64_t i = 0; i < kBlock && row + i < rows.end; ++i) {
          product.c[(row + i) * product.columns + column + j] = sums[i][j] + bias;
        }
      }
    }
  }
  return repeats;
}

void tile_product(float* sums, const std::uint32_t* a, const std::uint32_t* b) {
  Tiles tiles;
  tiles.template load<0>(sums, kTileLine);
  tiles.template load<4>(a, kTileLine);
  tiles.template load<5>(b, kTileLine);
  tiles.template multiply<0, 4, 5>();
  tiles.template store<0>(sums, kTileLine);
}

// The tiles of factors are known, small integers, so the sums are exact.
SoakCount soak(std::int64_t rounds, void (*wait)(void* context), void* context, const TileLosses& losses) {
  alignas(64) Pair a[kTileLines][kTileWords], b[kTileLines][kTileWords];
  alignas(64) float sums[kTileLines][kTileWords];
  const auto small = [](int i, int j, int k) { return emulated_round(static_cast<float>((i * 7 + j * 3 + k * 5) % 17 - 8)); };
  for (int i = 0; i < kTileLines; ++i) {
    for (int j = 0; j < kTileWords; ++j) {
      a[i][j] = small(i, j, 0) | static_cast<Pair>(small(i, j, 1)) << 16;
      b[i][j] = small(i, j, 2) | static_cast<Pair>(small(i, j, 3)) << 16;
    }
  }
  float expected[kTileLines][kTileWords] = {};
  {
    EmulatedTiles tiles;
    tiles.load<4>(a, kTileLine);
    tiles.load<5>(b, kTileLine);
    for (int i = 0; i < 2; ++i) tiles.multiply<0, 4, 5>();
    tiles.store<0>(expected, kTileLine);
  }
  SoakCount count;
  Tiles tiles;
  for (; count.rounds < rounds; ++count.rounds) {
    place_sentinel(tiles);
    tiles.template zero<0>();
    tiles.template load<4>(a, kTileLine);
    tiles.template load<5>(b, kTileLine);
    tiles.template multiply<0, 4, 5>();
    wait(context);
    if (losses.every && count.rounds % losses.every == 0) lose(tiles);
    tiles.template multiply<0, 4, 5>();
    tiles.template store<0>(sums, kTileLine);
    const bool there = sentinel_is_there(tiles);
    if (__builtin_memcmp(sums, expected, sizeof sums) == 0) continue;
    ++count.lost;
    if (there) ++count.undetected;
    lose(tiles);
  }
  return count;
}

}  // namespace
}  // namespace fastlenet::FASTLENET_UNIT
