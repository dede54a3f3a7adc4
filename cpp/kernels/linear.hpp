// The linear layer's three products, each on the one multiply-add loop of gemm.hpp.
#pragma once

#include "../kernels.hpp"
#include "gemm.hpp"

namespace fastlenet::FASTLENET_LEVEL {
namespace {

constexpr std::int64_t kPanel = kTileVectors * kLanes;

// Images in the lanes, weights broadcast: y[o][image] = bias[o] + sum over i of weight[o][i] * x[i][image].
void linear_forward(float* y, const float* x, const float* weight, const float* bias, std::int64_t blocks, Range out,
                    const LinearShape& shape) {
  const Vectors vectors{x, 1, 1, shape.in, 0, 0, kLanes};
  std::ptrdiff_t offset[kTileVectors];
  for (std::int64_t block = 0; block < blocks; ++block) offset[block] = block * shape.in * kLanes;
  for (std::int64_t o = out.begin; o < out.end; o += kTileRows) {
    const int rows = static_cast<int>(at_most(out.end - o, kTileRows));
    Vector tile[kTileRows][kTileVectors];
    for (int i = 0; i < rows; ++i) {
      for (std::int64_t j = 0; j < blocks; ++j) tile[i][j] = broadcast(bias ? bias[o + i] : 0.0f);
    }
    multiply_add(tile, rows, static_cast<int>(blocks), {weight + o * shape.in, shape.in, 1}, vectors, offset);
    for (int i = 0; i < rows; ++i) {
      for (std::int64_t j = 0; j < blocks; ++j) store(y + (j * shape.out + o + i) * kLanes, tile[i][j]);
    }
  }
}

// to[rows][pitch], columns [range) = sum over l of scalars(row, l) * from[l][pitch]. The columns are copied into a
// panel first: it is read once per kTileRows rows, in order and aligned, and its tail is filled with zeros.
inline void multiply_panel(float* to, float* panel, const float* from, std::ptrdiff_t pitch, Range range, std::int64_t rows,
                           std::int64_t depth, const Scalars& scalars) {
  const std::int64_t columns = range.end - range.begin;
  const int vectors = static_cast<int>((columns + kLanes - 1) / kLanes);
  const std::int64_t width = vectors * kLanes;
  for (std::int64_t l = 0; l < depth; ++l) {
    const float* source = from + l * pitch + range.begin;
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
      for (int j = 0; j < vectors; ++j) {
        if ((j + 1) * kLanes <= columns) {
          store(at + j * kLanes, tile[i][j]);
        } else {
          float lanes[kLanes];
          store(lanes, tile[i][j]);
          for (std::int64_t lane = 0; lane < columns - j * kLanes; ++lane) at[j * kLanes + lane] = lanes[lane];
        }
      }
    }
  }
}

void linear_backward_input(float* dx, float* panel, const float* dy, const float* weight, Range in, const LinearShape& shape) {
  multiply_panel(dx, panel, weight, shape.in, in, shape.n, shape.out, {dy, shape.out, 1});
}

void linear_backward_weight(float* dweight, float* panel, const float* dy, const float* x, Range in, const LinearShape& shape) {
  multiply_panel(dweight, panel, x, shape.in, in, shape.out, shape.n, {dy, 1, shape.out});
}

void linear_backward_bias(float* dbias, const float* dy, const LinearShape& shape) {
  for (std::int64_t o = 0; o < shape.out; ++o) dbias[o] = 0.0f;
  for (std::int64_t n = 0; n < shape.n; ++n) {
    for (std::int64_t o = 0; o < shape.out; ++o) dbias[o] += dy[n * shape.out + o];
  }
}

}  // namespace
}  // namespace fastlenet::FASTLENET_LEVEL
