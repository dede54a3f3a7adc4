// The contract of the kernels of int8 networks. Each unit, an instruction or its emulation, has one table of them.
//
// Activations are uint8, weights int8, sums int32. Nothing is rounded before a sum is complete, so all units give the same
// bits.
//
// Activations lie in planes: plane[feature][lane], where a lane is an image, or there is only one. Products read cells of 32
// bits, which hold `taps` neighbours along the depth: four uint8 for VPDPBUSD, two uint16 for VPMADDWD. Cells of weights hold
// as many int8 or int16. Both are filled up with zeros of weight. Only kernels and ops know these layouts.
#pragma once

#include <cstdint>

#include "../workspaces.hpp"

namespace fastlenet {

using Cell = std::uint32_t;

// y[output][place] of one product: the bias, plus the weights times what lies under the place, in int32 without overflow. Then
// the largest of each window, and clip(rint(float32(sum) * multiplier) + zero_point, 0, 255); or, as scores, the product in
// float32.
//
// Vectors multiply a group at a time, tiles Int8Table::step groups, which lie `pitch` apart from each other.
struct Int8Product {
  std::int64_t outputs, groups;  // groups of taps: a multiple of a step, filled up with weights of 0
  const Cell* weight;            // packed by pack_weight, or by pack_weight_of_one for one image
  const std::int32_t* bias;      // both with outputs rounded up to a multiple of kInt8Padding
  const float* multiplier;       // at least 0
  const std::int64_t* offset;    // [groups / step]: where a step lies from its place on, in cells of one lane
  std::int64_t pitch;            // in cells of one lane
  std::int32_t zero_point;
  bool scores;
  TileLosses losses;
};

constexpr std::int64_t kInt8Padding = 64;

// Where the windows' places are, in cells of one lane: place[count][area], area a multiple of 4, repeating places where there
// are fewer. Without windows, area is 1.
struct Int8Windows {
  const std::int64_t* place;
  std::int64_t count, area;
};

// y[output * pitch + window * step][lane], of uint8, or of float if the product gives scores.
struct Int8Output {
  void* data;
  std::int64_t pitch, step;

  std::int64_t at(std::int64_t output, std::int64_t window) const { return output * pitch + window * step; }
};

struct Int8Table {
  const char* name;  // of the unit
  bool emulated;
  std::int64_t lanes;     // images in a block
  std::int64_t taps;      // in a cell
  std::int64_t together;  // how many places are computed with one reading of the weights
  std::int64_t step;      // groups multiplied at once, of a block; of one image always one

  // to[vector * to_step][lane] = the bytes from[0], ..., from[taps - 1][vector * step][lane] as a cell. lanes: any number.
  void (*interleave)(Cell* to, const std::uint8_t* const* from, std::int64_t vectors, std::int64_t lanes, std::int64_t step,
                     std::int64_t to_step);
  // to[groups][lanes] = the features of from[features][lanes], `taps` in a cell. What is left of the last group is 0.
  void (*group)(Cell* to, const std::uint8_t* from, std::int64_t features, std::int64_t lanes);
  // planes[features][this->lanes] of images[count][features]; lanes from `count` on are 0.
  void (*spread)(std::uint8_t* planes, const std::uint8_t* images, std::int64_t count, std::int64_t features);

  // The cells of weight[outputs][depth], groups = ceil(depth / taps); `size` cells, `size_of_one` for one image.
  std::int64_t (*weight_size)(std::int64_t outputs, std::int64_t groups);
  void (*pack_weight)(Cell* to, const std::int8_t* weight, std::int64_t outputs, std::int64_t depth);
  std::int64_t (*weight_of_one_size)(std::int64_t outputs, std::int64_t groups);
  void (*pack_weight_of_one)(Cell* to, const std::int8_t* weight, std::int64_t outputs, std::int64_t depth);

  // A block of `lanes` images; and one image, whose cells and outputs have one lane. Of a block, the cells that a step reads
  // beyond the groups may hold anything. Returns how many times tiles were lost, and their sums computed again.
  std::int64_t (*multiply)(const Int8Output& y, const Cell* x, const Int8Windows& windows, const Int8Product& product);
  void (*multiply_one)(const Int8Output& y, const Cell* x, const Int8Windows& windows, const Int8Product& product);

  // One instruction alone, for tests: sums[16][16], a[16][64], b[16][16][4], the taps of a column together. Null without tiles.
  void (*tile_product)(std::int32_t* sums, const std::int8_t* a, const std::uint8_t* b);
};

}  // namespace fastlenet
