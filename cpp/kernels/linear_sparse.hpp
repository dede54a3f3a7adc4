// The linear layer's products where one factor is mostly zeros, as after ReLU. The sums use its non-zero elements only. Every
// sum is one chain in the usual order, so the bits are those of the dense product if the elements that zeros multiply are
// finite.
//
// A row of the factor becomes a list of its non-zeros. For each of them, a scaled row of the other matrix is added. A non-zero
// costs 5 multiply-adds of vectors, 5 loads and 2 more for itself; the dense product takes 5 multiply-adds for every element.
// So lists pay if at least every second element is zero.
#pragma once

#include "gemm.hpp"
#include "table.hpp"

namespace fastlenet::FASTLENET_LEVEL {
namespace {

// The other matrix is first copied into a panel, 128 rows of 5 vectors at a time. In place, rows that are about a power of two
// apart would evict one another from the cache. The panel has 40 KiB; the first-level cache holds most of it while every list
// passes over it. With fewer rows, more lists would end, each in a mispredicted branch. Five sums hide most of a multiply-add's
// latency.
constexpr std::int64_t kSparsePitch = kSparseVectors * kLanes;

// The number of chunks of kSparseChunk rows in `depth` rows.
inline std::int64_t sparse_chunks(std::int64_t depth) { return (depth + kSparseChunk - 1) / kSparseChunk; }

// Appends the non-zeros among `values` to a list, at `count`: their values and their places in the panel. The values belong to
// the rows from `row` on, all of one chunk. Returns the new count.
inline std::int32_t append_nonzero(const List& list, std::int32_t count, Vector values, std::int64_t row) {
  IntVector offset;
  for (int lane = 0; lane < kLanes; ++lane) offset[lane] = lane * static_cast<std::int32_t>(kSparsePitch);
  offset += broadcast_int(static_cast<std::int32_t>(row % kSparseChunk * kSparsePitch));
  const IntVector keep = values != Vector{};
  compress(list.offset + count, offset, keep);
  return count + compress(reinterpret_cast<std::int32_t*>(list.value) + count, reinterpret_cast<IntVector>(values), keep);
}

// The list of row (or column) i.
inline List list_of(const SparseScratch& scratch, std::int64_t i) {
  return {scratch.lists.offset + i * scratch.capacity, scratch.lists.value + i * scratch.capacity};
}

// A product: row i of to[rows][pitch] is start + the sum over list i of value * row of the other matrix, which has `depth`
// rows.
struct SparseProduct {
  float* to;
  std::ptrdiff_t pitch;
  std::int64_t rows, depth;
  const float* start;  // a value per column, or null for zeros
  const SparseScratch& scratch;
};

// Adds one chunk of every list, with the panel's rows, to the columns in `range`: `vectors` vectors, the last perhaps not full.
template <int vectors>
__attribute__((noinline)) void sum_sparse_rows(const SparseProduct& product, Range range, std::int64_t chunk) {
  const std::int64_t chunks = sparse_chunks(product.depth), last = range.end - range.begin - (vectors - 1) * kLanes;
  Vector start[vectors] = {};
  for (int j = 0; product.start != nullptr && j < vectors; ++j) {
    // + Vector{}, as in the dense product.
    start[j] = load_some(product.start + range.begin + j * kLanes, j < vectors - 1 ? kLanes : last) + Vector{};
  }
  for (std::int64_t i = 0; i < product.rows; ++i) {
    float* to = product.to + i * product.pitch + range.begin;
    const std::int32_t* ends = product.scratch.ends + i * chunks + chunk;
    const List list = list_of(product.scratch, i);
    Vector sum[vectors];
    for (int j = 0; j < vectors; ++j) {
      sum[j] = chunk == 0 ? start[j] : load_some(to + j * kLanes, j < vectors - 1 ? kLanes : last);
    }
    for (std::ptrdiff_t at = chunk == 0 ? 0 : ends[-1]; at < *ends; ++at) {
      const Vector value = broadcast(list.value[at]);
      const float* row = product.scratch.panel + list.offset[at];
      for (int j = 0; j < vectors; ++j) sum[j] += value * load(row + j * kLanes);
    }
    for (int j = 0; j < vectors; ++j) store_some(to + j * kLanes, sum[j], j < vectors - 1 ? kLanes : last);
  }
}

template <int... cell>
inline void sum_sparse_rows(int vectors, const SparseProduct& product, Range range, std::int64_t chunk,
                            std::integer_sequence<int, cell...>) {
  static constexpr void (*kFunctions[])(const SparseProduct&, Range, std::int64_t) = {sum_sparse_rows<cell + 1>...};
  kFunctions[vectors - 1](product, range, chunk);
}

// Computes the columns in `range` of all rows, only the terms of the chunks in `chunks`, after those before. fill(panel, row,
// rows, columns) copies rows of the other matrix, from `row` on, into the panel, and returns the sum of 0 times each number.
// This sum is 0 if the numbers are finite. Returns whether all of them are.
template <typename Fill>
inline bool multiply_sparse(const SparseProduct& product, Range range, Range chunks, const Fill& fill) {
  Vector nothing = {};
  for (std::int64_t column = range.begin; column < range.end; column += kSparsePitch) {
    const Range columns{column, column + at_most(range.end - column, kSparsePitch)};
    const int vectors = static_cast<int>((columns.end - column + kLanes - 1) / kLanes);
    for (std::int64_t chunk = chunks.begin; chunk < chunks.end; ++chunk) {
      const std::int64_t row = chunk * kSparseChunk;
      nothing += fill(product.scratch.panel, row, at_most(product.depth - row, kSparseChunk), columns);
      sum_sparse_rows(vectors, product, columns, chunk, std::make_integer_sequence<int, kSparseVectors>{});
    }
  }
  return sum_lanes(nothing) == 0.0f;
}

// A fill that copies rows of from[depth][pitch]; it prefetches as multiply_panel does.
inline auto copied_from(const float* from, std::ptrdiff_t pitch) {
  return [=](float* panel, std::int64_t row, std::int64_t rows, Range columns) {
    Vector nothing = {};
    for (std::int64_t i = 0; i < rows; ++i, panel += kSparsePitch) {
      const float* at = from + (row + i) * pitch + columns.begin;
      for (std::int64_t j = 0; j < columns.end - columns.begin; j += kLanes) {
        __builtin_prefetch(at + kRowsAhead * pitch + j);
        const Vector values = load_some(at + j, columns.end - columns.begin - j);
        nothing += values * Vector{};
        store(panel + j, values);
      }
    }
    return nothing;
  };
}

// A fill that transposes rows of from[columns][pitch]. They come from the third-level cache, in pieces too short for the CPU's
// prefetcher, so each piece prefetches the same piece of the next panel.
inline auto transposed_from(const float* from, std::ptrdiff_t pitch) {
  return [=](float* panel, std::int64_t row, std::int64_t rows, Range columns) {
    Vector nothing = {};
    for (std::int64_t i = 0; i < rows; i += kLanes) {
      for (std::int64_t column = columns.begin; column < columns.end; column += kLanes) {
        Vector block[kLanes];
        for (int lane = 0; lane < kLanes; ++lane) {
          block[lane] = column + lane < columns.end ? load_some(from + (column + lane) * pitch + row + i, rows - i) : Vector{};
          __builtin_prefetch(from + (column + lane) * pitch + row + i + kSparseChunk);
          nothing += block[lane] * Vector{};
        }
        transpose(block);
        for (int lane = 0; lane < kLanes; ++lane)
          store(panel + (i + lane) * kSparsePitch + column - columns.begin, block[lane]);
      }
    }
    return nothing;
  };
}

void linear_list_rows(const SparseScratch& scratch, const float* x, std::int64_t width, Range rows) {
  for (std::int64_t i = rows.begin; i < rows.end; ++i) {
    std::int32_t count = 0;
    for (std::int64_t j = 0; j < width; j += kLanes) {
      count = append_nonzero(list_of(scratch, i), count, load_some(x + i * width + j, width - j), j);
      scratch.ends[i * sparse_chunks(width) + j / kSparseChunk] = count;
    }
  }
}

bool linear_forward_sparse(float* y, const SparseScratch& scratch, const float* weight, const float* bias, Range out,
                           const LinearShape& shape) {
  return multiply_sparse({y, shape.out, shape.n, shape.in, bias, scratch}, out, {0, sparse_chunks(shape.in)},
                         transposed_from(weight, shape.in));
}

bool linear_backward_input_sparse(float* dx, const SparseScratch& scratch, const float* weight, Range in, Range chunks,
                                  const LinearShape& shape) {
  return multiply_sparse({dx, shape.in, shape.n, shape.out, nullptr, scratch}, in, chunks, copied_from(weight, shape.in));
}

// Transposes dy by kLanes x kLanes elements, so that its columns become rows to list.
bool linear_backward_weight_sparse(float* dweight, const SparseScratch& scratch, const float* dy, const float* x, Range out,
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
        scratch.ends[(o + i) * chunks + n / kSparseChunk] = count[i];
      }
    }
  }
  return multiply_sparse({dweight + out.begin * shape.in, shape.in, rows, shape.n, nullptr, scratch}, {0, shape.in},
                         {0, chunks}, copied_from(x, shape.in));
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

}  // namespace
}  // namespace fastlenet::FASTLENET_LEVEL
