// The module of the GPU ops: takes the bindings of each group.
#include "module.hpp"

#include "bindings.hpp"

namespace fastlenet::cuda {

py::object backend() {
  auto m = py::reinterpret_borrow<py::module_>(py::module_::import("types").attr("ModuleType")("fastlenet._core.cuda"));
  bind_memory(m);
  bind_checks(m);
  bind_conv(m);
  bind_pool(m);
  bind_linear(m);
  bind_elementwise(m);
  bind_loss(m);
  bind_gather(m);
  bind_update(m);
  bind_step(m);
  return m;
}

}  // namespace fastlenet::cuda
