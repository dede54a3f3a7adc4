// Convolution + bias + ReLU + max-pooling in one pass. The convolution's output stays in registers.
#include "common.cuh"

namespace fastlenet::cuda {

namespace {

// --- 3x3 and 5x5 filters, 2x2 windows ------------------------------------------------------------------------------------
//
// A thread computes one window, 2x2 outputs, for kOwn channels. For 5x5 filters it has 6x6 pixels in registers, and per channel
// 25 weights, which give 100 multiply-adds. A block computes 128 windows, which may belong to several images, times 2 x kOwn
// channels. All lanes of a warp read the same weights.
//
// 36 pixels + 28 weights + 20 sums = 84 registers; with up to 128, two blocks fit a multiprocessor.

constexpr int kItems = 128, kGroups = 2, kThreads = kItems * kGroups;
constexpr int kMostChannels = 4;  // input channels in shared memory at once
constexpr int kPixels = 5632;     // 22 KiB

template <int filter>
constexpr int kTaps = (filter * filter + 3) / 4 * 4;  // rounded up, since weights are read four at once

template <int filter, int own>
struct Stage {
  alignas(16) float weight[kMostChannels][kGroups * own][kTaps<filter>];
  float x[kPixels];
};

// The layout of x in shared memory: padded planes, `channels` of each image, images `pitch` apart. The pitch is odd, so that
// windows of two images never share a bank; the windows of one image are 2 apart.
struct Layout {
  int channels, pitch;
};

// Returns 0 channels if the shape does not fit.
Layout layout_of(const ConvPoolShape& shape) {
  const ConvShape& conv = shape.conv;
  const std::int64_t windows = shape.pool.p * shape.pool.q;
  const std::int64_t plane = (conv.h + 2 * conv.padding.h) * (conv.w + 2 * conv.padding.w);
  const std::int64_t images = ceil_divide(windows - 1 + kItems, windows);  // that 128 windows may belong to
  std::int64_t channels = conv.c < kMostChannels ? conv.c : kMostChannels;
  while (channels > 0 && images * (channels * plane | 1) > kPixels) --channels;
  return {static_cast<int>(channels), static_cast<int>(channels * plane | 1)};
}

// Copies `channels` channels of one image, from c on, to shared memory, with a border of zeros.
__device__ __forceinline__ void stage_image(float* to, const float* x, int c, int channels, const ConvShape& conv) {
  const int h = static_cast<int>(conv.h), w = static_cast<int>(conv.w);
  const int top = static_cast<int>(conv.padding.h), left = static_cast<int>(conv.padding.w);
  const int width = w + 2 * left, plane = (h + 2 * top) * width;
  x += c * h * w;
  if (top == 0 && left == 0) {
    for (int i = static_cast<int>(threadIdx.x); i < channels * plane; i += kThreads) to[i] = x[i];
    return;
  }
  for (int i = static_cast<int>(threadIdx.x); i < channels * plane; i += kThreads) {
    to[i] = padded_element(x + i / plane * h * w, i % plane / width - top, i % width - left, h, w);
  }
}

// Copies the filters of the block's channels from k on to shared memory, with zeros after the last one.
template <int filter, int own>
__device__ __forceinline__ void stage_weights(Stage<filter, own>& stage, const float* weight, int k, int c, int channels,
                                              const ConvShape& conv) {
  constexpr int taps = filter * filter, rows = kGroups * own;
  for (int i = static_cast<int>(threadIdx.x); i < channels * rows * taps; i += kThreads) {
    const int tap = i % taps, row = i / taps % rows, channel = i / taps / rows;
    const std::int64_t from = ((k + row) * conv.c + c + channel) * taps + tap;
    stage.weight[channel][row][tap] = k + row < conv.k ? weight[from] : 0.0f;
  }
}

// sum[channel][position] += the products of one input channel, (r, s) in order.
template <int filter, int own>
__device__ __forceinline__ void multiply_add(float (&sum)[own][4], const float* pixels, int width,
                                             const float (*weight)[kTaps<filter>]) {
  float patch[filter + 1][filter + 1];
#pragma unroll
  for (int r = 0; r <= filter; ++r) {
#pragma unroll
    for (int s = 0; s <= filter; ++s) patch[r][s] = pixels[r * width + s];
  }
#pragma unroll
  for (int k = 0; k < own; ++k) {
    float taps[kTaps<filter>];
#pragma unroll
    for (int i = 0; i < kTaps<filter>; i += 4) {
      const float4 four = *reinterpret_cast<const float4*>(&weight[k][i]);
      taps[i] = four.x;
      taps[i + 1] = four.y;
      taps[i + 2] = four.z;
      taps[i + 3] = four.w;
    }
#pragma unroll
    for (int r = 0; r < filter; ++r) {
#pragma unroll
      for (int s = 0; s < filter; ++s) {
#pragma unroll
        for (int i = 0; i < 4; ++i) sum[k][i] = fmaf(patch[r + i / 2][s + i % 2], taps[r * filter + s], sum[k][i]);
      }
    }
  }
}

template <int filter, int own>
__global__ void __launch_bounds__(kThreads, 2)
    forward_tiled(float* y, std::uint8_t* winners, const float* x, const float* weight, const float* bias, ConvPoolShape shape,
                  Layout layout) {
  Stage<filter, own>& stage = block_shared<Stage<filter, own>>();
  const ConvShape& conv = shape.conv;
  const int windows = static_cast<int>(shape.pool.p * shape.pool.q), channels = static_cast<int>(conv.c);
  const int width = static_cast<int>(conv.w + 2 * conv.padding.w);
  const int plane = static_cast<int>(conv.h + 2 * conv.padding.h) * width;
  const std::int64_t total = conv.n * windows, first = static_cast<std::int64_t>(blockIdx.x) * kItems;
  const std::int64_t last = (first + kItems < total ? first + kItems : total) - 1;
  const std::int64_t first_image = first / windows, images = last / windows - first_image + 1;
  const std::int64_t own_item = first + threadIdx.x % kItems, item = own_item < last ? own_item : last;
  const int group = static_cast<int>(threadIdx.x) / kItems, block_k = static_cast<int>(blockIdx.y) * kGroups * own;
  const int window = static_cast<int>(item % windows), q = static_cast<int>(shape.pool.q);
  const float* pixels = stage.x + (item / windows - first_image) * layout.pitch + window / q * 2 * width + window % q * 2;

  float sum[own][4];
#pragma unroll
  for (int i = 0; i < own; ++i) {
    const int k = block_k + group * own + i;
    const float start = bias != nullptr && k < conv.k ? bias[k] : 0.0f;
#pragma unroll
    for (int j = 0; j < 4; ++j) sum[i][j] = start;
  }
  for (int c = 0; c < channels; c += layout.channels) {
    const int count = channels - c < layout.channels ? channels - c : layout.channels;
    for (std::int64_t i = 0; i < images; ++i) {
      stage_image(stage.x + i * layout.pitch, x + (first_image + i) * channels * conv.h * conv.w, c, count, conv);
    }
    stage_weights<filter, own>(stage, weight, block_k, c, count, conv);
    __syncthreads();
    for (int channel = 0; channel < count; ++channel) {
      multiply_add<filter, own>(sum, pixels + channel * plane, width, &stage.weight[channel][group * own]);
    }
    __syncthreads();
  }
  if (own_item > last) return;
#pragma unroll
  for (int i = 0; i < own; ++i) {
    const int k = block_k + group * own + i;
    if (k >= conv.k) return;
    float best = sum[i][0];
    int winner = 0;
#pragma unroll
    for (int j = 1; j < 4; ++j) keep_maximum(best, winner, sum[i][j], j);
    const std::int64_t at = (item / windows * conv.k + k) * windows + window;
    y[at] = best <= 0.0f ? 0.0f : best;
    winners[at] = static_cast<std::uint8_t>(best <= 0.0f ? kDeadWindow : winner);
  }
}

template <int filter, int own>
void launch_tiled(const char* op, float* y, std::uint8_t* winners, const float* x, const float* weight, const float* bias,
                  const ConvPoolShape& shape, const Layout& layout) {
  const dim3 grid(blocks_of(shape.conv.n * shape.pool.p * shape.pool.q, kItems), blocks_of(shape.conv.k, kGroups * own));
  launch(op, forward_tiled<filter, own>, grid, kThreads, stream(), y, winners, x, weight, bias, shape, layout);
}

// --- every other shape ----------------------------------------------------------------------------------------------------

// Computes one output: the window's positions one after the other, each by the same chain as in conv.cu.
struct ForwardAny {
  float* y;
  std::uint8_t* winners;
  const float *x, *weight, *bias;
  ConvPoolShape shape;

  __device__ float convolution(const float* image, const float* filters, float start, int top, int left) const {
    const ConvShape& conv = shape.conv;
    const int h = static_cast<int>(conv.h), w = static_cast<int>(conv.w);
    float sum = start;
    for (int c = 0; c < conv.c; ++c, image += h * w) {
      for (int r = 0; r < conv.r; ++r) {
        for (int s = 0; s < conv.s; ++s) sum = fmaf(padded_element(image, top + r, left + s, h, w), *filters++, sum);
      }
    }
    return sum;
  }

  __device__ void operator()(std::int64_t i) const {
    const ConvShape& conv = shape.conv;
    const PoolShape& pool = shape.pool;
    const std::int64_t windows = pool.p * pool.q, k = i / windows % conv.k, n = i / windows / conv.k;
    const int window = static_cast<int>(i % windows), q = static_cast<int>(pool.q), area = static_cast<int>(pool.r * pool.s);
    const int top = window / q * static_cast<int>(pool.r) - static_cast<int>(conv.padding.h);
    const int left = window % q * static_cast<int>(pool.s) - static_cast<int>(conv.padding.w);
    const float* image = x + n * conv.c * conv.h * conv.w;
    const float* filters = weight + k * conv.c * conv.r * conv.s;
    const float start = bias != nullptr ? bias[k] : 0.0f;
    float best = 0.0f;
    int winner = 0;
    for (int position = 0; position < area; ++position) {
      const int row = top + position / static_cast<int>(pool.s), column = left + position % static_cast<int>(pool.s);
      const float value = convolution(image, filters, start, row, column);
      if (position == 0) best = value;
      keep_maximum(best, winner, value, position);
    }
    y[i] = best <= 0.0f ? 0.0f : best;
    winners[i] = static_cast<std::uint8_t>(best <= 0.0f ? kDeadWindow : winner);
  }
};

}  // namespace

void conv2d_relu_max_pool2d_forward(float* y, std::uint8_t* winners, const float* x, const float* weight, const float* bias,
                                    const ConvPoolShape& shape) {
  const char* op = "conv2d_relu_max_pool2d_forward";
  const ConvShape& conv = shape.conv;
  expect_narrow(op, conv.c * (conv.h + 2 * conv.padding.h) * (conv.w + 2 * conv.padding.w));
  expect_narrow(op, conv.k * conv.p * conv.q);
  expect_narrow(op, conv.k * conv.c * conv.r * conv.s);
  const std::int64_t outputs = conv.n * conv.k * shape.pool.p * shape.pool.q;
  if (outputs == 0) return;
  const bool square = conv.r == conv.s && shape.pool.r == 2 && shape.pool.s == 2;
  const Layout layout = layout_of(shape);
  if (square && conv.r == 5 && layout.channels > 0) {
    launch_tiled<5, 5>(op, y, winners, x, weight, bias, shape, layout);
  } else if (square && conv.r == 3 && layout.channels > 0) {
    launch_tiled<3, 8>(op, y, winners, x, weight, bias, shape, layout);
  } else {
    launch_for_each(op, outputs, ForwardAny{y, winners, x, weight, bias, shape});
  }
}

}  // namespace fastlenet::cuda
