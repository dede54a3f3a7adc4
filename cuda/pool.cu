// Max-pooling and average pooling.
#include "common.cuh"

namespace fastlenet::cuda {

namespace {

constexpr int kThreads = 256;

struct Window {
  float* y;
  std::int32_t* indices;
  const float* x;
  PoolShape shape;

  // Computes one output. Windows are cut off at the image's edges, so that padding never wins.
  __device__ void operator()(std::int64_t i) const {
    const int h = static_cast<int>(shape.h), w = static_cast<int>(shape.w), q = static_cast<int>(shape.q);
    const int outputs = static_cast<int>(shape.p) * q, place = static_cast<int>(i % outputs);
    const float* plane = x + i / outputs * h * w;
    const int top = place / q * static_cast<int>(shape.stride.h) - static_cast<int>(shape.padding.h);
    const int left = place % q * static_cast<int>(shape.stride.w) - static_cast<int>(shape.padding.w);
    const int begin = top < 0 ? 0 : top, end = top + shape.r < h ? top + static_cast<int>(shape.r) : h;
    const int from = left < 0 ? 0 : left, to = left + shape.s < w ? left + static_cast<int>(shape.s) : w;
    int index = begin * w + from;
    float best = plane[index];
    for (int row = begin; row < end; ++row) {
      for (int column = from; column < to; ++column) keep_maximum(best, index, plane[row * w + column], row * w + column);
    }
    y[i] = best;
    indices[i] = index;
  }
};

struct Chunk {
  std::int32_t index[kThreads];
  float dy[kThreads];
};

// Computes one plane of dx. Each thread searches all of the plane's dy, in order, for those that belong to its element. Windows
// may overlap, and atomics would add them in an arbitrary order.
__global__ void __launch_bounds__(kThreads)
    backward(float* dx, const float* dy, const std::int32_t* indices, PoolShape shape, Fault* fault) {
  Chunk& chunk = block_shared<Chunk>();
  const int pixels = static_cast<int>(shape.h * shape.w), outputs = static_cast<int>(shape.p * shape.q);
  const std::int64_t plane = blockIdx.x;
  const int thread = static_cast<int>(threadIdx.x);
  for (int first = 0; first < pixels; first += kThreads) {
    const int pixel = first + thread;
    float sum = 0.0f;
    for (int begin = 0; begin < outputs; begin += kThreads) {
      if (begin + thread < outputs) {
        const std::int32_t index = indices[plane * outputs + begin + thread];
        if (index < 0 || index >= pixels) *fault = Fault::kIndices;
        chunk.index[thread] = index;
        chunk.dy[thread] = dy[plane * outputs + begin + thread];
      }
      __syncthreads();
      const int count = outputs - begin < kThreads ? outputs - begin : kThreads;
      for (int i = 0; i < count; ++i) {
        if (chunk.index[i] == pixel) sum += chunk.dy[i];
      }
      __syncthreads();
    }
    if (pixel < pixels) dx[plane * pixels + pixel] = sum;
  }
}

// The mean of one window, over r * s elements; what lies outside the image counts as 0.
struct Mean {
  float* y;
  const float* x;
  PoolShape shape;

  __device__ void operator()(std::int64_t i) const {
    const std::int64_t outputs = shape.p * shape.q, place = i % outputs;
    const float* plane = x + i / outputs * shape.h * shape.w;
    const std::int64_t top = place / shape.q * shape.stride.h - shape.padding.h;
    const std::int64_t left = place % shape.q * shape.stride.w - shape.padding.w;
    const std::int64_t begin = top < 0 ? 0 : top, end = top + shape.r < shape.h ? top + shape.r : shape.h;
    const std::int64_t from = left < 0 ? 0 : left, to = left + shape.s < shape.w ? left + shape.s : shape.w;
    float sum = 0.0f;
    for (std::int64_t row = begin; row < end; ++row) {
      for (std::int64_t column = from; column < to; ++column) sum += plane[row * shape.w + column];
    }
    y[i] = sum / static_cast<float>(shape.r * shape.s);
  }
};

// The outputs of an axis whose windows hold that element of it: first..last.
__device__ __forceinline__ std::int64_t first_holding(std::int64_t place, std::int64_t window, std::int64_t stride) {
  return place < window ? 0 : (place - window) / stride + 1;
}

__device__ __forceinline__ std::int64_t last_holding(std::int64_t place, std::int64_t stride, std::int64_t outputs) {
  return place / stride < outputs ? place / stride : outputs - 1;
}

// One pixel of dx: the sum, in row order, of dy of the windows that hold it.
struct MeanBackward {
  float* dx;
  const float* dy;
  PoolShape shape;

  __device__ void operator()(std::int64_t i) const {
    const std::int64_t pixels = shape.h * shape.w, pixel = i % pixels;
    const float* plane = dy + i / pixels * shape.p * shape.q;
    const std::int64_t row = pixel / shape.w + shape.padding.h, column = pixel % shape.w + shape.padding.w;
    const std::int64_t last_p = last_holding(row, shape.stride.h, shape.p);
    const std::int64_t first_q = first_holding(column, shape.s, shape.stride.w);
    const std::int64_t last_q = last_holding(column, shape.stride.w, shape.q);
    float sum = 0.0f;
    for (std::int64_t p = first_holding(row, shape.r, shape.stride.h); p <= last_p; ++p) {
      for (std::int64_t q = first_q; q <= last_q; ++q) sum += plane[p * shape.q + q];
    }
    dx[i] = sum / static_cast<float>(shape.r * shape.s);
  }
};

}  // namespace

void max_pool2d_forward(float* y, std::int32_t* indices, const float* x, const PoolShape& shape) {
  launch_for_each("max_pool2d_forward", shape.n * shape.c * shape.p * shape.q, Window{y, indices, x, shape});
}

void max_pool2d_backward(float* dx, const float* dy, const std::int32_t* indices, const PoolShape& shape) {
  const char* op = "max_pool2d_backward";
  if (shape.n * shape.c * shape.h * shape.w == 0) return;
  launch(op, backward, blocks_of(shape.n * shape.c, 1), kThreads, stream(), dx, dy, indices, shape, fault());
}

void avg_pool2d_forward(float* y, const float* x, const PoolShape& shape) {
  launch_for_each("avg_pool2d_forward", shape.n * shape.c * shape.p * shape.q, Mean{y, x, shape});
}

void avg_pool2d_backward(float* dx, const float* dy, const PoolShape& shape) {
  launch_for_each("avg_pool2d_backward", shape.n * shape.c * shape.h * shape.w, MeanBackward{dx, dy, shape});
}

}  // namespace fastlenet::cuda
