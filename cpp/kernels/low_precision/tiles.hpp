// Tiles of bfloat16, and their product by TDPBF16PS.
#pragma once

#include "../tiles.hpp"
#include "bfloat16.hpp"

namespace fastlenet::FASTLENET_UNIT {
namespace {

#if !FASTLENET_UNIT_EMULATED

class HardwareTiles : public HardwareTileMemory {
 public:
  explicit HardwareTiles(TileSizes sizes = {}) : HardwareTileMemory(sizes) {}

  // sums += a * b
  template <int sums, int a, int b>
  void multiply() {
    asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(sums), "i"(a), "i"(b) : "memory");
  }
};

#endif

class EmulatedTiles : public EmulatedTileMemory {
 public:
  explicit EmulatedTiles(TileSizes sizes = {}) : EmulatedTileMemory(sizes) {}

  // Two chains for each sum, over the even and over the odd depth, both from zero; then they are added, and their sum is added
  // to what was there.
  template <int sums, int a, int b>
  void multiply() {
    for (int row = 0; row < sizes_.lines; ++row) {
      for (int column = 0; column < kTileWords; ++column) {
        float even = 0.0f, odd = 0.0f;
        for (int k = 0; k < sizes_.depth; ++k) {
          const Pair left = at_[a][row][k], right = at_[b][k][column];
          even = emulated_multiply_add(first_of(left), first_of(right), even);
          odd = emulated_multiply_add(second_of(left), second_of(right), odd);
        }
        at_[sums][row][column] = as_bits(emulated_add(as_float(at_[sums][row][column]), emulated_add(even, odd)));
      }
    }
  }
};

#if !FASTLENET_UNIT_EMULATED
typedef HardwareTiles Tiles;
#else
typedef EmulatedTiles Tiles;
#endif

}  // namespace
}  // namespace fastlenet::FASTLENET_UNIT
