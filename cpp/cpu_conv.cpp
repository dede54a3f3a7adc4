#include "batches.hpp"
#include "cpu_ops.hpp"
#include "frames.hpp"
#include "scratch.hpp"

namespace fastlenet::cpu {

void conv2d_forward(float* y, const float* x, const float* weight, const float* bias, const ConvShape& shape) {
  if (shape.n == 0 || shape.k == 0) return;
  const KernelTable& table = kernels();
  const Blocks blocks(shape.n, table);
  const std::int64_t x_size = padded_size(shape) * blocks.lanes, y_size = shape.k * shape.p * shape.q;
  const int workers = workers_for(blocks.count);
  float* scratch[2];
  Scratch::take(scratch, {workers * x_size, workers * y_size * blocks.lanes});
  parallel_for(blocks.count, workers, [&](std::int64_t block, int worker) {
    float *x_block = scratch[0] + worker * x_size, *y_block = scratch[1] + worker * y_size * blocks.lanes;
    const std::int64_t first = blocks.first(block), images = blocks.images(block);
    table.interleave(x_block, x + first * shape.c * shape.h * shape.w, images, padded_frame(shape));
    table.conv2d_forward(y_block, x_block, weight, bias, shape);
    table.deinterleave(y + first * y_size, y_block, images, y_size);
  });
}

void conv2d_backward(float* dx, float* dweight, float* dbias, const float* dy, const float* x, const float* weight,
                     const ConvShape& shape) {
  if (no_gradients(dx, dweight, dbias, shape)) return;
  const KernelTable& table = kernels();
  const Blocks blocks(shape.n, table);
  const InputGradient gradient(shape);
  const std::int64_t lanes = blocks.lanes;
  const std::int64_t x_size = padded_size(shape), dy_size = shape.k * shape.p * shape.q;
  const std::int64_t frame_size = dx ? padded_size(gradient.shape) : 0, dx_size = shape.c * shape.h * shape.w;
  const int workers = workers_for(blocks.count);
  float* scratch[5];
  Scratch::take(scratch,
                {blocks.count * x_size * lanes, blocks.count * dy_size * lanes, dx ? shape.k * shape.c * shape.r * shape.s : 0,
                 workers * frame_size * lanes, dx ? workers * dx_size * lanes : 0});
  float* flipped = scratch[2];
  if (dx) table.conv2d_flip(flipped, weight, shape);
  parallel_for(blocks.count, workers, [&](std::int64_t block, int worker) {
    const std::int64_t first = blocks.first(block), images = blocks.images(block);
    table.interleave(scratch[0] + block * x_size * lanes, x + first * dx_size, images, padded_frame(shape));
    table.interleave(scratch[1] + block * dy_size * lanes, dy + first * dy_size, images,
                     plain_frame(shape.k, shape.p, shape.q));
    if (!dx) return;
    float* frame = scratch[3] + worker * frame_size * lanes;
    float* dx_block = scratch[4] + worker * dx_size * lanes;
    table.interleave(frame, dy + first * dy_size, images, gradient.frame);
    table.conv2d_forward(dx_block, frame, flipped, nullptr, gradient.shape);
    table.deinterleave(dx + first * dx_size, dx_block, images, dx_size);
  });
  for_pieces(shape.k, 4,
             [&](Range k) { table.conv2d_backward_weight(dweight, dbias, scratch[1], scratch[0], blocks.count, k, shape); });
}

void max_pool2d_forward(float* y, std::int32_t* indices, const float* x, const PoolShape& shape) {
  if (shape.n == 0 || shape.c == 0) return;
  const KernelTable& table = kernels();
  const Blocks blocks(shape.n * shape.c, table);  // here a lane is a plane
  const std::int64_t x_size = shape.h * shape.w, y_size = shape.p * shape.q;
  const int workers = workers_for(blocks.count);
  float* scratch[3];
  const std::int64_t slots = workers * blocks.lanes;
  Scratch::take(scratch, {slots * x_size, slots * y_size, slots * y_size});
  parallel_for(blocks.count, workers, [&](std::int64_t block, int worker) {
    const std::int64_t first = blocks.first(block), planes = blocks.images(block), slot = worker * blocks.lanes;
    float *x_block = scratch[0] + slot * x_size, *y_block = scratch[1] + slot * y_size;
    float* index_block = scratch[2] + slot * y_size;  // 32-bit integers, moved as floats
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

}  // namespace fastlenet::cpu
