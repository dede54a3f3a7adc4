// Optimizer steps, in place on flat buffers.
#pragma once

#include "simd.hpp"
#include "table.hpp"

namespace fastlenet::FASTLENET_LEVEL {
namespace {

void sgd_step(float* __restrict parameters, const float* __restrict gradients, float* __restrict velocity, std::int64_t count,
              const SgdStep& step) {
  const float lr = step.lr, momentum = step.momentum, weight_decay = step.weight_decay;
  if (momentum == 0.0f) {
    for (std::int64_t i = 0; i < count; ++i) parameters[i] -= lr * (gradients[i] + weight_decay * parameters[i]);
    return;
  }
  for (std::int64_t i = 0; i < count; ++i) {
    const float gradient = gradients[i] + weight_decay * parameters[i];
    velocity[i] = momentum * velocity[i] + gradient;
    const float direction = step.nesterov ? gradient + momentum * velocity[i] : velocity[i];
    parameters[i] -= lr * direction;
  }
}

void adam_step(float* __restrict parameters, const float* __restrict gradients, float* __restrict first_moment,
               float* __restrict second_moment, std::int64_t count, const AdamStep& step) {
  const AdamStep s = step;
  for (std::int64_t i = 0; i < count; ++i) {
    const float gradient = gradients[i];
    first_moment[i] = s.beta1 * first_moment[i] + s.new1 * gradient;
    second_moment[i] = s.beta2 * second_moment[i] + s.new2 * gradient * gradient;
    const float denominator = __builtin_sqrtf(second_moment[i]) * s.root_scale + s.eps;
    parameters[i] = s.decay * parameters[i] - s.step_size * first_moment[i] / denominator;
  }
}

void ema_step(float* __restrict average, const float* __restrict parameters, std::int64_t count, float decay) {
  for (std::int64_t i = 0; i < count; ++i) average[i] = decay * average[i] + (1.0f - decay) * parameters[i];
}

}  // namespace
}  // namespace fastlenet::FASTLENET_LEVEL
