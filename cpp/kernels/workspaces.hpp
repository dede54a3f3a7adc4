// The structs that kernels and ops share: how images lie in blocks, what a kernel needs of scratch memory, and the numbers of
// an optimizer's step.
#pragma once

#include <cstdint>

#include "../shapes.hpp"

namespace fastlenet {

// Places source planes of h x w in zero-filled planes of frame_h x frame_w: row i at i*stride + top. What falls outside
// is dropped, so that top and left may be negative.
struct Frame {
  std::int64_t c, h, w;
  std::int64_t frame_h, frame_w;
  std::int64_t top, left;
  Pair stride;
};

struct Range {
  std::int64_t begin, end;
};

// Places from which rows are added, and what scales each. Made a vector at a time: there must be room for `lanes` more.
struct List {
  std::int32_t* offset;
  float* value;
};

// Rows layout, see conv_pool_backward_rows.hpp, in floats. pitch: of a filter row of s*c floats; line: of an image's row, with
// its padding; image: a whole image; both pitches are whole vectors. copies: of x, so that most of its filter rows start at a
// vector's.
struct RowsSizes {
  std::int64_t pitch, line, image, copies;
};

// position[windows][pool.r * pool.s + 1]: the output position p*conv.q + q of each place in each window, and conv.p * conv.q
// for the dead. offset[conv.p * conv.q + 1]: where the rows of x under a position begin.
struct RowsPlaces {
  std::int32_t* position;
  std::int32_t* offset;
};

// For one image. x: copies * image floats, of which the border must be zero; dx: image floats (if dx is wanted). The lists and
// position have room for k * windows + lanes, channel_ends for k and position_ends for conv.p * conv.q.
struct RowsScratch {
  float* x;
  float* dx;
  List by_channel;
  List by_position;
  std::int32_t* position;
  std::int32_t* channel_ends;
  std::int32_t* position_ends;
};

// How a block is tiled for the Winograd algorithm, see conv_pool_winograd.hpp: down x across tiles, of an image in the upper
// left of a frame of zeros; in floats, the transformed weights and the scratch memory of a block, or of one image.
struct WinogradSizes {
  std::int64_t down, across;
  std::int64_t frame_h, frame_w;
  std::int64_t weights, scratch;
  std::int64_t scratch_one;  // of one image
};

// Lists of the non-zero elements of a matrix's rows (or columns), `capacity` apart, and where each chunk of kSparseChunk
// elements ends in them: ends[list][chunk]. panel: kSparseChunk rows of
// kSparseVectors vectors.
constexpr std::int64_t kSparseChunk = 128;
constexpr int kSparseVectors = 5;

struct SparseScratch {
  List lists;
  std::int64_t capacity;
  std::int32_t* ends;
  float* panel;
};

// Where an image is sampled: output pixel (i, j) at (row, column) = affine (2 x 3) * (i, j, 1) + strength * field[i][2][j],
// whose rows of w floats are whole vectors; no field if it is null.
struct Warp {
  const float* affine;
  const float* field;
  float strength;
};

struct SgdStep {
  float lr, momentum, weight_decay;
  bool nesterov;
};

// step_size and root_scale hold Adam's two bias corrections, lr / (1 - beta1^t) and 1 / sqrt(1 - beta2^t); new1 and new2 are
// 1 - beta1 and 1 - beta2, rounded from double, since the difference of rounded numbers would lose three digits.
struct AdamStep {
  float step_size, root_scale, beta1, new1, beta2, new2, eps, decay;
};

}  // namespace fastlenet
