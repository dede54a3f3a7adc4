// Makes a batch of normalised images from a uint8 data set on the device: unchanged, shifted by whole pixels, or sampled at the
// places that a map gives.
#include <cmath>

#include "../cpp/ops/augment.hpp"
#include "philox.cuh"

namespace fastlenet::cuda {

namespace {

constexpr int kThreads = 256;

// The normalised value of each of the 256 pixel values, computed in double and rounded once. It is a kernel argument.
struct Values {
  float of[256];
};
static_assert(kThreads == 256, "a thread copies one");

Values normalised(double mean, double std) {
  Values values;
  for (int value = 0; value < 256; ++value) values.of[value] = static_cast<float>((value / 255.0 - mean) / std);
  return values;
}

// What the images of a batch have in common.
struct Source {
  const std::uint8_t* images;
  const std::int64_t* index;
  GatherShape shape;
  Fault* fault;

  // The n-th image of the batch. If its number is out of range, returns null and stores a fault.
  __device__ const std::uint8_t* image(std::int64_t n) const {
    const std::int64_t number = index[n];
    if (number >= 0 && number < shape.count) return images + number * shape.h * shape.w;
    *fault = Fault::kIndex;
    return nullptr;
  }
};

// The box of cutout; a batch without distortions has none.
__device__ __forceinline__ bool in_hole(const Distortion* distortion, std::int64_t row, std::int64_t column) {
  return distortion != nullptr && row >= distortion->hole.h && row < distortion->end.h && column >= distortion->hole.w &&
         column < distortion->end.w;
}

// Computes one element of the batch. distortions: one per image, or null; only the whole shift and the cutout box are used. The
// values are looked up in shared memory, because each thread of a warp may need another one.
__global__ void __launch_bounds__(kThreads) gather(float* x, Source source, const Distortion* distortions, Values values) {
  Values& table = block_shared<Values>();
  table.of[threadIdx.x] = values.of[threadIdx.x];
  __syncthreads();
  const GatherShape& shape = source.shape;
  const std::int64_t pixels = shape.h * shape.w, i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= shape.n * pixels) return;
  const std::int64_t n = i / pixels, place = i % pixels, row = place / shape.w, column = place % shape.w;
  const std::uint8_t* image = source.image(n);
  const Distortion* distortion = distortions != nullptr ? distortions + n : nullptr;
  const std::int64_t from_row = row - (distortion != nullptr ? distortion->shift.h : 0);
  const std::int64_t from_column = column - (distortion != nullptr ? distortion->shift.w : 0);
  const bool inside = from_row >= 0 && from_row < shape.h && from_column >= 0 && from_column < shape.w;
  if (image == nullptr) {
    x[i] = 0.0f;
  } else {
    x[i] = table.of[inside && !in_hole(distortion, row, column) ? image[from_row * shape.w + from_column] : 0];
  }
}

// The pixel, or zero outside the image.
__device__ __forceinline__ float pixel(const std::uint8_t* image, int row, int column, int h, int w) {
  return row >= 0 && row < h && column >= 0 && column < w ? static_cast<float>(image[row * w + column]) : 0.0f;
}

// The bilinear sample at a point: the four surrounding pixels, weighted by nearness.
__device__ __forceinline__ float bilinear(const std::uint8_t* image, float row, float column, int h, int w) {
  // Farther than one pixel outside, the sample is zero. The test is also false for NaN, and keeps the casts below defined.
  if (!(row > -1.0f && row < static_cast<float>(h) && column > -1.0f && column < static_cast<float>(w))) return 0.0f;
  const float top = floorf(row), left = floorf(column), down = row - top, right = column - left;
  const int i = static_cast<int>(top), j = static_cast<int>(left);
  const float upper = pixel(image, i, j, h, w) * (1.0f - right) + pixel(image, i, j + 1, h, w) * right;
  const float lower = pixel(image, i + 1, j, h, w) * (1.0f - right) + pixel(image, i + 1, j + 1, h, w) * right;
  return upper * (1.0f - down) + lower * down;
}

// Output pixel (i, j) of image n is the sample at A (i, j, 1), where A = affine[n * pitch] is 2 x 3, moved by strength times
// field[n][2][h][w], if there is a field. distortions: one per image, or null; only the cutout box is used.
struct GatherWarped {
  float* x;
  Source source;
  const float* affine;
  std::int64_t pitch;
  const float* field;
  float strength;
  const Distortion* distortions;
  float scale, shift;
  __device__ void operator()(std::int64_t i) const {
    const int h = static_cast<int>(source.shape.h), w = static_cast<int>(source.shape.w), plane = h * w;
    const int place = static_cast<int>(i % plane), at_row = place / w, at_column = place % w;
    const std::int64_t n = i / plane;
    const std::uint8_t* image = source.image(n);
    const float* t = affine + n * pitch;
    float row = t[0] * static_cast<float>(at_row) + t[1] * static_cast<float>(at_column) + t[2];
    float column = t[3] * static_cast<float>(at_row) + t[4] * static_cast<float>(at_column) + t[5];
    if (field != nullptr) {
      row += strength * field[2 * n * plane + place];
      column += strength * field[(2 * n + 1) * plane + place];
    }
    const bool seen = image != nullptr && !in_hole(distortions != nullptr ? distortions + n : nullptr, at_row, at_column);
    x[i] = (seen ? bilinear(image, row, column, h, w) : 0.0f) * scale + shift;
  }
};

// Computes the distortion of each image of the batch.
struct Distort {
  Distortion* distortions;
  const std::int64_t* index;
  Augmentation augmentation;
  std::uint64_t seed;
  Count epoch;
  GatherShape shape;
  __device__ void operator()(std::int64_t n) const {
    std::uint32_t words[kImageWords];
#pragma unroll
    for (int block = 0; block < kImageWords / 4; ++block) {
      philox(words + 4 * block, seed, counter_of(epoch, index[n]), kAugmentStream, static_cast<std::uint32_t>(block));
    }
    distortions[n] = distortion(augmentation, words, shape);
  }
};

void gather_as_they_are(float* x, const Source& source, const Distortion* distortions, double mean, double std) {
  const std::int64_t count = source.shape.n * source.shape.h * source.shape.w;
  launch("gather_images", gather, blocks_of(count, kThreads), kThreads, stream(), x, source, distortions,
         normalised(mean, std));
}

void gather_warped(float* x, const Source& source, const float* affine, std::int64_t pitch, const float* field, double strength,
                   const Distortion* distortions, double mean, double std) {
  const float scale = static_cast<float>(1.0 / (255.0 * std)), shift = static_cast<float>(-mean / std);
  launch_for_each("gather_images", source.shape.n * source.shape.h * source.shape.w,
                  GatherWarped{x, source, affine, pitch, field, static_cast<float>(strength), distortions, scale, shift});
}

bool is_empty(const GatherShape& shape) {
  expect_narrow("gather_images", shape.h * shape.w);
  return shape.n * shape.h * shape.w == 0;
}

}  // namespace

void gather_images(float* x, const std::uint8_t* images, const std::int64_t* index, const float* transform, double mean,
                   double std, const GatherShape& shape) {
  if (is_empty(shape)) return;
  const Source source{images, index, shape, fault()};
  if (transform != nullptr) {
    gather_warped(x, source, transform, 6, nullptr, 0.0, nullptr, mean, std);
  } else {
    gather_as_they_are(x, source, nullptr, mean, std);
  }
}

void gather_augmented(float* x, const std::uint8_t* images, const std::int64_t* index, const Augmentation& augmentation,
                      std::uint64_t seed, const Count& epoch, const Taps& taps, double mean, double std,
                      const GatherShape& shape) {
  if (is_empty(shape)) return;
  const Source source{images, index, shape, fault()};
  const Memory memory = allocate(static_cast<std::size_t>(shape.n) * sizeof(Distortion));
  Distortion* distortions = static_cast<Distortion*>(memory.get());
  launch_for_each("gather_images", shape.n, Distort{distortions, index, augmentation, seed, epoch, shape});
  if (!augmentation.warps()) return gather_as_they_are(x, source, distortions, mean, std);
  Memory field;
  if (augmentation.elastic != 0.0) {
    field = allocate(static_cast<std::size_t>(2 * shape.n * shape.h * shape.w) * sizeof(float));
    elastic_field(static_cast<float*>(field.get()), index, seed, epoch, taps, shape);
  }
  constexpr std::int64_t pitch = sizeof(Distortion) / sizeof(float);
  gather_warped(x, source, distortions->affine, pitch, static_cast<const float*>(field.get()), augmentation.elastic,
                distortions, mean, std);
}

}  // namespace fastlenet::cuda
