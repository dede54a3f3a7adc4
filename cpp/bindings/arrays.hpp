// NumPy arrays as checked inputs and outputs of an op.
//
// A wrong dtype raises TypeError and a wrong shape ValueError; both name the op and the argument. Inputs may have any strides
// and alignment; they are copied if they are not dense and aligned. Outputs that the caller gives must be dense and aligned. An
// output must not overlap another array. Subclasses of numpy.ndarray are read by NumPy's C functions; none of their methods is
// called.
//
// An array's address and shape are read once, with the GIL, since another thread may change its shape or dtype while the op
// runs. Its memory stays, because the reference held here makes resize() fail. A caller of resize(refcheck=False) promises that
// nobody uses the array.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <array>
#include <string>
#include <utility>
#include <vector>

#include "../shapes.hpp"
#include "arguments.hpp"
#include "capture.hpp"
#include "gil.hpp"

namespace fastlenet {

namespace py = pybind11;

// Whether it is a NumPy masked array, whose mask would be ignored here.
inline bool is_masked(py::handle object) {
  if (Py_TYPE(object.ptr()) == py::detail::npy_api::get().PyArray_Type_) return false;
  const auto name = py::reinterpret_steal<py::object>(PyUnicode_InternFromString("numpy.ma"));
  const auto module = py::reinterpret_steal<py::object>(PyImport_GetModule(name.ptr()));
  if (!module) return false;  // numpy.ma was never imported
  const py::object masked = module.attr("MaskedArray");
  return PyType_Check(masked.ptr()) && PyType_IsSubtype(Py_TYPE(object.ptr()), reinterpret_cast<PyTypeObject*>(masked.ptr()));
}

inline std::string dtype_name(const py::dtype& dtype) {
  return result_of([&] { return PyObject_Str(dtype.ptr()); }).cast<std::string>();
}

// Whether NumPy's casting rule keeps the numbers of an array in a cast: to floats, or to a dtype with all of the integers.
inline bool keeps_numbers(const py::dtype& from, const py::dtype& to) {
  const py::object can_cast = py::module_::import("numpy").attr("can_cast");
  const py::tuple arguments = py::make_tuple(from, to, to.kind() == 'f' ? "same_kind" : "safe");
  return result_of([&] { return PyObject_CallObject(can_cast.ptr(), arguments.ptr()); }).cast<bool>();
}

// A NumPy array of that dtype; raises TypeError for any other object. The message is made only for an error, because naming a
// dtype takes a microsecond and a training step checks sixty arrays. names: the dtypes that the caller accepts, if several.
inline py::array expect_array(const char* op, const char* argument, py::handle object, const py::dtype& dtype,
                              const char* names = nullptr) {
  const auto fail = [&](const std::string& got) {
    const std::string name = names != nullptr ? names : dtype_name(dtype);
    throw py::type_error(std::string(op) + ": " + argument + " expects a numpy array of " + name + ", got " + got);
  };
  if (!py::isinstance<py::array>(object)) fail(type_name(object));
  if (is_masked(object)) fail("a masked array, whose mask would be ignored; fill it with .filled(value)");
  py::array array = py::reinterpret_borrow<py::array>(object);
  if (!py::detail::npy_api::get().PyArray_EquivTypes_(array.dtype().ptr(), dtype.ptr())) {
    // A cast is advised only then. Of several dtypes one means pixels in [0, 1], another 0..255: there it is not to be guessed.
    const bool keeps = names == nullptr && keeps_numbers(array.dtype(), dtype);
    fail(dtype_name(array.dtype()) + (keeps ? "; convert it with .astype(numpy." + dtype_name(dtype) + ")" : ""));
  }
  return array;
}

inline Dims dims_of(const py::array& array) { return Dims(array.shape(), array.shape() + array.ndim()); }

inline bool is_dense(const py::array& array) {
  constexpr int flags = py::array::c_style | py::detail::npy_api::NPY_ARRAY_ALIGNED_;
  return (array.flags() & flags) == flags;
}

// The array itself if it is dense, else a dense copy of the base class. NumPy releases the GIL while it copies.
inline py::array dense(py::array array) {
  using Api = py::detail::npy_api;
  if (is_dense(array)) return array;
  constexpr int flags = Api::NPY_ARRAY_C_CONTIGUOUS_ | Api::NPY_ARRAY_ALIGNED_ | Api::NPY_ARRAY_ENSUREARRAY_;
  PyObject* dtype = array.dtype().release().ptr();
  return py::reinterpret_steal<py::array>(
      result_of([&] { return Api::get().PyArray_FromAny_(array.ptr(), dtype, 0, 0, flags, nullptr); }).release());
}

// An input. It keeps the memory alive. An absent one (None) has a null pointer and no dims.
template <typename Element>
class Input {
 public:
  Input() = default;
  explicit Input(py::array array)
      : array_(std::move(array)),
        data_(static_cast<const Element*>(array_.data())),
        size_(array_.size()),
        dims_(dims_of(array_)) {}

  const Element* data() const { return data_; }
  const Dims& dims() const { return dims_; }
  std::int64_t size() const { return size_; }

 private:
  py::array array_;
  const Element* data_ = nullptr;
  std::int64_t size_ = 0;
  Dims dims_;
};

// An output: the caller's array, or a new one.
template <typename Element>
class Output {
 public:
  explicit Output(py::array array)
      : array_(std::move(array)), data_(static_cast<Element*>(array_.mutable_data())), dims_(dims_of(array_)) {}

  Element* data() const { return data_; }
  const Dims& dims() const { return dims_; }
  const py::array& array() const { return array_; }

 private:
  py::array array_;
  Element* data_;
  Dims dims_;
};

// Whether an output may be one of the inputs, as in element-wise ops.
enum class InPlace { no, yes };

// The arrays of one call of an op, by name. An array that the op writes must not share memory with another one. Only an output
// that may work in place may be exactly an input.
class Call {
 public:
  // out: the arrays to fill. None; an array; or, for several outputs, a tuple of arrays or None.
  explicit Call(const char* op, py::handle out = py::none(), std::size_t outputs = 1) : op_(op), outputs_(outputs) {
    if (Capture* capture = Capture::active()) capture->announce(op);
    if (outputs == 1) {
      given_[0] = out;
      return;
    }
    given_.fill(py::none());
    if (out.is_none()) return;
    const bool fits = PyTuple_Check(out.ptr()) && static_cast<std::size_t>(PyTuple_GET_SIZE(out.ptr())) == outputs;
    if (!fits) {
      throw py::type_error(std::string(op) + ": out expects a tuple of " + std::to_string(outputs) + " arrays, got " +
                           (PyTuple_Check(out.ptr()) ? std::to_string(PyTuple_GET_SIZE(out.ptr())) : type_name(out)));
    }
    for (std::size_t i = 0; i < outputs; ++i) given_[i] = PyTuple_GET_ITEM(out.ptr(), static_cast<Py_ssize_t>(i));
  }

  const char* op() const { return op_; }

  template <typename Element>
  Input<Element> input(const char* argument, py::handle object, const char* names = nullptr) {
    const py::array array = read<Element>(argument, object, names);
    py::array found = dense(array);
    if (Capture* capture = Capture::active(); capture != nullptr && found.ptr() != array.ptr()) {
      capture->make_void(std::string(op_) + " cannot be captured: " + argument + " is not dense, and was copied this once");
    }
    return Input<Element>(std::move(found));
  }

  template <typename Element>
  Input<Element> optional(const char* argument, py::handle object) {
    return object.is_none() ? Input<Element>() : input<Element>(argument, object);
  }

  // The i-th output: the caller's array, or a new one.
  template <typename Element>
  Output<Element> output(std::size_t i, const Dims& dims, InPlace in_place = InPlace::no) {
    static constexpr const char* kNames[] = {"out[0]", "out[1]", "out[2]"};
    if (given_[i].is_none()) return Output<Element>(py::array(py::dtype::of<Element>(), dims));
    return written<Element>(outputs_ == 1 ? "out" : kNames[i], given_[i], dims, in_place);
  }

  // An argument that the op changes.
  template <typename Element>
  Output<Element> state(const char* argument, py::handle object, const Dims& dims) {
    return written<Element>(argument, object, dims, InPlace::no);
  }

 private:
  struct Span {
    const char* argument;
    std::uintptr_t begin, end;
    bool output, in_place;
  };

  template <typename Element>
  py::array read(const char* argument, py::handle object, const char* names = nullptr) {
    py::array array = expect_array(op_, argument, object, py::dtype::of<Element>(), names);
    add(argument, array, false, InPlace::no);
    return array;
  }

  template <typename Element>
  Output<Element> written(const char* argument, py::handle object, const Dims& dims, InPlace in_place) {
    py::array array = expect_array(op_, argument, object, py::dtype::of<Element>());
    expect_dims(op_, argument, dims, dims_of(array));
    if (!is_dense(array) || !array.writeable()) {
      throw std::invalid_argument(std::string(op_) + ": " + argument + " expects a C-contiguous, aligned and writable array");
    }
    add(argument, array, true, in_place);
    return Output<Element>(std::move(array));
  }

  void add(const char* argument, const py::array& array, bool output, InPlace in_place) {
    if (array.size() == 0) return;
    Span span{argument, reinterpret_cast<std::uintptr_t>(array.data()), 0, output, in_place == InPlace::yes};
    span.end = span.begin + static_cast<std::uintptr_t>(array.itemsize());
    for (py::ssize_t i = 0; i < array.ndim(); ++i) {
      const py::ssize_t reach = (array.shape()[i] - 1) * array.strides()[i];
      (reach < 0 ? span.begin : span.end) += static_cast<std::uintptr_t>(reach);
    }
    for (std::size_t i = 0; i < count_; ++i) expect_apart(spans_[i], span);
    spans_[count_++] = span;
  }

  void expect_apart(const Span& a, const Span& b) const {
    if (!(a.output || b.output) || a.begin >= b.end || b.begin >= a.end) return;
    const bool same = a.begin == b.begin && a.end == b.end, one_output = a.output != b.output;
    if (same && one_output && (a.in_place || b.in_place)) return;
    const Span &output = b.output ? b : a, &other = b.output ? a : b;
    throw std::invalid_argument(std::string(op_) + ": " + output.argument + " must not share memory with " + other.argument);
  }

  static constexpr std::size_t kMost = 8;  // arrays of any op; dy, winners, x, weight and three gradients are 7
  const char* op_;
  std::size_t outputs_, count_ = 0;
  std::array<py::handle, 3> given_;
  std::array<Span, kMost> spans_;
};

}  // namespace fastlenet
