// Pooling of a batch. Here a lane is a plane of any image.
#include "../machine/scratch.hpp"
#include "batches.hpp"
#include "frames.hpp"
#include "ops.hpp"

namespace fastlenet::cpu {

void max_pool2d_forward(float* y, std::int32_t* indices, const float* x, const PoolShape& shape) {
  if (shape.n == 0 || shape.c == 0) return;
  const KernelTable& table = kernels();
  const Blocks blocks(shape.n * shape.c, table);  // here a lane is a plane
  const std::int64_t x_size = shape.h * shape.w, y_size = shape.p * shape.q;
  const int workers = workers_for(blocks.count);
  const std::int64_t lanes = blocks.lanes;
  PerWorker<float> x_blocks, y_blocks, index_blocks;  // the indices are 32-bit integers, moved as floats
  take_scratch(
      {{x_blocks, workers, lanes * x_size}, {y_blocks, workers, lanes * y_size}, {index_blocks, workers, lanes * y_size}});
  parallel_for(blocks.count, workers, [&](std::int64_t block, int worker) {
    const std::int64_t first = blocks.first(block), planes = blocks.images(block);
    float *x_block = x_blocks[worker], *y_block = y_blocks[worker], *index_block = index_blocks[worker];
    table.interleave(x_block, x + first * x_size, planes, plain_frame(1, shape.h, shape.w));
    table.max_pool2d_forward(y_block, reinterpret_cast<std::int32_t*>(index_block), x_block, shape);
    table.deinterleave(y + first * y_size, y_block, planes, y_size);
    table.deinterleave(reinterpret_cast<float*>(indices) + first * y_size, index_block, planes, y_size);
  });
}

void max_pool2d_backward(float* dx, const float* dy, const std::int32_t* indices, const PoolShape& shape) {
  const KernelTable& table = kernels();
  const std::int64_t x_size = shape.h * shape.w, y_size = shape.p * shape.q;
  for_pieces(shape.n * shape.c, 16, [&](Range planes) {
    for (std::int64_t plane = planes.begin; plane < planes.end; ++plane) {
      table.max_pool2d_backward(dx + plane * x_size, dy + plane * y_size, indices + plane * y_size, shape);
    }
  });
}

namespace {

struct Plane {
  std::int64_t h, w;
};

// Runs kernel(to, from, shape) on blocks of planes, and writes all planes of `to`.
template <typename Kernel>
void for_planes(float* to, Plane to_plane, const float* from, Plane from_plane, const PoolShape& shape, const Kernel& kernel) {
  if (shape.n == 0 || shape.c == 0) return;
  const KernelTable& table = kernels();
  const Blocks blocks(shape.n * shape.c, table);
  const std::int64_t to_size = to_plane.h * to_plane.w, from_size = from_plane.h * from_plane.w;
  const int workers = workers_for(blocks.count);
  PerWorker<float> to_blocks, from_blocks;
  take_scratch({{to_blocks, workers, blocks.lanes * to_size}, {from_blocks, workers, blocks.lanes * from_size}});
  parallel_for(blocks.count, workers, [&](std::int64_t block, int worker) {
    const std::int64_t first = blocks.first(block), planes = blocks.images(block);
    float *to_block = to_blocks[worker], *from_block = from_blocks[worker];
    table.interleave(from_block, from + first * from_size, planes, plain_frame(1, from_plane.h, from_plane.w));
    kernel(to_block, from_block, shape);
    table.deinterleave(to + first * to_size, to_block, planes, to_size);
  });
}

}  // namespace

void avg_pool2d_forward(float* y, const float* x, const PoolShape& shape) {
  for_planes(y, {shape.p, shape.q}, x, {shape.h, shape.w}, shape, kernels().avg_pool2d_forward);
}

void avg_pool2d_backward(float* dx, const float* dy, const PoolShape& shape) {
  for_planes(dx, {shape.h, shape.w}, dy, {shape.p, shape.q}, shape, kernels().avg_pool2d_backward);
}

}  // namespace fastlenet::cpu
