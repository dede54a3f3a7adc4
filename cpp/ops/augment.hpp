// Computes an image's distortion from its random words. python/fastlenet/augment.py defines the words and computes the same.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

#include "../host_device.hpp"
#include "../shapes.hpp"

namespace fastlenet {

// The pixels of a channel, and of an image.
FASTLENET_HOST_DEVICE inline std::int64_t plane_of(const GatherShape& shape) { return shape.h * shape.w; }
FASTLENET_HOST_DEVICE inline std::int64_t pixels_of(const GatherShape& shape) { return shape.c * shape.h * shape.w; }

struct Augmentation {
  std::int64_t shift;
  double rotation, scale, shear;
  double elastic, elastic_sigma;
  std::int64_t cutout;

  bool warps() const { return rotation != 0.0 || scale != 0.0 || shear != 0.0 || elastic != 0.0; }
};

// An image's random numbers are a stream of words: kImageWords for the whole image, then one for each pixel.
constexpr std::uint32_t kAugmentStream = 3;
constexpr std::int64_t kImageWords = 8;

struct Distortion {
  Pair shift;       // down, right
  float affine[6];  // 2 x 3, including the shift: maps output pixel (i, j, 1) to the place where it is sampled
  float bend[4];    // 2 x 2: maps the smoothed noise, down and right, to the displacement of that place
  Pair hole, end;   // cutout: rows hole.h..end.h, columns hole.w..end.w
};

// Uniform in 0..count-1.
FASTLENET_HOST_DEVICE inline std::int64_t below(std::int64_t count, std::uint32_t word) {
  return static_cast<std::int64_t>(static_cast<std::uint64_t>(count) * word >> 32);
}

// Uniform in (-1, 1): (n + 1/2) * 2^-31, where n is the word as a signed number.
FASTLENET_HOST_DEVICE inline double symmetric(std::uint32_t word) { return (static_cast<std::int32_t>(word) + 0.5) * 0x1p-31; }

FASTLENET_HOST_DEVICE inline void cos_and_sin(double degrees, double& c, double& s) {
#ifdef __CUDA_ARCH__
  sincospi(degrees / 180.0, &s, &c);  // cos() would need local memory for huge angles
#else
  const double angle = degrees * (3.14159265358979323846 / 180.0);
  c = std::cos(angle);
  s = std::sin(angle);
#endif
}

// view: 2 x 3, or null. It maps a place of the image that is distorted to its place in the raw image (the preprocessing), so
// that both are one map and the image is sampled once.
FASTLENET_HOST_DEVICE inline Distortion distortion(const Augmentation& augmentation, const std::uint32_t* words,
                                                   const GatherShape& shape, const float* view) {
  Distortion result;
  const std::int64_t shifts = 2 * augmentation.shift + 1;
  result.shift = {below(shifts, words[0]) - augmentation.shift, below(shifts, words[1]) - augmentation.shift};

  // The image is scaled, then slanted, then turned. The map from output to input applies the inverses in the opposite order:
  // diag(1/tall, 1/wide) * [1 0; -slant 1] * [cos sin; -sin cos].
  double c, s;
  cos_and_sin(augmentation.rotation * symmetric(words[2]), c, s);
  const double tall = 1.0 + augmentation.scale * symmetric(words[3]), wide = 1.0 + augmentation.scale * symmetric(words[4]);
  const double slant = augmentation.shear * symmetric(words[5]);
  const double map[2][2] = {{c / tall, s / tall}, {(-slant * c - s) / wide, (c - slant * s) / wide}};
  const double centre[2] = {0.5 * static_cast<double>(shape.h - 1), 0.5 * static_cast<double>(shape.w - 1)};
  const double middle[2] = {centre[0] + static_cast<double>(result.shift.h), centre[1] + static_cast<double>(result.shift.w)};
  double place[2][3], bend[2][2] = {{augmentation.elastic, 0.0}, {0.0, augmentation.elastic}};
  for (int i = 0; i < 2; ++i) {
    place[i][0] = map[i][0];
    place[i][1] = map[i][1];
    place[i][2] = centre[i] - map[i][0] * middle[0] - map[i][1] * middle[1];
  }
  if (view != nullptr) {
    // view (place (i, j, 1) + bend noise, 1): its 2 x 2 part multiplies place and bend, its last column is added.
    const double inner[2][3] = {{place[0][0], place[0][1], place[0][2]}, {place[1][0], place[1][1], place[1][2]}};
    for (int i = 0; i < 2; ++i) {
      for (int j = 0; j < 3; ++j) place[i][j] = view[3 * i] * inner[0][j] + view[3 * i + 1] * inner[1][j];
      place[i][2] += view[3 * i + 2];
      for (int j = 0; j < 2; ++j) bend[i][j] = view[3 * i + j] * augmentation.elastic;
    }
  }
  for (int i = 0; i < 2; ++i) {
    for (int j = 0; j < 3; ++j) result.affine[3 * i + j] = static_cast<float>(place[i][j]);
    for (int j = 0; j < 2; ++j) result.bend[2 * i + j] = static_cast<float>(bend[i][j]);
  }

  const std::int64_t side = augmentation.cutout, top = below(shape.h, words[6]) - side / 2;
  const std::int64_t left = below(shape.w, words[7]) - side / 2;
  result.hole = {top > 0 ? top : 0, left > 0 ? left : 0};
  result.end = {top + side < shape.h ? top + side : shape.h, left + side < shape.w ? left + side : shape.w};
  return result;
}

// exp(-t^2 / 2 sigma^2) for t in -radius..radius, scaled to sum 1, with `border` zeros on both sides. The radius is 3 sigma,
// rounded up; taps beyond the image's size are left out, since they meet only zeros.
struct Gaussian {
  std::int64_t radius;
  std::vector<float> taps;  // the tap of t = 0 is taps[border + radius]

  Gaussian(double sigma, std::int64_t size, std::int64_t border);
};

}  // namespace fastlenet
