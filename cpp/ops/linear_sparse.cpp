#include "linear_sparse.hpp"

#include <atomic>
#include <limits>

#include "../machine/scratch.hpp"
#include "batches.hpp"

namespace fastlenet::cpu {

namespace {

// Calls task(i, worker), which returns a bool, for all tasks. Returns whether all of them returned true.
template <typename Task>
bool parallel_all(std::int64_t tasks, int workers, const Task& task) {
  std::atomic<bool> all{true};
  parallel_for(tasks, workers, [&](std::int64_t i, int worker) {
    if (!task(i, worker)) all.store(false, std::memory_order_relaxed);
  });
  return all.load();
}

// The range of the i-th of `parts` nearly equal parts.
Range part_of(Range whole, std::int64_t i, std::int64_t parts) {
  const std::int64_t size = whole.end - whole.begin;
  return {whole.begin + size * i / parts, whole.begin + size * (i + 1) / parts};
}

// The gradients of a linear layer by lists; all workers share the lists of the rows of dy.
struct GradientsByLists {
  float *dx, *dweight, *dbias;
  const float *dy, *x, *weight;
  const LinearShape& shape;
  const KernelTable& table = kernels();
  const std::int64_t slices = ceil_divide(shape.out, kSlice), chunks = ceil_divide(shape.out, kSparseChunk);
  const std::int64_t width = kSparseVectors * table.lanes, panels = dx != nullptr ? ceil_divide(shape.in, width) : 0;
  // The outputs below the middle are those of the first half. Without dx there is one half only.
  const std::int64_t middle_chunk = dx != nullptr ? chunks / 2 : 0, middle_slice = middle_chunk * kSparseChunk / kSlice;
  List lists{};
  std::int32_t* ends = nullptr;
  PerWorker<std::int32_t> offset{}, some_ends{};
  PerWorker<float> value{}, panel{};

  static constexpr std::int64_t kSlice = 50;

  bool compute() {
    const int workers = workers_for(std::max(slices, panels));
    const std::int64_t of_row = shape.out + table.lanes, of_slice = kSlice * (shape.n + table.lanes);
    const std::int64_t rows = panels != 0 ? shape.n : 0;
    take_scratch({{lists.offset, rows * of_row},
                  {lists.value, rows * of_row},
                  {ends, rows * chunks},
                  {offset, workers, of_slice},
                  {value, workers, of_slice},
                  {some_ends, workers, kSlice * ceil_divide(shape.n, kSparseChunk)},
                  {panel, workers, kSparseChunk * width}});
    for_pieces(rows, 8, [&](Range range) { table.linear_list_rows({lists, of_row, ends, panel[0]}, dy, shape.out, range); });
    return phase({0, middle_chunk}, {middle_slice, slices}, true, workers) &&
           phase({middle_chunk, chunks}, {0, middle_slice}, false, workers);
  }

  // The terms of some chunks of outputs in dx, and dweight of some slices of outputs. The workers' shares are in the order of
  // the tasks. Both gradients have as many tasks, so that half of the workers compute each, unless that were too few tasks for
  // the workers.
  bool phase(Range some_chunks, Range some_slices, bool input_first, int workers) const {
    const std::int64_t of_input = some_chunks.begin < some_chunks.end ? panels : 0;
    const std::int64_t of_weight = some_slices.end - some_slices.begin;
    const std::int64_t parts = std::min(of_input, of_weight);
    const std::int64_t input_parts = parts < workers ? of_input : parts, weight_parts = parts < workers ? of_weight : parts;
    if (input_parts + weight_parts == 0) return true;
    return parallel_all(input_parts + weight_parts, workers, [&](std::int64_t task, int worker) {
      const std::int64_t first = input_first ? input_parts : weight_parts, part = task < first ? task : task - first;
      if ((task < first) == input_first) return input_gradient(part_of({0, panels}, part, input_parts), some_chunks, worker);
      return weight_gradient(part_of(some_slices, part, weight_parts), worker);
    });
  }

  bool input_gradient(Range some_panels, Range some_chunks, int worker) const {
    const Range in{some_panels.begin * width, std::min(shape.in, some_panels.end * width)};
    const SparseScratch scratch{lists, shape.out + table.lanes, ends, panel[worker]};
    return table.linear_backward_input_sparse(dx, scratch, weight, in, some_chunks, shape);
  }

  bool weight_gradient(Range some_slices, int worker) const {
    const SparseScratch scratch{{offset[worker], value[worker]}, shape.n + table.lanes, some_ends[worker], panel[worker]};
    bool finite = true;
    for (std::int64_t slice = some_slices.begin; slice < some_slices.end; ++slice) {
      const Range out{slice * kSlice, std::min(shape.out, (slice + 1) * kSlice)};
      table.linear_backward_bias(dbias, dy, out, shape);
      finite = table.linear_backward_weight_sparse(dweight, scratch, dy, x, out, shape) && finite;
    }
    return finite;
  }
};

}  // namespace

// Lists count their entries with 31 bits, so larger shapes take the dense product.
bool mostly_zeros(const float* x, std::int64_t size, const LinearShape& shape) {
  if (std::max({shape.n, shape.in, shape.out}) > std::numeric_limits<std::int32_t>::max() - kernels().lanes) return false;
  const std::int64_t some = std::min(size, kPiece);
  return 2 * kernels().count_zeros(x, some) > some;
}

bool forward_by_lists(float* y, const float* x, const float* weight, const float* bias, const LinearShape& shape) {
  const KernelTable& table = kernels();
  const std::int64_t width = kSparseVectors * table.lanes, panels = ceil_divide(shape.out, width);
  const std::int64_t of_row = shape.in + table.lanes;
  const int workers = workers_for(panels);
  List lists;
  std::int32_t* ends;
  PerWorker<float> panel;
  take_scratch({{lists.offset, shape.n * of_row},
                {lists.value, shape.n * of_row},
                {ends, shape.n * ceil_divide(shape.in, kSparseChunk)},
                {panel, workers, kSparseChunk * width}});
  for_pieces(shape.n, 8, [&](Range rows) { table.linear_list_rows({lists, of_row, ends, panel[0]}, x, shape.in, rows); });
  return parallel_all(panels, workers, [&](std::int64_t task, int worker) {
    const Range out{task * width, std::min(shape.out, (task + 1) * width)};
    return table.linear_forward_sparse(y, {lists, of_row, ends, panel[worker]}, weight, bias, out, shape);
  });
}

// The gradients come in two halves, so that a core reads, and later updates, only the half of the weights that its cache holds:
// while some threads add the terms of the first half of the outputs to dx, the others compute dweight of the second half; then
// the other way round. Each sum of dx is still one chain in the order of the outputs.
bool backward_by_lists(float* dx, float* dweight, float* dbias, const float* dy, const float* x, const float* weight,
                       const LinearShape& shape) {
  return GradientsByLists{dx, dweight, dbias, dy, x, weight, shape}.compute();
}

}  // namespace fastlenet::cpu
