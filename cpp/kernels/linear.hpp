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

// --- dy mostly zeros, as after ReLU: sums over the others alone. As every sum is one chain in the same order, the bits are
// those of the dense product, as long as what a zero would meet is finite.

// Rows are copied into a panel first: 128 rows of 5 vectors, 40 KiB, which stay in the first cache while every list passes
// over them. (Where they stand, a power of two apart or nearly, they would evict one another.)
constexpr int kSparseVectors = 5;
constexpr std::int64_t kSparseRows = 128, kSparsePitch = kSparseVectors * kLanes;

// The chunks of kSparseRows rows that a list of `depth` of them falls in.
inline std::int64_t sparse_chunks(std::int64_t depth) { return (depth + kSparseRows - 1) / kSparseRows; }

// list: of {place in the panel, value} for the values[depth] that are not 0, `step` apart; ends[chunk]: where each chunk's end.
inline void list_nonzero(Winner* list, std::int32_t* ends, const float* values, std::ptrdiff_t step, std::int64_t depth) {
  std::int32_t count = 0;
  for (std::int64_t first = 0; first < depth; first += kSparseRows) {
    const std::int64_t rows = at_most(depth - first, kSparseRows);
    for (std::int64_t row = 0; row < rows; ++row) {
      const float value = values[(first + row) * step];
      list[count] = {static_cast<std::int32_t>(row * kSparsePitch), value};
      count += value != 0.0f;
    }
    *ends++ = count;
  }
}

// Row i of `to` is the sum over lists[i * capacity ...] of value * from[row].
struct SparseProduct {
  float* to;
  const float* from;
  std::ptrdiff_t pitch;  // of both
  std::int64_t rows, depth;
  const Winner* lists;
  std::int64_t capacity;
  const std::int32_t* ends;
};

// One chunk of every list, on the panel; the first chunk starts the sums at 0.
template <int vectors>
__attribute__((noinline)) void sum_sparse_rows(float* to, const float* panel, const SparseProduct& product,
                                               std::int64_t chunk) {
  const std::int64_t chunks = sparse_chunks(product.depth);
  for (std::int64_t i = 0; i < product.rows; ++i, to += product.pitch) {
    const std::int32_t* ends = product.ends + i * chunks + chunk;
    const Winner* list = product.lists + i * product.capacity;
    const Winner *at = list + (chunk == 0 ? 0 : ends[-1]), *end = list + *ends;
    Vector sum[vectors] = {};
    if (chunk > 0) {
      for (int j = 0; j < vectors; ++j) sum[j] = load(to + j * kLanes);
    }
    for (; at != end; ++at) {
      const Vector value = broadcast(at->gradient);
      for (int j = 0; j < vectors; ++j) sum[j] += value * load(panel + at->offset + j * kLanes);
    }
    for (int j = 0; j < vectors; ++j) store(to + j * kLanes, sum[j]);
  }
}

template <int... cell>
inline void sum_sparse_rows(int vectors, float* to, const float* panel, const SparseProduct& product, std::int64_t chunk,
                            std::integer_sequence<int, cell...>) {
  static constexpr void (*kFunctions[])(float*, const float*, const SparseProduct&,
                                        std::int64_t) = {sum_sparse_rows<cell + 1>...};
  kFunctions[vectors - 1](to, panel, product, chunk);
}

// Columns [in) of all rows.
inline void multiply_sparse(float* panel, const SparseProduct& product, Range in) {
  for (std::int64_t column = in.begin; column < in.end; column += kSparsePitch) {
    const int vectors = static_cast<int>(at_most(in.end - column, kSparsePitch) / kLanes);
    for (std::int64_t chunk = 0; chunk < sparse_chunks(product.depth); ++chunk) {
      const std::int64_t first = chunk * kSparseRows;
      for (std::int64_t row = 0; row < at_most(product.depth - first, kSparseRows); ++row) {
        const float* from = product.from + (first + row) * product.pitch + column;
        for (int j = 0; j < vectors; ++j) store(panel + row * kSparsePitch + j * kLanes, load(from + j * kLanes));
      }
      sum_sparse_rows(vectors, product.to + column, panel, product, chunk, std::make_integer_sequence<int, kSparseVectors>{});
    }
  }
}

void linear_backward_weight_sparse(float* dweight, const SparseScratch& scratch, const float* dy, const float* x, Range out,
                                   const LinearShape& shape) {
  const std::int64_t chunks = sparse_chunks(shape.n), rows = out.end - out.begin;
  for (std::int64_t o = 0; o < rows; ++o) {
    list_nonzero(scratch.lists + o * (shape.n + 1), scratch.ends + o * chunks, dy + out.begin + o, shape.out, shape.n);
  }
  multiply_sparse(scratch.panel,
                  {dweight + out.begin * shape.in, x, shape.in, rows, shape.n, scratch.lists, shape.n + 1, scratch.ends},
                  {0, shape.in});
}

void linear_list_dy(const SparseScratch& scratch, const float* dy, Range n, const LinearShape& shape) {
  for (std::int64_t i = n.begin; i < n.end; ++i) {
    list_nonzero(scratch.lists + i * (shape.out + 1), scratch.ends + i * sparse_chunks(shape.out), dy + i * shape.out, 1,
                 shape.out);
  }
}

void linear_backward_input_sparse(float* dx, const SparseScratch& scratch, const float* weight, Range in,
                                  const LinearShape& shape) {
  multiply_sparse(scratch.panel, {dx, weight, shape.in, shape.n, shape.out, scratch.lists, shape.out + 1, scratch.ends}, in);
}

std::int64_t count_zeros(const float* x, std::int64_t count) {
  IntVector zeros = {};
  std::int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) zeros -= load(x + i) == Vector{};
  std::int64_t total = 0;
  for (int lane = 0; lane < kLanes; ++lane) total += zeros[lane];
  for (; i < count; ++i) total += x[i] == 0.0f;
  return total;
}

void linear_backward_bias(float* dbias, const float* dy, const LinearShape& shape) {
  for (std::int64_t o = 0; o < shape.out; ++o) dbias[o] = 0.0f;
  for (std::int64_t n = 0; n < shape.n; ++n) {
    for (std::int64_t o = 0; o < shape.out; ++o) dbias[o] += dy[n * shape.out + o];
  }
}

}  // namespace
}  // namespace fastlenet::FASTLENET_LEVEL
