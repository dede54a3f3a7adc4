// Convolution of any stride and padding, directly by its definition. The networks mostly use conv_pool.cu, which is faster.
#include "common.cuh"

namespace fastlenet::cuda {

namespace {

constexpr int kThreads = 128;

// Output channels of a thread. A value of x is loaded once for all of them; their weights are the same for the whole warp.
constexpr int kChannels = 4;

// Computes one output position for kChannels channels of the images n, n + gridDim.z, ... Every output is one chain of
// multiply-adds over (c, r, s), which starts at the bias.
__global__ void __launch_bounds__(kThreads)
    forward(float* y, const float* x, const float* weight, const float* bias, ConvShape shape) {
  const int outputs = static_cast<int>(shape.p * shape.q), place = static_cast<int>(blockIdx.x * kThreads + threadIdx.x);
  if (place >= outputs) return;
  const int h = static_cast<int>(shape.h), w = static_cast<int>(shape.w), taps = static_cast<int>(shape.r * shape.s);
  const int filter_h = static_cast<int>(shape.r), filter_w = static_cast<int>(shape.s), channels = static_cast<int>(shape.c);
  const int k = static_cast<int>(blockIdx.y) * kChannels, q = static_cast<int>(shape.q);
  const int top = place / q * static_cast<int>(shape.stride.h) - static_cast<int>(shape.padding.h);
  const int left = place % q * static_cast<int>(shape.stride.w) - static_cast<int>(shape.padding.w);
  const int count = static_cast<int>(shape.k) - k < kChannels ? static_cast<int>(shape.k) - k : kChannels;
  const int depth = channels * taps;

  for (std::int64_t n = blockIdx.z; n < shape.n; n += gridDim.z) {
    float sum[kChannels];
#pragma unroll
    for (int i = 0; i < kChannels; ++i) sum[i] = bias != nullptr && i < count ? bias[k + i] : 0.0f;
    const float* plane = x + n * channels * h * w;
    const float* row_of_weights = weight + static_cast<std::int64_t>(k) * depth;
    for (int c = 0; c < channels; ++c, plane += h * w) {
      for (int r = 0; r < filter_h; ++r) {
        for (int s = 0; s < filter_w; ++s, ++row_of_weights) {
          const float value = padded_element(plane, top + r, left + s, h, w);
#pragma unroll
          for (int i = 0; i < kChannels; ++i) {
            if (i < count) sum[i] = fmaf(value, row_of_weights[i * depth], sum[i]);
          }
        }
      }
    }
    float* out = y + (n * shape.k + k) * outputs + place;
#pragma unroll
    for (int i = 0; i < kChannels; ++i) {
      if (i < count) out[static_cast<std::int64_t>(i) * outputs] = sum[i];
    }
  }
}

// Computes one element of dx for the images n, n + gridDim.z, ...: the sum over the outputs that used it, in the order (k, r,
// s).
__global__ void __launch_bounds__(kThreads, 8)
    backward_input(float* dx, const float* dy, const float* weight, ConvShape shape) {
  const int h = static_cast<int>(shape.h), w = static_cast<int>(shape.w), channels = static_cast<int>(shape.c);
  const int place = static_cast<int>(blockIdx.x * kThreads + threadIdx.x), inputs = channels * h * w;
  if (place >= inputs) return;
  const int c = place / (h * w), p = static_cast<int>(shape.p), q = static_cast<int>(shape.q);
  const int down = place / w % h + static_cast<int>(shape.padding.h), right = place % w + static_cast<int>(shape.padding.w);
  const int stride_h = static_cast<int>(shape.stride.h), stride_w = static_cast<int>(shape.stride.w);
  const int filter_h = static_cast<int>(shape.r), filter_w = static_cast<int>(shape.s), taps = filter_h * filter_w;
  for (std::int64_t n = blockIdx.z; n < shape.n; n += gridDim.z) {
    const float* plane = dy + n * shape.k * p * q;
    float sum = 0.0f;
    for (int k = 0; k < shape.k; ++k, plane += p * q) {
      const float* filter = weight + (static_cast<std::int64_t>(k) * channels + c) * taps;
      for (int r = 0; r < filter_h; ++r) {
        if (down < r || (down - r) % stride_h != 0 || (down - r) / stride_h >= p) continue;
        const float* row = plane + (down - r) / stride_h * q;
        for (int s = 0; s < filter_w; ++s) {
          if (right < s || (right - s) % stride_w != 0 || (right - s) / stride_w >= q) continue;
          sum = fmaf(row[(right - s) / stride_w], filter[r * filter_w + s], sum);
        }
      }
    }
    dx[n * inputs + place] = sum;
  }
}

// A warp computes one element of dweight, or of dbias. The lanes share the outputs of an image, and are added as a tree.
__global__ void __launch_bounds__(kThreads)
    backward_weight(float* dweight, float* dbias, const float* dy, const float* x, ConvShape shape) {
  const int taps = static_cast<int>(shape.r * shape.s), depth = static_cast<int>(shape.c) * taps;
  const int weights = static_cast<int>(shape.k) * depth;
  const int task = static_cast<int>(blockIdx.x) * (kThreads / kWarp) + static_cast<int>(threadIdx.x) / kWarp;
  if (task >= weights + static_cast<int>(shape.k)) return;  // the whole warp
  const bool is_bias = task >= weights;
  const int lane = static_cast<int>(threadIdx.x) % kWarp, outputs = static_cast<int>(shape.p * shape.q);
  const int h = static_cast<int>(shape.h), w = static_cast<int>(shape.w), q = static_cast<int>(shape.q);
  const int k = is_bias ? task - weights : task / depth, tap = is_bias ? 0 : task % depth, c = tap / taps;
  const int r = tap % taps / static_cast<int>(shape.s) - static_cast<int>(shape.padding.h);
  const int s = tap % taps % static_cast<int>(shape.s) - static_cast<int>(shape.padding.w);
  float sum = 0.0f;
  for (std::int64_t n = 0; n < shape.n; ++n) {
    const float* gradients = dy + (n * shape.k + k) * outputs;
    const float* plane = x + (n * shape.c + c) * h * w;
    for (int i = lane; i < outputs; i += kWarp) {
      const int row = i / q * static_cast<int>(shape.stride.h) + r, column = i % q * static_cast<int>(shape.stride.w) + s;
      sum = fmaf(gradients[i], is_bias ? 1.0f : padded_element(plane, row, column, h, w), sum);
    }
  }
  sum = sum_of_warp(sum);
  if (lane == 0) (is_bias ? dbias[k] : dweight[task]) = sum;
}

// The z of a grid ends at 65535; a thread then takes several images.
unsigned images_at_once(std::int64_t n) { return static_cast<unsigned>(n < 65535 ? n : 65535); }

}  // namespace

void conv2d_forward(float* y, const float* x, const float* weight, const float* bias, const ConvShape& shape) {
  const char* op = "conv2d_forward";
  expect_narrow(op, shape.c * shape.h * shape.w);
  expect_narrow(op, shape.k * shape.p * shape.q);
  expect_narrow(op, shape.k * shape.c * shape.r * shape.s);
  if (shape.n * shape.k == 0) return;
  const dim3 grid(blocks_of(shape.p * shape.q, kThreads), blocks_of(shape.k, kChannels), images_at_once(shape.n));
  launch(op, forward, grid, kThreads, stream(), y, x, weight, bias, shape);
}

void conv2d_backward(float* dx, float* dweight, float* dbias, const float* dy, const float* x, const float* weight,
                     const ConvShape& shape) {
  const char* op = "conv2d_backward";
  expect_narrow(op, shape.c * shape.h * shape.w);
  expect_narrow(op, shape.k * shape.p * shape.q);
  const std::int64_t inputs = shape.c * shape.h * shape.w, tasks = shape.k * (shape.c * shape.r * shape.s + 1);
  expect_narrow(op, tasks);
  if (dx != nullptr && shape.n * inputs > 0) {
    const dim3 grid(blocks_of(inputs, kThreads), 1, images_at_once(shape.n));
    launch(op, backward_input, grid, kThreads, stream(), dx, dy, weight, shape);
  }
  if (tasks > 0) {
    launch(op, backward_weight, blocks_of(tasks * kWarp, kThreads), kThreads, stream(), dweight, dbias, dy, x, shape);
  }
}

}  // namespace fastlenet::cuda
