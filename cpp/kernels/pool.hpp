// Max-pooling and average pooling of `lanes` planes at once, one in each lane.
#pragma once

#include "simd.hpp"
#include "table.hpp"

namespace fastlenet::FASTLENET_LEVEL {
namespace {

// Keeps the larger of two values and its position. NaN counts as the largest. In a tie, also of two NaN, the earlier one stays.
inline __attribute__((always_inline)) void keep_maximum(Vector& best, IntVector& winner, Vector value, std::int32_t position) {
  const Mask better = beats(value, best);
  best = select(better, value, best);
  winner = select(better, broadcast_int(position), winner);
}

// The part of a window that lies inside an axis of `size` elements.
inline Range window_range(std::int64_t output, std::int64_t stride, std::int64_t padding, std::int64_t window,
                          std::int64_t size) {
  const std::int64_t begin = output * stride - padding;
  const std::int64_t end = begin + window;
  return {begin < 0 ? 0 : begin, end < size ? end : size};
}

void max_pool2d_forward(float* y, std::int32_t* indices, const float* x, const PoolShape& shape) {
  for (std::int64_t p = 0; p < shape.p; ++p) {
    const Range rows = window_range(p, shape.stride.h, shape.padding.h, shape.r, shape.h);
    for (std::int64_t q = 0; q < shape.q; ++q) {
      const Range columns = window_range(q, shape.stride.w, shape.padding.w, shape.s, shape.w);
      const std::int64_t first = rows.begin * shape.w + columns.begin;
      Vector best = load(x + first * kLanes);
      IntVector index = broadcast_int(static_cast<std::int32_t>(first));
      for (std::int64_t row = rows.begin; row < rows.end; ++row) {
        for (std::int64_t column = columns.begin; column < columns.end; ++column) {
          const std::int64_t at = row * shape.w + column;
          keep_maximum(best, index, load(x + at * kLanes), static_cast<std::int32_t>(at));
        }
      }
      store(y, best);
      store(indices, index);
      y += kLanes;
      indices += kLanes;
    }
  }
}

void max_pool2d_backward(float* dx, const float* dy, const std::int32_t* indices, const PoolShape& shape) {
  const std::uint64_t pixels = static_cast<std::uint64_t>(shape.h * shape.w);
  for (std::uint64_t i = 0; i < pixels; ++i) dx[i] = 0.0f;
  for (std::int64_t i = 0; i < shape.p * shape.q; ++i) {
    const std::uint64_t index = static_cast<std::uint64_t>(__atomic_load_n(indices + i, __ATOMIC_RELAXED));
    if (index < pixels) dx[index] += dy[i];
  }
}

// Divides sums of windows by the number of elements.
class Average {
 public:
  explicit Average(const PoolShape& shape) : elements_(static_cast<float>(shape.r * shape.s)), inverse_(1.0f / elements_) {
    const std::int64_t elements = shape.r * shape.s;
    exact_ = (elements & (elements - 1)) == 0;
  }
  Vector of(Vector sum) const { return exact_ ? sum * inverse_ : sum / elements_; }

 private:
  float elements_, inverse_;
  bool exact_;  // of a power of two the inverse is exact, and a product is faster than a quotient
};

void avg_pool2d_forward(float* y, const float* x, const PoolShape& shape) {
  const Average average(shape);
  for (std::int64_t p = 0; p < shape.p; ++p) {
    const Range rows = window_range(p, shape.stride.h, shape.padding.h, shape.r, shape.h);
    for (std::int64_t q = 0; q < shape.q; ++q, y += kLanes) {
      const Range columns = window_range(q, shape.stride.w, shape.padding.w, shape.s, shape.w);
      Vector sum = {};
      for (std::int64_t row = rows.begin; row < rows.end; ++row) {
        for (std::int64_t column = columns.begin; column < columns.end; ++column) {
          sum += load(x + (row * shape.w + column) * kLanes);
        }
      }
      store(y, average.of(sum));
    }
  }
}

// The outputs of an axis whose windows hold that element of it.
inline Range holding_range(std::int64_t element, std::int64_t stride, std::int64_t padding, std::int64_t window,
                           std::int64_t outputs) {
  const std::int64_t place = element + padding;
  const std::int64_t begin = place < window ? 0 : (place - window) / stride + 1, end = place / stride + 1;
  return {begin, end < outputs ? end : outputs};
}

// Each element lies in one window, or after the last one in none: no window is looked for.
inline void avg_pool2d_backward_disjoint(float* dx, const float* dy, const PoolShape& shape) {
  const Average average(shape);
  for (std::int64_t row = 0; row < shape.h; ++row) {
    const std::int64_t p = row / shape.r, outputs = p < shape.p ? shape.q : 0;
    for (std::int64_t q = 0; q < outputs; ++q) {
      const Vector share = average.of(Vector{} + load(dy + (p * shape.q + q) * kLanes));  // of -0 it is 0, as that of a sum
      for (std::int64_t column = 0; column < shape.s; ++column, dx += kLanes) store(dx, share);
    }
    for (std::int64_t column = outputs * shape.s; column < shape.w; ++column, dx += kLanes) store(dx, Vector{});
  }
}

void avg_pool2d_backward(float* dx, const float* dy, const PoolShape& shape) {
  const bool disjoint = shape.stride.h == shape.r && shape.stride.w == shape.s && shape.padding.h + shape.padding.w == 0;
  if (disjoint) return avg_pool2d_backward_disjoint(dx, dy, shape);
  const Average average(shape);
  for (std::int64_t row = 0; row < shape.h; ++row) {
    const Range ps = holding_range(row, shape.stride.h, shape.padding.h, shape.r, shape.p);
    for (std::int64_t column = 0; column < shape.w; ++column, dx += kLanes) {
      const Range qs = holding_range(column, shape.stride.w, shape.padding.w, shape.s, shape.q);
      Vector sum = {};
      for (std::int64_t p = ps.begin; p < ps.end; ++p) {
        for (std::int64_t q = qs.begin; q < qs.end; ++q) sum += load(dy + (p * shape.q + q) * kLanes);
      }
      store(dx, average.of(sum));
    }
  }
}

}  // namespace
}  // namespace fastlenet::FASTLENET_LEVEL
