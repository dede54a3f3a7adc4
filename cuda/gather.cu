// A batch of normalised images out of a data set of uint8 that stays on the device.
#include <cmath>

#include "common.cuh"

namespace fastlenet::cuda {

namespace {

constexpr int kThreads = 256;

// What each of the 256 pixel values becomes, computed in double and rounded once; part of the kernel's arguments.
struct Values {
  float of[256];
};
static_assert(kThreads == 256, "a thread copies one");

// One element of the batch. The values go through shared memory, where each thread of a warp may read another.
__global__ void __launch_bounds__(kThreads)
    gather(float* x, const std::uint8_t* images, const std::int64_t* index, Values values, GatherShape shape, Fault* fault) {
  Values& table = block_shared<Values>();
  table.of[threadIdx.x] = values.of[threadIdx.x];
  __syncthreads();
  const std::int64_t pixels = shape.h * shape.w, i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= shape.n * pixels) return;
  const std::int64_t image = index[i / pixels];
  const bool there = image >= 0 && image < shape.count;
  if (!there) *fault = Fault::kIndex;
  x[i] = there ? table.of[images[image * pixels + i % pixels]] : 0.0f;
}

// A pixel, or zero outside the image.
__device__ __forceinline__ float pixel(const std::uint8_t* image, int row, int column, int h, int w) {
  return row >= 0 && row < h && column >= 0 && column < w ? static_cast<float>(image[row * w + column]) : 0.0f;
}

// The four pixels around a point, weighted by nearness.
__device__ __forceinline__ float bilinear(const std::uint8_t* image, float row, float column, int h, int w) {
  // Beyond one pixel outside nothing is seen. The test is also false for NaN, and keeps the casts below defined.
  if (!(row > -1.0f && row < static_cast<float>(h) && column > -1.0f && column < static_cast<float>(w))) return 0.0f;
  const float top = floorf(row), left = floorf(column), down = row - top, right = column - left;
  const int i = static_cast<int>(top), j = static_cast<int>(left);
  const float upper = pixel(image, i, j, h, w) * (1.0f - right) + pixel(image, i, j + 1, h, w) * right;
  const float lower = pixel(image, i + 1, j, h, w) * (1.0f - right) + pixel(image, i + 1, j + 1, h, w) * right;
  return upper * (1.0f - down) + lower * down;
}

// transform: 2 x 3 for each image; output pixel (i, j) samples at transform @ (i, j, 1).
struct GatherTransformed {
  float* x;
  const std::uint8_t* images;
  const std::int64_t* index;
  const float* transform;
  float scale, shift;
  GatherShape shape;
  Fault* fault;
  __device__ void operator()(std::int64_t i) const {
    const int h = static_cast<int>(shape.h), w = static_cast<int>(shape.w), place = static_cast<int>(i % (h * w));
    const std::int64_t n = i / (h * w), image = index[n];
    const bool there = image >= 0 && image < shape.count;
    if (!there) *fault = Fault::kIndex;
    const float* t = transform + 6 * n;
    const float row_index = static_cast<float>(place / w), column_index = static_cast<float>(place % w);
    const float row = t[0] * row_index + t[1] * column_index + t[2];
    const float column = t[3] * row_index + t[4] * column_index + t[5];
    x[i] = (there ? bilinear(images + image * h * w, row, column, h, w) : 0.0f) * scale + shift;
  }
};

}  // namespace

void gather_images(float* x, const std::uint8_t* images, const std::int64_t* index, const float* transform, double mean,
                   double std, const GatherShape& shape) {
  const char* op = "gather_images";
  expect_narrow(op, shape.h * shape.w);
  const std::int64_t count = shape.n * shape.h * shape.w;
  if (count == 0) return;
  if (transform != nullptr) {
    const float scale = static_cast<float>(1.0 / (255.0 * std)), shift = static_cast<float>(-mean / std);
    launch_for_each(op, count, GatherTransformed{x, images, index, transform, scale, shift, shape, fault()});
    return;
  }
  Values values;
  for (int value = 0; value < 256; ++value) values.of[value] = static_cast<float>((value / 255.0 - mean) / std);
  launch(op, gather, blocks_of(count, kThreads), kThreads, stream(), x, images, index, values, shape, fault());
}

}  // namespace fastlenet::cuda
