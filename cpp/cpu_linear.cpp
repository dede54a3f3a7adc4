#include <limits>

#include "batches.hpp"
#include "cpu_ops.hpp"
#include "frames.hpp"
#include "scratch.hpp"

namespace fastlenet::cpu {

namespace {

void forward_by_blocks(float* y, const float* x, const float* weight, const float* bias, const LinearShape& shape) {
  const KernelTable& table = kernels();
  const Blocks blocks(shape.n, table);
  const std::int64_t lanes = blocks.lanes;
  float* scratch[2];
  Scratch::take(scratch, {blocks.count * shape.in * lanes, blocks.count * shape.out * lanes});
  parallel_for(blocks.count, [&](std::int64_t block) {
    table.interleave(scratch[0] + block * shape.in * lanes, x + blocks.first(block) * shape.in, blocks.images(block),
                     plain_frame(shape.in, 1, 1));
  });
  // A task is a group of blocks, which share the broadcast weights, times a slice of the outputs.
  const std::int64_t groups = ceil_divide(blocks.count, table.tile_vectors);
  const std::int64_t slice = 10 * table.tile_rows, slices = ceil_divide(shape.out, slice);
  parallel_for(groups * slices, [&](std::int64_t task) {
    const std::int64_t block = task / slices * table.tile_vectors, out = task % slices * slice;
    table.linear_forward(scratch[1] + block * shape.out * lanes, scratch[0] + block * shape.in * lanes, weight, bias,
                         std::min<std::int64_t>(table.tile_vectors, blocks.count - block),
                         {out, std::min(shape.out, out + slice)}, shape);
  });
  parallel_for(blocks.count, [&](std::int64_t block) {
    table.deinterleave(y + blocks.first(block) * shape.out, scratch[1] + block * shape.out * lanes, blocks.images(block),
                       shape.out);
  });
}

void backward_by_panels(float* dx, float* dweight, float* dbias, const float* dy, const float* x, const float* weight,
                        const LinearShape& shape) {
  const KernelTable& table = kernels();
  const std::int64_t width = table.tile_vectors * table.lanes, panels = ceil_divide(shape.in, width);
  const std::int64_t panel_size = std::max(shape.n, shape.out) * width;
  float* scratch[1];
  Scratch::take(scratch, {2 * panels * panel_size});
  // One task for dbias, then a panel of columns of dweight or of dx each.
  parallel_for(1 + panels * (dx ? 2 : 1), [&](std::int64_t task) {
    if (task == 0) return table.linear_backward_bias(dbias, dy, {0, shape.out}, shape);
    const std::int64_t panel = (task - 1) % panels;
    float* room = scratch[0] + (task - 1) * panel_size;
    const Range in{panel * width, std::min(shape.in, (panel + 1) * width)};
    if (task <= panels) {
      table.linear_backward_weight(dweight, room, dy, x, in, shape);
    } else {
      table.linear_backward_input(dx, room, dy, weight, in, shape);
    }
  });
}

// --- by lists of a factor's non-zeros. What its zeros meet must be finite, or the dense product would be NaN: each function
// returns whether it was, and if not, what it computed is void ---

// Whether lists pay: more than half of x[size] zeros, to judge by its beginning. The bits do not depend on it. Their entries
// are counted by 31 bits.
bool mostly_zeros(const float* x, std::int64_t size, const LinearShape& shape) {
  if (std::max({shape.n, shape.in, shape.out}) > std::numeric_limits<std::int32_t>::max() - kernels().lanes) return false;
  const std::int64_t some = std::min(size, kPiece);
  return 2 * kernels().count_zeros(x, some) > some;
}

// Runs task(i, worker), which returns a bool, for all tasks; whether all returned true.
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
    Scratch::take(room_, {rows * capacity_, rows * capacity_, rows * ceil_divide(width, kSparseChunk), workers * panel_});
    for_pieces(rows, 8, [&](Range range) { kernels().linear_list_rows(scratch(0), x, width, range); });
  }

  SparseScratch scratch(int worker) const {
    return {{reinterpret_cast<std::int32_t*>(room_[0]), room_[1]},
            capacity_,
            reinterpret_cast<std::int32_t*>(room_[2]),
            room_[3] + worker * panel_};
  }

 private:
  std::int64_t capacity_, panel_;
  float* room_[4];
};

bool forward_by_lists(float* y, const float* x, const float* weight, const float* bias, const LinearShape& shape) {
  const std::int64_t width = kSparseVectors * kernels().lanes, panels = ceil_divide(shape.out, width);
  const int workers = workers_for(panels);
  const Lists lists(x, shape.n, shape.in, workers);
  return parallel_all(panels, workers, [&](std::int64_t panel, int worker) {
    const Range out{panel * width, std::min(shape.out, (panel + 1) * width)};
    return kernels().linear_forward_sparse(y, lists.scratch(worker), weight, bias, out, shape);
  });
}

// And dbias. The rows of dweight are shared out, so that a thread's are those that it updates.
bool weight_gradient_by_lists(float* dweight, float* dbias, const float* dy, const float* x, const LinearShape& shape) {
  const KernelTable& table = kernels();
  constexpr std::int64_t slice = 50;
  const std::int64_t slices = ceil_divide(shape.out, slice), capacity = shape.n + table.lanes;
  const std::int64_t lists = slice * capacity, ends = slice * ceil_divide(shape.n, kSparseChunk);
  const std::int64_t panel = kSparseChunk * kSparseVectors * table.lanes;
  const int workers = workers_for(slices);
  float* room[4];
  Scratch::take(room, {workers * lists, workers * lists, workers * ends, workers * panel});
  return parallel_all(slices, workers, [&](std::int64_t task, int worker) {
    const Range out{task * slice, std::min(shape.out, (task + 1) * slice)};
    table.linear_backward_bias(dbias, dy, out, shape);
    const SparseScratch scratch{{reinterpret_cast<std::int32_t*>(room[0]) + worker * lists, room[1] + worker * lists},
                                capacity,
                                reinterpret_cast<std::int32_t*>(room[2]) + worker * ends,
                                room[3] + worker * panel};
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

}  // namespace

void linear_forward(float* y, const float* x, const float* weight, const float* bias, const LinearShape& shape) {
  if (shape.n == 0 || shape.out == 0) return;
  // Every panel of the weights is transposed once, for all images: a few would not repay it.
  const std::int64_t wide = 16 * kernels().lanes;
  const bool sparse = shape.n >= 16 && shape.in >= wide && shape.out >= wide && mostly_zeros(x, shape.n * shape.in, shape);
  if (sparse && forward_by_lists(y, x, weight, bias, shape)) return;
  forward_by_blocks(y, x, weight, bias, shape);
}

void linear_forward_transposed(float* y, const float* x, const float* weight, const float* bias, bool skip_zeros,
                               const LinearShape& shape) {
  const KernelTable& table = kernels();
  parallel_for(shape.n, [&](std::int64_t n) {
    table.linear_forward_one(y + n * shape.out, x + n * shape.in, weight, bias, skip_zeros, shape);
  });
}

void linear_backward(float* dx, float* dweight, float* dbias, const float* dy, const float* x, const float* weight,
                     const LinearShape& shape) {
  if (shape.n == 0 || shape.out == 0) {
    fill_zeros(dx, shape.n * shape.in);
    fill_zeros(dweight, shape.out * shape.in);
    fill_zeros(dbias, shape.out);
    return;
  }
  const bool sparse = shape.in >= 16 * kernels().lanes && mostly_zeros(dy, shape.n * shape.out, shape);
  if (sparse && weight_gradient_by_lists(dweight, dbias, dy, x, shape) &&
      (dx == nullptr || input_gradient_by_lists(dx, dy, weight, shape))) {
    return;
  }
  backward_by_panels(dx, dweight, dbias, dy, x, weight, shape);
}

}  // namespace fastlenet::cpu
