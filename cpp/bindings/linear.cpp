// Linear layers.
#include "bindings.hpp"

namespace fastlenet {

namespace {

py::array linear_forward(py::handle x_, py::handle weight_, py::handle bias_, py::handle skip_zeros, py::handle out) {
  Call call("linear_forward", out);
  const Input<float> x = call.input<float>("x", x_);
  const bool transposed = is_transposed(weight_) && x.dims().size() == 2 && cpu::prefers_transposed(x.dims()[0]);
  const Input<float> weight = transposed ? call.transposed<float>("weight", weight_) : call.input<float>("weight", weight_);
  const Input<float> bias = call.optional<float>("bias", bias_);
  const LinearShape shape = linear_shape(call.op(), x.dims(), weight.dims());
  expect_bias(call.op(), bias, shape.out);
  const Output<float> y = call.output<float>(0, {shape.n, shape.out});
  if (transposed) {
    compute(cpu::linear_forward_transposed, y, x, weight, bias, truth(skip_zeros), shape);
  } else {
    compute(cpu::linear_forward, y, x, weight, bias, shape);
  }
  return y.array();
}

py::tuple linear_backward(py::handle dy_, py::handle x_, py::handle weight_, py::handle need_dx, py::handle out) {
  Call call("linear_backward", out, 3);
  const Input<float> dy = call.input<float>("dy", dy_), x = call.input<float>("x", x_);
  const Input<float> weight = call.input<float>("weight", weight_);
  const LinearShape shape = linear_shape(call.op(), x.dims(), weight.dims());
  expect_dims(call.op(), "dy", {shape.n, shape.out}, dy.dims());
  const Gradients gradients(call, x, weight, truth(need_dx));
  compute(cpu::linear_backward, gradients.dx, gradients.dweight, gradients.dbias, dy, x, weight, shape);
  return gradients.arrays();
}

}  // namespace

void bind_linear(py::module_& m) {
  define(m, "linear_forward", linear_forward, "x", "weight", "bias", "skip_zeros", "out");
  define(m, "linear_backward", linear_backward, "dy", "x", "weight", "need_dx", "out");
}

}  // namespace fastlenet
