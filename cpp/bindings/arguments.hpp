// Converts numbers from Python and checks them. An error is one line: the op, the argument, what it expects, and what it got.
#pragma once

#include <pybind11/pybind11.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "../kernels/workspaces.hpp"
#include "../shapes.hpp"
#include "gil.hpp"

namespace fastlenet {

namespace py = pybind11;

inline std::string type_name(py::handle object) { return Py_TYPE(object.ptr())->tp_name; }

// The value for an error message: its repr, if that is short and one line.
inline std::string shown(py::handle object) {
  const auto text = py::reinterpret_steal<py::object>(wait_for_gil([&] { return PyObject_Repr(object.ptr()); }));
  const char* line = text ? PyUnicode_AsUTF8(text.ptr()) : nullptr;
  if (line == nullptr) PyErr_Clear();
  const bool short_line = line != nullptr && std::strlen(line) <= 60 && std::strchr(line, '\n') == nullptr;
  return short_line ? line : "an object of " + type_name(object);
}

inline std::string wanted(const char* op, const char* argument, const char* expected, py::handle got) {
  return std::string(op) + ": " + argument + " expects " + expected + ", got " + shown(got);
}

// A Python int from an int or an object with __index__, such as NumPy's integers; null for any other.
inline py::object as_index(py::handle value) {
  auto index = py::reinterpret_steal<py::object>(wait_for_gil([&] { return PyNumber_Index(value.ptr()); }));
  if (!index) {
    if (!PyErr_ExceptionMatches(PyExc_TypeError)) throw py::error_already_set();
    PyErr_Clear();
  }
  return index;
}

// An integer in least..most; `expected` describes the range in words.
inline std::int64_t integer(const char* op, const char* argument, py::handle value, std::int64_t least, std::int64_t most,
                            const char* expected) {
  const py::object index = as_index(value);
  if (!index) throw py::type_error(wanted(op, argument, expected, value));
  int overflow = 0;
  const long long number = PyLong_AsLongLongAndOverflow(index.ptr(), &overflow);
  if (overflow != 0 || number < least || number > most) throw std::invalid_argument(wanted(op, argument, expected, value));
  return number;
}

// A 64-bit integer, such as a seed or a counter.
inline std::uint64_t word(const char* op, const char* argument, py::handle value) {
  constexpr const char* expected = "an integer in 0..2^64-1";
  const py::object index = as_index(value);
  if (!index) throw py::type_error(wanted(op, argument, expected, value));
  const std::uint64_t number = PyLong_AsUnsignedLongLong(index.ptr());
  if (PyErr_Occurred() != nullptr) {
    PyErr_Clear();
    throw std::invalid_argument(wanted(op, argument, expected, value));
  }
  return number;
}

// An int, or a pair of ints. They are limited to 31 bits, so that no sum or product of two of them overflows.
inline Pair pair(const char* op, const char* argument, py::handle value) {
  constexpr const char* expected = "an int or a pair of ints, below 2^31";
  constexpr std::int64_t most = std::numeric_limits<std::int32_t>::max();
  const auto side = [&](py::handle one) {
    const py::object index = as_index(one);
    if (!index) throw py::type_error(wanted(op, argument, expected, value));
    int overflow = 0;
    const long long number = PyLong_AsLongLongAndOverflow(index.ptr(), &overflow);
    if (overflow != 0 || number < -most || number > most) throw std::invalid_argument(wanted(op, argument, expected, value));
    return static_cast<std::int64_t>(number);
  };
  if (!PyTuple_Check(value.ptr()) && !PyList_Check(value.ptr())) {
    const std::int64_t both = side(value);
    return {both, both};
  }
  // Copied to a tuple, since a list may change while its first element is converted.
  const py::object two = result_of([&] { return PySequence_Tuple(value.ptr()); });
  if (PyTuple_GET_SIZE(two.ptr()) != 2) throw py::type_error(wanted(op, argument, expected, value));
  const std::int64_t first = side(PyTuple_GET_ITEM(two.ptr(), 0));
  return {first, side(PyTuple_GET_ITEM(two.ptr(), 1))};
}

// A shape: a sequence of non-negative ints.
inline Dims sizes(const char* op, const char* argument, py::handle value) {
  constexpr const char* expected = "a sequence of non-negative ints";
  const auto all = py::reinterpret_steal<py::object>(wait_for_gil([&] { return PySequence_Tuple(value.ptr()); }));
  if (!all) {
    if (!PyErr_ExceptionMatches(PyExc_TypeError)) throw py::error_already_set();
    PyErr_Clear();
    throw py::type_error(wanted(op, argument, expected, value));
  }
  Dims dims;
  for (const py::handle size : py::reinterpret_borrow<py::tuple>(all)) {
    const py::object index = as_index(size);
    if (!index) throw py::type_error(wanted(op, argument, expected, value));
    int overflow = 0;
    const long long number = PyLong_AsLongLongAndOverflow(index.ptr(), &overflow);
    if (overflow != 0 || number < 0) throw std::invalid_argument(wanted(op, argument, expected, value));
    dims.push_back(number);
  }
  return dims;
}

inline double number(const char* op, const char* argument, py::handle value) {
  const double result = wait_for_gil([&] { return PyFloat_AsDouble(value.ptr()); });
  if (result == -1.0 && PyErr_Occurred() != nullptr) {
    const bool wrong_type = PyErr_ExceptionMatches(PyExc_TypeError) != 0;
    if (!wrong_type && !PyErr_ExceptionMatches(PyExc_OverflowError)) throw py::error_already_set();
    PyErr_Clear();
    if (wrong_type) throw py::type_error(wanted(op, argument, "a number", value));
    throw std::invalid_argument(wanted(op, argument, "a number within a float's range", value));
  }
  return result;
}

// A number in [0, 1), such as a dropout rate or the decay of a moving mean.
inline double fraction(const char* op, const char* argument, py::handle value) {
  const double result = number(op, argument, value);
  if (!(result >= 0.0 && result < 1.0)) throw std::invalid_argument(wanted(op, argument, "a number in [0, 1)", value));
  return result;
}

// A finite float32 of at least 0.
inline float not_negative(const char* op, const char* argument, py::handle value) {
  const double result = number(op, argument, value);
  if (!(result >= 0.0 && result <= static_cast<double>(std::numeric_limits<float>::max()))) {
    throw std::invalid_argument(wanted(op, argument, "a number of at least 0 that fits float32", value));
  }
  return static_cast<float>(result);
}

// Matrices in a flat buffer of `count` numbers: a sequence of (begin, rows, columns), in ascending order, without overlap.
inline std::vector<MatrixPart> matrix_parts(const char* op, const char* argument, py::handle value, std::int64_t count) {
  constexpr const char* expected = "a sequence of (begin, rows, columns), of non-negative ints";
  const auto items = [&](py::handle from) {
    if (!PyTuple_Check(from.ptr()) && !PyList_Check(from.ptr())) throw py::type_error(wanted(op, argument, expected, value));
    // Copied to a tuple, since a list may change while an element is converted.
    return py::reinterpret_borrow<py::tuple>(result_of([&] { return PySequence_Tuple(from.ptr()); }));
  };
  std::vector<MatrixPart> parts;
  std::int64_t end = 0;
  for (const py::handle item : items(value)) {
    const py::tuple three = items(item);
    if (PyTuple_GET_SIZE(three.ptr()) != 3) throw py::type_error(wanted(op, argument, expected, value));
    std::int64_t sizes[3];
    for (Py_ssize_t i = 0; i < 3; ++i) {
      sizes[i] = integer(op, argument, PyTuple_GET_ITEM(three.ptr(), i), 0, std::numeric_limits<std::int64_t>::max(), expected);
    }
    const auto [begin, rows, columns] = sizes;
    const bool fits = begin >= end && begin <= count && (rows == 0 || columns <= (count - begin) / rows);
    if (!fits) {
      const std::string within = "matrices one after the other within " + std::to_string(count) + " parameters";
      throw std::invalid_argument(wanted(op, argument, within.c_str(), value));
    }
    end = begin + rows * columns;
    parts.push_back({begin, rows, columns});
  }
  return parts;
}

// The truth value of any object.
inline bool truth(py::handle value) {
  const int result = wait_for_gil([&] { return PyObject_IsTrue(value.ptr()); });
  if (result < 0) throw py::error_already_set();
  return result != 0;
}

inline bool is(py::handle value, const char* ascii) {
  return PyUnicode_Check(value.ptr()) && PyUnicode_CompareWithASCIIString(value.ptr(), ascii) == 0;
}

// The windows of an op on x, of which it has these sizes. They stand side by side if there is no stride.
inline PoolShape read_windows(const char* op, const char* argument, const Dims& x, py::handle kernel_size, py::handle stride,
                              py::handle padding) {
  const Pair size = pair(op, "kernel_size", kernel_size);
  return pool_shape(op, x, size, stride.is_none() ? size : pair(op, "stride", stride), pair(op, "padding", padding), argument);
}

// (pixel - mean) / std must be finite in float32 for every pixel value in [0, 1].
struct Normalisation {
  std::vector<double> mean, std;  // of each channel

  // channels: 0 of images without an axis of channels, for which there is one number.
  Normalisation(const char* op, py::handle mean_, py::handle std_, std::int64_t channels)
      : mean(per_channel(op, "mean", mean_, channels)), std(per_channel(op, "std", std_, channels)) {
    for (std::size_t c = 0; c < mean.size(); ++c) {
      if (!std::isfinite(mean[c])) throw std::invalid_argument(wanted(op, "mean", "a finite number", mean_));
      if (!(std::isfinite(std[c]) && std[c] > 0.0)) throw std::invalid_argument(wanted(op, "std", "a positive number", std_));
      if (1.0 + std::abs(mean[c]) > std[c] * static_cast<double>(std::numeric_limits<float>::max())) {
        throw std::invalid_argument(wanted(op, "std", "a number so large that (1 + |mean|) / std fits float32", std_));
      }
    }
  }

 private:
  static std::vector<double> per_channel(const char* op, const char* argument, py::handle value, std::int64_t channels) {
    const bool is_list = PyTuple_Check(value.ptr()) || PyList_Check(value.ptr());
    const bool several =
        channels != 0 && (is_list || (py::isinstance<py::array>(value) && py::array::ensure(value).ndim() == 1));
    if (!several)
      return std::vector<double>(static_cast<std::size_t>(std::max<std::int64_t>(channels, 1)), number(op, argument, value));
    // A tuple of its own: a list may change while an element is asked for its value.
    const py::object all = result_of([&] { return PySequence_Tuple(value.ptr()); });
    if (PyTuple_GET_SIZE(all.ptr()) != channels) {
      const std::string expected = "a number, or one for each of " + std::to_string(channels) + " channels";
      throw std::invalid_argument(wanted(op, argument, expected.c_str(), value));
    }
    std::vector<double> numbers;
    for (Py_ssize_t c = 0; c < channels; ++c) numbers.push_back(number(op, argument, PyTuple_GET_ITEM(all.ptr(), c)));
    return numbers;
  }
};

}  // namespace fastlenet
