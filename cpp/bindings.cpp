// Arrays in and out, the GIL released in between; no arithmetic. What each op means stands in python/fastlenet/ops.py.
#include "../cuda/bindings.hpp"

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>

#include "arrays.hpp"
#include "batches.hpp"
#include "cpu_ops.hpp"
#include "gil.hpp"
#include "isa.hpp"
#include "parallel.hpp"
#include "recording.hpp"
#include "steps.hpp"

namespace fastlenet {

namespace {

using IntPair = std::array<std::int64_t, 2>;

Pair pair(const IntPair& values) { return {values[0], values[1]}; }

[[noreturn]] void fail(const char* op, const std::string& message) {
  throw std::invalid_argument(std::string(op) + ": " + message);
}

void expect_bias(const char* op, const Input<float>& bias, std::int64_t outputs) {
  if (bias.data() != nullptr) expect_dims(op, "bias", {outputs}, bias.dims());
}

// The gradients that every layer with weights returns, dx only where it is wanted.
struct Gradients {
  Output<float> dweight, dbias;
  std::optional<Output<float>> dx;

  Gradients(const char* op, py::handle out, const Input<float>& dy, const Input<float>& x, const Input<float>& weight,
            bool need_dx)
      : Gradients(op, Outputs(op, out, 3), x, weight, need_dx) {
    for (const Input<float>* input : {&dy, &x, &weight}) {
      dweight.expect_apart(op, "an input", *input);
      dbias.expect_apart(op, "an input", *input);
      if (dx) dx->expect_apart(op, "an input", *input);
    }
  }

  py::tuple arrays() const { return py::make_tuple(dx ? py::object(dx->array()) : py::none(), dweight.array(), dbias.array()); }

 private:
  Gradients(const char* op, const Outputs& outputs, const Input<float>& x, const Input<float>& weight, bool need_dx)
      : dweight(outputs.take<float>(op, 1, weight.dims())), dbias(outputs.take<float>(op, 2, {weight.dims()[0]})) {
    if (need_dx) dx = outputs.take<float>(op, 0, x.dims());
  }
};

py::array conv2d_forward(py::handle x_, py::handle weight_, py::handle bias_, IntPair stride, IntPair padding, py::handle out) {
  const char* op = "conv2d_forward";
  const Input<float> x(op, "x", x_), weight(op, "weight", weight_);
  const Input<float> bias = Input<float>::optional(op, "bias", bias_);
  const ConvShape shape = conv_shape(op, x.dims(), weight.dims(), pair(stride), pair(padding));
  expect_bias(op, bias, shape.k);
  const Output<float> y = Outputs(op, out, 1).take<float>(op, 0, {shape.n, shape.k, shape.p, shape.q});
  for (const Input<float>* input : {&x, &weight, &bias}) y.expect_apart(op, "an input", *input);
  compute(cpu::conv2d_forward, y, x, weight, bias, shape);
  return y.array();
}

py::tuple conv2d_backward(py::handle dy_, py::handle x_, py::handle weight_, IntPair stride, IntPair padding, bool need_dx,
                          py::handle out) {
  const char* op = "conv2d_backward";
  const Input<float> dy(op, "dy", dy_), x(op, "x", x_), weight(op, "weight", weight_);
  const ConvShape shape = conv_shape(op, x.dims(), weight.dims(), pair(stride), pair(padding));
  expect_dims(op, "dy", {shape.n, shape.k, shape.p, shape.q}, dy.dims());
  const Gradients gradients(op, out, dy, x, weight, need_dx);
  compute(cpu::conv2d_backward, gradients.dx, gradients.dweight, gradients.dbias, dy, x, weight, shape);
  return gradients.arrays();
}

py::tuple max_pool2d_forward(py::handle x_, IntPair kernel_size, IntPair stride, IntPair padding, py::handle out) {
  const char* op = "max_pool2d_forward";
  const Input<float> x(op, "x", x_);
  const PoolShape shape = pool_shape(op, x.dims(), pair(kernel_size), pair(stride), pair(padding));
  const Outputs outputs(op, out, 2);
  const Dims dims{shape.n, shape.c, shape.p, shape.q};
  const Output<float> y = outputs.take<float>(op, 0, dims);
  const Output<std::int32_t> indices = outputs.take<std::int32_t>(op, 1, dims);
  y.expect_apart(op, "x", x);
  indices.expect_apart(op, "x", x);
  compute(cpu::max_pool2d_forward, y, indices, x, shape);
  return py::make_tuple(y.array(), indices.array());
}

// The first element that is wrong, if any. All are looked at without a branch first, which the compiler does in vectors, each
// by the thread that has it in its cache.
template <typename T, typename Wrong>
const T* first_wrong(const Input<T>& input, const Wrong& wrong) {
  const T *data = input.data(), *end = data + input.size();
  std::atomic<bool> found{false};
  without_gil([&] {
    cpu::for_pieces(input.size(), cpu::kPiece, [&](Range r) {
      T any = 0;
      for (std::int64_t i = r.begin; i < r.end; ++i) any = static_cast<T>(any | static_cast<T>(wrong(data[i])));
      if (any) found.store(true, std::memory_order_relaxed);
    });
  });
  return found ? std::find_if(data, end, wrong) : nullptr;
}

py::array max_pool2d_backward(py::handle dy_, py::handle indices_, const Dims& x_shape, py::handle out) {
  const char* op = "max_pool2d_backward";
  const Input<float> dy(op, "dy", dy_);
  const Input<std::int32_t> indices(op, "indices", indices_);
  expect_rank(op, "x_shape", 4, "(n, c, h, w)", x_shape);
  expect_rank(op, "dy", 4, "(n, c, p, q)", dy.dims());
  const Dims& d = dy.dims();
  expect_dims(op, "dy", {x_shape[0], x_shape[1], d[2], d[3]}, d);
  expect_dims(op, "indices", d, indices.dims());
  const PoolShape shape{d[0], d[1], x_shape[2], x_shape[3], 1, 1, {1, 1}, {0, 0}, d[2], d[3]};
  const std::uint32_t plane = static_cast<std::uint32_t>(shape.h * shape.w);
  // As unsigned numbers the negative ones are the largest.
  const auto wrong = first_wrong(indices, [=](std::int32_t index) { return static_cast<std::uint32_t>(index) >= plane; });
  if (wrong) fail(op, "indices expects values in 0.." + std::to_string(plane - 1) + ", got " + std::to_string(*wrong));
  const Output<float> dx = Outputs(op, out, 1).take<float>(op, 0, x_shape);
  dx.expect_apart(op, "dy", dy);
  dx.expect_apart(op, "indices", indices);
  compute(cpu::max_pool2d_backward, dx, dy, indices, shape);
  return dx.array();
}

Dims pooled_dims(const PoolShape& pool) { return {pool.n, pool.c, pool.p, pool.q}; }

cpu::Algorithm algorithm_named(const char* op, const std::string& name) {
  if (name == "direct") return cpu::Algorithm::direct;
  if (name == "winograd") return cpu::Algorithm::winograd;
  fail(op, "algorithm expects 'direct' or 'winograd', got '" + name + "'");
}

py::tuple conv2d_relu_max_pool2d_forward(py::handle x_, py::handle weight_, py::handle bias_, IntPair padding,
                                         IntPair kernel_size, const std::string& algorithm_, py::handle packed_,
                                         py::handle out) {
  const char* op = "conv2d_relu_max_pool2d_forward";
  const cpu::Algorithm algorithm = algorithm_named(op, algorithm_);
  const Input<float> x(op, "x", x_), weight(op, "weight", weight_);
  const Input<float> bias = Input<float>::optional(op, "bias", bias_);
  const ConvPoolShape shape = conv_pool_shape(op, x.dims(), weight.dims(), pair(padding), pair(kernel_size));
  expect_bias(op, bias, shape.conv.k);
  const Input<float> packed = Input<float>::optional(op, "packed", packed_);
  if (packed.data()) expect_dims(op, "packed", {cpu::packed_size(algorithm, shape.conv)}, packed.dims());
  const Outputs outputs(op, out, 2);
  const Output<float> y = outputs.take<float>(op, 0, pooled_dims(shape.pool));
  const Output<std::uint8_t> winners = outputs.take<std::uint8_t>(op, 1, pooled_dims(shape.pool));
  for (const Input<float>* input : {&x, &weight, &bias}) {
    y.expect_apart(op, "an input", *input);
    winners.expect_apart(op, "an input", *input);
  }
  compute(cpu::conv2d_relu_max_pool2d_forward, y, winners, x, weight, bias, packed, algorithm, shape);
  return py::make_tuple(y.array(), winners.array());
}

py::array pack_filters(py::handle weight_, const std::string& algorithm_) {
  const char* op = "pack_filters";
  const cpu::Algorithm algorithm = algorithm_named(op, algorithm_);
  const Input<float> weight(op, "weight", weight_);
  expect_rank(op, "weight", 4, "(k, c, r, s)", weight.dims());
  const Dims& d = weight.dims();
  const ConvShape shape{0, d[1], d[2], d[3], d[0], d[2], d[3], {1, 1}, {0, 0}, 1, 1};
  const Output<float> packed(op, "out", py::none(), {cpu::packed_size(algorithm, shape)});
  without_gil([&] { cpu::pack_filters(packed.data(), weight.data(), algorithm, shape); });
  return packed.array();
}

py::tuple conv2d_relu_max_pool2d_backward(py::handle dy_, py::handle winners_, py::handle x_, py::handle weight_,
                                          IntPair padding, IntPair kernel_size, bool need_dx, py::handle out) {
  const char* op = "conv2d_relu_max_pool2d_backward";
  const Input<float> dy(op, "dy", dy_), x(op, "x", x_), weight(op, "weight", weight_);
  const Input<std::uint8_t> winners(op, "winners", winners_);
  const ConvPoolShape shape = conv_pool_shape(op, x.dims(), weight.dims(), pair(padding), pair(kernel_size));
  expect_dims(op, "dy", pooled_dims(shape.pool), dy.dims());
  expect_dims(op, "winners", pooled_dims(shape.pool), winners.dims());
  const std::uint8_t window = static_cast<std::uint8_t>(shape.pool.r * shape.pool.s);
  const auto wrong = first_wrong(winners, [=](std::uint8_t winner) { return (winner >= window) & (winner != 255); });
  if (wrong) fail(op, "winners expects values below " + std::to_string(window) + " or 255, got " + std::to_string(*wrong));
  const Gradients gradients(op, out, dy, x, weight, need_dx);
  compute(cpu::conv2d_relu_max_pool2d_backward, gradients.dx, gradients.dweight, gradients.dbias, dy, winners, x, weight,
          shape);
  return gradients.arrays();
}

// From so few images on, copying transposed weights to rows costs less than computing with them as they are.
constexpr py::ssize_t kFewImages = 4;

py::array linear_forward(py::handle x_, py::handle weight_, py::handle bias_, bool skip_zeros, py::handle out) {
  const char* op = "linear_forward";
  const Input<float> x(op, "x", x_);
  const bool transposed = is_transposed(weight_) && x.dims().size() == 2 && x.dims()[0] <= kFewImages;
  const Input<float> weight =
      transposed ? Input<float>::transposed(op, "weight", weight_) : Input<float>(op, "weight", weight_);
  const Input<float> bias = Input<float>::optional(op, "bias", bias_);
  const LinearShape shape = linear_shape(op, x.dims(), weight.dims());
  expect_bias(op, bias, shape.out);
  const Output<float> y = Outputs(op, out, 1).take<float>(op, 0, {shape.n, shape.out});
  for (const Input<float>* input : {&x, &weight, &bias}) y.expect_apart(op, "an input", *input);
  if (transposed) {
    compute(cpu::linear_forward_transposed, y, x, weight, bias, skip_zeros, shape);
  } else {
    compute(cpu::linear_forward, y, x, weight, bias, shape);
  }
  return y.array();
}

py::tuple linear_backward(py::handle dy_, py::handle x_, py::handle weight_, bool need_dx, py::handle out) {
  const char* op = "linear_backward";
  const Input<float> dy(op, "dy", dy_), x(op, "x", x_), weight(op, "weight", weight_);
  const LinearShape shape = linear_shape(op, x.dims(), weight.dims());
  expect_dims(op, "dy", {shape.n, shape.out}, dy.dims());
  const Gradients gradients(op, out, dy, x, weight, need_dx);
  compute(cpu::linear_backward, gradients.dx, gradients.dweight, gradients.dbias, dy, x, weight, shape);
  return gradients.arrays();
}

// y = f(x), element by element; x may be its own output.
template <typename Function>
py::array map(const char* op, Function function, py::handle x_, py::handle out) {
  const Input<float> x(op, "x", x_);
  const Output<float> y = Outputs(op, out, 1).take<float>(op, 0, x.dims());
  y.expect_apart(op, "x", x, true);
  compute(function, y, x, x.size());
  return y.array();
}

// dx = f(dy, other), element by element; other is named in the op's signature.
template <typename Function>
py::array map_gradient(const char* op, Function function, py::handle dy_, const char* name, py::handle other_, py::handle out) {
  const Input<float> dy(op, "dy", dy_), other(op, name, other_);
  expect_dims(op, "dy", other.dims(), dy.dims());
  const Output<float> dx = Outputs(op, out, 1).take<float>(op, 0, dy.dims());
  dx.expect_apart(op, "dy", dy, true);
  dx.expect_apart(op, name, other, true);
  compute(function, dx, dy, other, dy.size());
  return dx.array();
}

py::tuple dropout_forward(py::handle x_, double rate, std::uint64_t seed, std::uint64_t counter, py::handle out) {
  const char* op = "dropout_forward";
  const Input<float> x(op, "x", x_);
  if (!(rate >= 0.0 && rate < 1.0)) fail(op, "rate expects a number in [0, 1), got " + std::to_string(rate));
  const Outputs outputs(op, out, 2);
  const Output<float> y = outputs.take<float>(op, 0, x.dims()), mask = outputs.take<float>(op, 1, x.dims());
  y.expect_apart(op, "x", x, true);
  mask.expect_apart(op, "x", x);
  without_gil([&] { cpu::dropout_forward(y.data(), mask.data(), x.data(), rate, seed, counter, x.size()); });
  return py::make_tuple(y.array(), mask.array());
}

void expect_below(const char* op, const char* argument, const Input<std::int64_t>& values, std::int64_t limit) {
  for (std::int64_t i = 0; i < values.size(); ++i) {
    if (values.data()[i] < 0 || values.data()[i] >= limit) {
      fail(op, std::string(argument) + " expects values in 0.." + std::to_string(limit - 1) + ", got " +
                   std::to_string(values.data()[i]) + " at position " + std::to_string(i));
    }
  }
}

py::tuple softmax_cross_entropy(py::handle logits_, py::handle labels_, double label_smoothing, py::handle out) {
  const char* op = "softmax_cross_entropy";
  const Input<float> logits(op, "logits", logits_);
  const Input<std::int64_t> labels(op, "labels", labels_);
  expect_rank(op, "logits", 2, "(n, classes)", logits.dims());
  const std::int64_t rows = logits.dims()[0], classes = logits.dims()[1];
  expect_dims(op, "labels", {rows}, labels.dims());
  if (classes < 1) fail(op, "logits expects at least one class, got shape " + to_string(logits.dims()));
  if (!(label_smoothing >= 0.0 && label_smoothing <= 1.0)) {
    fail(op, "label_smoothing expects a number in [0, 1], got " + std::to_string(label_smoothing));
  }
  expect_below(op, "labels", labels, classes);
  const Output<float> dlogits = Outputs(op, out, 1).take<float>(op, 0, logits.dims());
  dlogits.expect_apart(op, "logits", logits);
  const double loss = without_gil(
      [&] { return cpu::softmax_cross_entropy(dlogits.data(), logits.data(), labels.data(), rows, classes, label_smoothing); });
  return py::make_tuple(loss, dlogits.array());
}

py::tuple squared_error(py::handle prediction_, py::handle target_, py::handle out) {
  const char* op = "squared_error";
  const Input<float> prediction(op, "prediction", prediction_), target(op, "target", target_);
  expect_dims(op, "target", prediction.dims(), target.dims());
  const Output<float> dprediction = Outputs(op, out, 1).take<float>(op, 0, prediction.dims());
  dprediction.expect_apart(op, "prediction", prediction, true);
  dprediction.expect_apart(op, "target", target, true);
  const double loss =
      without_gil([&] { return cpu::squared_error(dprediction.data(), prediction.data(), target.data(), prediction.size()); });
  return py::make_tuple(loss, dprediction.array());
}

// What both kinds of gather_images take and return.
struct Gather {
  static constexpr const char* op = "gather_images";
  Input<std::uint8_t> images;
  Input<std::int64_t> index;
  GatherShape shape;
  Output<float> x;

  Gather(py::handle images_, py::handle index_, double mean, double std, py::handle out)
      : images(op, "images", images_),
        index(op, "index", index_),
        shape(gather_shape(op, images.dims(), index.dims())),
        x(Outputs(op, out, 1).take<float>(op, 0, {shape.n, 1, shape.h, shape.w})) {
    if (!std::isfinite(mean)) fail(op, "mean expects a finite number, got " + std::to_string(mean));
    if (!(std::isfinite(std) && std > 0.0)) fail(op, "std expects a positive number, got " + std::to_string(std));
    expect_below(op, "index", index, shape.count);
    x.expect_apart(op, "images", images);
    x.expect_apart(op, "index", index);
  }
};

py::array gather_images(py::handle images, py::handle index, double mean, double std, py::handle transform_, py::handle out) {
  const Input<float> transform = Input<float>::optional(Gather::op, "transform", transform_);
  const Gather g(images, index, mean, std, out);
  if (transform.data() != nullptr) {
    expect_dims(Gather::op, "transform", {g.shape.n, 2, 3}, transform.dims());
    expect_transformable(Gather::op, g.shape);
  }
  g.x.expect_apart(Gather::op, "transform", transform);
  without_gil([&] { cpu::gather_images(g.x.data(), g.images.data(), g.index.data(), transform.data(), mean, std, g.shape); });
  return g.x.array();
}

// fastlenet.augment has checked the numbers.
py::array gather_augmented(py::handle images, py::handle index, double mean, double std, std::int64_t shift, double rotation,
                           double scale, double shear, double elastic, double elastic_sigma, std::int64_t cutout,
                           std::uint64_t seed, std::uint32_t epoch, py::handle out) {
  const Augmentation augmentation{shift, rotation, scale, shear, elastic, elastic_sigma, cutout};
  const Gather g(images, index, mean, std, out);
  expect_transformable(Gather::op, g.shape);
  without_gil([&] {
    cpu::gather_augmented(g.x.data(), g.images.data(), g.index.data(), augmentation, seed, epoch, mean, std, g.shape);
  });
  return g.x.array();
}

// A flat buffer that a step changes; its size is that of the parameters.
Output<float> state(const char* op, const char* argument, py::handle object, const Dims& dims) {
  if (object.is_none()) throw py::type_error(std::string(op) + ": " + argument + " expects a numpy array of float32, got None");
  return Output<float>(op, argument, object, dims);
}

Dims flat_dims(const char* op, py::handle parameters) {
  const Dims dims = dims_of(expect_array(op, "parameters", parameters, py::dtype::of<float>()));
  expect_rank(op, "parameters", 1, "(count,)", dims);
  return dims;
}

void sgd_step(py::handle parameters_, py::handle gradients_, py::handle velocity_, double lr, double momentum, bool nesterov,
              double weight_decay) {
  const char* op = "sgd_step";
  const Dims dims = flat_dims(op, parameters_);
  const Output<float> parameters = state(op, "parameters", parameters_, dims);
  const Input<float> gradients(op, "gradients", gradients_);
  expect_dims(op, "gradients", dims, gradients.dims());
  parameters.expect_apart(op, "gradients", gradients);
  float* velocity = nullptr;
  if (!velocity_.is_none()) {
    velocity = state(op, "velocity", velocity_, dims).data();
  } else if (momentum != 0.0) {
    fail(op, "velocity expects an array when momentum is not 0, got None");
  }
  const SgdStep step{static_cast<float>(lr), static_cast<float>(momentum), static_cast<float>(weight_decay), nesterov};
  without_gil([&] { cpu::sgd_step(parameters.data(), gradients.data(), velocity, dims[0], step); });
}

void adam_step(py::handle parameters_, py::handle gradients_, py::handle first_moment_, py::handle second_moment_,
               std::int64_t step, double lr, double beta1, double beta2, double eps, double weight_decay) {
  const char* op = "adam_step";
  const Dims dims = flat_dims(op, parameters_);
  const Output<float> parameters = state(op, "parameters", parameters_, dims);
  const Output<float> first_moment = state(op, "first_moment", first_moment_, dims);
  const Output<float> second_moment = state(op, "second_moment", second_moment_, dims);
  const Input<float> gradients(op, "gradients", gradients_);
  expect_dims(op, "gradients", dims, gradients.dims());
  parameters.expect_apart(op, "gradients", gradients);
  if (step < 1) fail(op, "step expects a count from 1, got " + std::to_string(step));
  const AdamStep adam = adam_at(step, lr, beta1, beta2, eps, weight_decay);
  without_gil(
      [&] { cpu::adam_step(parameters.data(), gradients.data(), first_moment.data(), second_moment.data(), dims[0], adam); });
}

void ema_step(py::handle average_, py::handle parameters_, double decay) {
  const char* op = "ema_step";
  const Input<float> parameters(op, "parameters", parameters_);
  expect_rank(op, "parameters", 1, "(count,)", parameters.dims());
  const Output<float> average = state(op, "average", average_, parameters.dims());
  average.expect_apart(op, "parameters", parameters);
  without_gil([&] { cpu::ema_step(average.data(), parameters.data(), parameters.size(), static_cast<float>(decay)); });
}

void bind_ops(py::module_& m) {
  m.def("conv2d_forward", conv2d_forward, py::arg("x"), py::arg("weight"), py::arg("bias"), py::arg("stride"),
        py::arg("padding"), py::arg("out"));
  m.def("conv2d_backward", conv2d_backward, py::arg("dy"), py::arg("x"), py::arg("weight"), py::arg("stride"),
        py::arg("padding"), py::arg("need_dx"), py::arg("out"));
  m.def("max_pool2d_forward", max_pool2d_forward, py::arg("x"), py::arg("kernel_size"), py::arg("stride"), py::arg("padding"),
        py::arg("out"));
  m.def("max_pool2d_backward", max_pool2d_backward, py::arg("dy"), py::arg("indices"), py::arg("x_shape"), py::arg("out"));
  m.def("conv2d_relu_max_pool2d_forward", conv2d_relu_max_pool2d_forward, py::arg("x"), py::arg("weight"), py::arg("bias"),
        py::arg("padding"), py::arg("kernel_size"), py::arg("algorithm"), py::arg("packed"), py::arg("out"));
  m.def("pack_filters", pack_filters, py::arg("weight"), py::arg("algorithm"));
  m.def("conv2d_relu_max_pool2d_backward", conv2d_relu_max_pool2d_backward, py::arg("dy"), py::arg("winners"), py::arg("x"),
        py::arg("weight"), py::arg("padding"), py::arg("kernel_size"), py::arg("need_dx"), py::arg("out"));
  m.def("linear_forward", linear_forward, py::arg("x"), py::arg("weight"), py::arg("bias"), py::arg("skip_zeros"),
        py::arg("out"));
  m.def("linear_backward", linear_backward, py::arg("dy"), py::arg("x"), py::arg("weight"), py::arg("need_dx"), py::arg("out"));
  m.def(
      "relu_forward", [](py::handle x, py::handle out) { return map("relu_forward", cpu::relu_forward, x, out); }, py::arg("x"),
      py::arg("out"));
  m.def(
      "relu_backward",
      [](py::handle dy, py::handle y, py::handle out) {
        return map_gradient("relu_backward", cpu::relu_backward, dy, "y", y, out);
      },
      py::arg("dy"), py::arg("y"), py::arg("out"));
  m.def(
      "sigmoid_forward", [](py::handle x, py::handle out) { return map("sigmoid_forward", cpu::sigmoid_forward, x, out); },
      py::arg("x"), py::arg("out"));
  m.def(
      "sigmoid_backward",
      [](py::handle dy, py::handle y, py::handle out) {
        return map_gradient("sigmoid_backward", cpu::sigmoid_backward, dy, "y", y, out);
      },
      py::arg("dy"), py::arg("y"), py::arg("out"));
  m.def("dropout_forward", dropout_forward, py::arg("x"), py::arg("rate"), py::arg("seed"), py::arg("counter"), py::arg("out"));
  m.def(
      "dropout_backward",
      [](py::handle dy, py::handle mask, py::handle out) {
        return map_gradient("dropout_backward", cpu::dropout_backward, dy, "mask", mask, out);
      },
      py::arg("dy"), py::arg("mask"), py::arg("out"));
  m.def("softmax_cross_entropy", softmax_cross_entropy, py::arg("logits"), py::arg("labels"), py::arg("label_smoothing"),
        py::arg("out"));
  m.def("squared_error", squared_error, py::arg("prediction"), py::arg("target"), py::arg("out"));
  m.def("gather_images", gather_images, py::arg("images"), py::arg("index"), py::arg("mean"), py::arg("std"),
        py::arg("transform"), py::arg("out"));
  m.def("gather_augmented", gather_augmented, py::arg("images"), py::arg("index"), py::arg("mean"), py::arg("std"),
        py::arg("shift"), py::arg("rotation"), py::arg("scale"), py::arg("shear"), py::arg("elastic"), py::arg("elastic_sigma"),
        py::arg("cutout"), py::arg("seed"), py::arg("epoch"), py::arg("out"));
  m.def("sgd_step", sgd_step, py::arg("parameters"), py::arg("gradients"), py::arg("velocity"), py::arg("lr"),
        py::arg("momentum"), py::arg("nesterov"), py::arg("weight_decay"));
  m.def("adam_step", adam_step, py::arg("parameters"), py::arg("gradients"), py::arg("first_moment"), py::arg("second_moment"),
        py::arg("step"), py::arg("lr"), py::arg("beta1"), py::arg("beta2"), py::arg("eps"), py::arg("weight_decay"));
  m.def("ema_step", ema_step, py::arg("average"), py::arg("parameters"), py::arg("decay"));
}

void bind_recording(py::module_& m) {
  py::class_<Recording>(m, "Recording")
      .def(py::init<py::object>(), py::arg("subject"))
      .def("__enter__", &Recording::enter)
      .def("__exit__", [](Recording& recording, py::handle type, py::handle, py::handle) { recording.exit(!type.is_none()); })
      .def("replay", &Recording::replay, py::arg("array"))
      .def("replay_copy", &Recording::replay_copy, py::arg("array"));
}

void bind_machine(py::module_& m) {
  m.def("levels_built", levels_built);
  m.def("levels_available", levels_available);
  m.def("level", [] { return std::string(kernels().level); });
  m.def("set_level", set_level, py::arg("name"));
  m.def("get_num_threads", num_threads);
  m.def("cgroup_cpus", cgroup_cpus, py::arg("root"));
  m.def(
      "set_num_threads",
      [](std::int64_t count) {
        if (count < 1 || count > 4096) fail("set_num_threads", "count expects 1..4096, got " + std::to_string(count));
        set_num_threads(static_cast<int>(count));
      },
      py::arg("count"));
  py::register_exception<cuda::DeviceError>(m, "DeviceError", PyExc_RuntimeError);
  m.def("cuda_status", cuda::status);
  m.def("cuda_backend", cuda::backend);
  m.def("compiler", [] { return std::string(FASTLENET_COMPILER); });
  m.def("multiply_add_peak", cpu::multiply_add_peak, py::arg("threads"), py::arg("seconds"), py::call_guard<WithoutGil>());
}

}  // namespace

}  // namespace fastlenet

PYBIND11_MODULE(_core, m) {
  m.doc() = "The compiled kernels; private. Use fastlenet.ops.";
  try {
    fastlenet::select_level();
  } catch (const std::invalid_argument& error) {
    throw pybind11::import_error(error.what());
  }
  fastlenet::bind_ops(m);
  fastlenet::bind_recording(m);
  fastlenet::bind_machine(m);
}
