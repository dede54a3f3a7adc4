// Calls noted down, to be repeated.
#include "bindings.hpp"

namespace fastlenet {

void bind_recording(py::module_& m) {
  py::class_<Recording>(m, "Recording")
      .def(py::init<py::object>(), py::arg("subject"))
      .def("__enter__", &Recording::enter)
      .def("__exit__", [](Recording& recording, py::handle type, py::handle, py::handle) { recording.exit(!type.is_none()); })
      .def_property_readonly("calls", &Recording::calls)
      .def("replay", &Recording::replay, py::arg("array"))
      .def("run", &Recording::run, py::arg("array"), py::arg("result"));
}

}  // namespace fastlenet
