// Pooling.
#include "bindings.hpp"

namespace fastlenet::cuda {

void bind_pool(py::module_& m) {
  py::class_<PoolShape>(m, "PoolShape")
      .def_property_readonly("x", [](const PoolShape& shape) { return py::make_tuple(shape.n, shape.c, shape.h, shape.w); })
      .def_property_readonly("y", [](const PoolShape& shape) { return py::make_tuple(shape.n, shape.c, shape.p, shape.q); });
  m.def("pool_shape", [](const char* op, const Dims& x, py::handle kernel_size, py::handle stride, py::handle padding) {
    return read_windows(op, "x", x, kernel_size, stride, padding);
  });
  m.def("pool_shape_of", [](const char* op, py::handle x_shape, py::handle kernel_size, py::handle stride, py::handle padding) {
    return read_windows(op, "x_shape", sizes(op, "x_shape", x_shape), kernel_size, stride, padding);
  });
  m.def("unpool_shape",
        [](const char* op, const Dims& dy, py::handle x_shape) { return unpool_shape(op, dy, sizes(op, "x_shape", x_shape)); });
  define(m, "max_pool2d_forward", max_pool2d_forward);
  define(m, "max_pool2d_backward", max_pool2d_backward);
  define(m, "avg_pool2d_forward", avg_pool2d_forward);
  define(m, "avg_pool2d_backward", avg_pool2d_backward);
}

}  // namespace fastlenet::cuda
