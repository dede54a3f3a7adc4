// The gradients of convolution + ReLU + max-pooling of a batch, by rows or by lanes. docs/design.md has a table of which path
// runs when.
#include "../machine/scratch.hpp"
#include "batches.hpp"
#include "frames.hpp"
#include "ops.hpp"

namespace fastlenet::cpu {

namespace {

// The number of images whose weight gradients one task sums. The sums of the tasks are then added in order, so the bits do not
// depend on the threads.
constexpr std::int64_t kPart = 16;

// For filter rows that fill a vector; see conv_pool_backward_rows.hpp.
void backward_by_rows(float* dx, float* dweight, float* dbias, const float* dy, const std::uint8_t* winners, const float* x,
                      const float* weight, const ConvPoolShape& shape) {
  const KernelTable& table = kernels();
  const ConvShape& conv = shape.conv;
  const PoolShape& pool = shape.pool;
  const RowsSizes rows = table.conv2d_rows_sizes(conv);
  const std::int64_t parts = ceil_divide(conv.n, kPart), lanes = table.lanes;
  const std::int64_t x_size = conv.c * conv.h * conv.w, dy_size = conv.k * pool.p * pool.q, positions = conv.p * conv.q;
  const std::int64_t rows_size = conv.k * conv.r * rows.pitch, windows = pool.p * pool.q;
  const int workers = workers_for(parts);
  const std::int64_t x_rows = rows.image * rows.copies, list = dy_size + lanes;
  float *weight_parts, *bias_parts, *weight_rows;
  RowsPlaces places;
  PerWorker<float> x_copies, dx_rows, value, value_by_position;
  PerWorker<std::int32_t> offset, offset_by_position, position, channel_ends, position_ends;
  take_scratch({{weight_parts, parts * rows_size},
                {bias_parts, parts * conv.k * lanes},
                {weight_rows, dx ? rows_size : 0},
                {places.position, windows * (pool.r * pool.s + 1)},
                {places.offset, positions + 1},
                {x_copies, workers, x_rows},
                {dx_rows, workers, dx ? rows.image : 0},
                {offset, workers, list},
                {value, workers, list},
                {offset_by_position, workers, list},
                {value_by_position, workers, list},
                {position, workers, list},
                {channel_ends, workers, conv.k},
                {position_ends, workers, positions}});
  table.conv2d_rows_places(places, shape);
  if (dx) for_pieces(conv.k, 4, [&](Range k) { table.conv2d_weight_to_rows(weight_rows, weight, k, conv); });
  parallel_for(parts, workers, [&](std::int64_t part, int worker) {
    const RowsScratch workspace{x_copies[worker],
                                dx_rows[worker],
                                {offset[worker], value[worker]},
                                {offset_by_position[worker], value_by_position[worker]},
                                position[worker],
                                channel_ends[worker],
                                position_ends[worker]};
    float *sums = weight_parts + part * rows_size, *bias_sums = bias_parts + part * conv.k * lanes;
    std::fill(sums, sums + rows_size, 0.0f);
    std::fill(bias_sums, bias_sums + conv.k * lanes, 0.0f);
    std::fill(workspace.x, workspace.x + rows.image, 0.0f);
    for (std::int64_t n = part * kPart; n < std::min(conv.n, (part + 1) * kPart); ++n) {
      if (n + 1 < conv.n) {
        prefetch(x + (n + 1) * x_size, x_size * 4);
        prefetch(dy + (n + 1) * dy_size, dy_size * 4);
        if (dx) prefetch(dx + (n + 1) * x_size, x_size * 4);
      }
      table.conv2d_relu_max_pool2d_backward_rows(dx ? dx + n * x_size : nullptr, sums, bias_sums, workspace, places,
                                                 dy + n * dy_size, winners + n * dy_size, x + n * x_size, weight_rows, shape);
    }
  });
  for_pieces(conv.k, 4, [&](Range k) {
    table.conv2d_rows_to_weight(dweight, weight_parts, parts, rows_size, k, conv);
    table.sum_blocks(dbias, bias_parts, parts, conv.k, k);
  });
}

// For shorter filter rows; see conv_pool_backward_lanes.hpp.
void backward_by_lanes(float* dx, float* dweight, float* dbias, const float* dy, const std::uint8_t* winners, const float* x,
                       const float* weight, const ConvPoolShape& shape) {
  const KernelTable& table = kernels();
  const ConvShape& conv = shape.conv;
  const Blocks blocks(conv.n, table);
  const InputGradient gradient(conv);
  const std::int64_t lanes = blocks.lanes, weights = conv.k * conv.c * conv.r * conv.s, pitch = weights + conv.k;
  const std::int64_t x_size = conv.c * conv.h * conv.w, dy_size = conv.k * shape.pool.p * shape.pool.q;
  const std::int64_t frame = padded_size(conv), strip = 4 * shape.pool.r * shape.pool.q * shape.pool.s;
  const std::int64_t dy_frame = dx ? padded_size(gradient.shape) : 0, dx_size = dx ? x_size : 0;
  const int workers = workers_for(blocks.count);
  float *sums, *flipped;
  PerWorker<float> x_blocks, dy_blocks, strips, dy_frames, dx_blocks;
  PerWorker<std::int32_t> winner_blocks;
  take_scratch({{sums, blocks.count * pitch * lanes},
                {flipped, dx ? weights : 0},
                {x_blocks, workers, frame * lanes},
                {dy_blocks, workers, dy_size * lanes},
                {winner_blocks, workers, dy_size * lanes},
                {strips, workers, strip * lanes},
                {dy_frames, workers, dy_frame * lanes},
                {dx_blocks, workers, dx_size * lanes}});
  if (dx) table.conv2d_flip(flipped, weight, conv);
  parallel_for(blocks.count, workers, [&](std::int64_t block, int worker) {
    const std::int64_t first = blocks.first(block), images = blocks.images(block);
    float *x_block = x_blocks[worker], *dy_block = dy_blocks[worker];
    std::int32_t* winner_block = winner_blocks[worker];
    table.interleave(x_block, x + first * x_size, images, padded_frame(conv));
    table.interleave(dy_block, dy + first * dy_size, images, plain_frame(dy_size, 1, 1));
    table.interleave_bytes(winner_block, winners + first * dy_size, images, dy_size);
    table.conv2d_relu_max_pool2d_backward_weight_lanes(sums + block * pitch * lanes, strips[worker], dy_block, winner_block,
                                                       x_block, shape);
    if (!dx) return;
    float *frame_block = dy_frames[worker], *dx_block = dx_blocks[worker];
    table.unpool(frame_block, dy_block, winner_block, shape.pool, gradient.frame);
    table.conv2d_forward(dx_block, frame_block, flipped, nullptr, gradient.shape);
    table.deinterleave(dx + first * dx_size, dx_block, images, dx_size);
  });
  for_pieces(pitch, 64, [&](Range range) {
    const std::int64_t middle = std::clamp(weights, range.begin, range.end);
    table.sum_blocks(dweight, sums, blocks.count, pitch, {range.begin, middle});
    table.sum_blocks(dbias, sums + weights * lanes, blocks.count, pitch, {middle - weights, range.end - weights});
  });
}

}  // namespace

void conv2d_relu_max_pool2d_backward(float* dx, float* dweight, float* dbias, const float* dy, const std::uint8_t* winners,
                                     const float* x, const float* weight, const ConvPoolShape& shape) {
  const ConvShape& conv = shape.conv;
  if (no_gradients(dx, dweight, dbias, conv)) return;
  const bool narrow = conv.s * conv.c <= kernels().lanes;
  // Losers must be left out. The path by lanes multiplies them by 0, which is the same only for finite numbers.
  const bool finite = narrow && all_finite(x, conv.n * conv.c * conv.h * conv.w) &&
                      (dx == nullptr || all_finite(weight, conv.k * conv.c * conv.r * conv.s));
  (finite ? backward_by_lanes : backward_by_rows)(dx, dweight, dbias, dy, winners, x, weight, shape);
}

}  // namespace fastlenet::cpu
