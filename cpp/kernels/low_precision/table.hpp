// The contract of the kernels of reduced precision. Each unit, an instruction or its emulation, has one table of them.
//
// A product c = a * b has bfloat16 factors and float32 sums. Both factors are packed in pairs of consecutive depth, filled up
// with zeros:
//     a[rows][steps]            a row of c is a row of a
//     b[panels][steps][64]      a panel is 64 columns of c
// where steps = ceil(depth / 2) is rounded up to whole rows of a tile, 16 pairs, and the rows of a to 16 as well. This is the
// layout that both VDPBF16PS and tiles read. Only kernels and ops know it.
#pragma once

#include <cstdint>

#include "../workspaces.hpp"

namespace fastlenet {

constexpr std::int64_t kPanelColumns = 64;
constexpr std::int64_t kPaddedPairs = 16;
constexpr std::int64_t kPaddedRows = 16;

struct LowPrecisionProduct {
  float* c;                // [rows][columns]
  const std::uint32_t* a;  // pairs
  const std::uint32_t* b;
  const float* bias;  // [columns], added to the sums; or null
  std::int64_t columns;
  std::int64_t depth;  // not padded
  TileLosses losses;

  std::int64_t steps() const { return ((depth + 1) / 2 + kPaddedPairs - 1) / kPaddedPairs * kPaddedPairs; }
};

// What a soak of the tiles has seen.
struct SoakCount {
  std::int64_t rounds = 0;      // products computed
  std::int64_t lost = 0;        // of those, with a wrong result
  std::int64_t undetected = 0;  // of those, with an intact sentinel
};

// Images for tiles: a pixel's channels lie together, `pairs` pairs of them, filled up with zeros; so the taps of a filter row
// are neighbours. A product of tiles takes `depth` of these pairs, which divides a filter row.
struct PixelLayout {
  std::int64_t pairs, depth;
  std::int64_t image;    // pairs from one image to the next
  std::int64_t filters;  // pairs of all filters
};

// The dense gradients of convolution + ReLU + max-pooling by tiles (see conv_pool_gradient_tiles.hpp), of blocks of 16 images
// for dx and of 32 for dweight. Sizes are in pairs; dx and sums in floats.
struct GradientLayout {
  std::int64_t pairs, row;        // of a place of dconv; of a filter row of dx, in whole lines of a tile
  std::int64_t channels;          // in whole tiles
  std::int64_t flipped;           // filters of dx: [channels][r][row]
  std::int64_t frame;             // dconv for dx: [h + r - 1][w + s - 1][pairs][16 images], and what is beyond
  std::int64_t dx;                // [channels][h][w][16 images]
  std::int64_t filters, columns;  // in whole tiles; of a filter row of dweight, (s, c)
  std::int64_t line;              // of x: a line of its pixels, of two images
  std::int64_t x;                 // [h with padding][16 pairs of images][line]
  std::int64_t dconv;             // for dweight: [places of windows, and one][filters][16 pairs of images]
  std::int64_t sums;              // of dweight: [filters][r][columns]
};

constexpr std::int64_t kImagesOfInputGradient = 16;
constexpr std::int64_t kImagesOfWeightGradient = 32;
constexpr std::int64_t kBiasSums = 16;  // of a filter

struct LowPrecisionTable {
  const char* name;         // of the unit
  const char* instruction;  // whose bits it has
  bool emulated;

  // Rounds `count` floats to the nearest bfloat16.
  void (*round)(std::uint16_t* to, const float* from, std::int64_t count);

  // Packs the rows in `rows` of from[rows][depth] as a factor a; and the same of from[depth][pitch], whose columns are the
  // rows. Rows from `filled` on are zeros; `rows` are whole multiples of kPaddedRows.
  void (*pack_rows)(std::uint32_t* a, const float* from, Range rows, std::int64_t filled, std::int64_t depth);
  void (*pack_columns_as_rows)(std::uint32_t* a, const float* from, std::int64_t pitch, Range rows, std::int64_t filled,
                               std::int64_t depth);
  // Packs one panel of a factor b from from[depth][columns]; and the same of from[columns][depth].
  void (*pack_panel)(std::uint32_t* b, const float* from, std::int64_t panel, std::int64_t columns, std::int64_t depth);
  void (*pack_rows_as_panel)(std::uint32_t* b, const float* from, std::int64_t panel, std::int64_t columns, std::int64_t depth);

  // The rows and at most two panels of c that are given; `rows` begins at a multiple of kPaddedRows. Each sum is one chain over
  // the depth, in the order of the instruction, from zero; the bias is added last. Returns how many blocks had to be computed
  // again because the tiles were lost.
  std::int64_t (*multiply)(const LowPrecisionProduct& product, Range rows, Range panels);

  // --- convolution. A block is 16 images, as a block of table.hpp of 16 lanes ---

  void (*interleave)(float* block, const float* x, std::int64_t count, const Frame& frame);
  void (*deinterleave)(float* y, const float* block, std::int64_t count, std::int64_t size);
  void (*deinterleave_bytes)(std::uint8_t* y, const std::int32_t* block, std::int64_t count, std::int64_t size);

  // By vectors; null in the units with tiles.
  // pairs[lines][width][16] <- block[lines][width][16]: each pixel and the next one of its line, or 0.
  void (*pair_columns)(std::uint32_t* pairs, const float* block, std::int64_t lines, std::int64_t width);
  // packed[k][c][r][(s + 1) / 2]: pairs of neighbouring taps.
  void (*pack_filters)(std::uint32_t* packed, const float* weight, const ConvShape& conv);
  // As conv2d_relu_max_pool2d_forward of KernelTable, y, winners [k][p][q][16], with sums that begin with the bias.
  void (*conv_pool)(float* y, std::int32_t* winners, const std::uint32_t* x, const std::uint32_t* filters, const float* bias,
                    const ConvPoolShape& shape);
  // One image with the same bits: x[c][h][w] rounded, with its padding and one more number at the end; y, winners [groups of
  // 16 filters][p * q][16]; filters [groups][c*r*((s + 1) / 2)][16], bias [groups][16].
  void (*conv_pool_one)(float* y, std::int32_t* winners, const std::uint16_t* x, const std::uint32_t* filters,
                        const float* bias, const ConvPoolShape& shape);

  // By tiles; null in the units of vectors.
  PixelLayout (*pixel_layout)(const ConvShape& conv);
  void (*pack_pixels)(std::uint32_t* to, const float* x, const ConvShape& conv, const PixelLayout& layout);  // of one image
  void (*pack_pixel_filters)(std::uint32_t* to, const float* weight, const ConvShape& conv, const PixelLayout& layout);
  // Up to 16 images, with the same bits as one: y, winners [image][groups of 16 filters][p * q][16]; bias [groups][16]. The
  // bias is added last. Returns how many blocks were computed again.
  std::int64_t (*conv_pool_tiles)(float* y, std::int32_t* winners, const std::uint32_t* x, const std::uint32_t* filters,
                                  const float* bias, std::int64_t images, const ConvPoolShape& shape, const PixelLayout& layout,
                                  const TileLosses& losses);

  // The dense gradients. dy is [images][k][windows], rounded; weight is rounded too. places[windows][area + 1]: the place of
  // each winner in dconv, and of a dead window. Both products return how many blocks were computed again.
  GradientLayout (*gradient_layout)(const ConvPoolShape& shape);
  bool (*rounds_to_finite)(const float* from, std::int64_t count);  // whether every number does
  std::int64_t (*count_living)(const std::uint8_t* winners, std::int64_t count);
  void (*pack_flipped_filters)(std::uint32_t* to, const std::uint16_t* weight, const ConvShape& conv,
                               const GradientLayout& layout);
  void (*scatter_to_frame)(std::uint32_t* to, const std::uint16_t* dy, const std::uint8_t* winners, const std::int32_t* places,
                           std::int64_t images, const ConvPoolShape& shape, const GradientLayout& layout);
  std::int64_t (*gradient_of_input)(float* dx, const std::uint32_t* frame, const std::uint32_t* flipped, const ConvShape& conv,
                                    const GradientLayout& layout, const TileLosses& losses);
  void (*scatter_by_place)(std::uint32_t* to, const std::uint16_t* dy, const std::uint8_t* winners, const std::int32_t* places,
                           std::int64_t images, const ConvPoolShape& shape, const GradientLayout& layout);
  void (*pack_image_pairs)(std::uint32_t* to, const float* x, std::int64_t images, const ConvShape& conv,
                           const GradientLayout& layout);
  std::int64_t (*gradient_of_weight)(float* sums, const std::uint32_t* dconv, const std::uint32_t* x, std::int64_t images,
                                     const ConvPoolShape& shape, const GradientLayout& layout, const TileLosses& losses);
  // Adds the dy of living windows, which are not rounded, to sums[k][16].
  void (*sum_living)(float* sums, const float* dy, const std::uint8_t* winners, std::int64_t images,
                     const ConvPoolShape& shape);

  // One instruction alone, for tests: sums[count] with pairs a, b [count]; and a tile sums[16][16] with a, b [16][16]. Null in
  // the units of the other instruction.
  void (*dot)(float* sums, const std::uint32_t* a, const std::uint32_t* b, std::int64_t count);
  void (*tile_product)(float* sums, const std::uint32_t* a, const std::uint32_t* b);
  // Loads tiles, calls wait(context), multiplies and compares with the expected sums, `rounds` times. Null without tiles.
  SoakCount (*soak)(std::int64_t rounds, void (*wait)(void* context), void* context, const TileLosses& losses);
};

}  // namespace fastlenet
