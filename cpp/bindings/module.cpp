// The module fastlenet._core: chooses a level, then adds the bindings of each group.
#include "../../cuda/bindings/module.hpp"

#include "../machine/isa.hpp"
#include "bindings.hpp"

namespace fastlenet {

namespace {

void bind_build(py::module_& m) {
  m.def("version", [] { return std::string(FASTLENET_VERSION); });
  m.def("compiler", [] { return std::string(FASTLENET_COMPILER); });
  py::register_exception<cuda::DeviceError>(m, "DeviceError", PyExc_RuntimeError);
  m.def("cuda_status", cuda::status);
  m.def("cuda_backend", cuda::backend);
}

}  // namespace

}  // namespace fastlenet

// A Python without a GIL keeps it off: tools/symbols checks the mutable globals, tools/free_threaded runs ten threads.
PYBIND11_MODULE(_core, m, pybind11::mod_gil_not_used()) {
  m.doc() = "The compiled kernels; private. Use fastlenet.ops.";
  try {
    fastlenet::select_level();
  } catch (const std::invalid_argument& error) {
    throw pybind11::import_error(error.what());
  }
  fastlenet::bind_conv(m);
  fastlenet::bind_pool(m);
  fastlenet::bind_linear(m);
  fastlenet::bind_low_precision(m);
  fastlenet::bind_int8(m);
  fastlenet::bind_elementwise(m);
  fastlenet::bind_loss(m);
  fastlenet::bind_gather(m);
  fastlenet::bind_update(m);
  fastlenet::bind_graph(m);
  fastlenet::bind_machine(m);
  fastlenet::bind_build(m);
}
