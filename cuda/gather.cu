// Makes a batch of normalised images from a uint8 data set on the device: unchanged, shifted by whole pixels, or sampled at the
// places that a map gives.
#include <cmath>

#include "../cpp/ops/augment.hpp"
#include "philox.cuh"

namespace fastlenet::cuda {

namespace {

constexpr int kThreads = 256;

// The normalised value of each of the 256 values of a byte, computed in double and rounded once. It is a kernel argument.
struct Values {
  float of[256];
};
static_assert(kThreads == 256, "a thread copies one");

Values normalised(double mean, double std) {
  Values values;
  for (int value = 0; value < 256; ++value) values.of[value] = static_cast<float>((value / 255.0 - mean) / std);
  return values;
}

// What one channel of a batch's images has in common. x and images point to that channel of the first image.
template <typename Pixel>
struct Source {
  float* x;
  const Pixel* images;
  const std::int64_t* index;
  GatherShape shape;
  Fault* fault;

  // The n-th image of the batch. If its number is out of range, returns null and stores a fault.
  __device__ const Pixel* image(std::int64_t n) const {
    const std::int64_t number = index[n];
    if (number >= 0 && number < shape.count) return images + number * pixels_of(shape);
    *fault = Fault::kIndex;
    return nullptr;
  }
  __device__ float& at(std::int64_t n, std::int64_t place) const { return x[n * pixels_of(shape) + place]; }
  std::int64_t elements() const { return shape.n * plane_of(shape); }
};

// The box of cutout; a batch without distortions has none.
__device__ __forceinline__ bool in_hole(const Distortion* distortion, std::int64_t row, std::int64_t column) {
  return distortion != nullptr && row >= distortion->hole.h && row < distortion->end.h && column >= distortion->hole.w &&
         column < distortion->end.w;
}

// The pixel that an element of a channel comes from. distortions: one per image, or null; only the whole shift and the cutout
// box are used.
template <typename Pixel>
struct Place {
  std::int64_t n, place;
  const Pixel* pixel;  // null outside the image and in the box
  bool is_image;

  __device__ Place(const Source<Pixel>& source, const Distortion* distortions, std::int64_t i) {
    const GatherShape& shape = source.shape;
    n = i / plane_of(shape);
    place = i % plane_of(shape);
    const std::int64_t row = place / shape.w, column = place % shape.w;
    const Pixel* image = source.image(n);
    const Distortion* distortion = distortions != nullptr ? distortions + n : nullptr;
    const std::int64_t from_row = row - (distortion != nullptr ? distortion->shift.h : 0);
    const std::int64_t from_column = column - (distortion != nullptr ? distortion->shift.w : 0);
    const bool inside = from_row >= 0 && from_row < shape.h && from_column >= 0 && from_column < shape.w;
    is_image = image != nullptr;
    const bool seen = is_image && inside && !in_hole(distortion, row, column);
    pixel = seen ? image + from_row * shape.w + from_column : nullptr;
  }
};

// Computes one element of a channel of bytes. The values are looked up in shared memory, because each thread of a warp may need
// another one.
__global__ void __launch_bounds__(kThreads) gather(Source<std::uint8_t> source, const Distortion* distortions, Values values) {
  Values& table = block_shared<Values>();
  table.of[threadIdx.x] = values.of[threadIdx.x];
  __syncthreads();
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= source.shape.n * plane_of(source.shape)) return;
  const Place<std::uint8_t> from(source, distortions, i);
  source.at(from.n, from.place) = from.is_image ? table.of[from.pixel != nullptr ? *from.pixel : 0] : 0.0f;
}

// Computes one element of a channel of floats.
struct GatherFloats {
  Source<float> source;
  const Distortion* distortions;
  double mean, std;
  __device__ void operator()(std::int64_t i) const {
    const Place<float> from(source, distortions, i);
    const double value = from.pixel != nullptr ? *from.pixel : 0.0;
    source.at(from.n, from.place) = from.is_image ? static_cast<float>((value - mean) / std) : 0.0f;
  }
};

// The pixel, or zero outside the image.
template <typename Pixel>
__device__ __forceinline__ float pixel(const Pixel* image, int row, int column, int h, int w) {
  return row >= 0 && row < h && column >= 0 && column < w ? static_cast<float>(image[row * w + column]) : 0.0f;
}

// The bilinear sample at a point: the four surrounding pixels, weighted by nearness.
template <typename Pixel>
__device__ __forceinline__ float bilinear(const Pixel* image, float row, float column, int h, int w) {
  // Farther than one pixel outside, the sample is zero. The test is also false for NaN, and keeps the casts below defined.
  if (!(row > -1.0f && row < static_cast<float>(h) && column > -1.0f && column < static_cast<float>(w))) return 0.0f;
  const float top = floorf(row), left = floorf(column), down = row - top, right = column - left;
  const int i = static_cast<int>(top), j = static_cast<int>(left);
  const float upper = pixel(image, i, j, h, w) * (1.0f - right) + pixel(image, i, j + 1, h, w) * right;
  const float lower = pixel(image, i + 1, j, h, w) * (1.0f - right) + pixel(image, i + 1, j + 1, h, w) * right;
  return upper * (1.0f - down) + lower * down;
}

// Output pixel (i, j) of image n is the sample at A (i, j, 1), where A = affine[n * pitch] is 2 x 3, moved by the distortion's
// bend (2 x 2) times field[n][:][h][w], if there is a field. distortions: one per image; null, without a field: there are none.
template <typename Pixel>
struct GatherWarped {
  Source<Pixel> source;
  const float* affine;
  std::int64_t pitch;
  const float* field;
  const Distortion* distortions;
  float scale, shift;
  __device__ void operator()(std::int64_t i) const {
    const int h = static_cast<int>(source.shape.h), w = static_cast<int>(source.shape.w), plane = h * w;
    const int place = static_cast<int>(i % plane), at_row = place / w, at_column = place % w;
    const std::int64_t n = i / plane;
    const Pixel* image = source.image(n);
    const float* t = affine + n * pitch;
    float row = t[0] * static_cast<float>(at_row) + t[1] * static_cast<float>(at_column) + t[2];
    float column = t[3] * static_cast<float>(at_row) + t[4] * static_cast<float>(at_column) + t[5];
    if (field != nullptr) {
      const float* bend = distortions[n].bend;
      const float down = field[2 * n * plane + place], right = field[(2 * n + 1) * plane + place];
      row += bend[0] * down + bend[1] * right;
      column += bend[2] * down + bend[3] * right;
    }
    const bool seen = image != nullptr && !in_hole(distortions != nullptr ? distortions + n : nullptr, at_row, at_column);
    source.at(n, place) = (seen ? bilinear(image, row, column, h, w) : 0.0f) * scale + shift;
  }
};

// Computes the distortion of each image of the batch.
struct Distort {
  Distortion* distortions;
  const std::int64_t* index;
  const float* views;
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
    const std::int64_t number = index[n];
    const bool there = number >= 0 && number < shape.count;  // else the gathering kernel stores the fault
    distortions[n] = distortion(augmentation, words, shape, views != nullptr && there ? views + 6 * number : nullptr);
  }
};

void gather_as_they_are(const Source<std::uint8_t>& source, const Distortion* distortions, double mean, double std) {
  launch("gather_images", gather, blocks_of(source.elements(), kThreads), kThreads, stream(), source, distortions,
         normalised(mean, std));
}

void gather_as_they_are(const Source<float>& source, const Distortion* distortions, double mean, double std) {
  launch_for_each("gather_images", source.elements(), GatherFloats{source, distortions, mean, std});
}

constexpr double most(const std::uint8_t*) { return 255.0; }
constexpr double most(const float*) { return 1.0; }

// Where the samples of a warped image come from; no affine: they are not warped.
struct Warps {
  const float* affine;
  std::int64_t pitch;
  const float* field;
};

// All channels, one after the other.
template <typename Pixel>
void gather_channels(float* x, const Pixel* images, const std::int64_t* index, const Warps& warps,
                     const Distortion* distortions, const double* mean, const double* std, const GatherShape& shape) {
  for (std::int64_t c = 0; c < shape.c; ++c) {
    const std::int64_t first = c * plane_of(shape);
    const Source<Pixel> source{x + first, images + first, index, shape, fault()};
    if (warps.affine == nullptr) {
      gather_as_they_are(source, distortions, mean[c], std[c]);
    } else {
      const float scale = static_cast<float>(1.0 / (most(images) * std[c])), shift = static_cast<float>(-mean[c] / std[c]);
      launch_for_each("gather_images", source.elements(),
                      GatherWarped<Pixel>{source, warps.affine, warps.pitch, warps.field, distortions, scale, shift});
    }
  }
}

bool is_empty(const GatherShape& shape) {
  expect_narrow("gather_images", plane_of(shape));
  return shape.n * pixels_of(shape) == 0;
}

}  // namespace

template <typename Pixel>
void gather_images(float* x, const Pixel* images, const std::int64_t* index, const float* transform, const double* mean,
                   const double* std, const GatherShape& shape) {
  if (is_empty(shape)) return;
  gather_channels(x, images, index, {transform, 6, nullptr}, nullptr, mean, std, shape);
}

template <typename Pixel>
void gather_augmented(float* x, const Pixel* images, const std::int64_t* index, const float* views,
                      const Augmentation& augmentation, std::uint64_t seed, const Count& epoch, const Taps& taps,
                      const double* mean, const double* std, const GatherShape& shape) {
  if (is_empty(shape)) return;
  const Memory memory = allocate(static_cast<std::size_t>(shape.n) * sizeof(Distortion));
  Distortion* distortions = static_cast<Distortion*>(memory.get());
  launch_for_each("gather_images", shape.n, Distort{distortions, index, views, augmentation, seed, epoch, shape});
  Warps warps{nullptr, sizeof(Distortion) / sizeof(float), nullptr};
  if (augmentation.warps() || views != nullptr) warps.affine = distortions->affine;
  Memory field;
  if (augmentation.elastic != 0.0) {
    field = allocate(static_cast<std::size_t>(2 * shape.n * plane_of(shape)) * sizeof(float));
    elastic_field(static_cast<float*>(field.get()), index, seed, epoch, taps, shape);
    warps.field = static_cast<const float*>(field.get());
  }
  gather_channels(x, images, index, warps, distortions, mean, std, shape);
}

template void gather_images(float*, const std::uint8_t*, const std::int64_t*, const float*, const double*, const double*,
                            const GatherShape&);
template void gather_images(float*, const float*, const std::int64_t*, const float*, const double*, const double*,
                            const GatherShape&);
template void gather_augmented(float*, const std::uint8_t*, const std::int64_t*, const float*, const Augmentation&,
                               std::uint64_t, const Count&, const Taps&, const double*, const double*, const GatherShape&);
template void gather_augmented(float*, const float*, const std::int64_t*, const float*, const Augmentation&, std::uint64_t,
                               const Count&, const Taps&, const double*, const double*, const GatherShape&);

}  // namespace fastlenet::cuda
