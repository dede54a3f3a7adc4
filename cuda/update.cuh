// SGD's step and the average of the weights, of one parameter.
#pragma once

#include "common.cuh"

namespace fastlenet::cuda {

struct Sgd {
  float* parameters;
  const float* gradients;
  float* velocity;
  Rate rate;
  SgdRule rule;
  __device__ void operator()(std::int64_t i) const { along(i, gradients[i]); }
  __device__ void along(std::int64_t i, float direction) const {
    const float lr = static_cast<float>(value_of(rate));
    const float gradient = direction + rule.weight_decay * parameters[i];
    if (rule.momentum == 0.0f) {
      parameters[i] -= lr * gradient;
      return;
    }
    velocity[i] = rule.momentum * velocity[i] + gradient;
    parameters[i] -= lr * (rule.nesterov ? gradient + rule.momentum * velocity[i] : velocity[i]);
  }
};

struct Ema {
  float* average;
  const float* parameters;
  float decay;
  __device__ void operator()(std::int64_t i) const { average[i] = decay * average[i] + (1.0f - decay) * parameters[i]; }
};

// The step of one parameter, and then its average, if there is one.
template <typename Step>
struct Averaged {
  Step step;
  Ema mix;
  __device__ void operator()(std::int64_t i) const {
    step(i);
    if (mix.average != nullptr) mix(i);
  }
};

template <typename Step>
void launch_step(const char* name, std::int64_t count, const Step& step, const Average& average, const float* parameters) {
  launch_for_each(name, count, Averaged<Step>{step, {average.values, parameters, average.decay}});
}

}  // namespace fastlenet::cuda
