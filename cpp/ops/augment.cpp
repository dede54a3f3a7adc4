#include "augment.hpp"

#include <algorithm>
#include <cmath>

namespace fastlenet {

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
