// Graphs: calls of ops captured once, to be repeated without Python's part: its functions, its checks and its conversions.
#pragma once

#include <atomic>
#include <optional>
#include <string>
#include <vector>

#include "arrays.hpp"
#include "capture.hpp"
#include "gil.hpp"

namespace fastlenet {

// The ops that function(*inputs) calls, on the arrays on which it calls them; a launch calls them again, whatever numbers the
// arrays hold then. All arrays are kept alive. python/fastlenet/backend.py says what its members mean.
class Graph {
 public:
  Graph(const py::function& function, const py::args& inputs);

  // Whether these are the inputs, in their memory and of their shapes and dtypes.
  bool reads(const py::args& arrays) const;
  void launch();
  // Copies an array to where the only input lies, launches, and returns a copy of the array that the function returned, or
  // None. All of it is one call, in which none of Python's signal handlers can run.
  py::object launch_with_copy(const py::object& copy_of);

  std::optional<std::string> reason() const;
  py::object result() const { return result_; }
  std::size_t calls() const { return capture_.ops(); }

  // Voids the graph that this thread is capturing, if any.
  static void make_void(const std::string& reason);

 private:
  // As it was when it was captured: whoever has the array may give it another shape or dtype.
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

// Calls an op of ops.hpp without the GIL; under a capture it is noted too, with its arrays, which that keeps alive.
template <typename... Parameters, typename... Arguments>
void compute(void (*op)(Parameters...), const Arguments&... arguments) {
  if (Capture* capture = Capture::active()) capture->note([=] { op(raw(arguments)...); });
  without_gil([&] { op(raw(arguments)...); });
}

}  // namespace fastlenet
