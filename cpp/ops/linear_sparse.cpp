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

// The lists of x[rows][width] in scratch memory, and a panel for each worker.
class Lists {
 public:
  Lists(const float* x, std::int64_t rows, std::int64_t width, int workers)
      : capacity_(width + kernels().lanes), panel_(kSparseChunk * kSparseVectors * kernels().lanes) {
    take_scratch({{lists_.offset, rows * capacity_},
                  {lists_.value, rows * capacity_},
                  {ends_, rows * ceil_divide(width, kSparseChunk)},
                  {panels_, workers * panel_}});
    for_pieces(rows, 8, [&](Range range) { kernels().linear_list_rows(scratch(0), x, width, range); });
  }

  SparseScratch scratch(int worker) const { return {lists_, capacity_, ends_, panels_ + worker * panel_}; }

 private:
  std::int64_t capacity_, panel_;
  List lists_;
  std::int32_t* ends_;
  float* panels_;
};

}  // namespace

// Lists count their entries with 31 bits, so larger shapes take the dense product.
bool mostly_zeros(const float* x, std::int64_t size, const LinearShape& shape) {
  if (std::max({shape.n, shape.in, shape.out}) > std::numeric_limits<std::int32_t>::max() - kernels().lanes) return false;
  const std::int64_t some = std::min(size, kPiece);
  return 2 * kernels().count_zeros(x, some) > some;
}

bool forward_by_lists(float* y, const float* x, const float* weight, const float* bias, const LinearShape& shape) {
  const std::int64_t width = kSparseVectors * kernels().lanes, panels = ceil_divide(shape.out, width);
  const int workers = workers_for(panels);
  const Lists lists(x, shape.n, shape.in, workers);
  return parallel_all(panels, workers, [&](std::int64_t panel, int worker) {
    const Range out{panel * width, std::min(shape.out, (panel + 1) * width)};
    return kernels().linear_forward_sparse(y, lists.scratch(worker), weight, bias, out, shape);
  });
}

// The threads share the rows of dweight, so that each later updates the weights whose gradients are in its cache.
bool weight_gradient_by_lists(float* dweight, float* dbias, const float* dy, const float* x, const LinearShape& shape) {
  const KernelTable& table = kernels();
  constexpr std::int64_t slice = 50;
  const std::int64_t slices = ceil_divide(shape.out, slice), capacity = shape.n + table.lanes;
  const std::int64_t lists = slice * capacity, ends = slice * ceil_divide(shape.n, kSparseChunk);
  const std::int64_t panel = kSparseChunk * kSparseVectors * table.lanes;
  const int workers = workers_for(slices);
  SparseScratch workspaces;  // of all workers
  take_scratch({{workspaces.lists.offset, workers * lists},
                {workspaces.lists.value, workers * lists},
                {workspaces.ends, workers * ends},
                {workspaces.panel, workers * panel}});
  return parallel_all(slices, workers, [&](std::int64_t task, int worker) {
    const Range out{task * slice, std::min(shape.out, (task + 1) * slice)};
    table.linear_backward_bias(dbias, dy, out, shape);
    const SparseScratch scratch{{workspaces.lists.offset + worker * lists, workspaces.lists.value + worker * lists},
                                capacity,
                                workspaces.ends + worker * ends,
                                workspaces.panel + worker * panel};
    return table.linear_backward_weight_sparse(dweight, scratch, dy, x, out, shape);
  });
}

bool input_gradient_by_lists(float* dx, const float* dy, const float* weight, const LinearShape& shape) {
  const std::int64_t width = kSparseVectors * kernels().lanes, panels = ceil_divide(shape.in, width);
  const int workers = workers_for(panels);
  const Lists lists(dy, shape.n, shape.out, workers);
  return parallel_all(panels, workers, [&](std::int64_t panel, int worker) {
    const Range in{panel * width, std::min(shape.in, (panel + 1) * width)};
    return kernels().linear_backward_input_sparse(dx, lists.scratch(worker), weight, in, shape);
  });
}

}  // namespace fastlenet::cpu
