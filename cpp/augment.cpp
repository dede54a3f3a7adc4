#include "augment.hpp"

#include <algorithm>
#include <cmath>

namespace fastlenet {

namespace {

// Uniform in 0..count-1.
std::int64_t below(std::int64_t count, std::uint32_t word) {
  return static_cast<std::int64_t>(static_cast<std::uint64_t>(count) * word >> 32);
}

// Uniform in (-1, 1): multiples of 2^-31, and half of one.
double symmetric(std::uint32_t word) { return (static_cast<std::int32_t>(word) + 0.5) * 0x1p-31; }

}  // namespace

Distortion distortion(const Augmentation& augmentation, const std::uint32_t* words, const GatherShape& shape) {
  Distortion result;
  const std::int64_t shifts = 2 * augmentation.shift + 1;
  result.shift = {below(shifts, words[0]) - augmentation.shift, below(shifts, words[1]) - augmentation.shift};

  // The image is scaled, then slanted, then turned; so its pixels are found by the inverses in the opposite order:
  // diag(1/tall, 1/wide) * [1 0; -slant 1] * [cos sin; -sin cos].
  const double angle = augmentation.rotation * symmetric(words[2]) * (3.14159265358979323846 / 180.0);
  const double tall = 1.0 + augmentation.scale * symmetric(words[3]), wide = 1.0 + augmentation.scale * symmetric(words[4]);
  const double slant = augmentation.shear * symmetric(words[5]), c = std::cos(angle), s = std::sin(angle);
  const double map[2][2] = {{c / tall, s / tall}, {(-slant * c - s) / wide, (c - slant * s) / wide}};
  const double centre[2] = {0.5 * static_cast<double>(shape.h - 1), 0.5 * static_cast<double>(shape.w - 1)};
  const double middle[2] = {centre[0] + static_cast<double>(result.shift.h), centre[1] + static_cast<double>(result.shift.w)};
  for (int i = 0; i < 2; ++i) {
    result.affine[3 * i] = static_cast<float>(map[i][0]);
    result.affine[3 * i + 1] = static_cast<float>(map[i][1]);
    result.affine[3 * i + 2] = static_cast<float>(centre[i] - map[i][0] * middle[0] - map[i][1] * middle[1]);
  }

  const std::int64_t side = augmentation.cutout, top = below(shape.h, words[6]) - side / 2;
  const std::int64_t left = below(shape.w, words[7]) - side / 2;
  result.hole = {std::max<std::int64_t>(top, 0), std::max<std::int64_t>(left, 0)};
  result.end = {std::min(top + side, shape.h), std::min(left + side, shape.w)};
  return result;
}

Gaussian::Gaussian(double sigma, std::int64_t size, std::int64_t border) {
  const std::int64_t reach = static_cast<std::int64_t>(std::ceil(3.0 * sigma));
  const auto height = [=](std::int64_t t) { return std::exp(-0.5 * static_cast<double>(t * t) / (sigma * sigma)); };
  double sum = 0.0;
  for (std::int64_t t = -reach; t <= reach; ++t) sum += height(t);
  radius = std::min(reach, std::max<std::int64_t>(size - 1, 0));
  taps.resize(static_cast<std::size_t>(2 * (radius + border) + 1));
  for (std::int64_t t = -radius; t <= radius; ++t) {
    taps[static_cast<std::size_t>(border + radius + t)] = static_cast<float>(height(t) / sum);
  }
}

}  // namespace fastlenet
