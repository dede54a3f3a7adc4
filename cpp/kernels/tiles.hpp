// AMX's tiles: eight registers of up to 16 rows of 64 bytes. One implementation runs the instructions, the other is plain C++
// with the same bits. Both have the same members, so kernels take either; units add their product to both.
//
// The instructions are written as assembly here, for GCC 12's header lacks what it needs: its tile load does not tell the
// compiler that it reads memory, so the stores before it may be moved behind it, and its load of a configuration declares 8 of
// the 64 bytes that it reads.
//
// On some virtual machines the tiles of a thread that is descheduled are reported lost. So tile 7 holds a sentinel, one row of
// known numbers: it is loaded before a block and stored after the block's sums. If it is gone, the block is computed again from
// its inputs, which are in memory. After kAttempts it is computed by the emulation.
#pragma once

#include <cstddef>
#include <cstdint>

#include "workspaces.hpp"

namespace fastlenet::FASTLENET_LEVEL {
namespace {

// Tiles 0 to 3 hold sums, tile 4 rows of the first factor, tiles 5 and 6 the second factor.
constexpr int kTiles = 8, kTileLines = 16, kTileWords = 16;  // of 4 bytes in a row
constexpr int kSentinel = 7;
constexpr int kAttempts = 10;
constexpr std::ptrdiff_t kTileLine = kTileWords * sizeof(std::uint32_t);

// lines: of the first factor and of the sums; an instruction takes as many cycles. depth: how many words of a line the first
// factor has, and how many lines the second.
struct TileSizes {
  int lines = kTileLines, depth = kTileWords;

  constexpr int lines_of(int tile) const { return tile == kSentinel ? 1 : tile <= 4 ? lines : depth; }
  constexpr int words_of(int tile) const { return tile == 4 ? depth : kTileWords; }
};

// Palette 1, as in Intel's manual: bytes in a row from byte 16 on, rows from byte 48 on.
struct alignas(64) TileShapes {
  std::uint8_t palette = 1, start_row = 0, reserved[14] = {};
  std::uint16_t row_bytes[16] = {};
  std::uint8_t rows[16] = {};

  explicit TileShapes(TileSizes sizes) {
    for (int tile = 0; tile < kTiles; ++tile) {
      row_bytes[tile] = static_cast<std::uint16_t>(4 * sizes.words_of(tile));
      rows[tile] = static_cast<std::uint8_t>(sizes.lines_of(tile));
    }
  }
};
static_assert(sizeof(TileShapes) == 64);

#if defined(__AMX_TILE__) || defined(__AMXTILE__)  // as Clang spells it up to version 14

class HardwareTileMemory {
 public:
  explicit HardwareTileMemory(TileSizes sizes) { configure(sizes); }
  ~HardwareTileMemory() { asm volatile("tilerelease" ::: "memory"); }
  HardwareTileMemory(const HardwareTileMemory&) = delete;
  HardwareTileMemory& operator=(const HardwareTileMemory&) = delete;

  TileSizes sizes() const { return sizes_; }

  // Also sets all tiles to zeros.
  void configure(TileSizes sizes) {
    sizes_ = sizes;
    const TileShapes shapes(sizes);
    asm volatile("ldtilecfg %0" ::"m"(shapes) : "memory");
  }

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

 private:
  TileSizes sizes_;
};

#endif

class EmulatedTileMemory {
 public:
  explicit EmulatedTileMemory(TileSizes sizes) { configure(sizes); }

  TileSizes sizes() const { return sizes_; }

  void configure(TileSizes sizes) {
    sizes_ = sizes;
    __builtin_memset(at_, 0, sizeof at_);
  }

  template <int tile>
  void zero() {
    __builtin_memset(at_[tile], 0, sizeof at_[tile]);
  }

  template <int tile>
  void load(const void* from, std::ptrdiff_t stride) {
    for (int row = 0; row < sizes_.lines_of(tile); ++row) {
      __builtin_memcpy(at_[tile][row], static_cast<const char*>(from) + row * stride, row_size(tile));
    }
  }

  template <int tile>
  void store(void* to, std::ptrdiff_t stride) {
    for (int row = 0; row < sizes_.lines_of(tile); ++row) {
      __builtin_memcpy(static_cast<char*>(to) + row * stride, at_[tile][row], row_size(tile));
    }
  }

 protected:
  TileSizes sizes_;
  std::uint32_t at_[kTiles][kTileLines][kTileWords];

 private:
  std::size_t row_size(int tile) const { return static_cast<std::size_t>(sizes_.words_of(tile)) * sizeof(std::uint32_t); }
};

// What happens to tiles on some virtual machines: their contents are gone.
template <typename Tiles>
inline void lose(Tiles& tiles) {
  tiles.configure(tiles.sizes());
}

struct alignas(64) Sentinel {
  std::uint32_t word[kTileWords];
};
constexpr Sentinel kKnown = {{0x9E3779B9, 0x7F4A7C15, 0xF39CC060, 0x5CEDC834, 0x1082276B, 0xF3A27251, 0xF86C6A11, 0xD0C18E95,
                              0x2767F0B1, 0x53D2F2D4, 0x8B0B7E7A, 0xE7037ED1, 0xA0B428DB, 0x3C6EF372, 0xBB67AE85, 0xA54FF53A}};

template <typename Tiles>
inline void place_sentinel(Tiles& tiles) {
  tiles.template load<kSentinel>(&kKnown, kTileLine);
}

template <typename Tiles>
inline bool sentinel_is_there(Tiles& tiles) {
  Sentinel found;
  tiles.template store<kSentinel>(&found, kTileLine);
  return __builtin_memcmp(&found, &kKnown, sizeof found) == 0;
}

// Calls block(tiles, lost), which computes a block and returns whether the sentinel survived, until it did; at last with the
// emulation. number: of the block in its call; for tests, the tiles of some are lost on purpose, while `lost` says so. Returns
// how often the block was computed again.
template <typename Emulation, typename Tiles, typename Block>
inline std::int64_t until_it_survives(Tiles& tiles, std::int64_t number, const TileLosses& losses, const Block& block) {
  const std::int64_t planned = losses.every && number % losses.every == 0 ? losses.times : 0;
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    if (block(tiles, attempt < planned)) return attempt;
    tiles.configure(tiles.sizes());
  }
  Emulation emulated(tiles.sizes());
  block(emulated, false);
  return kAttempts;
}

}  // namespace
}  // namespace fastlenet::FASTLENET_LEVEL
