// Optimizer steps, in place on flat buffers: one pass over parameters, gradients and state.
#include "common.cuh"

namespace fastlenet::cuda {

namespace {

// rate: lr, where the step is captured and lr changes from launch to launch.
struct Sgd {
  float* parameters;
  const float* gradients;
  float* velocity;
  const float* rate;
  SgdStep step;
  __device__ void operator()(std::int64_t i) const {
    const float lr = rate != nullptr ? *rate : step.lr;
    const float gradient = gradients[i] + step.weight_decay * parameters[i];
    if (step.momentum == 0.0f) {
      parameters[i] -= lr * gradient;
      return;
    }
    velocity[i] = step.momentum * velocity[i] + gradient;
    parameters[i] -= lr * (step.nesterov ? gradient + step.momentum * velocity[i] : velocity[i]);
  }
};

struct Adam {
  float* parameters;
  const float* gradients;
  float *first_moment, *second_moment;
  AdamStep step;
  __device__ void operator()(std::int64_t i) const {
    const float gradient = gradients[i];
    const float first = first_moment[i] = step.beta1 * first_moment[i] + step.new1 * gradient;
    const float second = second_moment[i] = step.beta2 * second_moment[i] + step.new2 * gradient * gradient;
    const float denominator = sqrtf(second) * step.root_scale + step.eps;
    parameters[i] = step.decay * parameters[i] - step.step_size * first / denominator;
  }
};

struct Ema {
  float* average;
  const float* parameters;
  float decay;
  __device__ void operator()(std::int64_t i) const { average[i] = decay * average[i] + (1.0f - decay) * parameters[i]; }
};

}  // namespace

void sgd_step(float* parameters, const float* gradients, float* velocity, const float* rate, std::int64_t count,
              const SgdStep& step) {
  launch_for_each("sgd_step", count, Sgd{parameters, gradients, velocity, rate, step});
}

void adam_step(float* parameters, const float* gradients, float* first_moment, float* second_moment, std::int64_t count,
               const AdamStep& step) {
  launch_for_each("adam_step", count, Adam{parameters, gradients, first_moment, second_moment, step});
}

void ema_step(float* average, const float* parameters, std::int64_t count, float decay) {
  launch_for_each("ema_step", count, Ema{average, parameters, decay});
}

}  // namespace fastlenet::cuda
