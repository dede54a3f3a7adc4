// Convolution, alone and fused with ReLU and max-pooling.
#include "bindings.hpp"

namespace fastlenet::cuda {

void bind_conv(py::module_& m) {
  py::class_<ConvShape>(m, "ConvShape").def_property_readonly("y", [](const ConvShape& shape) {
    return py::make_tuple(shape.n, shape.k, shape.p, shape.q);
  });
  py::class_<ConvPoolShape>(m, "ConvPoolShape")
      .def_property_readonly(
          "y",
          [](const ConvPoolShape& shape) { return py::make_tuple(shape.pool.n, shape.pool.c, shape.pool.p, shape.pool.q); })
      .def_property_readonly("window", [](const ConvPoolShape& shape) { return shape.pool.r * shape.pool.s; });
  m.def("conv_shape", [](const char* op, const Dims& x, const Dims& weight, py::handle stride, py::handle padding) {
    return conv_shape(op, x, weight, pair(op, "stride", stride), pair(op, "padding", padding));
  });
  m.def("conv_pool_shape", [](const char* op, const Dims& x, const Dims& weight, py::handle padding, py::handle kernel_size) {
    return conv_pool_shape(op, x, weight, pair(op, "padding", padding), pair(op, "kernel_size", kernel_size));
  });
  m.def("expect_filters", expect_filters);
  define(m, "conv2d_forward", conv2d_forward);
  define(m, "conv2d_backward", conv2d_backward);
  define(m, "conv2d_relu_max_pool2d_forward", conv2d_relu_max_pool2d_forward);
  define(m, "conv2d_relu_max_pool2d_backward", conv2d_relu_max_pool2d_backward);
}

}  // namespace fastlenet::cuda
