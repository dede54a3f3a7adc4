// Convolution, alone and fused with ReLU and max-pooling.
#include "bindings.hpp"

namespace fastlenet {

namespace {

py::array conv2d_forward(py::handle x_, py::handle weight_, py::handle bias_, py::handle stride, py::handle padding,
                         py::handle out) {
  Call call("conv2d_forward", out);
  const Input<float> x = call.input<float>("x", x_), weight = call.input<float>("weight", weight_);
  const Input<float> bias = call.optional<float>("bias", bias_);
  const ConvShape shape =
      conv_shape(call.op(), x.dims(), weight.dims(), pair(call.op(), "stride", stride), pair(call.op(), "padding", padding));
  expect_bias(call.op(), bias, shape.k);
  const Output<float> y = call.output<float>(0, {shape.n, shape.k, shape.p, shape.q});
  compute(cpu::conv2d_forward, y, x, weight, bias, shape);
  return y.array();
}

py::tuple conv2d_backward(py::handle dy_, py::handle x_, py::handle weight_, py::handle stride, py::handle padding,
                          py::handle need_dx, py::handle out) {
  Call call("conv2d_backward", out, 3);
  const Input<float> dy = call.input<float>("dy", dy_), x = call.input<float>("x", x_);
  const Input<float> weight = call.input<float>("weight", weight_);
  const ConvShape shape =
      conv_shape(call.op(), x.dims(), weight.dims(), pair(call.op(), "stride", stride), pair(call.op(), "padding", padding));
  expect_dims(call.op(), "dy", {shape.n, shape.k, shape.p, shape.q}, dy.dims());
  const Gradients gradients(call, x, weight, truth(need_dx));
  compute(cpu::conv2d_backward, gradients.dx, gradients.dweight, gradients.dbias, dy, x, weight, shape);
  return gradients.arrays();
}

cpu::Algorithm algorithm_of(const char* op, py::handle value) {
  if (is(value, "direct")) return cpu::Algorithm::direct;
  if (is(value, "winograd")) return cpu::Algorithm::winograd;
  const std::string message = wanted(op, "algorithm", "'direct' or 'winograd'", value);
  if (!PyUnicode_Check(value.ptr())) throw py::type_error(message);
  throw std::invalid_argument(message);
}

template <auto op>
py::tuple conv2d_relu_max_pool2d_forward(py::handle x_, py::handle weight_, py::handle bias_, py::handle padding,
                                         py::handle kernel_size, py::handle algorithm_, py::handle packed_, py::handle out) {
  Call call("conv2d_relu_max_pool2d_forward", out, 2);
  const cpu::Algorithm algorithm = algorithm_of(call.op(), algorithm_);
  const Input<float> x = call.input<float>("x", x_), weight = call.input<float>("weight", weight_);
  const Input<float> bias = call.optional<float>("bias", bias_);
  const ConvPoolShape shape = conv_pool_shape(call.op(), x.dims(), weight.dims(), pair(call.op(), "padding", padding),
                                              pair(call.op(), "kernel_size", kernel_size));
  expect_bias(call.op(), bias, shape.conv.k);
  // Another level's layout may have another size. The op packs the filters again then.
  Input<float> packed = call.optional<float>("packed", packed_);
  if (packed.dims() != Dims{cpu::packed_size(algorithm, shape.conv)}) packed = {};
  const Output<float> y = call.output<float>(0, pooled_dims(shape.pool));
  const Output<std::uint8_t> winners = call.output<std::uint8_t>(1, pooled_dims(shape.pool));
  if (op == cpu::conv2d_relu_max_pool2d_forward_bf16) expect_unit(call.op());
  compute(op, y, winners, x, weight, bias, packed, algorithm, shape);
  return py::make_tuple(y.array(), winners.array());
}

py::array pack_filters(py::handle weight_, py::handle algorithm_) {
  Call call("Packed");
  const cpu::Algorithm algorithm = algorithm_of(call.op(), algorithm_);
  const Input<float> weight = call.input<float>("weight", weight_);
  expect_filters(call.op(), weight.dims());
  const Dims& d = weight.dims();
  const ConvShape shape{0, d[1], d[2], d[3], d[0], d[2], d[3], {1, 1}, {0, 0}, 1, 1};
  const Output<float> packed = call.output<float>(0, {cpu::packed_size(algorithm, shape)});
  without_gil([&] { cpu::pack_filters(packed.data(), weight.data(), algorithm, shape); });
  return packed.array();
}

template <auto op>
py::tuple conv2d_relu_max_pool2d_backward(py::handle dy_, py::handle winners_, py::handle x_, py::handle weight_,
                                          py::handle padding, py::handle kernel_size, py::handle need_dx, py::handle out) {
  Call call("conv2d_relu_max_pool2d_backward", out, 3);
  const Input<float> dy = call.input<float>("dy", dy_), x = call.input<float>("x", x_);
  const Input<float> weight = call.input<float>("weight", weight_);
  const Input<std::uint8_t> winners = call.input<std::uint8_t>("winners", winners_);
  const ConvPoolShape shape = conv_pool_shape(call.op(), x.dims(), weight.dims(), pair(call.op(), "padding", padding),
                                              pair(call.op(), "kernel_size", kernel_size));
  expect_listable(call.op(), shape);
  expect_dims(call.op(), "dy", pooled_dims(shape.pool), dy.dims());
  expect_dims(call.op(), "winners", pooled_dims(shape.pool), winners.dims());
  const std::uint8_t window = static_cast<std::uint8_t>(shape.pool.r * shape.pool.s);
  const auto wrong = first_wrong(winners, [=](std::uint8_t winner) { return (winner >= window) & (winner != kDeadWindow); });
  if (wrong) {
    fail(call.op(), "winners expects values below " + std::to_string(window) + " or " + std::to_string(kDeadWindow) + ", got " +
                        std::to_string(*wrong));
  }
  const Gradients gradients(call, x, weight, truth(need_dx));
  if (op == cpu::conv2d_relu_max_pool2d_backward_bf16) expect_unit(call.op());
  compute(op, gradients.dx, gradients.dweight, gradients.dbias, dy, winners, x, weight, shape);
  return gradients.arrays();
}

}  // namespace

void bind_conv(py::module_& m) {
  define(m, "conv2d_forward", conv2d_forward, "x", "weight", "bias", "stride", "padding", "out");
  define(m, "conv2d_backward", conv2d_backward, "dy", "x", "weight", "stride", "padding", "need_dx", "out");
  const auto define_conv_pool = [&](const char* name, auto function) {
    define(m, name, function, "x", "weight", "bias", "padding", "kernel_size", "algorithm", "packed", "out");
  };
  define_conv_pool("conv2d_relu_max_pool2d_forward", conv2d_relu_max_pool2d_forward<cpu::conv2d_relu_max_pool2d_forward>);
  define_conv_pool("conv2d_relu_max_pool2d_forward_bf16",
                   conv2d_relu_max_pool2d_forward<cpu::conv2d_relu_max_pool2d_forward_bf16>);
  const auto define_gradients = [&](const char* name, auto function) {
    define(m, name, function, "dy", "winners", "x", "weight", "padding", "kernel_size", "need_dx", "out");
  };
  define_gradients("conv2d_relu_max_pool2d_backward", conv2d_relu_max_pool2d_backward<cpu::conv2d_relu_max_pool2d_backward>);
  define_gradients("conv2d_relu_max_pool2d_backward_bf16",
                   conv2d_relu_max_pool2d_backward<cpu::conv2d_relu_max_pool2d_backward_bf16>);
  define(m, "pack_filters", pack_filters, "weight", "algorithm");
}

}  // namespace fastlenet
