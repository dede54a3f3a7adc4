// Calls of ops noted down, to be done again without Python's part: without its functions, its checks and its conversions.
#pragma once

#include <cstring>
#include <functional>
#include <optional>
#include <utility>
#include <vector>

#include "arrays.hpp"

namespace fastlenet {

// Runs a computation on raw pointers without the GIL.
template <typename Compute>
auto without_gil(const Compute& compute) {
  const py::gil_scoped_release release;
  return compute();
}

// The ops that a thread calls while Python's `with` lasts, to be called again on the same arrays, which may hold other numbers
// then. `subject` is the one that comes from outside, and need not be the same the next time.
class Recording {
 public:
  explicit Recording(py::object subject) : subject_(std::move(subject)) {}

  void enter() { listening_ = this; }
  // A recording that an exception ended is void.
  void exit(bool failed) {
    listening_ = nullptr;
    if (failed) subject_ = py::none();
  }

  static bool listening() { return listening_ != nullptr; }
  static void add(std::function<void()> call) { listening_->calls_.push_back(std::move(call)); }

  // Calls them all again, if the array is the subject's memory in the subject's shape; returns whether it is.
  bool replay(py::handle array) const { return run(array, false); }
  // The same for any array of the subject's shape, whose numbers it copies there.
  bool replay_copy(py::handle array) const { return run(array, true); }

 private:
  bool run(py::handle object, bool copy) const {
    if (!py::isinstance<py::array>(object) || !py::isinstance<py::array>(subject_)) return false;
    const py::array array = py::reinterpret_borrow<py::array>(object);
    py::array subject = py::reinterpret_borrow<py::array>(subject_);
    if (dims_of(array) != dims_of(subject) || !array.dtype().equal(subject.dtype()) || !is_dense(array) || !is_dense(subject)) {
      return false;
    }
    if (array.data() != subject.data()) {
      if (!copy) return false;
      std::memcpy(subject.mutable_data(), array.data(), static_cast<std::size_t>(array.nbytes()));
    }
    without_gil([&] {
      for (const std::function<void()>& call : calls_) call();
    });
    return true;
  }

  static inline thread_local Recording* listening_ = nullptr;
  py::object subject_;  // kept, so that its memory cannot become another array's
  std::vector<std::function<void()>> calls_;
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

// Calls an op of cpu_ops.hpp without the GIL; where this thread's calls are recorded, with its arrays, which that keeps alive.
template <typename... Parameters, typename... Arguments>
void compute(void (*op)(Parameters...), const Arguments&... arguments) {
  if (Recording::listening()) Recording::add([=] { op(raw(arguments)...); });
  without_gil([&] { op(raw(arguments)...); });
}

}  // namespace fastlenet
