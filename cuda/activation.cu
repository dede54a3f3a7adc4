// Element-wise kernels: ReLU, leaky ReLU, sigmoid, tanh, dropout. Their time is that of their memory traffic.
#include "philox.cuh"

namespace fastlenet::cuda {

namespace {

// Tests `x <= 0`, not `x > 0`, so that NaN stays NaN.
struct ReluForward {
  float* y;
  const float* x;
  __device__ void operator()(std::int64_t i) const { y[i] = x[i] <= 0.0f ? 0.0f : x[i]; }
};

struct ReluBackward {
  float* dx;
  const float *dy, *y;
  __device__ void operator()(std::int64_t i) const { dx[i] = y[i] > 0.0f ? dy[i] : 0.0f; }
};

// 1/(1+exp(-x)) through e = exp(-|x|), which cannot overflow: 1/(1+e) for x >= 0 and e/(1+e) below. In double, rounded once.
struct SigmoidForward {
  float* y;
  const float* x;
  __device__ void operator()(std::int64_t i) const {
    const double u = x[i], e = exp(-fabs(u));
    y[i] = static_cast<float>((u >= 0.0 ? 1.0 : e) / (1.0 + e));
  }
};

struct SigmoidBackward {
  float* dx;
  const float *dy, *y;
  __device__ void operator()(std::int64_t i) const { dx[i] = dy[i] * (y[i] * (1.0f - y[i])); }
};

// In double, rounded once.
struct TanhForward {
  float* y;
  const float* x;
  __device__ void operator()(std::int64_t i) const { y[i] = static_cast<float>(tanh(static_cast<double>(x[i]))); }
};

// As (1 - y) * (1 + y) and not as 1 - y * y, which loses all digits near 1.
struct TanhBackward {
  float* dx;
  const float *dy, *y;
  __device__ void operator()(std::int64_t i) const { dx[i] = dy[i] * ((1.0f - y[i]) * (1.0f + y[i])); }
};

struct LeakyReluForward {
  float* y;
  const float* x;
  float slope;
  __device__ void operator()(std::int64_t i) const { y[i] = x[i] > 0.0f ? x[i] : slope * x[i]; }
};

struct LeakyReluBackward {
  float* dx;
  const float *dy, *y;
  float slope;
  __device__ void operator()(std::int64_t i) const { dx[i] = y[i] > 0.0f ? dy[i] : slope * dy[i]; }
};

constexpr std::uint32_t kDropoutStream = 2;

// Computes up to four elements, which share a block of random words. skipped: words of the first block before x[0], 0..3.
struct DropoutForward {
  float *y, *mask;
  const float* x;
  std::uint64_t threshold;
  float scale;
  std::uint64_t seed;
  Count counter;
  std::uint64_t first;
  std::int64_t skipped, count;
  __device__ void operator()(std::int64_t block) const {
    std::uint32_t word[4];
    philox(word, seed, value_of(counter), kDropoutStream,
           static_cast<std::uint32_t>(first + static_cast<std::uint64_t>(block)));
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const std::int64_t i = 4 * block + j - skipped;
      if (i < 0) continue;
      if (i >= count) return;
      mask[i] = word[j] >= threshold ? scale : 0.0f;
      y[i] = x[i] * mask[i];
    }
  }
};

struct DropoutBackward {
  float* dx;
  const float *dy, *mask;
  __device__ void operator()(std::int64_t i) const { dx[i] = dy[i] * mask[i]; }
};

struct Fill {
  float* to;
  float value;
  __device__ void operator()(std::int64_t i) const { to[i] = value; }
};

}  // namespace

void relu_forward(float* y, const float* x, std::int64_t count) { launch_for_each("relu_forward", count, ReluForward{y, x}); }

void relu_backward(float* dx, const float* dy, const float* y, std::int64_t count) {
  launch_for_each("relu_backward", count, ReluBackward{dx, dy, y});
}

void sigmoid_forward(float* y, const float* x, std::int64_t count) {
  launch_for_each("sigmoid_forward", count, SigmoidForward{y, x});
}

void sigmoid_backward(float* dx, const float* dy, const float* y, std::int64_t count) {
  launch_for_each("sigmoid_backward", count, SigmoidBackward{dx, dy, y});
}

void tanh_forward(float* y, const float* x, std::int64_t count) { launch_for_each("tanh_forward", count, TanhForward{y, x}); }

void tanh_backward(float* dx, const float* dy, const float* y, std::int64_t count) {
  launch_for_each("tanh_backward", count, TanhBackward{dx, dy, y});
}

void leaky_relu_forward(float* y, const float* x, std::int64_t count, float slope) {
  launch_for_each("leaky_relu_forward", count, LeakyReluForward{y, x, slope});
}

void leaky_relu_backward(float* dx, const float* dy, const float* y, std::int64_t count, float slope) {
  launch_for_each("leaky_relu_backward", count, LeakyReluBackward{dx, dy, y, slope});
}

void dropout_forward(float* y, float* mask, const float* x, double rate, std::uint64_t seed, const Count& counter,
                     std::uint64_t offset, std::int64_t count) {
  const std::uint64_t threshold = static_cast<std::uint64_t>(std::nearbyint(rate * 4294967296.0));
  const float scale = static_cast<float>(1.0 / (1.0 - rate));
  const std::int64_t skipped = static_cast<std::int64_t>(offset % 4);
  launch_for_each("dropout_forward", count == 0 ? 0 : ceil_divide(skipped + count, 4),
                  DropoutForward{y, mask, x, threshold, scale, seed, counter, offset / 4, skipped, count});
}

void dropout_backward(float* dx, const float* dy, const float* mask, std::int64_t count) {
  launch_for_each("dropout_backward", count, DropoutBackward{dx, dy, mask});
}

void fill(float* to, float value, std::int64_t count) { launch_for_each("fill", count, Fill{to, value}); }

}  // namespace fastlenet::cuda
