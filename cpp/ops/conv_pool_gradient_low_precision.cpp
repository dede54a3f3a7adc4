// The gradients of convolution + ReLU + max-pooling of a batch in precision bf16: over the winners in float32, or dense on
// tiles.
//
// Which of the two runs is a rule of shapes and data, never of time or threads, so that equal calls give equal bits.
#include "../machine/scratch.hpp"
#include "../machine/units.hpp"
#include "batches.hpp"
#include "frames.hpp"
#include "ops.hpp"

namespace fastlenet::cpu {

namespace {

// The least percentage of living windows for tiles. Predicted, not measured: no CPU with tiles was at hand. LeNet's conv2 on
// one core of an Emerald Rapids CPU: the winners take 14 us an image in float32 where 28 % of the windows live, and that time
// is proportional to their number; tiles take 9.0 whatever lives. 9.0 / 14 * 28 % = 18 %.
constexpr std::int64_t kLeastLivingPercent = 18;

// Filter rows of up to so many numbers, such as those of one channel, fill a tile's columns badly; and float32's kernel for
// them, by lanes, takes no longer where more windows live.
constexpr std::int64_t kNarrowRow = 16;

// An image's most numbers of x with its padding, of dconv, and of dconv in its frame for dx. Then each array of 32 images takes
// at most 2 MiB, the second-level cache of the CPUs that have tiles; beyond it the predictions do not hold.
constexpr std::int64_t kMostNumbers = 32768;

bool suits_tiles(const ConvShape& conv) {
  const std::int64_t frame = conv.k * (conv.h + conv.r - 1) * (conv.w + conv.s - 1);
  return conv.s * conv.c > kNarrowRow && padded_size(conv) <= kMostNumbers && conv.k * conv.p * conv.q <= kMostNumbers &&
         frame <= kMostNumbers;
}

// Tiles take as long for 1 image as for 32, so the percentage is of the windows of whole blocks: a batch of less than 6 images
// always takes the winners. Zeros of dconv are multiplied too, and 0 * infinity is NaN; so a batch with an infinity or a NaN,
// or with a number that would be rounded to infinity, takes the winners, which leave out what the gradient does not touch.
bool on_tiles(const float* dy, const std::uint8_t* winners, const float* x, const float* weight, bool need_dx,
              const LowPrecisionTable& table, const ConvPoolShape& shape) {
  const ConvShape& conv = shape.conv;
  if (table.gradient_layout == nullptr || !suits_tiles(conv)) return false;
  const std::int64_t image = conv.k * shape.pool.p * shape.pool.q;
  const std::int64_t places = ceil_divide(conv.n, kImagesOfWeightGradient) * kImagesOfWeightGradient * image;
  std::atomic<std::int64_t> living{0};
  for_pieces(conv.n * image, kPiece, [&](Range r) {
    living.fetch_add(table.count_living(winners + r.begin, r.end - r.begin), std::memory_order_relaxed);
  });
  if (100 * living.load() <= kLeastLivingPercent * places) return false;
  const auto finite = [&](const float* from, std::int64_t count) {
    std::atomic<bool> all{true};
    for_pieces(count, kPiece, [&](Range r) {
      if (!table.rounds_to_finite(from + r.begin, r.end - r.begin)) all.store(false, std::memory_order_relaxed);
    });
    return all.load();
  };
  return finite(dy, conv.n * image) && finite(x, conv.n * conv.c * conv.h * conv.w) &&
         (!need_dx || finite(weight, conv.k * conv.c * conv.r * conv.s));
}

// places[windows][area + 1]: the numbers of the winners' places in planes of `height` x `width`, from (top, left) on. Dead
// windows, and winners outside of the plane, have the number of places: those touch pixels of the padding alone.
void number_places(std::int32_t* places, const PoolShape& pool, std::int64_t height, std::int64_t width, std::int64_t top,
                   std::int64_t left) {
  const std::int64_t area = pool.r * pool.s;
  for (std::int64_t i = 0; i < pool.p * pool.q * (area + 1); ++i) {
    const std::int64_t window = i / (area + 1), winner = i % (area + 1);
    const std::int64_t row = window / pool.q * pool.r + winner / pool.s + top;
    const std::int64_t column = window % pool.q * pool.s + winner % pool.s + left;
    const bool inside = winner < area && row >= 0 && row < height && column >= 0 && column < width;
    places[i] = static_cast<std::int32_t>(inside ? row * width + column : height * width);
  }
}

// dweight, dbias of some filters <- the sums of all parts, added in order.
void add_parts(float* dweight, float* dbias, const float* sums, const float* bias_sums, std::int64_t parts, Range filters,
               const ConvShape& conv, const GradientLayout& layout) {
  for (std::int64_t k = filters.begin; k < filters.end; ++k) {
    for (std::int64_t r = 0; r < conv.r; ++r) {
      const float* row = sums + (k * conv.r + r) * layout.columns;
      for (std::int64_t s = 0; s < conv.s; ++s) {
        for (std::int64_t c = 0; c < conv.c; ++c, ++row) {
          float sum = *row;
          for (std::int64_t part = 1; part < parts; ++part) sum += row[part * layout.sums];
          dweight[((k * conv.c + c) * conv.r + r) * conv.s + s] = sum;
        }
      }
    }
    float sum = 0.0f;
    for (std::int64_t i = 0; i < parts * kBiasSums; ++i) {
      sum += bias_sums[(i / kBiasSums * conv.k + k) * kBiasSums + i % kBiasSums];
    }
    dbias[k] = sum;
  }
}

// A task is dweight of 32 images, or dx of 16.
void backward_by_tiles(float* dx, float* dweight, float* dbias, const float* dy, const std::uint8_t* winners, const float* x,
                       const float* weight, const LowPrecisionTable& table, const ConvPoolShape& shape) {
  const ConvShape& conv = shape.conv;
  const GradientLayout layout = table.gradient_layout(shape);
  const std::int64_t x_size = conv.c * conv.h * conv.w, dy_size = conv.k * shape.pool.p * shape.pool.q;
  const std::int64_t weights = conv.k * conv.c * conv.r * conv.s, bias_size = conv.k * kBiasSums;
  const std::int64_t parts = ceil_divide(conv.n, kImagesOfWeightGradient);
  const std::int64_t blocks = dx == nullptr ? 0 : ceil_divide(conv.n, kImagesOfInputGradient);
  const PoolShape& pool = shape.pool;
  const std::int64_t table_size = pool.p * pool.q * (pool.r * pool.s + 1);
  const std::int64_t halves = ceil_divide(kImagesOfWeightGradient * dy_size, 2);
  const TileLosses losses = planted_losses();
  const int workers = workers_for(parts + blocks);
  std::uint32_t *flipped, *rounded_weight;
  float *sums, *bias_sums;
  std::int32_t *frame_places, *places;
  PerWorker<std::uint32_t> all_dy, all_x, all_dconv, all_frames;
  PerWorker<float> all_dx;
  take_scratch({{frame_places, table_size},
                {places, table_size},
                {flipped, dx == nullptr ? 0 : layout.flipped},
                {rounded_weight, dx == nullptr ? 0 : ceil_divide(weights, 2)},
                {sums, parts * layout.sums},
                {bias_sums, parts * bias_size},
                {all_dy, workers, halves},
                {all_x, workers, layout.x},
                {all_dconv, workers, layout.dconv},
                {all_frames, workers, dx == nullptr ? 0 : layout.frame},
                {all_dx, workers, dx == nullptr ? 0 : layout.dx}});
  number_places(places, pool, pool.p * pool.r, pool.q * pool.s, 0, 0);
  if (dx != nullptr) {
    number_places(frame_places, pool, conv.h + conv.r - 1, conv.w + conv.s - 1, conv.r - 1 - conv.padding.h,
                  conv.s - 1 - conv.padding.w);
    std::uint16_t* half_weight = reinterpret_cast<std::uint16_t*>(rounded_weight);
    table.round(half_weight, weight, weights);
    table.pack_flipped_filters(flipped, half_weight, conv, layout);
  }
  parallel_for(parts + blocks, workers, [&](std::int64_t task, int worker) {
    const bool of_weight = task < parts;
    const std::int64_t each = of_weight ? kImagesOfWeightGradient : kImagesOfInputGradient;
    const std::int64_t first = (of_weight ? task : task - parts) * each, images = std::min(each, conv.n - first);
    const float* some_dy = dy + first * dy_size;
    const std::uint8_t* some_winners = winners + first * dy_size;
    std::uint16_t* half_dy = reinterpret_cast<std::uint16_t*>(all_dy[worker]);
    table.round(half_dy, some_dy, images * dy_size);
    if (of_weight) {
      std::uint32_t *some_x = all_x[worker], *dconv = all_dconv[worker];
      table.pack_image_pairs(some_x, x + first * x_size, images, conv, layout);
      table.scatter_by_place(dconv, half_dy, some_winners, places, images, shape, layout);
      count_repeats(table.gradient_of_weight(sums + task * layout.sums, dconv, some_x, images, shape, layout, losses));
      std::fill(bias_sums + task * bias_size, bias_sums + (task + 1) * bias_size, 0.0f);
      return table.sum_living(bias_sums + task * bias_size, some_dy, some_winners, images, shape);
    }
    std::uint32_t* frame = all_frames[worker];
    float* block = all_dx[worker];
    table.scatter_to_frame(frame, half_dy, some_winners, frame_places, images, shape, layout);
    count_repeats(table.gradient_of_input(block, frame, flipped, conv, layout, losses));
    table.deinterleave(dx + first * x_size, block, images, x_size);
  });
  for_pieces(conv.k, 4, [&](Range k) { add_parts(dweight, dbias, sums, bias_sums, parts, k, conv, layout); });
}

}  // namespace

void conv2d_relu_max_pool2d_backward_bf16(float* dx, float* dweight, float* dbias, const float* dy, const std::uint8_t* winners,
                                          const float* x, const float* weight, const ConvPoolShape& shape) {
  const LowPrecisionTable& table = unit();
  if (no_gradients(dx, dweight, dbias, shape.conv)) return;
  if (on_tiles(dy, winners, x, weight, dx != nullptr, table, shape)) {
    backward_by_tiles(dx, dweight, dbias, dy, winners, x, weight, table, shape);
  } else {
    conv2d_relu_max_pool2d_backward(dx, dweight, dbias, dy, winners, x, weight, shape);
  }
}

}  // namespace fastlenet::cpu
