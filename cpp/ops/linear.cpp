// Linear layers on a batch: forward by blocks of images, backward by panels of columns. If a factor is mostly zeros, all
// products use lists of its non-zeros.
#include "../machine/scratch.hpp"
#include "batches.hpp"
#include "frames.hpp"
#include "linear_sparse.hpp"
#include "ops.hpp"

namespace fastlenet::cpu {

namespace {

void forward_by_blocks(float* y, const float* x, const float* weight, const float* bias, const LinearShape& shape) {
  const KernelTable& table = kernels();
  const Blocks blocks(shape.n, table);
  const std::int64_t lanes = blocks.lanes;
  float *x_blocks, *y_blocks;
  take_scratch({{x_blocks, blocks.count * shape.in * lanes}, {y_blocks, blocks.count * shape.out * lanes}});
  parallel_for(blocks.count, [&](std::int64_t block) {
    table.interleave(x_blocks + block * shape.in * lanes, x + blocks.first(block) * shape.in, blocks.images(block),
                     plain_frame(shape.in, 1, 1));
  });
  // A task computes a slice of the outputs for a group of blocks, which share the broadcast weights.
  const std::int64_t groups = ceil_divide(blocks.count, table.tile_vectors);
  const std::int64_t slice = 10 * table.tile_rows, slices = ceil_divide(shape.out, slice);
  parallel_for(groups * slices, [&](std::int64_t task) {
    const std::int64_t block = task / slices * table.tile_vectors, out = task % slices * slice;
    table.linear_forward(y_blocks + block * shape.out * lanes, x_blocks + block * shape.in * lanes, weight, bias,
                         std::min<std::int64_t>(table.tile_vectors, blocks.count - block),
                         {out, std::min(shape.out, out + slice)}, shape);
  });
  parallel_for(blocks.count, [&](std::int64_t block) {
    table.deinterleave(y + blocks.first(block) * shape.out, y_blocks + block * shape.out * lanes, blocks.images(block),
                       shape.out);
  });
}

void backward_by_panels(float* dx, float* dweight, float* dbias, const float* dy, const float* x, const float* weight,
                        const LinearShape& shape) {
  const KernelTable& table = kernels();
  const std::int64_t width = table.tile_vectors * table.lanes, panels = ceil_divide(shape.in, width);
  const std::int64_t panel_size = std::max(shape.n, shape.out) * width;
  float* workspaces;
  take_scratch({{workspaces, 2 * panels * panel_size}});
  // The first task computes dbias; each other task computes a panel of columns of dweight or of dx.
  parallel_for(1 + panels * (dx ? 2 : 1), [&](std::int64_t task) {
    if (task == 0) return table.linear_backward_bias(dbias, dy, {0, shape.out}, shape);
    const std::int64_t panel = (task - 1) % panels;
    float* workspace = workspaces + (task - 1) * panel_size;
    const Range in{panel * width, std::min(shape.in, (panel + 1) * width)};
    if (task <= panels) {
      table.linear_backward_weight(dweight, workspace, dy, x, in, shape);
    } else {
      table.linear_backward_input(dx, workspace, dy, weight, in, shape);
    }
  });
}

}  // namespace

void linear_forward(float* y, const float* x, const float* weight, const float* bias, const LinearShape& shape) {
  if (shape.n == 0 || shape.out == 0) return;
  // Lists need every panel of the weights transposed once, which pays only for enough images.
  const std::int64_t wide = 16 * kernels().lanes;
  const bool sparse = shape.n >= 16 && shape.in >= wide && shape.out >= wide && mostly_zeros(x, shape.n * shape.in, shape);
  if (sparse && forward_by_lists(y, x, weight, bias, shape)) return;
  forward_by_blocks(y, x, weight, bias, shape);
}

void pack_matrix(float* packed, const float* weight, std::int64_t out, std::int64_t in) {
  for (std::int64_t o = 0; o < out; ++o) {
    for (std::int64_t i = 0; i < in; ++i) packed[i * out + o] = weight[o * in + i];
  }
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
  if (sparse && backward_by_lists(dx, dweight, dbias, dy, x, weight, shape)) return;
  backward_by_panels(dx, dweight, dbias, dy, x, weight, shape);
}

}  // namespace fastlenet::cpu
