// Activations and dropout.
#include "../ops/elementwise.hpp"

#include "bindings.hpp"

namespace fastlenet {

namespace {

// y = kernel(x, parameters), element-wise. x may be the output.
template <auto kernel, typename... Parameters>
py::array map(const char* op, py::handle x_, py::handle out, Parameters... parameters) {
  Call call(op, out);
  const Input<float> x = call.input<float>("x", x_);
  const Output<float> y = call.output<float>(0, x.dims(), InPlace::yes);
  compute(cpu::map<kernel, Parameters...>, y, x, x.size(), parameters...);
  return y.array();
}

// dx = kernel(dy, other, parameters), element-wise. Either array may be the output. name: the op's name for the other array.
template <auto kernel, typename... Parameters>
py::array map_gradient(const char* op, py::handle dy_, const char* name, py::handle other_, py::handle out,
                       Parameters... parameters) {
  Call call(op, out);
  const Input<float> dy = call.input<float>("dy", dy_), other = call.input<float>(name, other_);
  expect_dims(op, "dy", other.dims(), dy.dims());
  const Output<float> dx = call.output<float>(0, dy.dims(), InPlace::yes);
  compute(cpu::map_gradient<kernel, Parameters...>, dx, dy, other, dy.size(), parameters...);
  return dx.array();
}

template <auto kernel>
void define_map(py::module_& m, const char* op) {
  define(m, op, [op](py::handle x, py::handle out) { return map<kernel>(op, x, out); }, "x", "out");
}

template <auto kernel>
void define_gradient(py::module_& m, const char* op, const char* name) {
  const auto binding = [=](py::handle dy, py::handle other, py::handle out) {
    return map_gradient<kernel>(op, dy, name, other, out);
  };
  define(m, op, binding, "dy", name, "out");
}

py::array leaky_relu_forward(py::handle x, py::handle slope, py::handle out) {
  constexpr const char* op = "leaky_relu_forward";
  return map<&KernelTable::leaky_relu_forward>(op, x, out, not_negative(op, "slope", slope));
}

py::array leaky_relu_backward(py::handle dy, py::handle y, py::handle slope, py::handle out) {
  constexpr const char* op = "leaky_relu_backward";
  return map_gradient<&KernelTable::leaky_relu_backward>(op, dy, "y", y, out, not_negative(op, "slope", slope));
}

py::tuple dropout_forward(py::handle x_, py::handle rate_, py::handle seed_, py::handle counter_, py::handle offset_,
                          py::handle out) {
  Call call("dropout_forward", out, 2);
  const Input<float> x = call.input<float>("x", x_);
  const double rate = fraction(call.op(), "rate", rate_);
  const std::uint64_t seed = word(call.op(), "seed", seed_);
  const Renewed<std::uint64_t> counter = renewed_count(counter_, word(call.op(), "counter", counter_));
  const std::uint64_t offset = word(call.op(), "offset", offset_);
  const Output<float> y = call.output<float>(0, x.dims(), InPlace::yes), mask = call.output<float>(1, x.dims());
  run_renewed(counter.is_fixed(),
              [=] { cpu::dropout_forward(y.data(), mask.data(), x.data(), rate, seed, counter.count(), offset, x.size()); });
  return py::make_tuple(y.array(), mask.array());
}

}  // namespace

void bind_elementwise(py::module_& m) {
  define_map<&KernelTable::relu_forward>(m, "relu_forward");
  define_gradient<&KernelTable::relu_backward>(m, "relu_backward", "y");
  define(m, "leaky_relu_forward", leaky_relu_forward, "x", "slope", "out");
  define(m, "leaky_relu_backward", leaky_relu_backward, "dy", "y", "slope", "out");
  define_map<&KernelTable::sigmoid_forward>(m, "sigmoid_forward");
  define_gradient<&KernelTable::sigmoid_backward>(m, "sigmoid_backward", "y");
  define_map<&KernelTable::tanh_forward>(m, "tanh_forward");
  define_gradient<&KernelTable::tanh_backward>(m, "tanh_backward", "y");
  define(m, "dropout_forward", dropout_forward, "x", "rate", "seed", "counter", "offset", "out");
  define_gradient<&KernelTable::dropout_backward>(m, "dropout_backward", "mask");
}

}  // namespace fastlenet
