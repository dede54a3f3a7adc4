// Computes the factors of an AdamW step once, in double.
#pragma once

#include <cmath>
#include <cstdint>

#include "../host_device.hpp"
#include "../kernels/workspaces.hpp"

namespace fastlenet {

// step counts from 1.
FASTLENET_HOST_DEVICE inline AdamStep adam_at(std::int64_t step, double lr, double beta1, double beta2, double eps,
                                              double weight_decay) {
  const double correction1 = 1.0 - std::pow(beta1, static_cast<double>(step));
  const double correction2 = 1.0 - std::pow(beta2, static_cast<double>(step));
  const auto narrow = [](double value) { return static_cast<float>(value); };
  return {narrow(lr / correction1),
          narrow(1.0 / std::sqrt(correction2)),
          narrow(beta1),
          narrow(1.0 - beta1),
          narrow(beta2),
          narrow(1.0 - beta2),
          narrow(eps),
          narrow(1.0 - lr * weight_decay)};
}

}  // namespace fastlenet
