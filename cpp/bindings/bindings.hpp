// Functions that the bindings of all groups of ops share.
//
// A binding checks its arguments, takes or makes the outputs, and calls the op without the GIL. It does no arithmetic and does
// not choose between algorithms. python/fastlenet/ops.py documents each op.
#pragma once

#include <pybind11/pybind11.h>

#include <algorithm>
#include <atomic>
#include <optional>
#include <string>

#include "../machine/units.hpp"
#include "../ops/batches.hpp"
#include "../ops/ops.hpp"
#include "arrays.hpp"
#include "gil.hpp"
#include "graph.hpp"

namespace fastlenet {

// Each function adds the ops of its group to the module.
void bind_conv(py::module_& m);
void bind_pool(py::module_& m);
void bind_linear(py::module_& m);
void bind_low_precision(py::module_& m);
void bind_int8(py::module_& m);
void bind_elementwise(py::module_& m);
void bind_loss(py::module_& m);
void bind_gather(py::module_& m);
void bind_update(py::module_& m);
void bind_graph(py::module_& m);
void bind_machine(py::module_& m);

// Adds a function to the module. A caller must pass all of its arguments.
template <typename Function, typename... Names>
void define(py::module_& m, const char* name, Function function, Names... arguments) {
  m.def(name, function, py::arg(arguments)...);
}

[[noreturn]] inline void fail(const char* op, const std::string& message) {
  throw std::invalid_argument(std::string(op) + ": " + message);
}

// A number that a launch reads anew from a cell, if it was given as a Rate or Count of fastlenet.backend during a capture.
template <typename Value>
struct Renewed {
  Value value;  // what it is now
  Input<Value> cell;
  Value more = 0;

  bool is_fixed() const { return cell.data() == nullptr; }
  double rate() const { return is_fixed() ? value : *cell.data() * more; }
  Value count() const { return is_fixed() ? value : *cell.data() + more; }
};

template <typename Value>
Renewed<Value> renewed(py::handle given, const char* more, Value value) {
  Renewed<Value> result{value, {}, 0};
  if (Capture::active() == nullptr || !py::hasattr(given, "cell")) return result;
  const py::object cell = given.attr("cell");
  if (!py::isinstance<py::array_t<Value>>(cell)) return result;
  result.cell = Input<Value>(py::reinterpret_borrow<py::array>(cell));
  result.more = given.attr(more).template cast<Value>();
  return result;
}

inline Renewed<double> renewed_rate(const char* op, const char* argument, py::handle given) {
  return renewed(given, "factor", number(op, argument, given));
}

inline Renewed<std::uint64_t> renewed_count(py::handle given, std::uint64_t value) { return renewed(given, "offset", value); }

// Calls an op, and during a capture records it, if all of its numbers are renewed.
template <typename Op>
void run_renewed(bool is_fixed, const Op& op) {
  if (Capture* capture = Capture::active(); capture != nullptr && !is_fixed) capture->note(op);
  without_gil(op);
}

// Chooses a unit at the first call of an op. The error then names the op.
inline void expect_unit(const char* op) {
  try {
    unit();
  } catch (const std::invalid_argument& error) {
    fail(op, std::string("precision bf16: ") + error.what());
  }
}

inline void expect_bias(const char* op, const Input<float>& bias, std::int64_t outputs) {
  if (bias.data() != nullptr) expect_dims(op, "bias", {outputs}, bias.dims());
}

inline void expect_below(const char* op, const char* argument, const Input<std::int64_t>& values, std::int64_t limit) {
  for (std::int64_t i = 0; i < values.size(); ++i) {
    if (values.data()[i] < 0 || values.data()[i] >= limit) {
      fail(op, std::string(argument) + " expects values in 0.." + std::to_string(limit - 1) + ", got " +
                   std::to_string(values.data()[i]) + " at position " + std::to_string(i));
    }
  }
}

// The first wrong element, if any. First checks all elements without branches, which the compiler vectorises; each thread
// checks the elements in its cache.
template <typename T, typename Wrong>
std::optional<T> first_wrong(const Input<T>& input, const Wrong& wrong) {
  const T *data = input.data(), *end = data + input.size();
  std::atomic<bool> found{false};
  without_gil([&] {
    cpu::for_pieces(input.size(), cpu::kPiece, [&](Range r) {
      T any = 0;
      for (std::int64_t i = r.begin; i < r.end; ++i) any = static_cast<T>(any | static_cast<T>(wrong(data[i])));
      if (any) found.store(true, std::memory_order_relaxed);
    });
  });
  if (!found) return std::nullopt;
  // Another thread may have changed the element since.
  const T* first = std::find_if(data, end, wrong);
  return first == end ? data[0] : *first;
}

inline Dims pooled_dims(const PoolShape& pool) { return {pool.n, pool.c, pool.p, pool.q}; }

// The gradients of a layer with weights; dx only if it is needed.
struct Gradients {
  Output<float> dweight, dbias;
  std::optional<Output<float>> dx;

  Gradients(Call& call, const Input<float>& x, const Input<float>& weight, bool need_dx)
      : dweight(call.output<float>(1, weight.dims())), dbias(call.output<float>(2, {weight.dims()[0]})) {
    if (need_dx) dx = call.output<float>(0, x.dims());
  }

  py::tuple arrays() const { return py::make_tuple(dx ? py::object(dx->array()) : py::none(), dweight.array(), dbias.array()); }
};

}  // namespace fastlenet
