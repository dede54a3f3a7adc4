// Products of a block of 16 images by AMX's tiles. Weights are the rows of the first factor, since an instruction takes as long
// as these: 50 outputs are tiles of 13, 13, 12 and 12 rows. Images are the columns of the second factor, of which a line is a
// group of cells, as it lies in memory. Weights are signed and cells unsigned, as in TDPBSUD.
#pragma once

#include "../tiles.hpp"
#include "cells.hpp"
#include "product.hpp"

namespace fastlenet::FASTLENET_INT8_UNIT {
namespace {

#if !FASTLENET_INT8_UNIT_EMULATED

class HardwareTiles : public HardwareTileMemory {
 public:
  explicit HardwareTiles(TileSizes sizes) : HardwareTileMemory(sizes) {}

  // sums += a * b
  template <int sums, int a, int b>
  void multiply() {
    asm volatile("tdpbsud %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(sums), "i"(a), "i"(b) : "memory");
  }
};

#endif

class EmulatedTiles : public EmulatedTileMemory {
 public:
  explicit EmulatedTiles(TileSizes sizes) : EmulatedTileMemory(sizes) {}

  // Sums wrap at 32 bits, as the instruction's do.
  template <int sums, int a, int b>
  void multiply() {
    for (int row = 0; row < sizes_.lines; ++row) {
      for (int k = 0; k < sizes_.depth; ++k) {
        std::int8_t weights[4];
        __builtin_memcpy(weights, &at_[a][row][k], sizeof weights);
        for (int column = 0; column < kTileWords; ++column) {
          std::uint8_t bytes[4];
          __builtin_memcpy(bytes, &at_[b][k][column], sizeof bytes);
          for (int tap = 0; tap < 4; ++tap) {
            at_[sums][row][column] += static_cast<std::uint32_t>(static_cast<std::int32_t>(weights[tap]) * bytes[tap]);
          }
        }
      }
    }
  }
};

#if !FASTLENET_INT8_UNIT_EMULATED
typedef HardwareTiles Tiles;
#else
typedef EmulatedTiles Tiles;
#endif

static_assert(kLanes == kTileWords && kTaps == 4 && kPlaces == 4);

// The rows of a tile of weights: as many as 16, and those of all tiles differ by one at most.
struct Lines {
  std::int64_t first;
  int count;
};

inline std::int64_t line_tiles(std::int64_t outputs) { return (outputs + kTileLines - 1) / kTileLines; }

inline Lines lines_of_weights(std::int64_t outputs, std::int64_t tile) {
  const std::int64_t tiles = line_tiles(outputs), each = outputs / tiles, more = outputs % tiles;
  return {tile * each + (tile < more ? tile : more), static_cast<int>(each + (tile < more))};
}

// [tiles][groups / 16][rows of the tile][16]
void pack_weight(Cell* to, const std::int8_t* weight, std::int64_t outputs, std::int64_t depth) {
  const std::int64_t steps = depth / (kTaps * kTileWords);
  for (std::int64_t tile = 0; tile < line_tiles(outputs); ++tile) {
    const Lines lines = lines_of_weights(outputs, tile);
    for (std::int64_t step = 0; step < steps; ++step) {
      for (std::int64_t k = lines.first; k < lines.first + lines.count; ++k) {
        for (int group = 0; group < kTileWords; ++group)
          *to++ = weight_cell(weight + k * depth, step * kTileWords + group, depth);
      }
    }
  }
}

// Of up to 4 places, the sums of a tile's outputs.
struct alignas(64) PlaceSums {
  std::int32_t at[kPlaces][kTileLines][kTileWords];
};

// weight: the tile's. Returns whether the sentinel survived.
template <typename AnyTiles>
inline bool multiply_places(AnyTiles& tiles, PlaceSums& sums, const Cell* x, const std::int64_t* place, std::int64_t places,
                            const Cell* weight, int lines, const Int8Product& product, bool lost) {
  const std::ptrdiff_t pitch = product.pitch * kTileLine;
  const std::int64_t steps = product.groups / kTileLines;
  const Cell* from[kPlaces];
  for (std::int64_t j = 0; j < kPlaces; ++j) from[j] = x + place[j < places ? j : 0] * kLanes;
  place_sentinel(tiles);
  tiles.template zero<0>();
  tiles.template zero<1>();
  tiles.template zero<2>();
  tiles.template zero<3>();
  for (std::int64_t step = 0; step < steps; ++step, weight += lines * kTileWords) {
    const std::int64_t offset = product.offset[step] * kLanes;
    tiles.template load<4>(weight, kTileLine);
    tiles.template load<5>(from[0] + offset, pitch);
    tiles.template multiply<0, 4, 5>();
    if (places > 1) {
      tiles.template load<6>(from[1] + offset, pitch);
      tiles.template multiply<1, 4, 6>();
      tiles.template load<5>(from[2] + offset, pitch);
      tiles.template multiply<2, 4, 5>();
      tiles.template load<6>(from[3] + offset, pitch);
      tiles.template multiply<3, 4, 6>();
    }
    if (lost && step >= steps / 2) lose(tiles), lost = false;
  }
  tiles.template store<0>(sums.at[0], kTileLine);
  tiles.template store<1>(sums.at[1], kTileLine);
  tiles.template store<2>(sums.at[2], kTileLine);
  tiles.template store<3>(sums.at[3], kTileLine);
  return sentinel_is_there(tiles);
}

inline Sums sums_of(const PlaceSums& sums, std::int64_t place, int line) { return load_vector<Sums>(sums.at[place][line]); }

std::int64_t multiply(const Int8Output& y, const Cell* x, const Int8Windows& windows, const Int8Product& product) {
  std::int64_t repeats = 0, blocks = 0;
  for (std::int64_t tile = 0; tile < line_tiles(product.outputs); ++tile) {
    const Lines lines = lines_of_weights(product.outputs, tile);
    const Cell* weight = product.weight + lines.first * product.groups;
    const std::int32_t* bias = product.bias + lines.first;
    Tiles tiles(TileSizes{lines.count, kTileWords});
    PlaceSums sums;
    const auto add_up = [&](const std::int64_t* place, std::int64_t places) {
      const auto block = [&](auto& any, bool lost) {
        return multiply_places(any, sums, x, place, places, weight, lines.count, product, lost);
      };
      repeats += until_it_survives<EmulatedTiles>(tiles, blocks++, product.losses, block);
    };
    if (windows.area > 1) {
      const std::int64_t* place = windows.place;
      for (std::int64_t window = 0; window < windows.count; ++window) {
        Sums best[kTileLines];
        for (std::int64_t first = 0; first < windows.area; first += kPlaces, place += kPlaces) {
          add_up(place, kPlaces);
          for (int i = 0; i < lines.count; ++i) {
            const Sums four =
                larger(larger(sums_of(sums, 0, i), sums_of(sums, 1, i)), larger(sums_of(sums, 2, i), sums_of(sums, 3, i)));
            best[i] = first == 0 ? four : larger(best[i], four);
          }
        }
        for (int i = 0; i < lines.count; ++i) {
          const std::int64_t k = lines.first + i;
          finish(y.data, y.at(k, window), best[i] + broadcast(bias[i]), product, k);
        }
      }
      continue;
    }
    for (std::int64_t first = 0; first < windows.count; first += kPlaces) {
      const std::int64_t places = windows.count - first < kPlaces ? windows.count - first : kPlaces;
      add_up(windows.place + first, places);
      for (int i = 0; i < lines.count; ++i) {
        const std::int64_t k = lines.first + i;
        for (std::int64_t j = 0; j < places; ++j) {
          finish(y.data, y.at(k, first + j), sums_of(sums, j, i) + broadcast(bias[i]), product, k);
        }
      }
    }
  }
  return repeats;
}

void tile_product(std::int32_t* sums, const std::int8_t* a, const std::uint8_t* b) {
  Tiles tiles(TileSizes{});
  tiles.template load<0>(sums, kTileLine);
  tiles.template load<4>(a, kTileLine);
  tiles.template load<5>(b, kTileLine);
  tiles.template multiply<0, 4, 5>();
  tiles.template store<0>(sums, kTileLine);
}

}  // namespace
}  // namespace fastlenet::FASTLENET_INT8_UNIT
