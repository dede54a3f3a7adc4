// Losses and their gradients.
#include "bindings.hpp"

namespace fastlenet::cuda {

void bind_loss(py::module_& m) {
  define(m, "softmax_cross_entropy", softmax_cross_entropy);
  define(m, "softmax_squared_error", softmax_squared_error);
  define(m, "softmax_distillation", softmax_distillation);
  define(m, "squared_error", squared_error);
}

}  // namespace fastlenet::cuda
