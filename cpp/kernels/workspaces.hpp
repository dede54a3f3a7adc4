// The structs that kernels and ops share: the layout of images in blocks, the scratch memory of kernels, and the numbers of an
// optimizer's step.
#pragma once

#include <cstdint>

#include "../shapes.hpp"

namespace fastlenet {

// Places planes of h x w in zero-filled planes of frame_h x frame_w: row i goes to row i*stride + top. Rows and columns that
// fall outside are dropped, so top and left may be negative.
struct Frame {
  std::int64_t c, h, w;
  std::int64_t frame_h, frame_w;
  std::int64_t top, left;
  Pair stride;
};

struct Range {
  std::int64_t begin, end;
};

// On purpose, for tests: the tiles of every `every`-th block of a call are lost `times` times in a row.
struct TileLosses {
  std::int64_t every = 0;
  std::int64_t times = 1;
};

// A list of rows to add: the offset of each and its factor. Lists are written a vector at a time, so they need room for `lanes`
// more entries.
struct List {
  std::int32_t* offset;
  float* value;
};

// Sizes of the rows layout (see conv_pool_backward_rows.hpp) in floats. pitch: a filter row of s*c floats; line: an image's row
// with its padding; image: a whole image. pitch and line are multiples of a vector. copies: the number of shifted copies of x,
// which let most of its filter rows start at a vector's boundary.
struct RowsSizes {
  std::int64_t pitch, line, image, copies;
};

// position[windows][pool.r * pool.s + 1]: the output position p*conv.q + q of each place in each window, and conv.p * conv.q
// for a dead window. offset[conv.p * conv.q + 1]: where the rows of x under an output position begin.
struct RowsPlaces {
  std::int32_t* position;
  std::int32_t* offset;
};

// Scratch memory for one image. x: copies * image floats, whose border must be zero; dx: image floats, if dx is computed. The
// lists and position have room for k * windows + lanes entries, channel_ends for k and position_ends for conv.p * conv.q.
struct RowsScratch {
  float* x;
  float* dx;
  List by_channel;
  List by_position;
  std::int32_t* position;
  std::int32_t* channel_ends;
  std::int32_t* position_ends;
};

// The tiling of a block for Winograd's algorithm (see conv_pool_winograd.hpp): down x across tiles of so many products; the
// image lies in the upper left of a frame of zeros. weights, scratch, scratch_one: floats of the transformed weights, and of
// the scratch memory for a block or for one image.
struct WinogradSizes {
  std::int64_t products;
  std::int64_t down, across;
  std::int64_t frame_h, frame_w;
  std::int64_t weights, scratch;
  std::int64_t scratch_one;  // of one image
};

// Lists of the non-zero elements of a matrix's rows (or columns), `capacity` apart. ends[list][chunk]: where each chunk of
// kSparseChunk elements ends in its list. panel: kSparseChunk rows of kSparseVectors vectors.
constexpr std::int64_t kSparseChunk = 128;
constexpr int kSparseVectors = 5;

struct SparseScratch {
  List lists;
  std::int64_t capacity;
  std::int32_t* ends;
  float* panel;
};

// The map that samples an image: output pixel (i, j) is sampled at (row, column) = affine (2 x 3) * (i, j, 1) + bend (2 x 2) *
// field[i][:][j]. The field's rows are whole vectors; a null field is left out.
struct Warp {
  const float* affine;
  const float* field;
  const float* bend;
};

// The average of the weights: values = decay * values + (1 - decay) * weights. values may be null: there is none.
struct Average {
  float* values;
  float decay;
};

struct SgdStep {
  float lr, momentum, weight_decay;
  bool nesterov;
};

// step_size and root_scale contain Adam's two bias corrections: lr / (1 - beta1^t) and 1 / sqrt(1 - beta2^t). new1 and new2 are
// 1 - beta1 and 1 - beta2, computed in double, since the difference of rounded floats would lose three digits.
struct AdamStep {
  float step_size, root_scale, beta1, new1, beta2, new2, eps, decay;
};

// How softmax_distillation weighs a teacher's probabilities against the labels: smoothing of the labels in [0, 1], temperature
// > 0, mix in [0, 1], the teacher's share.
struct Distillation {
  double smoothing, temperature, mix;
};

// The sum c = factor * a b + d_factor * d + diagonal * I, of which every term is symmetric. c, d and b have rows of `pitch`
// numbers, n rounded up to whole vectors of doubles; c and d have n rows, b has `depth`. d may be null. The element (i, l) of a
// is at a[i*a_row + l*a_step].
struct SymmetricSum {
  double* c;
  const double *a, *b, *d;
  std::int64_t a_row, a_step, depth, n, pitch;
  double factor, d_factor, diagonal;
};

// A matrix of rows x columns in a flat buffer, from the element `begin` on.
struct MatrixPart {
  std::int64_t begin, rows, columns;
};

// The odd polynomial a x + b x^3 + c x^5, of which five rounds bring singular values in (0, 1] near 1 (Jordan et al. 2024).
constexpr double kQuintic[] = {3.4445, -4.7750, 2.0315};
constexpr int kNewtonRounds = 5;

struct MuonStep {
  SgdStep sgd;
  double matrix_lr;
};

}  // namespace fastlenet
