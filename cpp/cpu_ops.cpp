#include "cpu_ops.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <vector>

#include "batches.hpp"
#include "scratch.hpp"

namespace fastlenet::cpu {

namespace {

std::int64_t padded_size(const ConvShape& s) { return s.c * (s.h + 2 * s.padding.h) * (s.w + 2 * s.padding.w); }

// One image in a border of zeros.
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

Frame padded_frame(const ConvShape& s) {
  return {s.c, s.h, s.w, s.h + 2 * s.padding.h, s.w + 2 * s.padding.w, s.padding.h, s.padding.w, {1, 1}};
}

// dx as a convolution of stride 1 over dy: dy's rows spread `stride` apart in a frame with r-1 rows of zeros before
// them, less the padding; the weights flipped, with c and k exchanged.
struct InputGradient {
  ConvShape shape;
  Frame frame;

  explicit InputGradient(const ConvShape& s)
      : shape{s.n, s.k, s.h + s.r - 1, s.w + s.s - 1, s.c, s.r, s.s, {1, 1}, {0, 0}, s.h, s.w},
        frame{s.k, s.p, s.q, shape.h, shape.w, s.r - 1 - s.padding.h, s.s - 1 - s.padding.w, s.stride} {}
};

}  // namespace

void conv2d_forward(float* y, const float* x, const float* weight, const float* bias, const ConvShape& shape) {
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

namespace {

// Where fewer multiply-adds make up for the rest. Per tile the transforms take 600 cycles for each input channel and 270 for
// each output channel, and to store the products takes about as long as 3 more input channels.
bool winograd_pays(const ConvPoolShape& shape) {
  const ConvShape& conv = shape.conv;
  const PoolShape& pool = shape.pool;
  const bool square = conv.r == conv.s && (conv.r == 3 || conv.r == 5), windows = pool.r == 2 && pool.s == 2;
  if (!square || !windows) return false;
  const WinogradSizes sizes = kernels().winograd_sizes(shape);
  const std::int64_t tiles = sizes.down * sizes.across, direct = conv.c * conv.k * conv.r * conv.s * pool.p * pool.q * 4;
  return tiles * (64 * (conv.c + 3) * conv.k + 600 * conv.c + 270 * conv.k) < direct;
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
  float* scratch[5];
  const std::int64_t slots = workers * blocks.lanes;
  Scratch::take(scratch, {slots * x_size, slots * y_size, slots * y_size, sizes.weights, workers * sizes.scratch});
  if (winograd) {
    parallel_for(ceil_divide(conv.k, table.tile_rows),
                 [&](std::int64_t group) { table.winograd_weights(scratch[3], weight, group, conv); });
  }
  parallel_for(blocks.count, workers, [&](std::int64_t block, int worker) {
    const std::int64_t first = blocks.first(block), images = blocks.images(block), slot = worker * blocks.lanes;
    float *x_block = scratch[0] + slot * x_size, *y_block = scratch[1] + slot * y_size;
    std::int32_t* winner_block = reinterpret_cast<std::int32_t*>(scratch[2] + slot * y_size);
    table.interleave(x_block, x + first * conv.c * conv.h * conv.w, images, frame);
    if (winograd) {
      table.winograd_relu_max_pool2d_forward(y_block, winner_block, x_block, scratch[3], bias,
                                             scratch[4] + worker * sizes.scratch, shape);
    } else {
      table.conv2d_relu_max_pool2d_forward(y_block, winner_block, x_block, weight, bias, shape);
    }
    table.deinterleave(y + first * y_size, y_block, images, y_size);
    table.deinterleave_bytes(winners + first * y_size, winner_block, images, y_size);
  });
}

// Image by image, channels in the lanes: their blocks hold what the images' blocks hold otherwise.
void forward_one_by_one(float* y, std::uint8_t* winners, const float* x, const float* weight, const float* bias,
                        const ConvPoolShape& shape) {
  const KernelTable& table = kernels();
  const ConvShape& conv = shape.conv;
  const Blocks groups(conv.k, table);
  const std::int64_t lanes = table.lanes, depth = conv.c * conv.r * conv.s, windows = shape.pool.p * shape.pool.q;
  const std::int64_t slots = groups.count * lanes, x_size = conv.c * conv.h * conv.w, frame = padded_size(conv);
  const int workers = workers_for(conv.n);
  float* scratch[5];
  Scratch::take(scratch, {slots * depth, slots, workers * frame, workers * slots * windows, workers * slots * windows});
  for (std::int64_t group = 0; group < groups.count; ++group) {
    table.interleave(scratch[0] + groups.first(group) * depth, weight + groups.first(group) * depth, groups.images(group),
                     plain_frame(depth, 1, 1));
  }
  std::fill(scratch[1], scratch[1] + slots, 0.0f);
  if (bias) std::copy(bias, bias + conv.k, scratch[1]);
  parallel_for(conv.n, workers, [&](std::int64_t n, int worker) {
    float *padded = scratch[2] + worker * frame, *y_blocks = scratch[3] + worker * slots * windows;
    std::int32_t* winner_blocks = reinterpret_cast<std::int32_t*>(scratch[4] + worker * slots * windows);
    pad_image(padded, x + n * x_size, conv);
    table.conv2d_relu_max_pool2d_forward_one(y_blocks, winner_blocks, padded, scratch[0], scratch[1], shape);
    for (std::int64_t group = 0; group < groups.count; ++group) {
      const std::int64_t first = groups.first(group), at = (n * conv.k + first) * windows;
      table.deinterleave(y + at, y_blocks + first * windows, groups.images(group), windows);
      table.deinterleave_bytes(winners + at, winner_blocks + first * windows, groups.images(group), windows);
    }
  });
}

}  // namespace

void conv2d_relu_max_pool2d_forward(float* y, std::uint8_t* winners, const float* x, const float* weight, const float* bias,
                                    Algorithm algorithm, const ConvPoolShape& shape) {
  // The choice of the algorithm must not depend on n: an image's bits would depend on its batch.
  const bool winograd = algorithm == Algorithm::winograd && winograd_pays(shape);
  // A block takes the time of `lanes` images, however few there are; one by one they cost a little more each.
  const bool few = 2 * shape.conv.n <= kernels().lanes;
  if (few && !winograd) {
    forward_one_by_one(y, winners, x, weight, bias, shape);
  } else {
    forward_by_blocks(y, winners, x, weight, bias, winograd, shape);
  }
}

namespace {

// Images whose weight gradients one task adds up. Their sums are then added in order: neither number depends on the threads.
constexpr std::int64_t kPart = 16;

// For filter rows that fill a vector: winners.hpp.
void backward_by_rows(float* dx, float* dweight, float* dbias, const float* dy, const std::uint8_t* winners, const float* x,
                      const float* weight, const ConvPoolShape& shape) {
  const KernelTable& table = kernels();
  const ConvShape& conv = shape.conv;
  const PoolShape& pool = shape.pool;
  const RowsSizes rows = table.conv2d_rows_sizes(conv);
  const std::int64_t parts = std::max<std::int64_t>(1, ceil_divide(conv.n, kPart)), lanes = table.lanes;
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
  if (dx) table.conv2d_weight_to_rows(scratch[7], weight, conv);
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
        prefetch(x + (n + 1) * x_size, x_size);
        prefetch(dy + (n + 1) * dy_size, dy_size);
        if (dx) prefetch(dx + (n + 1) * x_size, x_size);
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

// For filter rows that do not: unpool.hpp.
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
  const bool narrow = conv.s * conv.c <= kernels().lanes;
  // A loser counts as absent; by lanes it is multiplied by 0, which an infinity or NaN would show.
  const bool finite = narrow && all_finite(x, conv.n * conv.c * conv.h * conv.w) &&
                      (dx == nullptr || all_finite(weight, conv.k * conv.c * conv.r * conv.s));
  (finite ? backward_by_lanes : backward_by_rows)(dx, dweight, dbias, dy, winners, x, weight, shape);
}

void relu_forward(float* y, const float* x, std::int64_t count) {
  const KernelTable& table = kernels();
  for_pieces(count, kPiece, [&](Range r) { table.relu_forward(y + r.begin, x + r.begin, r.end - r.begin); });
}

void relu_backward(float* dx, const float* dy, const float* y, std::int64_t count) {
  const KernelTable& table = kernels();
  for_pieces(count, kPiece, [&](Range r) { table.relu_backward(dx + r.begin, dy + r.begin, y + r.begin, r.end - r.begin); });
}

void sigmoid_forward(float* y, const float* x, std::int64_t count) {
  const KernelTable& table = kernels();
  for_pieces(count, kPiece, [&](Range r) { table.sigmoid_forward(y + r.begin, x + r.begin, r.end - r.begin); });
}

void sigmoid_backward(float* dx, const float* dy, const float* y, std::int64_t count) {
  const KernelTable& table = kernels();
  for_pieces(count, kPiece, [&](Range r) { table.sigmoid_backward(dx + r.begin, dy + r.begin, y + r.begin, r.end - r.begin); });
}

void dropout_forward(float* y, float* mask, const float* x, double rate, std::uint64_t seed, std::uint64_t counter,
                     std::int64_t count) {
  const KernelTable& table = kernels();
  const std::uint64_t threshold = static_cast<std::uint64_t>(std::nearbyint(rate * 4294967296.0));
  const float scale = static_cast<float>(1.0 / (1.0 - rate));
  for_pieces(count, kPiece, [&](Range r) { table.dropout_forward(y, mask, x, threshold, scale, seed, counter, r); });
}

void dropout_backward(float* dx, const float* dy, const float* mask, std::int64_t count) {
  const KernelTable& table = kernels();
  for_pieces(count, kPiece,
             [&](Range r) { table.dropout_backward(dx + r.begin, dy + r.begin, mask + r.begin, r.end - r.begin); });
}

double softmax_cross_entropy(float* dlogits, const float* logits, const std::int64_t* labels, std::int64_t rows,
                             std::int64_t classes, double label_smoothing) {
  if (rows == 0) return std::numeric_limits<double>::quiet_NaN();
  const KernelTable& table = kernels();
  std::vector<double> losses(static_cast<std::size_t>(rows));
  for_pieces(rows, 64, [&](Range r) {
    table.softmax_cross_entropy(losses.data() + r.begin, dlogits + r.begin * classes, logits + r.begin * classes,
                                labels + r.begin, r.end - r.begin, classes, label_smoothing, 1.0 / static_cast<double>(rows));
  });
  double total = 0.0;
  for (double loss : losses) total += loss;
  return total / static_cast<double>(rows);
}

double squared_error(float* dprediction, const float* prediction, const float* target, std::int64_t count) {
  return kernels().squared_error(dprediction, prediction, target, count);
}

void sgd_step(float* parameters, const float* gradients, float* velocity, std::int64_t count, const SgdStep& step) {
  const KernelTable& table = kernels();
  for_pieces(count, kPiece, [&](Range r) {
    table.sgd_step(parameters + r.begin, gradients + r.begin, velocity ? velocity + r.begin : nullptr, r.end - r.begin, step);
  });
}

void adam_step(float* parameters, const float* gradients, float* first_moment, float* second_moment, std::int64_t count,
               const AdamStep& step) {
  const KernelTable& table = kernels();
  for_pieces(count, kPiece, [&](Range r) {
    table.adam_step(parameters + r.begin, gradients + r.begin, first_moment + r.begin, second_moment + r.begin, r.end - r.begin,
                    step);
  });
}

void ema_step(float* average, const float* parameters, std::int64_t count, float decay) {
  const KernelTable& table = kernels();
  for_pieces(count, kPiece, [&](Range r) { table.ema_step(average + r.begin, parameters + r.begin, r.end - r.begin, decay); });
}

double multiply_add_peak(int threads, double seconds) {
  using Clock = std::chrono::steady_clock;
  const KernelTable& table = kernels();
  std::vector<double> rates(static_cast<std::size_t>(threads));
  const int before = num_threads();
  set_num_threads(threads);
  parallel_for(threads, [&](std::int64_t task) {
    double operations = 0.0, total = 0.0, elapsed = 0.0;
    volatile float keep = 0.0f;
    const Clock::time_point start = Clock::now();
    do {
      keep = table.multiply_add_peak(2000, &operations);
      total += operations;
      elapsed = std::chrono::duration<double>(Clock::now() - start).count();
    } while (elapsed < seconds);
    static_cast<void>(keep);
    rates[static_cast<std::size_t>(task)] = total / elapsed;
  });
  set_num_threads(before);
  double sum = 0.0;
  for (double rate : rates) sum += rate;
  return sum;
}

}  // namespace fastlenet::cpu
