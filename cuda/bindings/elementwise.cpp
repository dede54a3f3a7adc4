// Activations and dropout.
#include "bindings.hpp"

namespace fastlenet::cuda {

void bind_elementwise(py::module_& m) {
  define(m, "relu_forward", relu_forward);
  define(m, "relu_backward", relu_backward);
  define(m, "sigmoid_forward", sigmoid_forward);
  define(m, "sigmoid_backward", sigmoid_backward);
  define(m, "tanh_forward", tanh_forward);
  define(m, "tanh_backward", tanh_backward);
  define(m, "leaky_relu_forward", leaky_relu_forward);
  define(m, "leaky_relu_backward", leaky_relu_backward);
  define(m, "dropout_forward", dropout_forward);
  define(m, "dropout_backward", dropout_backward);
}

}  // namespace fastlenet::cuda
