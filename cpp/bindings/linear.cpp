// Linear layers.
#include "bindings.hpp"

namespace fastlenet {

namespace {

// packed: None, or what pack_matrix makes of weight. skip_zeros: whether zeros of x may be left out then.
py::array linear_forward(py::handle x_, py::handle weight_, py::handle bias_, py::handle packed_, py::handle skip_zeros,
                         py::handle out) {
  Call call("linear_forward", out);
  const Input<float> x = call.input<float>("x", x_), weight = call.input<float>("weight", weight_);
  const Input<float> bias = call.optional<float>("bias", bias_);
  const LinearShape shape = linear_shape(call.op(), x.dims(), weight.dims());
  expect_bias(call.op(), bias, shape.out);
  const Input<float> packed = call.optional<float>("packed", packed_);
  if (packed.data()) expect_dims(call.op(), "packed", {shape.in, shape.out}, packed.dims());
  const Output<float> y = call.output<float>(0, {shape.n, shape.out});
  if (packed.data() && cpu::prefers_transposed(shape.n)) {
    compute(cpu::linear_forward_transposed, y, x, packed, bias, truth(skip_zeros), shape);
  } else {
    compute(cpu::linear_forward, y, x, weight, bias, shape);
  }
  return y.array();
}

py::array pack_matrix(py::handle weight_) {
  Call call("Packed");
  const Input<float> weight = call.input<float>("weight", weight_);
  expect_rank(call.op(), "weight", 2, "(out, in)", weight.dims());
  const std::int64_t out = weight.dims()[0], in = weight.dims()[1];
  const Output<float> packed = call.output<float>(0, {in, out});
  without_gil([&] { cpu::pack_matrix(packed.data(), weight.data(), out, in); });
  return packed.array();
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
  define(m, "linear_forward", linear_forward, "x", "weight", "bias", "packed", "skip_zeros", "out");
  define(m, "pack_matrix", pack_matrix, "weight");
  define(m, "linear_backward", linear_backward, "dy", "x", "weight", "need_dx", "out");
}

}  // namespace fastlenet
