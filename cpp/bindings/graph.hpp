// Calls of ops noted down, to be done again without Python's part: without its functions, its checks and its conversions.
#pragma once

#include <algorithm>
#include <cstring>
#include <functional>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "arrays.hpp"
#include "gil.hpp"

namespace fastlenet {

// The ops that a thread calls while Python's `with` lasts, to be called again on the same arrays, which may hold other numbers
// then. `subject` is the one that comes from outside. Whoever records knows how many calls are his own: a signal handler or a
// finaliser may call ops in between, on arrays that are not his.
class Recording {
 public:
  explicit Recording(const py::object& subject) {
    if (!py::isinstance<py::array>(subject)) return;
    subject_ = py::reinterpret_borrow<py::array>(subject);
    dims_ = dims_of(subject_);
    // As it is now: whoever has the array may give it another shape or dtype.
    if (is_dense(subject_)) data_ = const_cast<void*>(subject_.data());
    dtype_ = subject_.dtype();
  }

  void enter() { outer_ = std::exchange(listening_, calls_); }
  // A recording that an exception ended is void.
  void exit(bool failed) {
    listening_ = outer_;
    if (failed) data_ = nullptr;
  }

  using Calls = std::vector<std::function<void()>>;

  // Where this thread's calls are to be noted, if anywhere.
  static std::shared_ptr<Calls> listening() { return listening_.lock(); }

  // How many were noted.
  std::size_t calls() const { return calls_->size(); }

  // Calls them all again, if the array is the subject's memory in the subject's shape; returns whether it is.
  bool replay(const py::object& array) {
    if (!is_like_subject(array) || py::array(array).data() != data_) return false;
    run_calls();
    return true;
  }

  // The same on the numbers of any array of the subject's shape, which it copies there: a new array with what `result` then
  // holds, or None if the array is of another kind. All of it is one call, in which no signal handler of Python's can run.
  py::object run(const py::object& object, const py::array& result) {
    if (!is_like_subject(object) || !is_dense(result)) return py::none();
    const py::array array(object);
    py::array copy(result.dtype(), dims_of(result));
    std::memcpy(data_, array.data(), static_cast<std::size_t>(array.nbytes()));
    run_calls();
    std::memcpy(copy.mutable_data(), result.data(), static_cast<std::size_t>(result.nbytes()));
    return copy;
  }

 private:
  // Of NumPy's own type, since a subclass may mean more than its numbers, as a masked array does.
  bool is_like_subject(const py::object& object) const {
    if (data_ == nullptr || Py_TYPE(object.ptr()) != py::detail::npy_api::get().PyArray_Type_) return false;
    const py::array array(object);
    return std::equal(dims_.begin(), dims_.end(), array.shape(), array.shape() + array.ndim()) && array.dtype().equal(dtype_) &&
           is_dense(array);
  }

  void run_calls() const {
    without_gil([this] {
      for (const std::function<void()>& call : *calls_) call();
    });
  }

  // Weak: a recording that was entered may be lost before its exit, where an exception comes between Python's instructions.
  static inline thread_local std::weak_ptr<Calls> listening_;
  std::weak_ptr<Calls> outer_;
  py::array subject_;     // kept, so that its memory cannot become another array's
  void* data_ = nullptr;  // null where nothing can be replayed
  Dims dims_;
  py::dtype dtype_;
  std::shared_ptr<Calls> calls_ = std::make_shared<Calls>();
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

// Calls an op of ops.hpp without the GIL; where this thread's calls are recorded, with its arrays, which that keeps alive.
template <typename... Parameters, typename... Arguments>
void compute(void (*op)(Parameters...), const Arguments&... arguments) {
  if (const auto calls = Recording::listening()) calls->push_back([=] { op(raw(arguments)...); });
  without_gil([&] { op(raw(arguments)...); });
}

}  // namespace fastlenet
