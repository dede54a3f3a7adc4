// Networks of int8, layer by layer, and the units that multiply bytes.
#include <pybind11/stl.h>

#include <cmath>
#include <memory>
#include <vector>

#include "../machine/int8_units.hpp"
#include "../ops/int8_network.hpp"
#include "bindings.hpp"

namespace fastlenet {

namespace {

constexpr std::int64_t kLargestSum = std::numeric_limits<std::int32_t>::max();

// The constants of a convolution or a linear layer, checked.
struct Constants {
  Input<std::int8_t> weight;
  Input<std::int32_t> bias;
  Input<float> multiplier;
  std::int32_t zero_point;

  Constants(Call& call, py::handle weight_, py::handle bias_, py::handle multiplier_, py::handle zero_point_)
      : weight(call.input<std::int8_t>("weight", weight_)),
        bias(call.input<std::int32_t>("bias", bias_)),
        multiplier(call.input<float>("multiplier", multiplier_)),
        zero_point(zero_point_.is_none()
                       ? -1
                       : static_cast<std::int32_t>(integer(call.op(), "zero_point", zero_point_, 0, 255, "None or 0..255"))) {
    if (weight.dims().size() < 2) fail(call.op(), "weight expects (outputs, ...), got " + to_string(weight.dims()));
    const std::int64_t outputs = weight.dims()[0];
    expect_dims(call.op(), "bias", {outputs}, bias.dims());
    expect_dims(call.op(), "multiplier", {outputs}, multiplier.dims());
    for (std::int64_t k = 0; k < outputs; ++k) {
      const float factor = multiplier.data()[k];
      if (!(std::isfinite(factor) && factor >= 0.0f)) {
        fail(call.op(), "multiplier expects finite numbers of at least 0, got " + std::to_string(factor) + " for output " +
                            std::to_string(k));
      }
      expect_no_overflow(call.op(), k, weight.size() / outputs);
    }
  }

  cpu::Int8Constants pointers() const { return {weight.data(), bias.data(), multiplier.data(), zero_point}; }

 private:
  void expect_no_overflow(const char* op, std::int64_t output, std::int64_t depth) const {
    std::int64_t reach = std::abs(static_cast<std::int64_t>(bias.data()[output]));
    for (std::int64_t i = 0; i < depth; ++i)
      reach += 255 * std::abs(static_cast<std::int64_t>(weight.data()[output * depth + i]));
    if (reach > kLargestSum) {
      fail(op, "weight and bias expect |bias| + 255 * the sum of |weight| up to 2^31 - 1, so that no sum overflows, got " +
                   std::to_string(reach) + " for output " + std::to_string(output) +
                   "; use smaller integers, with a larger multiplier");
    }
  }
};

class Int8Network {
 public:
  Int8Network(py::handle c, py::handle h, py::handle w) : table_(int8_unit()) {
    constexpr std::int64_t most = std::numeric_limits<std::int32_t>::max();
    const auto size = [](const char* argument, py::handle value) {
      return integer("Int8Network", argument, value, 1, most, "an integer in 1..2^31-1");
    };
    dims_ = {size("c", c), size("h", h), size("w", w)};
    input_ = dims_;
    expect_small(Call("Int8Network"), dims_[0], dims_[1], dims_[2]);
  }

  void add_conv(py::handle weight, py::handle bias, py::handle multiplier, py::handle zero_point, py::handle stride,
                py::handle padding, py::handle padding_value, py::handle window) {
    Call call = next("Int8Network.add_conv");
    const Constants constants(call, weight, bias, multiplier, zero_point);
    const Input<std::uint8_t> value = call.input<std::uint8_t>("padding_value", padding_value);
    const ConvShape shape = conv_shape(call.op(), batch(call, 3, "(c, h, w)"), constants.weight.dims(),
                                       pair(call.op(), "stride", stride), pair(call.op(), "padding", padding));
    expect_dims(call.op(), "padding_value", {shape.c}, value.dims());
    expect_small(call, shape.c, shape.h + 2 * shape.padding.h, shape.w + 2 * shape.padding.w);
    expect_small(call, shape.k, shape.p, shape.q);
    const Pair size = pair(call.op(), "window", window);
    if (size.h < 1 || size.w < 1 || size.h > shape.p || size.w > shape.q) {
      fail(call.op(), "window expects at least 1x1 and at most the output, " + to_string({shape.p, shape.q}) + ", got " +
                          to_string({size.h, size.w}));
    }
    if (constants.zero_point < 0) fail(call.op(), "zero_point expects 0..255, since only a linear layer gives scores");
    add(cpu::int8_conv(table_, shape, size, value.data(), constants.pointers()), {shape.k, shape.p / size.h, shape.q / size.w});
  }

  void add_linear(py::handle weight, py::handle bias, py::handle multiplier, py::handle zero_point) {
    Call call = next("Int8Network.add_linear");
    const Constants constants(call, weight, bias, multiplier, zero_point);
    const LinearShape shape = linear_shape(call.op(), batch(call, 1, "(features,)"), constants.weight.dims());
    add(cpu::int8_linear(table_, shape, constants.pointers()), {shape.out});
  }

  void add_max_pool(py::handle kernel_size, py::handle stride, py::handle padding) {
    Call call = next("Int8Network.add_max_pool");
    const PoolShape shape = read_windows(call.op(), "x", batch(call, 3, "(c, h, w)"), kernel_size, stride, padding);
    expect_small(call, shape.c, shape.p, shape.q);
    add(cpu::int8_max_pool(shape), {shape.c, shape.p, shape.q});
  }

  void add_avg_pool(py::handle kernel_size, py::handle stride, py::handle padding, py::handle zero_point,
                    py::handle multiplier) {
    Call call = next("Int8Network.add_avg_pool");
    const PoolShape shape = read_windows(call.op(), "x", batch(call, 3, "(c, h, w)"), kernel_size, stride, padding);
    const Input<std::uint8_t> zero = call.input<std::uint8_t>("zero_point", zero_point);
    expect_dims(call.op(), "zero_point", {shape.c}, zero.dims());
    expect_small(call, shape.c, shape.p, shape.q);
    if (shape.s > kLargestSum / 255 / shape.r) {
      fail(call.op(), "kernel_size expects at most " + std::to_string(kLargestSum / 255) +
                          " numbers in a window, so that no sum overflows, got " + to_string({shape.r, shape.s}));
    }
    add(cpu::int8_avg_pool(shape, zero.data(), not_negative(call.op(), "multiplier", multiplier)), {shape.c, shape.p, shape.q});
  }

  void add_table(py::handle table) {
    Call call = next("Int8Network.add_table");
    const Input<std::uint8_t> bytes = call.input<std::uint8_t>("table", table);
    expect_dims(call.op(), "table", {256}, bytes.dims());
    add(cpu::int8_table(features(), bytes.data()), dims_);
  }

  void add_flatten() {
    next("Int8Network.add_flatten");
    dims_ = {features()};
  }

  void add_scores(py::handle scale, py::handle zero_point) {
    Call call = next("Int8Network.add_scores");
    const auto zero = integer(call.op(), "zero_point", zero_point, 0, 255, "an integer in 0..255");
    add(cpu::int8_scores(features(), not_negative(call.op(), "scale", scale), static_cast<std::int32_t>(zero)), dims_);
  }

  // The scores, float32 (n, ...), of images, uint8 (n, c, h, w).
  py::array scores(py::handle images_, py::handle out) const {
    Call call("Int8Network.scores", out);
    if (layers_.empty() || !layers_.back()->gives_scores()) fail(call.op(), "the last layer expects to give scores");
    const Input<std::uint8_t> images = call.input<std::uint8_t>("images", images_);
    expect_rank(call.op(), "images", 4, "(n, c, h, w)", images.dims());
    const std::int64_t n = images.dims()[0];
    expect_dims(call.op(), "images", {n, input_[0], input_[1], input_[2]}, images.dims());
    Dims dims = {n};
    dims.insert(dims.end(), dims_.begin(), dims_.end());
    const Output<float> y = call.output<float>(0, dims);
    if (n != 0) without_gil([&] { cpu::int8_forward(y.data(), images.data(), n, table_, layers_); });
    return y.array();
  }

  std::string unit() const { return table_.name; }

 private:
  Call next(const char* op) const {
    if (!layers_.empty() && layers_.back()->gives_scores()) fail(op, "a layer behind the scores expects bytes");
    return Call(op);
  }

  Dims batch(const Call& call, std::size_t rank, const char* legend) const {
    if (dims_.size() != rank) fail(call.op(), std::string("x expects ") + legend + ", got " + to_string(dims_));
    Dims dims = {1};
    dims.insert(dims.end(), dims_.begin(), dims_.end());
    return dims;
  }

  std::int64_t features() const {
    std::int64_t product = 1;
    for (const std::int64_t size : dims_) product *= size;
    return product;
  }

  // Before a layer is made, so that a file with absurd sizes costs no memory. numbers: of its padded input, or of its output.
  void expect_small(const Call& call, std::int64_t channels, std::int64_t h, std::int64_t w) const {
    constexpr std::int64_t most = 1 << 27;
    if (h > most || w > most || h * w > most || channels * h * w > most) {
      fail(call.op(), "a layer expects at most 2^27 numbers with its padding, got " + to_string({channels, h, w}));
    }
  }

  void add(std::unique_ptr<cpu::Int8Layer> layer, Dims dims) {
    layers_.push_back(std::move(layer));
    dims_ = std::move(dims);
  }

  const Int8Table& table_;
  Dims input_, dims_;
  std::vector<std::unique_ptr<cpu::Int8Layer>> layers_;
};

// One instruction alone, for tests. sums: (count, 16, 16); a: (count, 16, 64); b: (count, 16, 64), whose lines hold four taps
// of each of 16 columns.
py::array tile_product_int8(const std::string& name, py::handle sums_, py::handle a_, py::handle b_) {
  Call call("tile_product_int8");
  const Input<std::int32_t> sums = call.input<std::int32_t>("sums", sums_);
  const Input<std::int8_t> a = call.input<std::int8_t>("a", a_);
  const Input<std::uint8_t> b = call.input<std::uint8_t>("b", b_);
  expect_rank(call.op(), "sums", 3, "(count, 16, 16)", sums.dims());
  const std::int64_t count = sums.dims()[0];
  expect_dims(call.op(), "sums", {count, 16, 16}, sums.dims());
  expect_dims(call.op(), "a", {count, 16, 64}, a.dims());
  expect_dims(call.op(), "b", {count, 16, 64}, b.dims());
  const Output<std::int32_t> y = call.output<std::int32_t>(0, sums.dims());
  const Int8Table& table = int8_unit_named(name);
  if (table.tile_product == nullptr) fail(call.op(), name + " has no tiles");
  std::copy(sums.data(), sums.data() + sums.size(), y.data());
  without_gil([&] {
    for (std::int64_t i = 0; i < count; ++i) table.tile_product(y.data() + 256 * i, a.data() + 1024 * i, b.data() + 1024 * i);
  });
  return y.array();
}

}  // namespace

void bind_int8(py::module_& m) {
  py::class_<Int8Network>(m, "Int8Network")
      .def(py::init<py::handle, py::handle, py::handle>(), py::arg("c"), py::arg("h"), py::arg("w"))
      .def("add_conv", &Int8Network::add_conv, py::arg("weight"), py::arg("bias"), py::arg("multiplier"), py::arg("zero_point"),
           py::arg("stride"), py::arg("padding"), py::arg("padding_value"), py::arg("window"))
      .def("add_linear", &Int8Network::add_linear, py::arg("weight"), py::arg("bias"), py::arg("multiplier"),
           py::arg("zero_point"))
      .def("add_max_pool", &Int8Network::add_max_pool, py::arg("kernel_size"), py::arg("stride"), py::arg("padding"))
      .def("add_avg_pool", &Int8Network::add_avg_pool, py::arg("kernel_size"), py::arg("stride"), py::arg("padding"),
           py::arg("zero_point"), py::arg("multiplier"))
      .def("add_table", &Int8Network::add_table, py::arg("table"))
      .def("add_flatten", &Int8Network::add_flatten)
      .def("add_scores", &Int8Network::add_scores, py::arg("scale"), py::arg("zero_point"))
      .def("scores", &Int8Network::scores, py::arg("images"), py::arg("out"))
      .def_property_readonly("unit", &Int8Network::unit);
  define(m, "tile_product_int8", tile_product_int8, "unit", "sums", "a", "b");
  m.def("int8_units_built", int8_units_built);
  m.def("int8_units_available", int8_units_available);
  m.def("int8_unit", [] { return std::string(int8_unit().name); });
  m.def("set_int8_unit", set_int8_unit, py::arg("name"));
}

}  // namespace fastlenet
