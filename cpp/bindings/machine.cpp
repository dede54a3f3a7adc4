// Levels, threads, and the multiply-add peak for the benchmarks.
#include <pybind11/stl.h>

#include "../machine/isa.hpp"
#include "../machine/parallel.hpp"
#include "bindings.hpp"

namespace fastlenet {

void bind_machine(py::module_& m) {
  m.def("levels_built", levels_built);
  m.def("levels_available", levels_available);
  m.def("level", [] { return std::string(kernels().name); });
  m.def("set_level", set_level, py::arg("name"));
  m.def("get_num_threads", num_threads);
  m.def("barriers", barriers);
  m.def("cgroup_cpus", cgroup_cpus, py::arg("root"));
  m.def(
      "set_num_threads",
      [](py::handle count) {
        set_num_threads(static_cast<int>(integer("set_num_threads", "count", count, 1, 4096, "1..4096")));
      },
      py::arg("count"));
  m.def("multiply_add_peak", cpu::multiply_add_peak, py::arg("threads"), py::arg("seconds"), py::call_guard<WithoutGil>());
}

}  // namespace fastlenet
