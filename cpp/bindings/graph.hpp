// Graphs: calls of ops, captured once and repeated without Python's functions, checks and conversions.
#pragma once

#include <atomic>
#include <optional>
#include <string>
#include <vector>

#include "arrays.hpp"
#include "capture.hpp"
#include "gil.hpp"

namespace fastlenet {

// Captures the ops that function(*inputs) calls. A launch calls them again on the same arrays, which may then contain other
// numbers. All arrays are kept alive. python/fastlenet/backend.py documents the members.
class Graph {
 public:
  Graph(const py::function& function, const py::args& inputs);

  // Returns whether these are the inputs: the same memory, shapes and dtypes.
  bool reads(const py::args& arrays) const;
  void launch();
  // Copies an array to the only input, launches, and returns a copy of the array that the function returned, or None. This is
  // one call, in which no Python signal handler can run.
  py::object launch_with_copy(const py::object& copy_of);

  std::optional<std::string> reason() const;
  py::object result() const { return result_; }
  std::size_t calls() const { return capture_.ops(); }

  // Measures the ops of each launch from now on. Returns an array of float64, (recorded ops, 3), which begins with zeros and to
  // which a launch adds; it replaces the one before.
  py::array time();
  // The number of ops that the graph which this thread is capturing has recorded so far; 0 without one.
  static std::size_t recorded();

  // Lets a launch of the graph that this thread is capturing, if any, end here when a number of shape () is not finite.
  static void stop_unless_finite(const py::handle& number);
  // Voids the graph that this thread is capturing, if any.
  static void make_void(const std::string& reason);

 private:
  // The input at the time of the capture, since its owner may give it another shape or dtype later.
  struct Subject {
    py::array array;  // kept, so that its memory cannot become another array's
    void* data;
    Dims dims;
    py::dtype dtype;
  };

  void add_input(const py::handle& input);
  static bool is_the_same(const Subject& subject, const py::handle& object);
  void expect_valid() const;

  std::vector<Subject> inputs_;
  Capture capture_;
  py::object times_;  // the array of time(), or null; its numbers are at into_
  double* into_ = nullptr;
  py::object result_;
  std::atomic<bool> running_{false};
};

template <typename Element>
const Element* raw(const Input<Element>& input) {
  return input.data();
}
template <typename Element>
Element* raw(const Output<Element>& output) {
  return output.data();
}
template <typename Element>
Element* raw(const std::optional<Output<Element>>& output) {
  return output ? output->data() : nullptr;
}
template <typename Value>
const Value& raw(const Value& value) {
  return value;
}

// Calls an op of ops.hpp without the GIL. During a capture it also records the call with its arrays, and so keeps them alive.
template <typename... Parameters, typename... Arguments>
void compute(void (*op)(Parameters...), const Arguments&... arguments) {
  if (Capture* capture = Capture::active()) capture->note([=] { op(raw(arguments)...); });
  without_gil([&] { op(raw(arguments)...); });
}

}  // namespace fastlenet
