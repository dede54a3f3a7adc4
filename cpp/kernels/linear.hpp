// The linear layer's three products. All use the multiply-add loop of gemm.hpp.
#pragma once

#include "gemm.hpp"
#include "table.hpp"

namespace fastlenet::FASTLENET_LEVEL {
namespace {

// The lanes are images, and weights are broadcast: y[o][image] = bias[o] + sum over i of weight[o][i] * x[i][image]. Adding
// Vector{} turns a bias of -0 into +0, so that leaving out a product of 0 changes no bit.
void linear_forward(float* y, const float* x, const float* weight, const float* bias, std::int64_t blocks, Range out,
                    const LinearShape& shape) {
  const Vectors vectors{x, 1, 1, shape.in, 0, 0, kLanes};
  std::ptrdiff_t offset[kTileVectors];
  for (std::int64_t block = 0; block < blocks; ++block) offset[block] = block * shape.in * kLanes;
  for (std::int64_t o = out.begin; o < out.end; o += kTileRows) {
    const int rows = static_cast<int>(at_most(out.end - o, kTileRows));
    Vector tile[kTileRows][kTileVectors];
    for (int i = 0; i < rows; ++i) {
      for (std::int64_t j = 0; j < blocks; ++j) tile[i][j] = broadcast(bias ? bias[o + i] : 0.0f) + Vector{};
    }
    multiply_add(tile, rows, static_cast<int>(blocks), {weight + o * shape.in, shape.in, 1}, vectors, offset);
    for (int i = 0; i < rows; ++i) {
      for (std::int64_t j = 0; j < blocks; ++j) store(y + (j * shape.out + o + i) * kLanes, tile[i][j]);
    }
  }
}

// One image: the lanes are outputs, 16 vectors at a time (8 on CPUs with 16 registers), and elements of x are broadcast. They
// are listed first, 256 at a time, so that leaving out zeros does not mispredict branches.
constexpr int kOutputVectors = kRegisters / 2;
constexpr std::int64_t kListed = 256;

// Lists the positions in x of up to kListed elements from `first` on: all of them, or with skip_zeros those that are not 0.
inline int list_elements(std::int32_t* list, const float* x, std::int64_t first, bool skip_zeros, std::int64_t size) {
  IntVector place;
  for (int lane = 0; lane < kLanes; ++lane) place[lane] = lane;
  const std::int64_t end = at_most(size, first + kListed);
  int count = 0;
  for (std::int64_t i = first; i < end; i += kLanes) {
    const IntVector nonzero = load_some(x + i, end - i) != Vector{};
    const IntVector inside = place < broadcast_int(static_cast<std::int32_t>(at_most(end - i, kLanes)));
    count += compress(list + count, place + broadcast_int(static_cast<std::int32_t>(i)), skip_zeros ? nonzero : inside);
  }
  return count;
}

// Computes `outputs` outputs, which fill all vectors except perhaps the last.
template <int vectors>
__attribute__((noinline)) void linear_outputs(float* y, const float* x, const float* weight, const float* bias, bool skip_zeros,
                                              std::int64_t outputs, const LinearShape& shape) {
  const std::int64_t last = outputs - (vectors - 1) * kLanes;
  Vector sum[vectors];
  for (int j = 0; j < vectors; ++j) {
    sum[j] = bias ? load_some(bias + j * kLanes, j < vectors - 1 ? kLanes : last) + Vector{} : Vector{};
  }
  std::int32_t list[kListed + kLanes];
  for (std::int64_t first = 0; first < shape.in; first += kListed) {
    const int count = list_elements(list, x, first, skip_zeros, shape.in);
    for (int n = 0; n < count; ++n) {
      const float* row = weight + list[n] * shape.out;
      const Vector factor = broadcast(x[list[n]]);
      for (int j = 0; j < vectors - 1; ++j) sum[j] += factor * load(row + j * kLanes);
      sum[vectors - 1] += factor * load_some(row + (vectors - 1) * kLanes, last);
    }
  }
  for (int j = 0; j < vectors; ++j) store_some(y + j * kLanes, sum[j], j < vectors - 1 ? kLanes : last);
}

using LinearOutputs = void (*)(float*, const float*, const float*, const float*, bool, std::int64_t, const LinearShape&);

template <int... vector>
inline LinearOutputs linear_outputs_function(int vectors, std::integer_sequence<int, vector...>) {
  static constexpr LinearOutputs kFunctions[] = {linear_outputs<vector + 1>...};
  return kFunctions[vectors - 1];
}

void linear_forward_one(float* y, const float* x, const float* weight, const float* bias, bool skip_zeros,
                        const LinearShape& shape) {
  for (std::int64_t o = 0; o < shape.out; o += kOutputVectors * kLanes) {
    const std::int64_t outputs = at_most(shape.out - o, kOutputVectors * kLanes);
    const int vectors = static_cast<int>((outputs + kLanes - 1) / kLanes);
    linear_outputs_function(vectors, std::make_integer_sequence<int, kOutputVectors>{})(
        y + o, x, weight + o, bias ? bias + o : nullptr, skip_zeros, outputs, shape);
  }
}

// to[rows][pitch], columns [range) = sum over l of scalars(row, l) * from[l][pitch]. The columns are first copied into a panel,
// because they are read once per kTileRows rows: the panel is contiguous and aligned, and its tail is filled with zeros. Pieces
// of rows are too short for the CPU's prefetcher, and another core may have written them.
inline void multiply_panel(float* to, float* panel, const float* from, std::ptrdiff_t pitch, Range range, std::int64_t rows,
                           std::int64_t depth, const Scalars& scalars) {
  const std::int64_t columns = range.end - range.begin;
  const int vectors = static_cast<int>((columns + kLanes - 1) / kLanes);
  const std::int64_t width = vectors * kLanes;
  for (std::int64_t l = 0; l < depth; ++l) {
    const float* source = from + l * pitch + range.begin;
    for (std::int64_t j = 0; j < columns; j += kLanes) __builtin_prefetch(source + kRowsAhead * pitch + j);
    std::int64_t j = 0;
    for (; j + kLanes <= columns; j += kLanes) store(panel + l * width + j, load(source + j));
    for (; j < width; ++j) panel[l * width + j] = j < columns ? source[j] : 0.0f;
  }
  std::ptrdiff_t offset[kTileVectors];
  for (int j = 0; j < vectors; ++j) offset[j] = j * kLanes;
  for (std::int64_t row = 0; row < rows; row += kTileRows) {
    const int height = static_cast<int>(at_most(rows - row, kTileRows));
    Vector tile[kTileRows][kTileVectors] = {};
    multiply_add(tile, height, vectors, {scalars.at + row * scalars.row, scalars.row, scalars.step},
                 {panel, 1, 1, depth, 0, 0, width}, offset);
    for (int i = 0; i < height; ++i) {
      float* at = to + (row + i) * pitch + range.begin;
      for (int j = 0; j < vectors; ++j) store_some(at + j * kLanes, tile[i][j], columns - j * kLanes);
    }
  }
}

void linear_backward_input(float* dx, float* panel, const float* dy, const float* weight, Range in, const LinearShape& shape) {
  multiply_panel(dx, panel, weight, shape.in, in, shape.n, shape.out, {dy, shape.out, 1});
}

void linear_backward_weight(float* dweight, float* panel, const float* dy, const float* x, Range in, const LinearShape& shape) {
  multiply_panel(dweight, panel, x, shape.in, in, shape.out, shape.n, {dy, 1, shape.out});
}

void linear_backward_bias(float* dbias, const float* dy, Range out, const LinearShape& shape) {
  for (std::int64_t o = out.begin; o < out.end; ++o) dbias[o] = 0.0f;
  for (std::int64_t n = 0; n < shape.n; ++n) {
    for (std::int64_t o = out.begin; o < out.end; ++o) dbias[o] += dy[n * shape.out + o];
  }
}

}  // namespace
}  // namespace fastlenet::FASTLENET_LEVEL
