// The displacement field of elastic distortion (Simard et al. 2003): noise, smoothed by a Gaussian along both axes.
#include "../cpp/ops/augment.hpp"
#include "philox.cuh"

namespace fastlenet::cuda {

namespace {

// noise[n][2][h][w], from the low and the high half of each word, read as signed numbers; half a step is added to make their
// range symmetrical. Computes four pixels of a column, which share a block of random words.
struct MakeNoise {
  float* noise;
  const std::int64_t* index;
  std::uint64_t seed;
  Count epoch;
  std::int64_t h, w, blocks;
  __device__ void operator()(std::int64_t i) const {
    const std::int64_t n = i / blocks, block = i % blocks, plane = h * w;
    std::uint32_t word[4];
    philox(word, seed, counter_of(epoch, index[n]), kAugmentStream, static_cast<std::uint32_t>(kImageWords / 4 + block));
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const std::int64_t pixel = 4 * block + j, place = pixel % h * w + pixel / h;
      if (pixel >= plane) return;
      float* to = noise + 2 * n * plane + place;
      to[0] = (static_cast<float>(static_cast<std::int16_t>(word[j])) + 0.5f) * 0x1p-15f;
      to[plane] = (static_cast<float>(static_cast<std::int16_t>(word[j] >> 16)) + 0.5f) * 0x1p-15f;
    }
  }
};

// y = x convolved along an axis of `size` elements, which are `stride` apart, with zeros outside.
struct Smooth {
  float* y;
  const float *x, *taps;
  std::int64_t radius, size, stride;
  __device__ void operator()(std::int64_t i) const {
    const std::int64_t at = i / stride % size;
    const std::int64_t begin = at > radius ? -radius : -at, end = at + radius < size ? radius : size - 1 - at;
    float sum = 0.0f;
    for (std::int64_t t = begin; t <= end; ++t) sum += taps[radius + t] * x[i + t * stride];
    y[i] = sum;
  }
};

}  // namespace

void elastic_field(float* field, const std::int64_t* index, std::uint64_t seed, const Count& epoch, const Taps& taps,
                   const GatherShape& shape) {
  const char* op = "elastic_field";
  const std::int64_t plane = shape.h * shape.w, blocks = ceil_divide(plane, 4), count = 2 * shape.n * plane;
  const Memory memory = allocate(static_cast<std::size_t>(count) * sizeof(float));
  float* other = static_cast<float*>(memory.get());
  launch_for_each(op, shape.n * blocks, MakeNoise{field, index, seed, epoch, shape.h, shape.w, blocks});
  launch_for_each(op, count, Smooth{other, field, taps.taps, taps.radius, shape.w, 1});
  launch_for_each(op, count, Smooth{field, other, taps.taps, taps.radius, shape.h, shape.w});
}

}  // namespace fastlenet::cuda
