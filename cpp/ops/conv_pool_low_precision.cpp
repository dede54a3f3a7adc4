// Convolution + ReLU + max-pooling of a batch with factors of bfloat16: in blocks of 16 images, or one image at a time, which
// gives the same bits.
#include "../machine/scratch.hpp"
#include "../machine/units.hpp"
#include "batches.hpp"
#include "frames.hpp"
#include "ops.hpp"

namespace fastlenet::cpu {

namespace {

constexpr std::int64_t kLanes = 16;

std::int64_t row_pairs(const ConvShape& conv) { return (conv.s + 1) / 2; }

bool one_by_one(const ConvShape& conv) { return 2 * conv.n <= kLanes; }

// One image: y, winners [k][windows] <- [groups of 16 filters][windows][16].
void store_groups(float* y, std::uint8_t* winners, const float* y_groups, const std::int32_t* winner_groups,
                  const LowPrecisionTable& table, const ConvPoolShape& shape) {
  const std::int64_t windows = shape.pool.p * shape.pool.q;
  for (std::int64_t k = 0; k < shape.conv.k; k += kLanes) {
    const std::int64_t filled = std::min(kLanes, shape.conv.k - k);
    table.deinterleave(y + k * windows, y_groups + k * windows, filled, windows);
    table.deinterleave_bytes(winners + k * windows, winner_groups + k * windows, filled, windows);
  }
}

void forward_by_blocks(float* y, std::uint8_t* winners, const float* x, const float* weight, const float* bias,
                       const LowPrecisionTable& table, const ConvPoolShape& shape) {
  const ConvShape& conv = shape.conv;
  const Frame frame = padded_frame(conv);
  const std::int64_t blocks = ceil_divide(conv.n, kLanes), x_size = padded_size(conv);
  const std::int64_t y_size = conv.k * shape.pool.p * shape.pool.q;
  const int workers = workers_for(blocks);
  std::uint32_t* filters;
  PerWorker<std::uint32_t> all_pairs;
  PerWorker<float> x_blocks, y_blocks;
  PerWorker<std::int32_t> winner_blocks;
  take_scratch({{filters, conv.k * conv.c * conv.r * row_pairs(conv)},
                {all_pairs, workers, kLanes * x_size},
                {x_blocks, workers, kLanes * x_size},
                {y_blocks, workers, kLanes * y_size},
                {winner_blocks, workers, kLanes * y_size}});
  table.pack_filters(filters, weight, conv);
  parallel_for(blocks, workers, [&](std::int64_t block, int worker) {
    const std::int64_t first = block * kLanes, images = std::min(kLanes, conv.n - first);
    float *x_block = x_blocks[worker], *y_block = y_blocks[worker];
    std::uint32_t* pairs = all_pairs[worker];
    std::int32_t* winner_block = winner_blocks[worker];
    table.interleave(x_block, x + first * conv.c * conv.h * conv.w, images, frame);
    table.pair_columns(pairs, x_block, frame.c * frame.frame_h, frame.frame_w);
    table.conv_pool(y_block, winner_block, pairs, filters, bias, shape);
    table.deinterleave(y + first * y_size, y_block, images, y_size);
    table.deinterleave_bytes(winners + first * y_size, winner_block, images, y_size);
  });
}

void forward_one_by_one(float* y, std::uint8_t* winners, const float* x, const float* weight, const float* bias,
                        const LowPrecisionTable& table, const ConvPoolShape& shape) {
  const ConvShape& conv = shape.conv;
  const Frame frame = padded_frame(conv);
  const std::int64_t groups = ceil_divide(conv.k, kLanes), depth = conv.c * conv.r * row_pairs(conv);
  const std::int64_t windows = shape.pool.p * shape.pool.q, size = padded_size(conv), half_words = size / 2 + 1;
  const int workers = workers_for(conv.n);
  std::uint32_t *filters, *filter_groups;
  float* bias_groups;
  PerWorker<std::uint32_t> all_halves;
  PerWorker<float> frames, all_y;
  PerWorker<std::int32_t> all_winners;
  take_scratch({{filters, conv.k * depth},
                {filter_groups, groups * kLanes * depth},
                {bias_groups, groups * kLanes},
                {all_halves, workers, half_words},
                {frames, workers, size},
                {all_y, workers, groups * kLanes * windows},
                {all_winners, workers, groups * kLanes * windows}});
  table.pack_filters(filters, weight, conv);
  for (std::int64_t k = 0; k < groups * kLanes; ++k) {
    bias_groups[k] = bias != nullptr && k < conv.k ? bias[k] : 0.0f;
    std::uint32_t* lane = filter_groups + k / kLanes * kLanes * depth + k % kLanes;
    for (std::int64_t i = 0; i < depth; ++i) lane[i * kLanes] = k < conv.k ? filters[k * depth + i] : 0;
  }
  parallel_for(conv.n, workers, [&](std::int64_t n, int worker) {
    float *padded = frames[worker], *y_groups = all_y[worker];
    std::int32_t* winner_groups = all_winners[worker];
    std::uint16_t* halves = reinterpret_cast<std::uint16_t*>(all_halves[worker]);
    std::fill(padded, padded + size, 0.0f);
    for (std::int64_t line = 0; line < conv.c * conv.h; ++line) {
      const float* from = x + (n * conv.c * conv.h + line) * conv.w;
      const std::int64_t row = line / conv.h * frame.frame_h + line % conv.h + frame.top;
      std::copy(from, from + conv.w, padded + row * frame.frame_w + frame.left);
    }
    table.round(halves, padded, size);
    halves[size] = 0;
    table.conv_pool_one(y_groups, winner_groups, halves, filter_groups, bias_groups, shape);
    const std::int64_t at = n * conv.k * windows;
    store_groups(y + at, winners + at, y_groups, winner_groups, table, shape);
  });
}

// The rows of tiles are up to 16 images, or the windows of one.
void forward_by_tiles(float* y, std::uint8_t* winners, const float* x, const float* weight, const float* bias,
                      const LowPrecisionTable& table, const ConvPoolShape& shape) {
  const ConvShape& conv = shape.conv;
  const PixelLayout layout = table.pixel_layout(conv);
  const std::int64_t each = one_by_one(conv) ? 1 : kLanes, blocks = ceil_divide(conv.n, each);
  const std::int64_t groups = ceil_divide(conv.k, kLanes), windows = shape.pool.p * shape.pool.q;
  const std::int64_t x_size = conv.c * conv.h * conv.w, y_size = groups * windows * kLanes;
  const TileLosses losses = planted_losses();
  const int workers = workers_for(blocks);
  std::uint32_t* filters;
  float* bias_groups;
  PerWorker<std::uint32_t> all_pixels;
  PerWorker<float> all_y;
  PerWorker<std::int32_t> all_winners;
  take_scratch({{filters, layout.filters},
                {bias_groups, groups * kLanes},
                {all_pixels, workers, each * layout.image},
                {all_y, workers, each * y_size},
                {all_winners, workers, each * y_size}});
  table.pack_pixel_filters(filters, weight, conv, layout);
  for (std::int64_t k = 0; k < groups * kLanes; ++k) bias_groups[k] = bias != nullptr && k < conv.k ? bias[k] : 0.0f;
  parallel_for(blocks, workers, [&](std::int64_t block, int worker) {
    const std::int64_t first = block * each, images = std::min(each, conv.n - first);
    std::uint32_t* pixels = all_pixels[worker];
    float* y_groups = all_y[worker];
    std::int32_t* winner_groups = all_winners[worker];
    for (std::int64_t i = 0; i < images; ++i) {
      table.pack_pixels(pixels + i * layout.image, x + (first + i) * x_size, conv, layout);
    }
    count_repeats(table.conv_pool_tiles(y_groups, winner_groups, pixels, filters, bias_groups, images, shape, layout, losses));
    for (std::int64_t i = 0; i < images; ++i) {
      const std::int64_t from = i * y_size, to = (first + i) * conv.k * windows;
      store_groups(y + to, winners + to, y_groups + from, winner_groups + from, table, shape);
    }
  });
}

}  // namespace

void conv2d_relu_max_pool2d_forward_bf16(float* y, std::uint8_t* winners, const float* x, const float* weight,
                                         const float* bias, const float* packed, Algorithm algorithm,
                                         const ConvPoolShape& shape) {
  const LowPrecisionTable& table = unit();
  if (shape.conv.n == 0 || shape.conv.k == 0) return;
  if (table.conv_pool_tiles != nullptr) {
    forward_by_tiles(y, winners, x, weight, bias, table, shape);
  } else if (by_winograd(algorithm, shape)) {
    conv2d_relu_max_pool2d_forward(y, winners, x, weight, bias, packed, algorithm, shape);
  } else if (one_by_one(shape.conv)) {
    forward_one_by_one(y, winners, x, weight, bias, table, shape);
  } else {
    forward_by_blocks(y, winners, x, weight, bias, table, shape);
  }
}

}  // namespace fastlenet::cpu
