// Pooling.
#include "bindings.hpp"

namespace fastlenet {

namespace {

py::tuple max_pool2d_forward(py::handle x_, py::handle kernel_size, py::handle stride, py::handle padding, py::handle out) {
  Call call("max_pool2d_forward", out, 2);
  const Input<float> x = call.input<float>("x", x_);
  const PoolShape shape = read_windows(call.op(), "x", x.dims(), kernel_size, stride, padding);
  const Output<float> y = call.output<float>(0, pooled_dims(shape));
  const Output<std::int32_t> indices = call.output<std::int32_t>(1, pooled_dims(shape));
  compute(cpu::max_pool2d_forward, y, indices, x, shape);
  return py::make_tuple(y.array(), indices.array());
}

py::array max_pool2d_backward(py::handle dy_, py::handle indices_, py::handle x_shape_, py::handle out) {
  Call call("max_pool2d_backward", out);
  const Dims x_shape = sizes(call.op(), "x_shape", x_shape_);
  const Input<float> dy = call.input<float>("dy", dy_);
  const Input<std::int32_t> indices = call.input<std::int32_t>("indices", indices_);
  const PoolShape shape = unpool_shape(call.op(), dy.dims(), x_shape);
  expect_dims(call.op(), "indices", dy.dims(), indices.dims());
  const std::uint32_t plane = static_cast<std::uint32_t>(shape.h * shape.w);
  // As unsigned numbers, negative indices are the largest.
  const auto wrong = first_wrong(indices, [=](std::int32_t index) { return static_cast<std::uint32_t>(index) >= plane; });
  if (wrong) fail(call.op(), "indices expects values in 0.." + std::to_string(plane - 1) + ", got " + std::to_string(*wrong));
  const Output<float> dx = call.output<float>(0, x_shape);
  compute(cpu::max_pool2d_backward, dx, dy, indices, shape);
  return dx.array();
}

py::array avg_pool2d_forward(py::handle x_, py::handle kernel_size, py::handle stride, py::handle padding, py::handle out) {
  Call call("avg_pool2d_forward", out);
  const Input<float> x = call.input<float>("x", x_);
  const PoolShape shape = read_windows(call.op(), "x", x.dims(), kernel_size, stride, padding);
  const Output<float> y = call.output<float>(0, pooled_dims(shape));
  compute(cpu::avg_pool2d_forward, y, x, shape);
  return y.array();
}

py::array avg_pool2d_backward(py::handle dy_, py::handle x_shape_, py::handle kernel_size, py::handle stride,
                              py::handle padding, py::handle out) {
  Call call("avg_pool2d_backward", out);
  const Dims x_shape = sizes(call.op(), "x_shape", x_shape_);
  const Input<float> dy = call.input<float>("dy", dy_);
  const PoolShape shape = read_windows(call.op(), "x_shape", x_shape, kernel_size, stride, padding);
  expect_dims(call.op(), "dy", pooled_dims(shape), dy.dims());
  const Output<float> dx = call.output<float>(0, x_shape);
  compute(cpu::avg_pool2d_backward, dx, dy, shape);
  return dx.array();
}

}  // namespace

void bind_pool(py::module_& m) {
  define(m, "max_pool2d_forward", max_pool2d_forward, "x", "kernel_size", "stride", "padding", "out");
  define(m, "max_pool2d_backward", max_pool2d_backward, "dy", "indices", "x_shape", "out");
  define(m, "avg_pool2d_forward", avg_pool2d_forward, "x", "kernel_size", "stride", "padding", "out");
  define(m, "avg_pool2d_backward", avg_pool2d_backward, "dy", "x_shape", "kernel_size", "stride", "padding", "out");
}

}  // namespace fastlenet
