// What the bindings of all groups share: they convert device arrays and numbers from Python for an op of cuda_ops.hpp.
//
// The ops take addresses of device memory, and shapes that shapes.cpp has checked. python/fastlenet/cuda has the arrays.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <optional>
#include <utility>

#include "../../cpp/bindings/arguments.hpp"
#include "../../cpp/bindings/gil.hpp"
#include "../cuda_ops.hpp"

namespace fastlenet::cuda {

namespace py = pybind11;

// Each adds a group of ops to the module, and the checks of their shapes.
void bind_memory(py::module_& m);
void bind_checks(py::module_& m);
void bind_conv(py::module_& m);
void bind_pool(py::module_& m);
void bind_linear(py::module_& m);
void bind_elementwise(py::module_& m);
void bind_loss(py::module_& m);
void bind_gather(py::module_& m);
void bind_update(py::module_& m);
void bind_step(py::module_& m);

// The address of an array's first element; None is an absent array.
using Address = std::optional<std::uintptr_t>;

template <typename Element>
Element* at(const Address& address) {
  return address ? reinterpret_cast<Element*>(*address) : nullptr;
}

// The type that Python passes for a parameter of an op, and its conversion. Types without a specialisation are passed on
// unchanged.
template <typename Parameter>
struct Passed {
  using Given = Parameter;
  static Parameter value(Parameter given) { return given; }
};
template <typename Element>
struct Passed<Element*> {
  using Given = Address;
  static Element* value(const Address& given) { return at<Element>(given); }
};
// (address or None, factor)
template <>
struct Passed<const Rate&> {
  using Given = std::pair<Address, double>;
  static Rate value(const Given& given) { return {at<const double>(given.first), given.second}; }
};
// (address or None, offset)
template <>
struct Passed<const Count&> {
  using Given = std::pair<Address, std::uint64_t>;
  static Count value(const Given& given) { return {at<const std::uint64_t>(given.first), given.second}; }
};

// Adds an op to the module. Device arrays are passed as addresses, and all arguments by position.
template <typename... Parameters>
void define(py::module_& m, const char* name, void (*op)(Parameters...)) {
  m.def(name, [op](typename Passed<Parameters>::Given... given) { op(Passed<Parameters>::value(given)...); });
}

}  // namespace fastlenet::cuda
