// Launching, and functions that the kernels share.
//
// Some kernels have a second number in __launch_bounds__, the number of blocks per multiprocessor. Without it, ptxas would fit
// more blocks and spill registers.
#pragma once

#include <cstdint>

#include "device.hpp"
#include "launch.cuh"

namespace fastlenet::cuda {

constexpr int kWarp = 32;
constexpr unsigned kAllLanes = 0xFFFFFFFFu;

__host__ __device__ constexpr std::int64_t ceil_divide(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

inline unsigned blocks_of(std::int64_t count, int threads) { return static_cast<unsigned>(ceil_divide(count, threads)); }

// Calls function(i) for every i below count. If there are more elements than threads, a thread calls it several times.
template <typename Function>
__global__ void for_each(std::int64_t count, Function function) {
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < count; i += step) function(i);
}

template <typename Function>
void launch_for_each(const char* name, std::int64_t count, const Function& function) {
  constexpr int threads = 256;
  constexpr std::int64_t most = 1 << 20;
  if (count == 0) return;
  const unsigned blocks = static_cast<unsigned>(ceil_divide(count, threads) < most ? ceil_divide(count, threads) : most);
  launch(name, for_each<Function>, blocks, threads, stream(), count, function);
}

// The values of a Rate and a Count at the time when the kernel runs.
__device__ __forceinline__ double value_of(const Rate& rate) {
  return rate.base != nullptr ? *rate.base * rate.factor : rate.factor;
}

__device__ __forceinline__ std::uint64_t value_of(const Count& count) {
  return count.base != nullptr ? *count.base + count.offset : count.offset;
}

// The sum over a warp, returned in every lane. It is always the same tree.
template <typename Number>
__device__ __forceinline__ Number sum_of_warp(Number value) {
#pragma unroll
  for (int lanes = kWarp / 2; lanes > 0; lanes /= 2) value += __shfl_xor_sync(kAllLanes, value, lanes);
  return value;
}

// Keeps the larger of two values and its position. NaN counts as the largest. In a tie, also of two NaN, the earlier one stays.
__device__ __forceinline__ void keep_maximum(float& best, int& winner, float value, int position) {
  if (!(value <= best) && best == best) {
    best = value;
    winner = position;
  }
}

// An element of a plane of h x w, or zero outside it.
__device__ __forceinline__ float padded_element(const float* plane, int row, int column, int h, int w) {
  return row >= 0 && row < h && column >= 0 && column < w ? plane[row * w + column] : 0.0f;
}

}  // namespace fastlenet::cuda
