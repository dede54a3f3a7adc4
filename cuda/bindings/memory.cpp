// Device memory, copies, other libraries' arrays, and graphs.
#include "bindings.hpp"
#include "dlpack.hpp"

namespace fastlenet::cuda {

namespace {

struct DeviceMemory {
  explicit DeviceMemory(std::size_t bytes) : memory(allocate(bytes)) {}
  std::uintptr_t address() const { return reinterpret_cast<std::uintptr_t>(memory.get()); }
  Memory memory;
};

}  // namespace

void bind_memory(py::module_& m) {
  py::class_<DeviceMemory>(m, "Memory").def(py::init<std::size_t>()).def_property_readonly("address", &DeviceMemory::address);
  m.def("copy_to_device", [](Address to, const py::array& from) {
    copy_to_device(at<void>(to), from.data(), static_cast<std::size_t>(from.nbytes()));
  });
  m.def("copy_to_host", [](py::array to, Address from) {
    void* data = to.mutable_data();
    const std::size_t bytes = static_cast<std::size_t>(to.nbytes());
    without_gil([&] { copy_to_host(data, at<void>(from), bytes); });
  });
  m.def("copy_on_device",
        [](Address to, Address from, std::size_t bytes) { copy_on_device(at<void>(to), at<void>(from), bytes); });
  m.def("set_bytes", [](Address to, int value, std::size_t bytes) { set_bytes(at<void>(to), value, bytes); });
  define(m, "fill", fill);
  m.def("synchronize", synchronize, py::call_guard<WithoutGil>());
  m.def("expect_on_device", [](Address address) { expect_on_device(at<void>(address)); });
  m.def("to_dlpack", to_dlpack);
  m.def("from_dlpack", from_dlpack);
  m.def("thread_orders", thread_orders);
  m.def("set_thread_order", set_thread_order);

  py::class_<Graph>(m, "Graph").def("launch", &Graph::launch).def_property_readonly("reason", &Graph::reason);
  m.def("begin_graph", Graph::begin);
  m.def("end_graph", Graph::end);
  m.def("void_graph", Graph::make_void);
}

}  // namespace fastlenet::cuda
