// Convolution of a batch. The lanes are images; the threads share the blocks.
#include "../machine/scratch.hpp"
#include "batches.hpp"
#include "frames.hpp"
#include "ops.hpp"

namespace fastlenet::cpu {

void conv2d_forward(float* y, const float* x, const float* weight, const float* bias, const ConvShape& shape) {
  if (shape.n == 0 || shape.k == 0) return;
  const KernelTable& table = kernels();
  const Blocks blocks(shape.n, table);
  const std::int64_t x_size = padded_size(shape) * blocks.lanes, y_size = shape.k * shape.p * shape.q;
  const int workers = workers_for(blocks.count);
  PerWorker<float> x_blocks, y_blocks;
  take_scratch({{x_blocks, workers, x_size}, {y_blocks, workers, y_size * blocks.lanes}});
  parallel_for(blocks.count, workers, [&](std::int64_t block, int worker) {
    float *x_block = x_blocks[worker], *y_block = y_blocks[worker];
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
  float *x_blocks, *dy_blocks, *flipped;
  PerWorker<float> frames, dx_blocks;
  take_scratch({{x_blocks, blocks.count * x_size * lanes},
                {dy_blocks, blocks.count * dy_size * lanes},
                {flipped, dx ? shape.k * shape.c * shape.r * shape.s : 0},
                {frames, workers, frame_size * lanes},
                {dx_blocks, workers, dx ? dx_size * lanes : 0}});
  if (dx) table.conv2d_flip(flipped, weight, shape);
  parallel_for(blocks.count, workers, [&](std::int64_t block, int worker) {
    const std::int64_t first = blocks.first(block), images = blocks.images(block);
    table.interleave(x_blocks + block * x_size * lanes, x + first * dx_size, images, padded_frame(shape));
    table.interleave(dy_blocks + block * dy_size * lanes, dy + first * dy_size, images, plain_frame(shape.k, shape.p, shape.q));
    if (!dx) return;
    float *frame = frames[worker], *dx_block = dx_blocks[worker];
    table.interleave(frame, dy + first * dy_size, images, gradient.frame);
    table.conv2d_forward(dx_block, frame, flipped, nullptr, gradient.shape);
    table.deinterleave(dx + first * dx_size, dx_block, images, dx_size);
  });
  for_pieces(shape.k, 4,
             [&](Range k) { table.conv2d_backward_weight(dweight, dbias, dy_blocks, x_blocks, blocks.count, k, shape); });
}

}  // namespace fastlenet::cpu
