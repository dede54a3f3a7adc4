// Activations and dropout.
#include "bindings.hpp"

namespace fastlenet {

namespace {

using Map = void (*)(float*, const float*, std::int64_t);
using Gradient = void (*)(float*, const float*, const float*, std::int64_t);

// y = function(x), element-wise. x may be the output.
void define_map(py::module_& m, const char* op, Map function) {
  const auto binding = [op, function](py::handle x_, py::handle out) -> py::array {
    Call call(op, out);
    const Input<float> x = call.input<float>("x", x_);
    const Output<float> y = call.output<float>(0, x.dims(), InPlace::yes);
    compute(function, y, x, x.size());
    return y.array();
  };
  define(m, op, binding, "x", "out");
}

// dx = function(dy, other), element-wise. Either array may be the output. name: the op's name for the other array.
void define_gradient(py::module_& m, const char* op, Gradient function, const char* name) {
  const auto binding = [op, function, name](py::handle dy_, py::handle other_, py::handle out) -> py::array {
    Call call(op, out);
    const Input<float> dy = call.input<float>("dy", dy_), other = call.input<float>(name, other_);
    expect_dims(op, "dy", other.dims(), dy.dims());
    const Output<float> dx = call.output<float>(0, dy.dims(), InPlace::yes);
    compute(function, dx, dy, other, dy.size());
    return dx.array();
  };
  define(m, op, binding, "dy", name, "out");
}

py::tuple dropout_forward(py::handle x_, py::handle rate_, py::handle seed_, py::handle counter_, py::handle out) {
  Call call("dropout_forward", out, 2);
  const Input<float> x = call.input<float>("x", x_);
  const double rate = fraction(call.op(), "rate", rate_);
  const std::uint64_t seed = word(call.op(), "seed", seed_), counter = word(call.op(), "counter", counter_);
  const Output<float> y = call.output<float>(0, x.dims(), InPlace::yes), mask = call.output<float>(1, x.dims());
  without_gil([&] { cpu::dropout_forward(y.data(), mask.data(), x.data(), rate, seed, counter, x.size()); });
  return py::make_tuple(y.array(), mask.array());
}

}  // namespace

void bind_elementwise(py::module_& m) {
  define_map(m, "relu_forward", cpu::relu_forward);
  define_gradient(m, "relu_backward", cpu::relu_backward, "y");
  define_map(m, "sigmoid_forward", cpu::sigmoid_forward);
  define_gradient(m, "sigmoid_backward", cpu::sigmoid_backward, "y");
  define(m, "dropout_forward", dropout_forward, "x", "rate", "seed", "counter", "out");
  define_gradient(m, "dropout_backward", cpu::dropout_backward, "mask");
}

}  // namespace fastlenet
