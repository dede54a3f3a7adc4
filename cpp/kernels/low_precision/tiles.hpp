// AMX's tiles of bfloat16: eight registers of up to 16 rows of 64 bytes. One implementation runs the instructions, the other is
// plain C++ with the same bits. Both have the same members, so kernels take either.
//
// The instructions are written as assembly here, for GCC 12's header lacks what it needs: its tile load does not tell the
// compiler that it reads memory, so the stores before it may be moved behind it, and its load of a configuration declares 8 of
// the 64 bytes that it reads.
#pragma once

#include "bfloat16.hpp"

namespace fastlenet::FASTLENET_UNIT {
namespace {

constexpr int kTiles = 8, kTileLines = 16, kRowPairs = 16;  // a row has 16 floats or 16 pairs
constexpr int kSentinel = 7;                                // a tile of one row

// Palette 1, as in Intel's manual: bytes in a row from byte 16 on, rows from byte 48 on.
struct alignas(64) TileShapes {
  std::uint8_t palette = 1, start_row = 0, reserved[14] = {};
  std::uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  std::uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 1};
};
static_assert(sizeof(TileShapes) == 64);

#if defined(__AMX_BF16__)

class HardwareTiles {
 public:
  HardwareTiles() { configure(); }
  ~HardwareTiles() { asm volatile("tilerelease" ::: "memory"); }
  HardwareTiles(const HardwareTiles&) = delete;
  HardwareTiles& operator=(const HardwareTiles&) = delete;

  // Also sets all tiles to zeros.
  void configure() { asm volatile("ldtilecfg %0" ::"m"(kShapes) : "memory"); }

  template <int tile>
  void zero() {
    asm volatile("tilezero %%tmm%c0" ::"i"(tile) : "memory");
  }
  // stride: of the rows, in bytes.
  template <int tile>
  void load(const void* from, std::ptrdiff_t stride) {
    asm volatile("tileloadd (%0,%1,1), %%tmm%c2" ::"r"(from), "r"(stride), "i"(tile) : "memory");
  }
  template <int tile>
  void store(void* to, std::ptrdiff_t stride) {
    asm volatile("tilestored %%tmm%c2, (%0,%1,1)" ::"r"(to), "r"(stride), "i"(tile) : "memory");
  }
  // sums += a * b
  template <int sums, int a, int b>
  void multiply() {
    asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(sums), "i"(a), "i"(b) : "memory");
  }

 private:
  static constexpr TileShapes kShapes = {};
};

#endif

class EmulatedTiles {
 public:
  EmulatedTiles() { configure(); }

  void configure() { __builtin_memset(at_, 0, sizeof at_); }

  template <int tile>
  void zero() {
    __builtin_memset(at_[tile], 0, sizeof at_[tile]);
  }

  template <int tile>
  void load(const void* from, std::ptrdiff_t stride) {
    for (int row = 0; row < rows(tile); ++row) {
      __builtin_memcpy(at_[tile][row], static_cast<const char*>(from) + row * stride, sizeof at_[tile][row]);
    }
  }

  template <int tile>
  void store(void* to, std::ptrdiff_t stride) {
    for (int row = 0; row < rows(tile); ++row) {
      __builtin_memcpy(static_cast<char*>(to) + row * stride, at_[tile][row], sizeof at_[tile][row]);
    }
  }

  // Two chains for each sum, over the even and over the odd depth, both from zero; then they are added, and their sum is added
  // to what was there.
  template <int sums, int a, int b>
  void multiply() {
    for (int row = 0; row < kTileLines; ++row) {
      for (int column = 0; column < kRowPairs; ++column) {
        float even = 0.0f, odd = 0.0f;
        for (int k = 0; k < kRowPairs; ++k) {
          const Pair left = at_[a][row][k], right = at_[b][k][column];
          even = emulated_multiply_add(first_of(left), first_of(right), even);
          odd = emulated_multiply_add(second_of(left), second_of(right), odd);
        }
        at_[sums][row][column] = as_bits(emulated_add(as_float(at_[sums][row][column]), emulated_add(even, odd)));
      }
    }
  }

 private:
  static constexpr int rows(int tile) { return tile == kSentinel ? 1 : kTileLines; }

  std::uint32_t at_[kTiles][kTileLines][kRowPairs];
};

// What happens to tiles on some virtual machines: their contents are gone.
template <typename Tiles>
inline void lose(Tiles& tiles) {
  tiles.configure();
}

}  // namespace
}  // namespace fastlenet::FASTLENET_UNIT
