// Linear layers with factors of bfloat16, and the units that multiply them.
#include <pybind11/stl.h>

#include "../machine/amx.hpp"
#include "../machine/soak.hpp"
#include "../machine/units.hpp"
#include "bindings.hpp"

namespace fastlenet {

namespace {

using Pairs = std::uint32_t;

// packed: None, or what pack_matrix_bf16 makes of weight.
py::array linear_forward_bf16(py::handle x_, py::handle weight_, py::handle bias_, py::handle packed_, py::handle out) {
  Call call("linear_forward", out);
  const Input<float> x = call.input<float>("x", x_), weight = call.input<float>("weight", weight_);
  const Input<float> bias = call.optional<float>("bias", bias_);
  const LinearShape shape = linear_shape(call.op(), x.dims(), weight.dims());
  expect_bias(call.op(), bias, shape.out);
  const Input<Pairs> packed = call.optional<Pairs>("packed", packed_);
  if (packed.data()) expect_dims(call.op(), "packed", {cpu::packed_panels_size(shape.out, shape.in)}, packed.dims());
  const Output<float> y = call.output<float>(0, {shape.n, shape.out});
  expect_unit(call.op());
  compute(cpu::linear_forward_bf16, y, x, weight, bias, packed, shape);
  return y.array();
}

py::array pack_matrix_bf16(py::handle weight_) {
  Call call("Packed");
  const Input<float> weight = call.input<float>("weight", weight_);
  expect_rank(call.op(), "weight", 2, "(out, in)", weight.dims());
  const std::int64_t out = weight.dims()[0], in = weight.dims()[1];
  const Output<Pairs> packed = call.output<Pairs>(0, {cpu::packed_panels_size(out, in)});
  expect_unit(call.op());
  without_gil([&] { cpu::pack_panels(packed.data(), weight.data(), out, in); });
  return packed.array();
}

py::tuple linear_backward_bf16(py::handle dy_, py::handle x_, py::handle weight_, py::handle need_dx, py::handle out) {
  Call call("linear_backward", out, 3);
  const Input<float> dy = call.input<float>("dy", dy_), x = call.input<float>("x", x_);
  const Input<float> weight = call.input<float>("weight", weight_);
  const LinearShape shape = linear_shape(call.op(), x.dims(), weight.dims());
  expect_dims(call.op(), "dy", {shape.n, shape.out}, dy.dims());
  const Gradients gradients(call, x, weight, truth(need_dx));
  expect_unit(call.op());
  compute(cpu::linear_backward_bf16, gradients.dx, gradients.dweight, gradients.dbias, dy, x, weight, shape);
  return gradients.arrays();
}

// --- one instruction alone, for tests ---

py::array round_bf16(const std::string& name, py::handle x_) {
  Call call("round_bf16");
  const Input<float> x = call.input<float>("x", x_);
  const Output<std::uint16_t> y = call.output<std::uint16_t>(0, x.dims());
  const LowPrecisionTable& table = unit_named(name);
  without_gil([&] { table.round(y.data(), x.data(), x.size()); });
  return y.array();
}

// sums, a, b: of one shape; returns sums plus the products of the pairs.
py::array dot_bf16(const std::string& name, py::handle sums_, py::handle a_, py::handle b_) {
  Call call("dot_bf16");
  const Input<float> sums = call.input<float>("sums", sums_);
  const Input<Pairs> a = call.input<Pairs>("a", a_), b = call.input<Pairs>("b", b_);
  expect_dims(call.op(), "a", sums.dims(), a.dims());
  expect_dims(call.op(), "b", sums.dims(), b.dims());
  const Output<float> y = call.output<float>(0, sums.dims());
  const LowPrecisionTable& table = unit_named(name);
  if (table.dot == nullptr) fail(call.op(), name + " has no vectors");
  std::copy(sums.data(), sums.data() + sums.size(), y.data());
  without_gil([&] { table.dot(y.data(), a.data(), b.data(), y.dims().empty() ? 1 : sums.size()); });
  return y.array();
}

// sums, a, b: (count, 16, 16).
py::array tile_product_bf16(const std::string& name, py::handle sums_, py::handle a_, py::handle b_) {
  Call call("tile_product_bf16");
  const Input<float> sums = call.input<float>("sums", sums_);
  const Input<Pairs> a = call.input<Pairs>("a", a_), b = call.input<Pairs>("b", b_);
  expect_rank(call.op(), "sums", 3, "(count, 16, 16)", sums.dims());
  const Dims dims = {sums.dims()[0], 16, 16};
  expect_dims(call.op(), "sums", dims, sums.dims());
  expect_dims(call.op(), "a", dims, a.dims());
  expect_dims(call.op(), "b", dims, b.dims());
  const Output<float> y = call.output<float>(0, dims);
  const LowPrecisionTable& table = unit_named(name);
  if (table.tile_product == nullptr) fail(call.op(), name + " has no tiles");
  std::copy(sums.data(), sums.data() + sums.size(), y.data());
  without_gil([&] {
    for (std::int64_t i = 0; i < dims[0]; ++i) table.tile_product(y.data() + 256 * i, a.data() + 256 * i, b.data() + 256 * i);
  });
  return y.array();
}

// --- tiles that are lost ---

TileLosses losses(py::handle every, py::handle times) {
  constexpr std::int64_t most = 1 << 30;
  return {integer("losses", "every", every, 0, most, "an integer in 0..2^30"),
          integer("losses", "times", times, 0, most, "an integer in 0..2^30")};
}

py::tuple soak_tiles(const std::string& name, py::handle threads, py::handle seconds, const std::string& wait,
                     py::handle every) {
  const int count = static_cast<int>(integer("soak", "threads", threads, 1, 4096, "1..4096"));
  const double duration = number("soak", "seconds", seconds);
  if (wait != "yield" && wait != "spin" && wait != "sleep") fail("soak", "wait expects yield, spin or sleep, got " + wait);
  const SoakWait how = wait == "yield" ? SoakWait::yield : wait == "spin" ? SoakWait::spin : SoakWait::sleep;
  const TileLosses planted = losses(every, py::int_(1));
  const SoakCount found = without_gil([&] { return soak(name, count, duration, how, planted); });
  return py::make_tuple(found.rounds, found.lost, found.undetected);
}

}  // namespace

void bind_low_precision(py::module_& m) {
  define(m, "linear_forward_bf16", linear_forward_bf16, "x", "weight", "bias", "packed", "out");
  define(m, "pack_matrix_bf16", pack_matrix_bf16, "weight");
  define(m, "linear_backward_bf16", linear_backward_bf16, "dy", "x", "weight", "need_dx", "out");
  define(m, "round_bf16", round_bf16, "unit", "x");
  define(m, "dot_bf16", dot_bf16, "unit", "sums", "a", "b");
  define(m, "tile_product_bf16", tile_product_bf16, "unit", "sums", "a", "b");
  define(m, "soak_tiles", soak_tiles, "unit", "threads", "seconds", "wait", "lose_every");
  m.def(
      "plant_losses", [](py::handle every, py::handle times) { plant_losses(losses(every, times)); }, py::arg("every"),
      py::arg("times"));
  m.def("tile_repeats", repeats_counted);
  m.def("units_built", units_built);
  m.def("units_available", units_available);
  m.def("unit", [] { return std::string(unit().name); });
  m.def("unit_instruction", [] { return std::string(unit().instruction); });
  m.def("unit_in_use", unit_in_use);
  m.def("set_unit", set_unit, py::arg("name"));
  m.def("amx_state", amx_state);
}

}  // namespace fastlenet
