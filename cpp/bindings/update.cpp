// The optimizers' steps.
#include "../ops/adam.hpp"
#include "bindings.hpp"

namespace fastlenet {

namespace {

// The size of the buffer that a step changes; the other buffers must have the same size.
Dims flat_dims(const char* op, const char* argument, py::handle buffer) {
  const Dims dims = dims_of(expect_array(op, argument, buffer, py::dtype::of<float>()));
  expect_rank(op, argument, 1, "(count,)", dims);
  return dims;
}

std::optional<Output<float>> optional_state(Call& call, const char* argument, py::handle buffer, const Dims& dims) {
  if (buffer.is_none()) return std::nullopt;
  return call.state<float>(argument, buffer, dims);
}

std::optional<Output<float>> velocity_of(Call& call, py::handle velocity, double momentum, const Dims& dims) {
  if (velocity.is_none() && momentum != 0.0) {
    fail(call.op(), "velocity expects an array when momentum is not 0, got None");
  }
  return optional_state(call, "velocity", velocity, dims);
}

// The average that a step updates in the same pass, or none.
struct AverageState {
  std::optional<Output<float>> values;
  float decay;

  AverageState(Call& call, py::handle average, py::handle decay_, const Dims& dims)
      : values(optional_state(call, "average", average, dims)), decay(static_cast<float>(number(call.op(), "decay", decay_))) {}
  Average get() const { return {raw(values), decay}; }
};

void sgd_step(py::handle parameters_, py::handle gradients_, py::handle velocity_, py::handle lr, py::handle momentum_,
              py::handle nesterov, py::handle weight_decay, py::handle average_, py::handle decay) {
  Call call("sgd_step");
  const Dims dims = flat_dims(call.op(), "parameters", parameters_);
  const Input<float> gradients = call.input<float>("gradients", gradients_);
  expect_dims(call.op(), "gradients", dims, gradients.dims());
  const Output<float> parameters = call.state<float>("parameters", parameters_, dims);
  const auto narrow = [&](const char* name, py::handle value) { return static_cast<float>(number(call.op(), name, value)); };
  const double momentum = number(call.op(), "momentum", momentum_);
  const std::optional<Output<float>> velocity = velocity_of(call, velocity_, momentum, dims);
  const AverageState average(call, average_, decay, dims);
  const Renewed<double> rate = renewed_rate(call.op(), "lr", lr);
  const SgdStep fixed{0.0f, static_cast<float>(momentum), narrow("weight_decay", weight_decay), truth(nesterov)};
  run_renewed(rate.is_fixed(), [=] {
    SgdStep step = fixed;
    step.lr = static_cast<float>(rate.rate());
    cpu::sgd_step(parameters.data(), gradients.data(), raw(velocity), average.get(), dims[0], step);
  });
}

void adam_step(py::handle parameters_, py::handle gradients_, py::handle first_moment_, py::handle second_moment_,
               py::handle step_, py::handle lr, py::handle beta1, py::handle beta2, py::handle eps, py::handle weight_decay,
               py::handle average_, py::handle decay) {
  Call call("adam_step");
  const Dims dims = flat_dims(call.op(), "parameters", parameters_);
  const Input<float> gradients = call.input<float>("gradients", gradients_);
  expect_dims(call.op(), "gradients", dims, gradients.dims());
  const Output<float> parameters = call.state<float>("parameters", parameters_, dims);
  const Output<float> first_moment = call.state<float>("first_moment", first_moment_, dims);
  const Output<float> second_moment = call.state<float>("second_moment", second_moment_, dims);
  const AverageState average(call, average_, decay, dims);
  const std::int64_t step = integer(call.op(), "step", step_, 1, std::numeric_limits<std::int64_t>::max(), "a count from 1");
  const auto of = [&](const char* name, py::handle value) { return number(call.op(), name, value); };
  const Renewed<double> rate = renewed_rate(call.op(), "lr", lr);
  const Renewed<std::uint64_t> steps = renewed_count(step_, static_cast<std::uint64_t>(step));
  const double first = fraction(call.op(), "beta1", beta1), second = fraction(call.op(), "beta2", beta2);
  const double epsilon = of("eps", eps), decoupled = of("weight_decay", weight_decay);
  run_renewed(rate.is_fixed() || steps.is_fixed(), [=] {
    const AdamStep adam = adam_at(static_cast<std::int64_t>(steps.count()), rate.rate(), first, second, epsilon, decoupled);
    cpu::adam_step(parameters.data(), gradients.data(), first_moment.data(), second_moment.data(), average.get(), dims[0],
                   adam);
  });
}

void ema_step(py::handle average_, py::handle parameters_, py::handle decay_) {
  Call call("ema_step");
  const Dims dims = flat_dims(call.op(), "parameters", parameters_);
  const Input<float> parameters = call.input<float>("parameters", parameters_);
  const Output<float> average = call.state<float>("average", average_, dims);
  const float decay = static_cast<float>(number(call.op(), "decay", decay_));
  without_gil([&] { cpu::ema_step(average.data(), parameters.data(), dims[0], decay); });
}

void muon_step(py::handle parameters_, py::handle gradients_, py::handle velocity_, py::handle matrices, py::handle lr,
               py::handle matrix_lr, py::handle momentum_, py::handle nesterov, py::handle weight_decay, py::handle average_,
               py::handle decay) {
  Call call("muon_step");
  const Dims dims = flat_dims(call.op(), "parameters", parameters_);
  const Input<float> gradients = call.input<float>("gradients", gradients_);
  expect_dims(call.op(), "gradients", dims, gradients.dims());
  const Output<float> parameters = call.state<float>("parameters", parameters_, dims);
  const double momentum = number(call.op(), "momentum", momentum_);
  const std::optional<Output<float>> velocity = velocity_of(call, velocity_, momentum, dims);
  const AverageState average(call, average_, decay, dims);
  const auto narrow = [&](const char* name, py::handle value) { return static_cast<float>(number(call.op(), name, value)); };
  const Renewed<double> rate = renewed_rate(call.op(), "lr", lr), of_matrices = renewed_rate(call.op(), "matrix_lr", matrix_lr);
  const SgdStep fixed{0.0f, static_cast<float>(momentum), narrow("weight_decay", weight_decay), truth(nesterov)};
  const std::vector<MatrixPart> parts = matrix_parts(call.op(), "matrices", matrices, dims[0]);
  run_renewed(rate.is_fixed() || of_matrices.is_fixed(), [=] {
    MuonStep step{fixed, of_matrices.rate()};
    step.sgd.lr = static_cast<float>(rate.rate());
    cpu::muon_step(parameters.data(), gradients.data(), raw(velocity), average.get(), dims[0], parts, step);
  });
}

}  // namespace

void bind_update(py::module_& m) {
  define(m, "sgd_step", sgd_step, "parameters", "gradients", "velocity", "lr", "momentum", "nesterov", "weight_decay",
         "average", "decay");
  define(m, "adam_step", adam_step, "parameters", "gradients", "first_moment", "second_moment", "step", "lr", "beta1", "beta2",
         "eps", "weight_decay", "average", "decay");
  define(m, "muon_step", muon_step, "parameters", "gradients", "velocity", "matrices", "lr", "matrix_lr", "momentum",
         "nesterov", "weight_decay", "average", "decay");
  define(m, "ema_step", ema_step, "average", "parameters", "decay");
}

}  // namespace fastlenet
