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

// kLanes values at `from`, or as many as there are and zeros.
inline Vector load_some(const float* from, std::int64_t count) {
  if (count >= kLanes) return load(from);
  Vector some = {};
  for (int lane = 0; lane < count; ++lane) some[lane] = from[lane];
  return some;
}

// One image: the lanes are outputs, 16 vectors of them at a time (8 where there are 16 registers), x is what is broadcast.
constexpr int kOutputVectors = kRegisters / 2;

template <int vectors>
__attribute__((noinline)) void linear_outputs(float* y, const float* x, const float* weight, const float* bias, bool skip_zeros,
                                              const LinearShape& shape) {
  Vector sum[vectors];
  for (int j = 0; j < vectors; ++j) sum[j] = bias ? load(bias + j * kLanes) : Vector{};
  for (std::int64_t i = 0; i < shape.in; ++i, weight += shape.out) {
    if (skip_zeros && x[i] == 0.0f) continue;
    const Vector factor = broadcast(x[i]);
    for (int j = 0; j < vectors; ++j) sum[j] += factor * load(weight + j * kLanes);
  }
  for (int j = 0; j < vectors; ++j) store(y + j * kLanes, sum[j]);
}

using LinearOutputs = void (*)(float*, const float*, const float*, const float*, bool, const LinearShape&);

template <int... vector>
inline LinearOutputs linear_outputs_function(int vectors, std::integer_sequence<int, vector...>) {
  static constexpr LinearOutputs kFunctions[] = {linear_outputs<vector + 1>...};
  return kFunctions[vectors - 1];
}

void linear_forward_one(float* y, const float* x, const float* weight, const float* bias, bool skip_zeros,
                        const LinearShape& shape) {
  std::int64_t o = 0;
  while (shape.out - o >= kLanes) {
    const int vectors = static_cast<int>(at_most((shape.out - o) / kLanes, kOutputVectors));
    linear_outputs_function(vectors, std::make_integer_sequence<int, kOutputVectors>{})(
        y + o, x, weight + o, bias ? bias + o : nullptr, skip_zeros, shape);
    o += vectors * kLanes;
  }
  if (o == shape.out) return;
  // What is left of a vector: a row's load may reach into the next row, but not past the last.
  const std::int64_t rest = shape.out - o, whole = shape.in * shape.out - kLanes;
  Vector sum = bias ? load_some(bias + o, rest) : Vector{};
  for (std::int64_t i = 0; i < shape.in; ++i) {
    if (skip_zeros && x[i] == 0.0f) continue;
    const std::int64_t at = i * shape.out + o;
    sum += broadcast(x[i]) * (at <= whole ? load(weight + at) : load_some(weight + at, rest));
  }
  float lanes[kLanes];
  store(lanes, sum);
  for (std::int64_t lane = 0; lane < rest; ++lane) y[o + lane] = lanes[lane];
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

// Appends to a list, at `count`, the place in the panel and the value of those `values` (of rows `row` on, all of one chunk)
// that are not 0.
inline std::int32_t append_nonzero(const List& list, std::int32_t count, Vector values, std::int64_t row) {
  IntVector offset;
  for (int lane = 0; lane < kLanes; ++lane) offset[lane] = lane * static_cast<std::int32_t>(kSparsePitch);
  offset += broadcast_int(static_cast<std::int32_t>(row % kSparseRows * kSparsePitch));
  const IntVector keep = values != Vector{};
  compress(list.offset + count, offset, keep);
  return count + compress(reinterpret_cast<std::int32_t*>(list.value) + count, reinterpret_cast<IntVector>(values), keep);
}

// The list of a scratch's row or column i.
inline List list_of(const SparseScratch& scratch, std::int64_t i) {
  return {scratch.lists.offset + i * scratch.capacity, scratch.lists.value + i * scratch.capacity};
}

// Row i of `to` is the sum over lists[i * capacity ...] of value * from[row].
struct SparseProduct {
  float* to;
  const float* from;
  std::ptrdiff_t pitch;  // of both
  std::int64_t rows, depth;
  const SparseScratch& scratch;
};

// One chunk of every list, on the panel; the first chunk starts the sums at 0.
template <int vectors>
__attribute__((noinline)) void sum_sparse_rows(float* to, const float* panel, const SparseProduct& product,
                                               std::int64_t chunk) {
  const std::int64_t chunks = sparse_chunks(product.depth);
  for (std::int64_t i = 0; i < product.rows; ++i, to += product.pitch) {
    const std::int32_t* ends = product.scratch.ends + i * chunks + chunk;
    const List list = list_of(product.scratch, i);
    Vector sum[vectors] = {};
    if (chunk > 0) {
      for (int j = 0; j < vectors; ++j) sum[j] = load(to + j * kLanes);
    }
    for (std::ptrdiff_t at = chunk == 0 ? 0 : ends[-1]; at < *ends; ++at) {
      const Vector value = broadcast(list.value[at]);
      const float* row = panel + list.offset[at];
      for (int j = 0; j < vectors; ++j) sum[j] += value * load(row + j * kLanes);
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
inline void multiply_sparse(const SparseProduct& product, Range in) {
  float* panel = product.scratch.panel;
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

// dy's columns are turned into rows kLanes x kLanes at a time.
void linear_backward_weight_sparse(float* dweight, const SparseScratch& scratch, const float* dy, const float* x, Range out,
                                   const LinearShape& shape) {
  const std::int64_t chunks = sparse_chunks(shape.n), rows = out.end - out.begin;
  for (std::int64_t o = 0; o < rows; o += kLanes) {
    const int columns = static_cast<int>(at_most(rows - o, kLanes));
    std::int32_t count[kLanes] = {};
    for (std::int64_t n = 0; n < shape.n; n += kLanes) {
      Vector block[kLanes];
      for (int lane = 0; lane < kLanes; ++lane) {
        block[lane] = n + lane < shape.n ? load_some(dy + (n + lane) * shape.out + out.begin + o, columns) : Vector{};
      }
      transpose(block);
      for (int i = 0; i < columns; ++i) {
        count[i] = append_nonzero(list_of(scratch, o + i), count[i], block[i], n);
        scratch.ends[(o + i) * chunks + n / kSparseRows] = count[i];
      }
    }
  }
  multiply_sparse({dweight + out.begin * shape.in, x, shape.in, rows, shape.n, scratch}, {0, shape.in});
}

void linear_list_dy(const SparseScratch& scratch, const float* dy, Range n, const LinearShape& shape) {
  for (std::int64_t i = n.begin; i < n.end; ++i) {
    std::int32_t count = 0;
    for (std::int64_t o = 0; o < shape.out; o += kLanes) {
      count = append_nonzero(list_of(scratch, i), count, load_some(dy + i * shape.out + o, shape.out - o), o);
      scratch.ends[i * sparse_chunks(shape.out) + o / kSparseRows] = count;
    }
  }
}

void linear_backward_input_sparse(float* dx, const SparseScratch& scratch, const float* weight, Range in,
                                  const LinearShape& shape) {
  multiply_sparse({dx, weight, shape.in, shape.n, shape.out, scratch}, in);
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
