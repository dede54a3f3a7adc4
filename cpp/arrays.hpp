// NumPy arrays at the border: checked on the way in, allocated or checked on the way out.
//
// A wrong dtype is a TypeError and a wrong shape a ValueError, both naming the operation and the argument. Inputs may
// have any strides and alignment (copied when not dense and aligned); outputs that the caller gives must be dense and
// aligned.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <string>

#include "gil.hpp"
#include "shapes.hpp"

namespace fastlenet {

namespace py = pybind11;

// A NumPy array of that dtype, or a TypeError. The message is put together only then: naming a dtype takes a microsecond, and
// a training step checks sixty arrays.
inline py::array expect_array(const char* op, const std::string& argument, py::handle object, const py::dtype& dtype) {
  const auto fail = [&](const std::string& got) {
    const std::string name = py::str(dtype).cast<std::string>();
    throw py::type_error(std::string(op) + ": " + argument + " expects a numpy array of " + name + ", got " + got);
  };
  if (!py::isinstance<py::array>(object)) fail(py::str(py::type::of(object).attr("__name__")).cast<std::string>());
  py::array array = py::reinterpret_borrow<py::array>(object);
  if (!py::detail::npy_api::get().PyArray_EquivTypes_(array.dtype().ptr(), dtype.ptr())) {
    fail(py::str(array.dtype()).cast<std::string>() + "; convert it with .astype(numpy." + py::str(dtype).cast<std::string>() +
         ")");
  }
  return array;
}

inline Dims dims_of(const py::array& array) { return Dims(array.shape(), array.shape() + array.ndim()); }

inline bool is_dense(const py::array& array) {
  constexpr int flags = py::array::c_style | py::detail::npy_api::NPY_ARRAY_ALIGNED_;
  return (array.flags() & flags) == flags;
}

// Whether it is a matrix whose transpose is dense, as numpy.asfortranarray makes them.
inline bool is_transposed(py::handle object) {
  if (!py::isinstance<py::array>(object)) return false;
  const py::array array = py::reinterpret_borrow<py::array>(object);
  constexpr int flags = py::array::f_style | py::detail::npy_api::NPY_ARRAY_ALIGNED_;
  return array.ndim() == 2 && (array.flags() & flags) == flags && !is_dense(array);
}

// A copy that is dense, of the base class. NumPy lets go of the GIL while it copies.
inline py::array dense(const py::array& array) {
  using Api = py::detail::npy_api;
  constexpr int flags = Api::NPY_ARRAY_C_CONTIGUOUS_ | Api::NPY_ARRAY_ALIGNED_ | Api::NPY_ARRAY_ENSUREARRAY_;
  PyObject* dtype = array.dtype().release().ptr();
  PyObject* copy = wait_for_gil([&] { return Api::get().PyArray_FromAny_(array.ptr(), dtype, 0, 0, flags, nullptr); });
  if (copy == nullptr) throw py::error_already_set();
  return py::reinterpret_steal<py::array>(copy);
}

// An input: keeps what it points into alive. An absent one (None) has a null pointer and no dims.
template <typename Element>
class Input {
 public:
  Input(const char* op, const char* argument, py::handle object) {
    array_ = expect_array(op, argument, object, py::dtype::of<Element>());
    if (!is_dense(array_)) array_ = dense(array_);
    data_ = static_cast<const Element*>(array_.data());
    dims_ = dims_of(array_);
  }

  static Input optional(const char* op, const char* argument, py::handle object) {
    return object.is_none() ? Input() : Input(op, argument, object);
  }

  // As it is, column by column; dims are the matrix's own.
  static Input transposed(const char* op, const char* argument, py::handle object) {
    Input input;
    input.array_ = expect_array(op, argument, object, py::dtype::of<Element>());
    input.data_ = static_cast<const Element*>(input.array_.data());
    input.dims_ = dims_of(input.array_);
    return input;
  }

  const Element* data() const { return data_; }
  const Dims& dims() const { return dims_; }
  std::int64_t size() const { return array_.size(); }

 private:
  Input() = default;
  py::array array_;
  const Element* data_ = nullptr;
  Dims dims_;
};

// An output: the caller's array if it fits, else a new one. `exclusive` outputs must not overlap an input; see
// overlap().
template <typename Element>
class Output {
 public:
  Output(const char* op, const std::string& argument, py::handle object, const Dims& dims) {
    if (object.is_none()) {
      array_ = py::array(py::dtype::of<Element>(), dims);
    } else {
      array_ = expect_array(op, argument, object, py::dtype::of<Element>());
      expect_dims(op, argument.c_str(), dims, dims_of(array_));
      if (!is_dense(array_) || !array_.writeable()) {
        throw std::invalid_argument(std::string(op) + ": " + argument + " expects a C-contiguous, aligned and writable array");
      }
    }
    data_ = static_cast<Element*>(array_.mutable_data());
  }

  Element* data() const { return data_; }
  const py::array& array() const { return array_; }

  // Refuses an output that shares memory with an input; where the op works element by element, sharing all of it is
  // fine.
  template <typename Other>
  void expect_apart(const char* op, const char* argument, const Input<Other>& input, bool in_place = false) const {
    if (input.data() == nullptr || input.size() == 0 || array_.size() == 0) return;
    const auto begin = reinterpret_cast<std::uintptr_t>(data_), from = reinterpret_cast<std::uintptr_t>(input.data());
    const auto end = begin + static_cast<std::size_t>(array_.nbytes());
    const auto to = from + static_cast<std::size_t>(input.size()) * sizeof(Other);
    if (begin < to && from < end && !(in_place && begin == from)) {
      throw std::invalid_argument(std::string(op) + ": out must not share memory with " + argument);
    }
  }

 private:
  py::array array_;
  Element* data_ = nullptr;
};

// The outputs that the caller wants filled: None, one array, or a tuple of `count` arrays, any of which may be None.
class Outputs {
 public:
  Outputs(const char* op, py::handle out, std::size_t count) : given_(count, py::none()), count_(count) {
    if (out.is_none()) return;
    if (count == 1) {
      given_[0] = py::reinterpret_borrow<py::object>(out);
      return;
    }
    if (!py::isinstance<py::tuple>(out) || py::len(out) != count) {
      throw py::type_error(std::string(op) + ": out expects a tuple of " + std::to_string(count) + " arrays");
    }
    for (std::size_t i = 0; i < count; ++i) given_[i] = py::reinterpret_borrow<py::tuple>(out)[i];
  }

  template <typename Element>
  Output<Element> take(const char* op, std::size_t i, const Dims& dims) const {
    return Output<Element>(op, count_ == 1 ? "out" : "out[" + std::to_string(i) + "]", given_[i], dims);
  }

 private:
  std::vector<py::object> given_;
  std::size_t count_;
};

}  // namespace fastlenet
