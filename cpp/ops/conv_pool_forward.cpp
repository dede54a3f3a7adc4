// Convolution + ReLU + max-pooling of a batch, forward: in blocks of images or one image at a time, by the direct sums or by
// Winograd's algorithm. docs/design.md has a table of which path runs when.
#include "../machine/scratch.hpp"
#include "batches.hpp"
#include "frames.hpp"
#include "ops.hpp"

namespace fastlenet::cpu {

namespace {

// Copies one image into a frame of zeros.
void pad_image(float* to, const float* x, const ConvShape& s) {
  const std::int64_t width = s.w + 2 * s.padding.w, height = s.h + 2 * s.padding.h;
  if (width == s.w && height == s.h) {
    std::copy(x, x + s.c * s.h * s.w, to);
    return;
  }
  std::fill(to, to + s.c * height * width, 0.0f);
  for (std::int64_t line = 0; line < s.c * s.h; ++line) {
    std::copy(x + line * s.w, x + (line + 1) * s.w,
              to + (line / s.h * height + line % s.h + s.padding.h) * width + s.padding.w);
  }
}

bool winograd_filter(const ConvShape& shape) { return shape.r == shape.s && (shape.r == 3 || shape.r == 5); }

// Whether fewer multiply-adds make up for the transforms. This must not depend on n, since an image's bits must not depend on
// its batch. Per tile of 64 products the transforms take 600 cycles for each input channel and 270 for each output channel, of
// 36 products 250 and 150; storing the products takes about as long as 3 more input channels.
bool winograd_pays(const ConvPoolShape& shape) {
  const ConvShape& conv = shape.conv;
  const PoolShape& pool = shape.pool;
  if (!winograd_filter(conv) || pool.r != 2 || pool.s != 2) return false;
  const WinogradSizes sizes = kernels().winograd_sizes(shape);
  const std::int64_t tiles = sizes.down * sizes.across, direct = conv.c * conv.k * conv.r * conv.s * pool.p * pool.q * 4;
  const std::int64_t products = sizes.products, in = products == 64 ? 600 : 250, out = products == 64 ? 270 : 150;
  return tiles * (products * (conv.c + 3) * conv.k + in * conv.c + out * conv.k) < direct;
}

void forward_by_blocks(float* y, std::uint8_t* winners, const float* x, const float* weight, const float* bias, bool winograd,
                       const ConvPoolShape& shape) {
  const KernelTable& table = kernels();
  const ConvShape& conv = shape.conv;
  const Blocks blocks(conv.n, table);
  const WinogradSizes sizes = winograd ? table.winograd_sizes(shape) : WinogradSizes{};
  Frame frame = padded_frame(conv);
  if (winograd) {
    frame.frame_h = sizes.frame_h;
    frame.frame_w = sizes.frame_w;
  }
  const std::int64_t x_size = conv.c * frame.frame_h * frame.frame_w, y_size = conv.k * shape.pool.p * shape.pool.q;
  const int workers = workers_for(blocks.count);
  float* points;
  PerWorker<float> x_blocks, y_blocks, workspaces;
  PerWorker<std::int32_t> winner_blocks;
  take_scratch({{points, sizes.weights},
                {x_blocks, workers, blocks.lanes * x_size},
                {y_blocks, workers, blocks.lanes * y_size},
                {winner_blocks, workers, blocks.lanes * y_size},
                {workspaces, workers, sizes.scratch}});
  if (winograd) {
    parallel_for(ceil_divide(conv.k, table.tile_rows),
                 [&](std::int64_t group) { table.winograd_weights(points, weight, group, conv); });
  }
  parallel_for(blocks.count, workers, [&](std::int64_t block, int worker) {
    const std::int64_t first = blocks.first(block), images = blocks.images(block);
    float *x_block = x_blocks[worker], *y_block = y_blocks[worker];
    std::int32_t* winner_block = winner_blocks[worker];
    table.interleave(x_block, x + first * conv.c * conv.h * conv.w, images, frame);
    if (winograd) {
      table.winograd_relu_max_pool2d_forward(y_block, winner_block, x_block, points, bias, workspaces[worker], shape);
    } else {
      table.conv2d_relu_max_pool2d_forward(y_block, winner_block, x_block, weight, bias, shape);
    }
    table.deinterleave(y + first * y_size, y_block, images, y_size);
    table.deinterleave_bytes(winners + first * y_size, winner_block, images, y_size);
  });
}

// The weights in the layouts of the one-image kernels: lanes[groups of k][c*r*s][lanes], and at the points. `packed` starts
// with a cache line that names the kernels for which it was made.
class Filters {
 public:
  Filters(const ConvShape& shape, Algorithm algorithm) : shape_(shape), groups_(shape.k, kernels()) {
    const bool points = algorithm == Algorithm::winograd && winograd_filter(shape);
    const std::int64_t lanes = kernels().lanes, slots = groups_.count * lanes;
    lanes_size_ = slots * shape.c * shape.r * shape.s;
    points_size_ = points ? kernels().winograd_products(shape) * shape.c * slots : 0;
  }
  std::int64_t size() const { return kHeader + lanes_size_ + points_size_; }
  bool fit(const float* packed) const {
    return packed != nullptr && packed[0] == static_cast<float>(kernels().lanes) && packed[1] == (points_size_ ? 1.0f : 0.0f);
  }
  const float* lanes(const float* packed) const { return packed + kHeader; }
  const float* points(const float* packed) const { return packed + kHeader + lanes_size_; }

  void pack_lanes(float* packed, const float* weight) const {
    const std::int64_t depth = shape_.c * shape_.r * shape_.s;
    for (std::int64_t group = 0; group < groups_.count; ++group) {
      const std::int64_t first = groups_.first(group) * depth;
      kernels().interleave(packed + kHeader + first, weight + first, groups_.images(group), plain_frame(depth, 1, 1));
    }
  }
  void pack_points(float* packed, const float* weight) const {
    if (points_size_) kernels().winograd_weights_one(packed + kHeader + lanes_size_, weight, shape_);
  }
  void sign(float* packed) const {
    std::fill(packed, packed + kHeader, 0.0f);
    packed[0] = static_cast<float>(kernels().lanes);
    packed[1] = points_size_ ? 1.0f : 0.0f;
  }

 private:
  static constexpr std::int64_t kHeader = 16;
  ConvShape shape_;
  Blocks groups_;
  std::int64_t lanes_size_, points_size_;
};

// Computes one image at a time, with channels in the lanes.
void forward_one_by_one(float* y, std::uint8_t* winners, const float* x, const float* weight, const float* bias,
                        const float* packed, Algorithm algorithm, bool winograd, const ConvPoolShape& shape) {
  const KernelTable& table = kernels();
  const ConvShape& conv = shape.conv;
  const Blocks groups(conv.k, table), inputs(conv.c, table);
  const WinogradSizes sizes = winograd ? table.winograd_sizes(shape) : WinogradSizes{};
  const std::int64_t lanes = table.lanes, windows = shape.pool.p * shape.pool.q, slots = groups.count * lanes;
  const std::int64_t x_size = conv.c * conv.h * conv.w;
  const std::int64_t frame = winograd ? inputs.count * lanes * sizes.frame_h * sizes.frame_w : padded_size(conv);
  const Filters filters(conv, algorithm);
  const bool ready = filters.fit(packed);
  const int workers = workers_for(conv.n);
  float *repacked, *bias_blocks;
  PerWorker<float> frames, all_y, workspaces;
  PerWorker<std::int32_t> all_winners;
  take_scratch({{repacked, ready ? 0 : filters.size()},
                {bias_blocks, slots},
                {frames, workers, frame},
                {all_y, workers, slots * windows},
                {all_winners, workers, slots * windows},
                {workspaces, workers, sizes.scratch_one}});
  if (!ready) {
    if (winograd) {
      filters.pack_points(repacked, weight);
    } else {
      filters.pack_lanes(repacked, weight);
    }
    packed = repacked;
  }
  std::fill(bias_blocks, bias_blocks + slots, 0.0f);
  if (bias) std::copy(bias, bias + conv.k, bias_blocks);
  parallel_for(conv.n, workers, [&](std::int64_t n, int worker) {
    float *padded = frames[worker], *y_blocks = all_y[worker];
    std::int32_t* winner_blocks = all_winners[worker];
    if (winograd) {
      const Frame place{1, conv.h, conv.w, sizes.frame_h, sizes.frame_w, conv.padding.h, conv.padding.w, {1, 1}};
      for (std::int64_t group = 0; group < inputs.count; ++group) {
        table.interleave(padded + inputs.first(group) * sizes.frame_h * sizes.frame_w,
                         x + n * x_size + inputs.first(group) * conv.h * conv.w, inputs.images(group), place);
      }
      table.winograd_relu_max_pool2d_forward_one(y_blocks, winner_blocks, padded, filters.points(packed), bias_blocks,
                                                 workspaces[worker], shape);
    } else {
      pad_image(padded, x + n * x_size, conv);
      table.conv2d_relu_max_pool2d_forward_one(y_blocks, winner_blocks, padded, filters.lanes(packed), bias_blocks, shape);
    }
    for (std::int64_t group = 0; group < groups.count; ++group) {
      const std::int64_t first = groups.first(group), at = (n * conv.k + first) * windows;
      table.deinterleave(y + at, y_blocks + first * windows, groups.images(group), windows);
      table.deinterleave_bytes(winners + at, winner_blocks + first * windows, groups.images(group), windows);
    }
  });
}

}  // namespace

bool by_winograd(Algorithm algorithm, const ConvPoolShape& shape) {
  return algorithm == Algorithm::winograd && winograd_pays(shape);
}

std::int64_t packed_size(Algorithm algorithm, const ConvShape& shape) { return Filters(shape, algorithm).size(); }

void pack_filters(float* packed, const float* weight, Algorithm algorithm, const ConvShape& shape) {
  const Filters filters(shape, algorithm);
  filters.sign(packed);
  filters.pack_lanes(packed, weight);
  filters.pack_points(packed, weight);
}

void conv2d_relu_max_pool2d_forward(float* y, std::uint8_t* winners, const float* x, const float* weight, const float* bias,
                                    const float* packed, Algorithm algorithm, const ConvPoolShape& shape) {
  if (shape.conv.n == 0 || shape.conv.k == 0) return;
  const bool winograd = by_winograd(algorithm, shape);
  // A block costs the same however many of its lanes are filled. One at a time, an image costs a little more than its share of
  // a full block.
  if (2 * shape.conv.n <= kernels().lanes) {
    forward_one_by_one(y, winners, x, weight, bias, packed, algorithm, winograd, shape);
  } else {
    forward_by_blocks(y, winners, x, weight, bias, winograd, shape);
  }
}

}  // namespace fastlenet::cpu
