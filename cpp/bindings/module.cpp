// Arrays in and out, the GIL released in between; no arithmetic. What each op means stands in python/fastlenet/ops.py.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <atomic>
#include <cmath>

#include "../../cuda/bindings.hpp"
#include "../machine/isa.hpp"
#include "../machine/parallel.hpp"
#include "../ops/adam.hpp"
#include "../ops/batches.hpp"
#include "../ops/ops.hpp"
#include "arrays.hpp"
#include "gil.hpp"
#include "graph.hpp"

namespace fastlenet {

namespace {

[[noreturn]] void fail(const char* op, const std::string& message) {
  throw std::invalid_argument(std::string(op) + ": " + message);
}

void expect_bias(const char* op, const Input<float>& bias, std::int64_t outputs) {
  if (bias.data() != nullptr) expect_dims(op, "bias", {outputs}, bias.dims());
}

Dims pooled_dims(const PoolShape& pool) { return {pool.n, pool.c, pool.p, pool.q}; }

// The gradients that every layer with weights returns, dx only where it is wanted.
struct Gradients {
  Output<float> dweight, dbias;
  std::optional<Output<float>> dx;

  Gradients(Call& call, const Input<float>& x, const Input<float>& weight, bool need_dx)
      : dweight(call.output<float>(1, weight.dims())), dbias(call.output<float>(2, {weight.dims()[0]})) {
    if (need_dx) dx = call.output<float>(0, x.dims());
  }

  py::tuple arrays() const { return py::make_tuple(dx ? py::object(dx->array()) : py::none(), dweight.array(), dbias.array()); }
};

py::array conv2d_forward(py::handle x_, py::handle weight_, py::handle bias_, py::handle stride, py::handle padding,
                         py::handle out) {
  Call call("conv2d_forward", out);
  const Input<float> x = call.input<float>("x", x_), weight = call.input<float>("weight", weight_);
  const Input<float> bias = call.optional<float>("bias", bias_);
  const ConvShape shape =
      conv_shape(call.op(), x.dims(), weight.dims(), pair(call.op(), "stride", stride), pair(call.op(), "padding", padding));
  expect_bias(call.op(), bias, shape.k);
  const Output<float> y = call.output<float>(0, {shape.n, shape.k, shape.p, shape.q});
  compute(cpu::conv2d_forward, y, x, weight, bias, shape);
  return y.array();
}

py::tuple conv2d_backward(py::handle dy_, py::handle x_, py::handle weight_, py::handle stride, py::handle padding,
                          py::handle need_dx, py::handle out) {
  Call call("conv2d_backward", out, 3);
  const Input<float> dy = call.input<float>("dy", dy_), x = call.input<float>("x", x_);
  const Input<float> weight = call.input<float>("weight", weight_);
  const ConvShape shape =
      conv_shape(call.op(), x.dims(), weight.dims(), pair(call.op(), "stride", stride), pair(call.op(), "padding", padding));
  expect_dims(call.op(), "dy", {shape.n, shape.k, shape.p, shape.q}, dy.dims());
  const Gradients gradients(call, x, weight, truth(need_dx));
  compute(cpu::conv2d_backward, gradients.dx, gradients.dweight, gradients.dbias, dy, x, weight, shape);
  return gradients.arrays();
}

py::tuple max_pool2d_forward(py::handle x_, py::handle kernel_size_, py::handle stride, py::handle padding, py::handle out) {
  Call call("max_pool2d_forward", out, 2);
  const Input<float> x = call.input<float>("x", x_);
  const Pair kernel_size = pair(call.op(), "kernel_size", kernel_size_);
  const PoolShape shape =
      pool_shape(call.op(), x.dims(), kernel_size, stride.is_none() ? kernel_size : pair(call.op(), "stride", stride),
                 pair(call.op(), "padding", padding));
  const Output<float> y = call.output<float>(0, pooled_dims(shape));
  const Output<std::int32_t> indices = call.output<std::int32_t>(1, pooled_dims(shape));
  compute(cpu::max_pool2d_forward, y, indices, x, shape);
  return py::make_tuple(y.array(), indices.array());
}

// The first element that is wrong, if any. All are looked at without a branch first, which the compiler does in vectors, each
// by the thread that has it in its cache.
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
  // Not there any more if another thread has changed it.
  const T* first = std::find_if(data, end, wrong);
  return first == end ? data[0] : *first;
}

py::array max_pool2d_backward(py::handle dy_, py::handle indices_, py::handle x_shape_, py::handle out) {
  Call call("max_pool2d_backward", out);
  const Dims x_shape = sizes(call.op(), "x_shape", x_shape_);
  const Input<float> dy = call.input<float>("dy", dy_);
  const Input<std::int32_t> indices = call.input<std::int32_t>("indices", indices_);
  const PoolShape shape = unpool_shape(call.op(), dy.dims(), x_shape);
  expect_dims(call.op(), "indices", dy.dims(), indices.dims());
  const std::uint32_t plane = static_cast<std::uint32_t>(shape.h * shape.w);
  // As unsigned numbers the negative ones are the largest.
  const auto wrong = first_wrong(indices, [=](std::int32_t index) { return static_cast<std::uint32_t>(index) >= plane; });
  if (wrong) fail(call.op(), "indices expects values in 0.." + std::to_string(plane - 1) + ", got " + std::to_string(*wrong));
  const Output<float> dx = call.output<float>(0, x_shape);
  compute(cpu::max_pool2d_backward, dx, dy, indices, shape);
  return dx.array();
}

cpu::Algorithm algorithm_of(const char* op, py::handle value) {
  if (is(value, "direct")) return cpu::Algorithm::direct;
  if (is(value, "winograd")) return cpu::Algorithm::winograd;
  const std::string message = wanted(op, "algorithm", "'direct' or 'winograd'", value);
  if (!PyUnicode_Check(value.ptr())) throw py::type_error(message);
  throw std::invalid_argument(message);
}

py::tuple conv2d_relu_max_pool2d_forward(py::handle x_, py::handle weight_, py::handle bias_, py::handle padding,
                                         py::handle kernel_size, py::handle algorithm_, py::handle packed_, py::handle out) {
  Call call("conv2d_relu_max_pool2d_forward", out, 2);
  const cpu::Algorithm algorithm = algorithm_of(call.op(), algorithm_);
  const Input<float> x = call.input<float>("x", x_), weight = call.input<float>("weight", weight_);
  const Input<float> bias = call.optional<float>("bias", bias_);
  const ConvPoolShape shape = conv_pool_shape(call.op(), x.dims(), weight.dims(), pair(call.op(), "padding", padding),
                                              pair(call.op(), "kernel_size", kernel_size));
  expect_bias(call.op(), bias, shape.conv.k);
  const Input<float> packed = call.optional<float>("packed", packed_);
  if (packed.data()) expect_dims(call.op(), "packed", {cpu::packed_size(algorithm, shape.conv)}, packed.dims());
  const Output<float> y = call.output<float>(0, pooled_dims(shape.pool));
  const Output<std::uint8_t> winners = call.output<std::uint8_t>(1, pooled_dims(shape.pool));
  compute(cpu::conv2d_relu_max_pool2d_forward, y, winners, x, weight, bias, packed, algorithm, shape);
  return py::make_tuple(y.array(), winners.array());
}

py::array pack_filters(py::handle weight_, py::handle algorithm_) {
  Call call("pack_filters");
  const cpu::Algorithm algorithm = algorithm_of(call.op(), algorithm_);
  const Input<float> weight = call.input<float>("weight", weight_);
  expect_filters(call.op(), weight.dims());
  const Dims& d = weight.dims();
  const ConvShape shape{0, d[1], d[2], d[3], d[0], d[2], d[3], {1, 1}, {0, 0}, 1, 1};
  const Output<float> packed = call.output<float>(0, {cpu::packed_size(algorithm, shape)});
  without_gil([&] { cpu::pack_filters(packed.data(), weight.data(), algorithm, shape); });
  return packed.array();
}

py::tuple conv2d_relu_max_pool2d_backward(py::handle dy_, py::handle winners_, py::handle x_, py::handle weight_,
                                          py::handle padding, py::handle kernel_size, py::handle need_dx, py::handle out) {
  Call call("conv2d_relu_max_pool2d_backward", out, 3);
  const Input<float> dy = call.input<float>("dy", dy_), x = call.input<float>("x", x_);
  const Input<float> weight = call.input<float>("weight", weight_);
  const Input<std::uint8_t> winners = call.input<std::uint8_t>("winners", winners_);
  const ConvPoolShape shape = conv_pool_shape(call.op(), x.dims(), weight.dims(), pair(call.op(), "padding", padding),
                                              pair(call.op(), "kernel_size", kernel_size));
  expect_listable(call.op(), shape);
  expect_dims(call.op(), "dy", pooled_dims(shape.pool), dy.dims());
  expect_dims(call.op(), "winners", pooled_dims(shape.pool), winners.dims());
  const std::uint8_t window = static_cast<std::uint8_t>(shape.pool.r * shape.pool.s);
  const auto wrong = first_wrong(winners, [=](std::uint8_t winner) { return (winner >= window) & (winner != 255); });
  if (wrong) {
    fail(call.op(), "winners expects values below " + std::to_string(window) + " or 255, got " + std::to_string(*wrong));
  }
  const Gradients gradients(call, x, weight, truth(need_dx));
  compute(cpu::conv2d_relu_max_pool2d_backward, gradients.dx, gradients.dweight, gradients.dbias, dy, winners, x, weight,
          shape);
  return gradients.arrays();
}

// From so few images on, copying transposed weights to rows costs less than computing with them as they are.
constexpr py::ssize_t kFewImages = 4;

py::array linear_forward(py::handle x_, py::handle weight_, py::handle bias_, py::handle skip_zeros, py::handle out) {
  Call call("linear_forward", out);
  const Input<float> x = call.input<float>("x", x_);
  const bool transposed = is_transposed(weight_) && x.dims().size() == 2 && x.dims()[0] <= kFewImages;
  const Input<float> weight = transposed ? call.transposed<float>("weight", weight_) : call.input<float>("weight", weight_);
  const Input<float> bias = call.optional<float>("bias", bias_);
  const LinearShape shape = linear_shape(call.op(), x.dims(), weight.dims());
  expect_bias(call.op(), bias, shape.out);
  const Output<float> y = call.output<float>(0, {shape.n, shape.out});
  if (transposed) {
    compute(cpu::linear_forward_transposed, y, x, weight, bias, truth(skip_zeros), shape);
  } else {
    compute(cpu::linear_forward, y, x, weight, bias, shape);
  }
  return y.array();
}

py::tuple linear_backward(py::handle dy_, py::handle x_, py::handle weight_, py::handle need_dx, py::handle out) {
  Call call("linear_backward", out, 3);
  const Input<float> dy = call.input<float>("dy", dy_), x = call.input<float>("x", x_);
  const Input<float> weight = call.input<float>("weight", weight_);
  const LinearShape shape = linear_shape(call.op(), x.dims(), weight.dims());
  expect_dims(call.op(), "dy", {shape.n, shape.out}, dy.dims());
  const Gradients gradients(call, x, weight, truth(need_dx));
  compute(cpu::linear_backward, gradients.dx, gradients.dweight, gradients.dbias, dy, x, weight, shape);
  return gradients.arrays();
}

// y = f(x), element by element; x may be its own output.
template <typename Function>
py::array map(const char* op, Function function, py::handle x_, py::handle out) {
  Call call(op, out);
  const Input<float> x = call.input<float>("x", x_);
  const Output<float> y = call.output<float>(0, x.dims(), InPlace::yes);
  compute(function, y, x, x.size());
  return y.array();
}

// dx = f(dy, other), element by element; other is named in the op's signature.
template <typename Function>
py::array map_gradient(const char* op, Function function, py::handle dy_, const char* name, py::handle other_, py::handle out) {
  Call call(op, out);
  const Input<float> dy = call.input<float>("dy", dy_), other = call.input<float>(name, other_);
  expect_dims(op, "dy", other.dims(), dy.dims());
  const Output<float> dx = call.output<float>(0, dy.dims(), InPlace::yes);
  compute(function, dx, dy, other, dy.size());
  return dx.array();
}

py::tuple dropout_forward(py::handle x_, py::handle rate_, py::handle seed_, py::handle counter_, py::handle out) {
  Call call("dropout_forward", out, 2);
  const Input<float> x = call.input<float>("x", x_);
  const double rate = fraction(call.op(), "rate", rate_);
  const std::uint64_t seed = word(call.op(), "seed", seed_), counter = word(call.op(), "counter", counter_);
  const Output<float> y = call.output<float>(0, x.dims(), InPlace::yes), mask = call.output<float>(1, x.dims());
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

py::tuple softmax_cross_entropy(py::handle logits_, py::handle labels_, py::handle label_smoothing_, py::handle out) {
  Call call("softmax_cross_entropy", out);
  const char* op = call.op();
  const Input<float> logits = call.input<float>("logits", logits_);
  const Input<std::int64_t> labels = call.input<std::int64_t>("labels", labels_);
  expect_rank(op, "logits", 2, "(n, classes)", logits.dims());
  const std::int64_t rows = logits.dims()[0], classes = logits.dims()[1];
  expect_dims(op, "labels", {rows}, labels.dims());
  if (classes < 1) fail(op, "logits expects at least one class, got shape " + to_string(logits.dims()));
  const double label_smoothing = number(op, "label_smoothing", label_smoothing_);
  if (!(label_smoothing >= 0.0 && label_smoothing <= 1.0)) {
    throw std::invalid_argument(wanted(op, "label_smoothing", "a number in [0, 1]", label_smoothing_));
  }
  expect_below(op, "labels", labels, classes);
  const Output<float> dlogits = call.output<float>(0, logits.dims());
  const double loss = without_gil(
      [&] { return cpu::softmax_cross_entropy(dlogits.data(), logits.data(), labels.data(), rows, classes, label_smoothing); });
  return py::make_tuple(loss, dlogits.array());
}

py::tuple squared_error(py::handle prediction_, py::handle target_, py::handle out) {
  Call call("squared_error", out);
  const Input<float> prediction = call.input<float>("prediction", prediction_), target = call.input<float>("target", target_);
  expect_dims(call.op(), "target", prediction.dims(), target.dims());
  const Output<float> dprediction = call.output<float>(0, prediction.dims(), InPlace::yes);
  const double loss =
      without_gil([&] { return cpu::squared_error(dprediction.data(), prediction.data(), target.data(), prediction.size()); });
  return py::make_tuple(loss, dprediction.array());
}

// What both kinds of gather_images take and return.
struct Gather {
  Call call;
  Input<std::uint8_t> images;
  Input<std::int64_t> index;
  Input<float> transform;
  Normalisation normalisation;
  GatherShape shape;
  Output<float> x;

  Gather(py::handle images_, py::handle index_, py::handle transform_, py::handle mean, py::handle std, py::handle out)
      : call("gather_images", out),
        images(call.input<std::uint8_t>("images", images_)),
        index(call.input<std::int64_t>("index", index_)),
        transform(call.optional<float>("transform", transform_)),
        normalisation(call.op(), mean, std),
        shape(gather_shape(call.op(), images.dims(), index.dims())),
        x(call.output<float>(0, {shape.n, 1, shape.h, shape.w})) {
    if (transform.data() != nullptr) expect_dims(call.op(), "transform", {shape.n, 2, 3}, transform.dims());
    expect_below(call.op(), "index", index, shape.count);
  }
};

py::array gather_images(py::handle images, py::handle index, py::handle mean, py::handle std, py::handle transform,
                        py::handle out) {
  const Gather g(images, index, transform, mean, std, out);
  if (!transform.is_none()) expect_transformable(g.call.op(), g.shape);
  without_gil([&] {
    cpu::gather_images(g.x.data(), g.images.data(), g.index.data(), g.transform.data(), g.normalisation.mean,
                       g.normalisation.std, g.shape);
  });
  return g.x.array();
}

// fastlenet.augment has checked the augmentation's numbers.
py::array gather_augmented(py::handle images, py::handle index, py::handle mean, py::handle std, std::int64_t shift,
                           double rotation, double scale, double shear, double elastic, double elastic_sigma,
                           std::int64_t cutout, std::uint64_t seed, std::uint32_t epoch, py::handle out) {
  const Augmentation augmentation{shift, rotation, scale, shear, elastic, elastic_sigma, cutout};
  const Gather g(images, index, py::none(), mean, std, out);
  expect_transformable(g.call.op(), g.shape);
  without_gil([&] {
    cpu::gather_augmented(g.x.data(), g.images.data(), g.index.data(), augmentation, seed, epoch, g.normalisation.mean,
                          g.normalisation.std, g.shape);
  });
  return g.x.array();
}

// The size of the buffer that a step changes, and which others must have.
Dims flat_dims(const char* op, const char* argument, py::handle buffer) {
  const Dims dims = dims_of(expect_array(op, argument, buffer, py::dtype::of<float>()));
  expect_rank(op, argument, 1, "(count,)", dims);
  return dims;
}

void sgd_step(py::handle parameters_, py::handle gradients_, py::handle velocity_, py::handle lr, py::handle momentum_,
              py::handle nesterov, py::handle weight_decay) {
  Call call("sgd_step");
  const Dims dims = flat_dims(call.op(), "parameters", parameters_);
  const Input<float> gradients = call.input<float>("gradients", gradients_);
  expect_dims(call.op(), "gradients", dims, gradients.dims());
  const Output<float> parameters = call.state<float>("parameters", parameters_, dims);
  const auto narrow = [&](const char* name, py::handle value) { return static_cast<float>(number(call.op(), name, value)); };
  const double momentum = number(call.op(), "momentum", momentum_);
  std::optional<Output<float>> velocity;
  if (!velocity_.is_none()) {
    velocity = call.state<float>("velocity", velocity_, dims);
  } else if (momentum != 0.0) {
    fail(call.op(), "velocity expects an array when momentum is not 0, got None");
  }
  const SgdStep step{narrow("lr", lr), static_cast<float>(momentum), narrow("weight_decay", weight_decay), truth(nesterov)};
  without_gil([&] { cpu::sgd_step(parameters.data(), gradients.data(), raw(velocity), dims[0], step); });
}

void adam_step(py::handle parameters_, py::handle gradients_, py::handle first_moment_, py::handle second_moment_,
               py::handle step_, py::handle lr, py::handle beta1, py::handle beta2, py::handle eps, py::handle weight_decay) {
  Call call("adam_step");
  const Dims dims = flat_dims(call.op(), "parameters", parameters_);
  const Input<float> gradients = call.input<float>("gradients", gradients_);
  expect_dims(call.op(), "gradients", dims, gradients.dims());
  const Output<float> parameters = call.state<float>("parameters", parameters_, dims);
  const Output<float> first_moment = call.state<float>("first_moment", first_moment_, dims);
  const Output<float> second_moment = call.state<float>("second_moment", second_moment_, dims);
  const std::int64_t step = integer(call.op(), "step", step_, 1, std::numeric_limits<std::int64_t>::max(), "a count from 1");
  const auto of = [&](const char* name, py::handle value) { return number(call.op(), name, value); };
  const auto below_one = [&](const char* name, py::handle value) { return fraction(call.op(), name, value); };
  const AdamStep adam = adam_at(step, of("lr", lr), below_one("beta1", beta1), below_one("beta2", beta2), of("eps", eps),
                                of("weight_decay", weight_decay));
  without_gil(
      [&] { cpu::adam_step(parameters.data(), gradients.data(), first_moment.data(), second_moment.data(), dims[0], adam); });
}

void ema_step(py::handle average_, py::handle parameters_, py::handle decay_) {
  Call call("ema_step");
  const Dims dims = flat_dims(call.op(), "parameters", parameters_);
  const Input<float> parameters = call.input<float>("parameters", parameters_);
  const Output<float> average = call.state<float>("average", average_, dims);
  const float decay = static_cast<float>(number(call.op(), "decay", decay_));
  without_gil([&] { cpu::ema_step(average.data(), parameters.data(), dims[0], decay); });
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
      .def_property_readonly("calls", &Recording::calls)
      .def("replay", &Recording::replay, py::arg("array"))
      .def("run", &Recording::run, py::arg("array"), py::arg("result"));
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
      [](py::handle count) {
        set_num_threads(static_cast<int>(integer("set_num_threads", "count", count, 1, 4096, "1..4096")));
      },
      py::arg("count"));
  py::register_exception<cuda::DeviceError>(m, "DeviceError", PyExc_RuntimeError);
  m.def("cuda_status", cuda::status);
  m.def("cuda_backend", cuda::backend);
  m.def("version", [] { return std::string(FASTLENET_VERSION); });
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
