// The gradients of convolution + ReLU + max-pooling of a batch: by rows or by lanes.
#include "../machine/scratch.hpp"
#include "batches.hpp"
#include "frames.hpp"
#include "ops.hpp"

namespace fastlenet::cpu {

namespace {

// Images whose weight gradients one task adds up. Their sums are then added in order: neither number depends on the threads.
constexpr std::int64_t kPart = 16;

// For filter rows that fill a vector: conv_pool_backward_rows.hpp.
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
  const std::int64_t x_rows = rows.image * rows.copies, list = dy_size + lanes, ends = conv.k + positions;
  float* scratch[10];
  Scratch::take(scratch,
                {parts * rows_size, parts * conv.k * lanes, workers * x_rows, dx ? workers * rows.image : 0, workers * list * 4,
                 workers * list, workers * ends, dx ? rows_size : 0, windows * (pool.r * pool.s + 1), positions + 1});
  static_assert(sizeof(std::int32_t) == sizeof(float));
  const auto integers = [&](int i) { return reinterpret_cast<std::int32_t*>(scratch[i]); };
  const RowsPlaces places{integers(8), integers(9)};
  table.conv2d_rows_places(places, shape);
  if (dx) for_pieces(conv.k, 4, [&](Range k) { table.conv2d_weight_to_rows(scratch[7], weight, k, conv); });
  parallel_for(parts, workers, [&](std::int64_t part, int worker) {
    float* values = scratch[4] + worker * 4 * list;
    std::int32_t* offsets = integers(4) + worker * 4 * list + 2 * list;
    const RowsScratch room{scratch[2] + worker * x_rows,        scratch[3] + worker * rows.image, {offsets, values},
                           {offsets + list, values + list},     integers(5) + worker * list,      integers(6) + worker * ends,
                           integers(6) + worker * ends + conv.k};
    float *sums = scratch[0] + part * rows_size, *bias_sums = scratch[1] + part * conv.k * lanes;
    std::fill(sums, sums + rows_size, 0.0f);
    std::fill(bias_sums, bias_sums + conv.k * lanes, 0.0f);
    std::fill(room.x, room.x + rows.image, 0.0f);
    for (std::int64_t n = part * kPart; n < std::min(conv.n, (part + 1) * kPart); ++n) {
      if (n + 1 < conv.n) {
        prefetch(x + (n + 1) * x_size, x_size * 4);
        prefetch(dy + (n + 1) * dy_size, dy_size * 4);
        if (dx) prefetch(dx + (n + 1) * x_size, x_size * 4);
      }
      table.conv2d_relu_max_pool2d_backward_rows(dx ? dx + n * x_size : nullptr, sums, bias_sums, room, places,
                                                 dy + n * dy_size, winners + n * dy_size, x + n * x_size, scratch[7], shape);
    }
  });
  for_pieces(conv.k, 4, [&](Range k) {
    table.conv2d_rows_to_weight(dweight, scratch[0], parts, rows_size, k, conv);
    table.sum_blocks(dbias, scratch[1], parts, conv.k, k);
  });
}

// For filter rows that do not: conv_pool_backward_lanes.hpp.
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
  const std::int64_t slots = workers * lanes;
  float* scratch[8];
  Scratch::take(scratch, {slots * frame, slots * dy_size, slots * dy_size, slots * strip, blocks.count * pitch * lanes,
                          slots * dy_frame, slots * dx_size, dx ? weights : 0});
  if (dx) table.conv2d_flip(scratch[7], weight, conv);
  parallel_for(blocks.count, workers, [&](std::int64_t block, int worker) {
    const std::int64_t first = blocks.first(block), images = blocks.images(block), slot = worker * lanes;
    float *x_block = scratch[0] + slot * frame, *dy_block = scratch[1] + slot * dy_size;
    std::int32_t* winner_block = reinterpret_cast<std::int32_t*>(scratch[2] + slot * dy_size);
    table.interleave(x_block, x + first * x_size, images, padded_frame(conv));
    table.interleave(dy_block, dy + first * dy_size, images, plain_frame(dy_size, 1, 1));
    table.interleave_bytes(winner_block, winners + first * dy_size, images, dy_size);
    table.conv2d_relu_max_pool2d_backward_weight_lanes(scratch[4] + block * pitch * lanes, scratch[3] + slot * strip, dy_block,
                                                       winner_block, x_block, shape);
    if (!dx) return;
    float *frame_block = scratch[5] + slot * dy_frame, *dx_block = scratch[6] + slot * dx_size;
    table.unpool(frame_block, dy_block, winner_block, shape.pool, gradient.frame);
    table.conv2d_forward(dx_block, frame_block, scratch[7], nullptr, gradient.shape);
    table.deinterleave(dx + first * dx_size, dx_block, images, dx_size);
  });
  for_pieces(pitch, 64, [&](Range range) {
    const std::int64_t middle = std::clamp(weights, range.begin, range.end);
    table.sum_blocks(dweight, scratch[4], blocks.count, pitch, {range.begin, middle});
    table.sum_blocks(dbias, scratch[4] + weights * lanes, blocks.count, pitch, {middle - weights, range.end - weights});
  });
}

}  // namespace

void conv2d_relu_max_pool2d_backward(float* dx, float* dweight, float* dbias, const float* dy, const std::uint8_t* winners,
                                     const float* x, const float* weight, const ConvPoolShape& shape) {
  const ConvShape& conv = shape.conv;
  if (no_gradients(dx, dweight, dbias, conv)) return;
  const bool narrow = conv.s * conv.c <= kernels().lanes;
  // A loser counts as absent; by lanes it is multiplied by 0, which an infinity or NaN would show.
  const bool finite = narrow && all_finite(x, conv.n * conv.c * conv.h * conv.w) &&
                      (dx == nullptr || all_finite(weight, conv.k * conv.c * conv.r * conv.s));
  (finite ? backward_by_lanes : backward_by_rows)(dx, dweight, dbias, dy, winners, x, weight, shape);
}

}  // namespace fastlenet::cpu
