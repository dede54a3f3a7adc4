// Gradients through convolution + ReLU + max-pooling, computed from the winners alone. Only the winner of a living window has a
// gradient. So at most one of pool.r * pool.s multiply-adds of the dense convolution is needed, with the same result.
//
// The multiprocessor's path to shared memory and first-level cache limits both kernels: it delivers 32 floats a cycle, where
// 128 multiply-adds are possible. Each winner is multiplied by every element of its patch once, so nothing can be reused.
#include "common.cuh"

namespace fastlenet::cuda {

namespace {

// A winner's position and its element of dy.
struct Entry {
  int at;
  float dy;
};

// The winning position's row and column among the convolution's outputs.
struct Winner {
  int row, column;
  __device__ Winner(int window, int winner, const PoolShape& pool)
      : row(window / static_cast<int>(pool.q) * static_cast<int>(pool.r) + winner / static_cast<int>(pool.s)),
        column(window % static_cast<int>(pool.q) * static_cast<int>(pool.s) + winner % static_cast<int>(pool.s)) {}
};

// Appends the entries of those lanes that have one to list[count], in the order of the lanes. The whole warp must call it.
__device__ __forceinline__ void append(Entry* list, int& count, bool has, const Entry& entry) {
  const unsigned votes = __ballot_sync(kAllLanes, has);
  const unsigned before = votes & ((1u << threadIdx.x % kWarp) - 1);
  if (has) list[count + __popc(before)] = entry;
  count += __popc(votes);
}

// --- dweight and dbias ------------------------------------------------------------------------------------------------------
//
// A channel's elements, c*r*s weights and one bias, are divided into slots of kOwn. A thread has one slot, or four slots of
// different channels, so it reads a winner from the list once for kOwn multiply-adds. A block sums its slots over a part of the
// images, with x of one image in shared memory, [h][w][c]. The parts are then added in order.

constexpr int kOwn = 4;
constexpr int kMostThreads = 512, kListChannels = 40, kListWindows = 64;
constexpr int kPixels = 5632;          // 22 KiB
constexpr std::int64_t kBlocks = 320;  // more than twice the multiprocessors of a large GPU

struct WeightStage {
  float x[kPixels];
  Entry list[kListChannels][kListWindows];
  int count[kListChannels];
};

// The elements of a channel, divided into slots.
struct Slots {
  int elements, per_channel;
};

// One element of a channel, numbered by (r, s, c) with c fastest. The last element, the only one without channels, is the bias.
struct Element {
  int c, r, s;
  bool is_bias, is_there;
  __device__ Element(int number, const ConvShape& conv)
      : c(number % channels(conv)),
        r(number / channels(conv) / static_cast<int>(conv.s)),
        s(number / channels(conv) % static_cast<int>(conv.s)),
        is_bias(number == static_cast<int>(conv.c * conv.r * conv.s)),
        is_there(number < static_cast<int>(conv.c * conv.r * conv.s)) {}
  __device__ static int channels(const ConvShape& conv) { return conv.c > 0 ? static_cast<int>(conv.c) : 1; }
};

// Makes the lists of `channels` channels from k on, for the windows from `first` on. A warp makes one list at a time.
__device__ __forceinline__ void list_winners(WeightStage& stage, const float* dy, const std::uint8_t* winners, int k,
                                             int channels, int first, int pitch, int step, const PoolShape& pool,
                                             Fault* fault) {
  const int windows = static_cast<int>(pool.p * pool.q), area = static_cast<int>(pool.r * pool.s);
  for (int i = static_cast<int>(threadIdx.x) / kWarp; i < channels; i += static_cast<int>(blockDim.x) / kWarp) {
    int count = 0;
    for (int begin = first; begin < first + kListWindows && begin < windows; begin += kWarp) {
      const int window = begin + static_cast<int>(threadIdx.x) % kWarp, at = (k + i) * windows + window;
      const int winner = window < windows ? winners[at] : kDeadWindow;
      if (winner >= area && winner != kDeadWindow) *fault = Fault::kWinners;
      const bool alive = winner < area;
      const Winner place(window, alive ? winner : 0, pool);
      append(stage.list[i], count, alive, {(place.row * pitch + place.column) * step, alive ? dy[at] : 0.0f});
    }
    if (threadIdx.x % kWarp == 0) stage.count[i] = count;
  }
}

// Copies one image with its padding to shared memory, [h][w][c].
__device__ __forceinline__ void stage_image(float* to, const float* x, const ConvShape& conv) {
  const int h = static_cast<int>(conv.h), w = static_cast<int>(conv.w), channels = static_cast<int>(conv.c);
  const int top = static_cast<int>(conv.padding.h), left = static_cast<int>(conv.padding.w);
  const int width = w + 2 * left, plane = (h + 2 * top) * width;
  for (int i = static_cast<int>(threadIdx.x); i < channels * plane; i += static_cast<int>(blockDim.x)) {
    const int c = i / plane, place = i % plane;
    to[place * channels + c] = padded_element(x + c * h * w, place / width - top, place % width - left, h, w);
  }
}

// staged: x is copied to shared memory. Images that do not fit there are read from device memory.
template <bool staged, int rounds>
__global__ void __launch_bounds__(kMostThreads, rounds == 1 ? 2 : 1)
    backward_weight(float* sums, const float* dy, const std::uint8_t* winners, const float* x, Slots slots,
                    std::int64_t per_part, ConvPoolShape shape, Fault* fault) {
  WeightStage& stage = block_shared<WeightStage>();
  const ConvShape& conv = shape.conv;
  const int windows = static_cast<int>(shape.pool.p * shape.pool.q), channels = static_cast<int>(conv.c);
  const int width = static_cast<int>(conv.w + 2 * conv.padding.w), step = staged ? channels : 1;
  const int all_slots = static_cast<int>(conv.k) * slots.per_channel, threads = static_cast<int>(blockDim.x);
  const int first_slot = static_cast<int>(blockIdx.x) * rounds * threads;
  const int end_slot = first_slot + rounds * threads < all_slots ? first_slot + rounds * threads : all_slots;
  const int first_k = first_slot / slots.per_channel, list_channels = (end_slot - 1) / slots.per_channel - first_k + 1;

  float sum[rounds][kOwn] = {};
  int offset[rounds][kOwn];  // in x, from the winner's position; negative for the bias
  int list[rounds];          // the number of the channel's list
#pragma unroll
  for (int round = 0; round < rounds; ++round) {
    const int slot = first_slot + round * threads + static_cast<int>(threadIdx.x);
    list[round] = slot < end_slot ? slot / slots.per_channel - first_k : -1;
#pragma unroll
    for (int j = 0; j < kOwn; ++j) {
      const Element element(slot % slots.per_channel + j * slots.per_channel, conv);
      offset[round][j] = element.is_there ? (element.r * width + element.s) * step + (staged ? element.c : 0) : 0;
      if (element.is_bias) offset[round][j] = -1;
    }
  }

  const std::int64_t begin = blockIdx.y * per_part, end = begin + per_part < conv.n ? begin + per_part : conv.n;
  for (std::int64_t n = begin; n < end; ++n) {
    const float* image = x + n * channels * conv.h * conv.w;
    if (staged) stage_image(stage.x, image, conv);
    for (int window = 0; window < windows; window += kListWindows) {
      list_winners(stage, dy + n * conv.k * windows, winners + n * conv.k * windows, first_k, list_channels, window, width,
                   step, shape.pool, fault);
      __syncthreads();
#pragma unroll
      for (int round = 0; round < rounds; ++round) {
        const int count = list[round] >= 0 ? stage.count[list[round]] : 0;
        for (int i = 0; i < count; ++i) {
          const Entry entry = stage.list[list[round]][i];
#pragma unroll
          for (int j = 0; j < kOwn; ++j) {
            float value = 1.0f;
            if (offset[round][j] >= 0) {
              const int at = entry.at + offset[round][j];
              if (staged) {
                value = stage.x[at];
              } else {
                const int slot = first_slot + round * threads + static_cast<int>(threadIdx.x);
                const Element element(slot % slots.per_channel + j * slots.per_channel, conv);
                const int h = static_cast<int>(conv.h), w = static_cast<int>(conv.w);
                value = padded_element(image + element.c * h * w, at / width - static_cast<int>(conv.padding.h),
                                       at % width - static_cast<int>(conv.padding.w), h, w);
              }
            }
            sum[round][j] = fmaf(entry.dy, value, sum[round][j]);
          }
        }
      }
      __syncthreads();
    }
  }

  sums += static_cast<std::int64_t>(blockIdx.y) * conv.k * slots.elements;
#pragma unroll
  for (int round = 0; round < rounds; ++round) {
    const int slot = first_slot + round * threads + static_cast<int>(threadIdx.x);
    if (slot >= end_slot) break;
#pragma unroll
    for (int j = 0; j < kOwn; ++j) {
      const int element = slot % slots.per_channel + j * slots.per_channel;
      if (element < slots.elements) sums[slot / slots.per_channel * slots.elements + element] = sum[round][j];
    }
  }
}

// Computes one element of dweight or dbias: the sum of the parts, in order.
struct AddParts {
  float *dweight, *dbias;
  const float* sums;
  std::int64_t parts;
  Slots slots;
  ConvShape conv;
  __device__ void operator()(std::int64_t i) const {
    const std::int64_t pitch = conv.k * slots.elements, k = i / slots.elements;
    float sum = 0.0f;
#pragma unroll 8
    for (std::int64_t part = 0; part < parts; ++part) sum += sums[part * pitch + i];
    const Element element(static_cast<int>(i % slots.elements), conv);
    if (element.is_bias) {
      dbias[k] = sum;
    } else {
      dweight[((k * conv.c + element.c) * conv.r + element.r) * conv.s + element.s] = sum;
    }
  }
};

// The threads of a block, limited so that their slots belong to no more channels than there are lists.
struct Division {
  int threads, rounds;
  std::int64_t groups, parts, per_part;
};

Division divide(const Slots& slots, const ConvShape& conv) {
  const std::int64_t all = conv.k * slots.per_channel, most = std::int64_t{kListChannels - 2} * slots.per_channel;
  Division division;
  division.rounds = all >= 4 * kMostThreads && most >= 4 * kMostThreads ? 4 : 1;
  std::int64_t threads = ceil_divide(all, division.rounds * kWarp) * kWarp;
  if (threads > most / division.rounds) threads = most / division.rounds / kWarp * kWarp;
  division.threads = static_cast<int>(threads < kMostThreads ? threads : kMostThreads);
  division.groups = ceil_divide(all, std::int64_t{division.threads} * division.rounds);
  const std::int64_t parts = ceil_divide(kBlocks, division.groups);
  division.per_part = ceil_divide(conv.n, parts < conv.n ? parts : conv.n);
  division.parts = ceil_divide(conv.n, division.per_part);
  return division;
}

void launch_weight(const char* op, float* dweight, float* dbias, const float* dy, const std::uint8_t* winners, const float* x,
                   const ConvPoolShape& shape) {
  const ConvShape& conv = shape.conv;
  const int elements = static_cast<int>(conv.c * conv.r * conv.s) + 1;
  const Slots slots{elements, static_cast<int>(ceil_divide(elements, kOwn))};
  Memory memory;
  std::int64_t parts = 0;
  if (conv.n > 0 && conv.k > 0) {
    const Division division = divide(slots, conv);
    parts = division.parts;
    memory = allocate(static_cast<std::size_t>(parts * conv.k * elements) * sizeof(float));
    const bool staged = conv.c * (conv.h + 2 * conv.padding.h) * (conv.w + 2 * conv.padding.w) <= kPixels;
    const auto kernel = staged ? (division.rounds == 4 ? backward_weight<true, 4> : backward_weight<true, 1>)
                               : (division.rounds == 4 ? backward_weight<false, 4> : backward_weight<false, 1>);
    launch(op, kernel, dim3(blocks_of(division.groups, 1), blocks_of(parts, 1)), division.threads, stream(),
           static_cast<float*>(memory.get()), dy, winners, x, slots, division.per_part, shape, fault());
  }
  launch_for_each(op, conv.k * elements, AddParts{dweight, dbias, static_cast<float*>(memory.get()), parts, slots, conv});
}

// --- dx ---------------------------------------------------------------------------------------------------------------------
//
// A block computes one image, with its padded dx in shared memory; a thread has one element of the patch. For each position,
// the thread sums dy times weight over the channels that won there in a register, then adds the sum to dx. No two threads write
// the same element for one position; there is a barrier between two positions.

constexpr int kInputThreads = 512, kEntries = 1024, kEnds = 512;

template <int pixels>
struct InputStage {
  float dx[pixels];
  Entry list[kEntries];
  int ends[kEnds];
};

// Makes the lists of `count` windows from `first` on: one list per position, with the channels in order. A warp lists one
// window.
template <int pixels>
__device__ __forceinline__ void list_positions(InputStage<pixels>& stage, const float* dy, const std::uint8_t* winners,
                                               int first, int count, int channels, const PoolShape& pool) {
  const int windows = static_cast<int>(pool.p * pool.q), area = static_cast<int>(pool.r * pool.s);
  for (int i = static_cast<int>(threadIdx.x) / kWarp; i < count; i += static_cast<int>(blockDim.x) / kWarp) {
    int end = i * channels;
    for (int position = 0; position < area; ++position) {
      for (int begin = 0; begin < channels; begin += kWarp) {
        const int k = begin + static_cast<int>(threadIdx.x) % kWarp, at = k * windows + first + i;
        const bool won = k < channels && winners[at] == position;
        append(stage.list, end, won, {k, won ? dy[at] : 0.0f});
      }
      if (threadIdx.x % kWarp == 0) stage.ends[i * area + position] = end;
    }
  }
}

template <int pixels>
__global__ void __launch_bounds__(kInputThreads)
    backward_input(float* dx, const float* dy, const std::uint8_t* winners, const float* weight, ConvPoolShape shape) {
  InputStage<pixels>& stage = block_shared<InputStage<pixels>>();
  const ConvShape& conv = shape.conv;
  const PoolShape& pool = shape.pool;
  const int windows = static_cast<int>(pool.p * pool.q), area = static_cast<int>(pool.r * pool.s);
  const int taps = static_cast<int>(conv.r * conv.s), elements = static_cast<int>(conv.c) * taps;
  const int width = static_cast<int>(conv.w + 2 * conv.padding.w);
  const int plane = static_cast<int>(conv.h + 2 * conv.padding.h) * width;
  const int channels = static_cast<int>(conv.k), threads = static_cast<int>(blockDim.x);
  const int most = kEntries / channels < kEnds / area ? kEntries / channels : kEnds / area;
  const std::int64_t n = blockIdx.x;
  dy += n * channels * windows;
  winners += n * channels * windows;

  for (int i = static_cast<int>(threadIdx.x); i < conv.c * plane; i += threads) stage.dx[i] = 0.0f;
  for (int first = 0; first < windows; first += most) {
    const int count = windows - first < most ? windows - first : most;
    list_positions(stage, dy, winners, first, count, channels, pool);
    __syncthreads();
    for (int i = 0; i < count * area; ++i) {
      const int begin = i % area == 0 ? i / area * channels : stage.ends[i - 1], end = stage.ends[i];
      const Winner place(first + i / area, i % area, pool);
      for (int element = static_cast<int>(threadIdx.x); element < elements && begin < end; element += threads) {
        float sum = 0.0f;
#pragma unroll 4
        for (int j = begin; j < end; ++j) {
          const Entry entry = stage.list[j];
          sum = fmaf(entry.dy, weight[entry.at * elements + element], sum);
        }
        const int row = place.row + element % taps / static_cast<int>(conv.s);
        const int column = place.column + element % static_cast<int>(conv.s);
        stage.dx[element / taps * plane + row * width + column] += sum;
      }
      __syncthreads();
    }
  }

  const int h = static_cast<int>(conv.h), w = static_cast<int>(conv.w);
  for (int i = static_cast<int>(threadIdx.x); i < conv.c * h * w; i += threads) {
    const int row = i / w % h + static_cast<int>(conv.padding.h), column = i % w + static_cast<int>(conv.padding.w);
    dx[n * conv.c * h * w + i] = stage.dx[i / w / h * plane + row * width + column];
  }
}

// Computes one element of dx, for images that do not fit: the sum over the winners among the outputs that used it, in the order
// (k, r, s).
struct InputAny {
  float* dx;
  const float* dy;
  const std::uint8_t* winners;
  const float* weight;
  ConvPoolShape shape;
  __device__ void operator()(std::int64_t i) const {
    const ConvShape& conv = shape.conv;
    const PoolShape& pool = shape.pool;
    const std::int64_t n = i / conv.w / conv.h / conv.c, c = i / conv.w / conv.h % conv.c;
    const int down = static_cast<int>(i / conv.w % conv.h + conv.padding.h);
    const int right = static_cast<int>(i % conv.w + conv.padding.w);
    const int pool_h = static_cast<int>(pool.r), pool_w = static_cast<int>(pool.s);
    float sum = 0.0f;
    for (int k = 0; k < conv.k; ++k) {
      const float* filter = weight + (k * conv.c + c) * conv.r * conv.s;
      const std::int64_t windows = (n * conv.k + k) * pool.p * pool.q;
      for (int r = 0; r < conv.r; ++r) {
        const int row = down - r;
        if (row < 0 || row >= pool.p * pool_h) continue;
        for (int s = 0; s < conv.s; ++s) {
          const int column = right - s;
          if (column < 0 || column >= pool.q * pool_w) continue;
          const std::int64_t window = windows + row / pool_h * pool.q + column / pool_w;
          if (winners[window] == row % pool_h * pool_w + column % pool_w) sum = fmaf(dy[window], filter[r * conv.s + s], sum);
        }
      }
    }
    dx[i] = sum;
  }
};

void launch_input(const char* op, float* dx, const float* dy, const std::uint8_t* winners, const float* weight,
                  const ConvPoolShape& shape) {
  constexpr int few = 3072, many = 9216;  // 12 KiB leave room for the weights in the first-level cache; 36 KiB is the most
  const ConvShape& conv = shape.conv;
  const std::int64_t padded = conv.c * (conv.h + 2 * conv.padding.h) * (conv.w + 2 * conv.padding.w);
  const std::int64_t inputs = conv.n * conv.c * conv.h * conv.w;
  if (inputs == 0) return;
  if (padded > many || conv.k > kEntries || conv.k == 0) {
    launch_for_each(op, inputs, InputAny{dx, dy, winners, weight, shape});
    return;
  }
  const std::int64_t elements = conv.c * conv.r * conv.s, least = elements < kInputThreads ? elements : kInputThreads;
  const int threads = static_cast<int>(ceil_divide(least < kWarp * 4 ? kWarp * 4 : least, kWarp) * kWarp);
  launch(op, padded <= few ? backward_input<few> : backward_input<many>, blocks_of(conv.n, 1), threads, stream(), dx, dy,
         winners, weight, shape);
}

}  // namespace

void conv2d_relu_max_pool2d_backward(float* dx, float* dweight, float* dbias, const float* dy, const std::uint8_t* winners,
                                     const float* x, const float* weight, const ConvPoolShape& shape) {
  const char* op = "conv2d_relu_max_pool2d_backward";
  const ConvShape& conv = shape.conv;
  expect_narrow(op, conv.c * (conv.h + 2 * conv.padding.h) * (conv.w + 2 * conv.padding.w));
  expect_narrow(op, conv.k * conv.p * conv.q);
  expect_narrow(op, conv.k * (conv.c * conv.r * conv.s + kOwn));
  launch_weight(op, dweight, dbias, dy, winners, x, shape);
  if (dx != nullptr) launch_input(op, dx, dy, winners, weight, shape);
}

}  // namespace fastlenet::cuda
