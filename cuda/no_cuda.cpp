// Linked when the package is built without CUDA.
#include "bindings/module.hpp"

namespace fastlenet::cuda {

std::string status() { return "not built"; }

pybind11::object backend() {
  throw DeviceError(
      "fastlenet was built without CUDA; with the CUDA toolkit (nvcc 12 or newer) installed, build it again: "
      "pip install . --force-reinstall --no-deps -C cmake.define.FASTLENET_CUDA=ON");
}

}  // namespace fastlenet::cuda
