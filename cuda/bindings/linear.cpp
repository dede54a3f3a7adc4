// Linear layers.
#include "bindings.hpp"

namespace fastlenet::cuda {

void bind_linear(py::module_& m) {
  py::class_<LinearShape>(m, "LinearShape").def_property_readonly("y", [](const LinearShape& shape) {
    return py::make_tuple(shape.n, shape.out);
  });
  m.def("linear_shape", linear_shape);
  define(m, "linear_forward", linear_forward);
  define(m, "linear_backward", linear_backward);
}

}  // namespace fastlenet::cuda
