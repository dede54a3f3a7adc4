// Captures and launches graphs.
#include "graph.hpp"

#include <pybind11/stl.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "bindings.hpp"

namespace fastlenet {

namespace {

bool is_plain_array(const py::handle& object) { return Py_TYPE(object.ptr()) == py::detail::npy_api::get().PyArray_Type_; }

// A copy of an array.
py::object copy_of_array(const py::object& object) {
  if (!is_plain_array(object)) return py::none();
  const py::array array = py::reinterpret_borrow<py::array>(object);
  if (!is_dense(array)) return result_of([&] { return PyObject_CallMethod(array.ptr(), "copy", nullptr); });
  py::array copy(array.dtype(), dims_of(array));
  std::memcpy(copy.mutable_data(), array.data(), static_cast<std::size_t>(array.nbytes()));
  return copy;
}

// Refuses a second launch at the same time, which would write to the same arrays.
class Running {
 public:
  explicit Running(std::atomic<bool>& flag) : flag_(flag) {
    if (flag.exchange(true)) throw std::runtime_error("Graph: it is running, in another thread");
  }
  ~Running() { flag_ = false; }
  Running(const Running&) = delete;
  Running& operator=(const Running&) = delete;

 private:
  std::atomic<bool>& flag_;
};

}  // namespace

Graph::Graph(const py::function& function, const py::args& inputs) {
  for (const py::handle input : inputs) add_input(input);
  {
    const Capture::Activation activation(capture_);
    result_ = result_of([&] { return PyObject_CallObject(function.ptr(), inputs.ptr()); });
  }
  capture_.finish();
}

// An input must have NumPy's own type, since a subclass, such as a masked array, may mean more than its numbers. It must be
// dense, since an op would compute on a copy of any other array, made only once.
void Graph::add_input(const py::handle& input) {
  if (!is_plain_array(input) || !is_dense(py::reinterpret_borrow<py::array>(input))) {
    capture_.make_void("input " + std::to_string(inputs_.size()) + " is no dense numpy array: " +
                       (py::isinstance<py::array>(input) ? "it would be copied once" : "got " + type_name(input)));
    return;
  }
  const py::array array = py::reinterpret_borrow<py::array>(input);
  inputs_.push_back({array, const_cast<void*>(array.data()), dims_of(array), array.dtype()});
}

bool Graph::is_the_same(const Subject& subject, const py::handle& object) {
  if (!is_plain_array(object)) return false;
  const py::array array = py::reinterpret_borrow<py::array>(object);
  return array.data() == subject.data &&
         std::equal(subject.dims.begin(), subject.dims.end(), array.shape(), array.shape() + array.ndim()) &&
         array.dtype().equal(subject.dtype) && is_dense(array);
}

bool Graph::reads(const py::args& arrays) const {
  if (arrays.size() != inputs_.size()) return false;
  for (std::size_t i = 0; i < inputs_.size(); ++i) {
    if (!is_the_same(inputs_[i], arrays[i])) return false;
  }
  return true;
}

std::optional<std::string> Graph::reason() const {
  if (capture_.reason().empty()) return std::nullopt;
  return capture_.reason();
}

void Graph::expect_valid() const {
  if (!capture_.reason().empty()) throw std::runtime_error("Graph: it cannot be launched; " + capture_.reason());
}

// Within another graph's capture, the launch becomes a part of that graph, which keeps this one alive.
void Graph::launch() {
  expect_valid();
  if (Capture* outer = Capture::active()) {
    outer->announce("Graph.launch");
    outer->note([this, self = py::cast(this)] {
      const Running running(running_);
      capture_.repeat(into_);
    });
  }
  const Running running(running_);
  without_gil([this] { capture_.repeat(into_); });
}

py::object Graph::launch_with_copy(const py::object& copy_of) {
  expect_valid();
  if (inputs_.size() != 1) {
    throw std::invalid_argument("Graph: copy_of expects a graph of one input, this one has " + std::to_string(inputs_.size()));
  }
  const Subject& input = inputs_[0];
  const py::array array = dense(expect_array("Graph", "copy_of", copy_of, input.dtype));
  expect_dims("Graph", "copy_of", input.dims, dims_of(array));
  if (!input.array.writeable()) throw std::invalid_argument("Graph: copy_of expects a graph whose input is writable");
  const Running running(running_);
  std::memmove(input.data, array.data(), static_cast<std::size_t>(array.nbytes()));
  without_gil([this] { capture_.repeat(into_); });
  return copy_of_array(result_);
}

py::array Graph::time() {
  expect_valid();
  py::array times(py::dtype::of<double>(), Dims{static_cast<py::ssize_t>(capture_.recorded()), Capture::kTimes});
  const Running running(running_);
  into_ = static_cast<double*>(times.mutable_data());
  std::fill_n(into_, times.size(), 0.0);
  times_ = times;
  return times;
}

std::size_t Graph::recorded() {
  const Capture* capture = Capture::active();
  return capture == nullptr ? 0 : capture->recorded();
}

void Graph::stop_unless_finite(const py::handle& number) {
  Call call("Graph.stop_unless_finite");
  const Input<double> input = call.input<double>("number", number);
  expect_rank(call.op(), "number", 0, "()", input.dims());
  if (Capture* capture = Capture::active()) capture->note_unless([input] { return !std::isfinite(*input.data()); });
}

void Graph::make_void(const std::string& reason) {
  if (Capture* capture = Capture::active()) capture->make_void(reason);
}

void bind_graph(py::module_& m) {
  py::class_<Graph>(m, "Graph")
      .def(py::init<py::function, py::args>(), py::arg("function"))
      .def("reads", &Graph::reads)
      .def("launch", &Graph::launch)
      .def("launch", &Graph::launch_with_copy, py::kw_only(), py::arg("copy_of"))
      .def_property_readonly("reason", &Graph::reason)
      .def_property_readonly("result", &Graph::result)
      .def_property_readonly("calls", &Graph::calls)
      .def("time", &Graph::time)
      .def_static("recorded", &Graph::recorded)
      .def_static("stop_unless_finite", &Graph::stop_unless_finite, py::arg("number"))
      .def_static("void", &Graph::make_void, py::arg("reason"));
}

}  // namespace fastlenet
