// Optimizer steps, in place on flat buffers, in one pass over parameters, gradients and state.
#include "../cpp/ops/adam.hpp"
#include "update.cuh"

namespace fastlenet::cuda {

namespace {

// Computes the step's factors once for all parameters.
struct PrepareAdam {
  AdamStep* result;
  Count step;
  Rate lr;
  AdamRule rule;
  __device__ void operator()(std::int64_t) const {
    *result =
        adam_at(static_cast<std::int64_t>(value_of(step)), value_of(lr), rule.beta1, rule.beta2, rule.eps, rule.weight_decay);
  }
};

struct Adam {
  float* parameters;
  const float* gradients;
  float *first_moment, *second_moment;
  const AdamStep* prepared;
  __device__ void operator()(std::int64_t i) const {
    const AdamStep step = *prepared;
    const float gradient = gradients[i];
    const float first = first_moment[i] = step.beta1 * first_moment[i] + step.new1 * gradient;
    const float second = second_moment[i] = step.beta2 * second_moment[i] + step.new2 * gradient * gradient;
    const float denominator = sqrtf(second) * step.root_scale + step.eps;
    parameters[i] = step.decay * parameters[i] - step.step_size * first / denominator;
  }
};

}  // namespace

void sgd_step(float* parameters, const float* gradients, float* velocity, const Average& average, const Rate& lr,
              std::int64_t count, const SgdRule& rule) {
  launch_step("sgd_step", count, Sgd{parameters, gradients, velocity, lr, rule}, average, parameters);
}

void adam_step(float* parameters, const float* gradients, float* first_moment, float* second_moment, const Average& average,
               std::int64_t count, const Count& step, const Rate& lr, const AdamRule& rule) {
  const Memory memory = allocate(sizeof(AdamStep));
  AdamStep* prepared = static_cast<AdamStep*>(memory.get());
  launch_for_each("adam_step", 1, PrepareAdam{prepared, step, lr, rule});
  launch_step("adam_step", count, Adam{parameters, gradients, first_moment, second_moment, prepared}, average, parameters);
}

void ema_step(float* average, const float* parameters, std::int64_t count, float decay) {
  launch_for_each("ema_step", count, Ema{average, parameters, decay});
}

}  // namespace fastlenet::cuda
