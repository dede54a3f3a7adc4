// From an image's random words to its distortion; python/fastlenet/augment.py says what each means, and is its twin.
#pragma once

#include <cstdint>
#include <vector>

#include "shapes.hpp"

namespace fastlenet {

struct Augmentation {
  std::int64_t shift;
  double rotation, scale, shear;
  double elastic, elastic_sigma;
  std::int64_t cutout;

  bool warps() const { return rotation != 0.0 || scale != 0.0 || shear != 0.0 || elastic != 0.0; }
};

// An image's random numbers are a stream of words: the first few for the image as a whole, then one for each pixel.
constexpr std::int64_t kImageWords = 8;

struct Distortion {
  Pair shift;       // down, right
  float affine[6];  // 2 x 3, the shift included: where output pixel (i, j) is sampled
  Pair hole, end;   // cutout: rows hole.h..end.h, columns hole.w..end.w
};

Distortion distortion(const Augmentation& augmentation, const std::uint32_t* words, const GatherShape& shape);

// exp(-t^2 / 2 sigma^2) for t in -radius..radius, scaled to sum 1, with `border` zeros on both sides. The radius is 3 sigma,
// rounded up; taps that no image of that size can see are left out.
struct Gaussian {
  std::int64_t radius;
  std::vector<float> taps;  // those of t = 0 at taps[border + radius]

  Gaussian(double sigma, std::int64_t size, std::int64_t border);
};

}  // namespace fastlenet
