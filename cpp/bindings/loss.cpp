// Losses and their gradients.
#include <limits>

#include "bindings.hpp"

namespace fastlenet {

namespace {

double unit_interval(const char* op, const char* argument, py::handle value) {
  const double number_ = number(op, argument, value);
  if (!(number_ >= 0.0 && number_ <= 1.0)) throw std::invalid_argument(wanted(op, argument, "a number in [0, 1]", value));
  return number_;
}

// The arguments that the ops on rows of logits and their labels share, checked.
struct Rows {
  Input<float> logits;
  Input<std::int64_t> labels;
  Input<float> weights;
  std::int64_t rows, classes, batch_size;
  double label_smoothing;

  Rows(Call& call, py::handle logits_, py::handle labels_, py::handle label_smoothing_, py::handle weights_,
       py::handle batch_size_)
      : logits(call.input<float>("logits", logits_)),
        labels(call.input<std::int64_t>("labels", labels_)),
        weights(call.optional<float>("weights", weights_)) {
    const char* op = call.op();
    expect_rank(op, "logits", 2, "(n, classes)", logits.dims());
    rows = logits.dims()[0];
    classes = logits.dims()[1];
    expect_dims(op, "labels", {rows}, labels.dims());
    if (weights.data() != nullptr) expect_dims(op, "weights", {rows}, weights.dims());
    if (classes < 1) fail(op, "logits expects at least one class, got shape " + to_string(logits.dims()));
    label_smoothing = unit_interval(op, "label_smoothing", label_smoothing_);
    batch_size = batch_size_.is_none() ? rows
                                       : integer(op, "batch_size", batch_size_, 1, std::numeric_limits<std::int64_t>::max(),
                                                 "a positive integer");
    expect_below(op, "labels", labels, classes);
  }
};

// The mean loss, which a capture keeps in an array that each launch renews, and the gradient.
template <typename Mean>
py::tuple loss_and(const Output<float>& dlogits, const Mean& mean) {
  if (Capture* capture = Capture::active()) {
    const Output<double> kept(py::array(py::dtype::of<double>(), Dims{}));
    capture->note([=] { *kept.data() = mean(); });
    without_gil([&] { *kept.data() = mean(); });
    return py::make_tuple(kept.array(), dlogits.array());
  }
  return py::make_tuple(without_gil(mean), dlogits.array());
}

// An op on rows of logits and their labels.
template <typename Loss>
py::tuple loss_of_rows(const char* name, Loss loss, py::handle logits, py::handle labels, py::handle label_smoothing,
                       py::handle weights, py::handle batch_size, py::handle out) {
  Call call(name, out);
  const Rows of(call, logits, labels, label_smoothing, weights, batch_size);
  const Output<float> dlogits = call.output<float>(0, of.logits.dims());
  return loss_and(dlogits, [=] {
    return loss(dlogits.data(), of.logits.data(), of.labels.data(), of.weights.data(), of.rows, of.classes, of.label_smoothing,
                of.batch_size);
  });
}

py::tuple softmax_cross_entropy(py::handle logits, py::handle labels, py::handle label_smoothing, py::handle weights,
                                py::handle batch_size, py::handle out) {
  return loss_of_rows("softmax_cross_entropy", cpu::softmax_cross_entropy, logits, labels, label_smoothing, weights, batch_size,
                      out);
}

py::tuple softmax_squared_error(py::handle logits, py::handle labels, py::handle label_smoothing, py::handle weights,
                                py::handle batch_size, py::handle out) {
  return loss_of_rows("softmax_squared_error", cpu::softmax_squared_error, logits, labels, label_smoothing, weights, batch_size,
                      out);
}

py::tuple softmax_distillation(py::handle logits, py::handle labels, py::handle teacher_, py::handle mix,
                               py::handle temperature_, py::handle label_smoothing, py::handle weights, py::handle batch_size,
                               py::handle out) {
  Call call("softmax_distillation", out);
  const Rows of(call, logits, labels, label_smoothing, weights, batch_size);
  const Input<float> teacher = call.input<float>("teacher", teacher_);
  expect_dims(call.op(), "teacher", of.logits.dims(), teacher.dims());
  const double temperature = number(call.op(), "temperature", temperature_);
  if (!(temperature >= 0.001 && temperature <= 1000.0)) {  // far from where its square, or a logit over it, is infinite
    throw std::invalid_argument(wanted(call.op(), "temperature", "a number in [0.001, 1000]", temperature_));
  }
  const Distillation how = {of.label_smoothing, temperature, unit_interval(call.op(), "mix", mix)};
  const Output<float> dlogits = call.output<float>(0, of.logits.dims());
  return loss_and(dlogits, [=] {
    return cpu::softmax_distillation(dlogits.data(), of.logits.data(), of.labels.data(), teacher.data(), of.weights.data(),
                                     of.rows, of.classes, how, of.batch_size);
  });
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

}  // namespace

void bind_loss(py::module_& m) {
  define(m, "softmax_cross_entropy", softmax_cross_entropy, "logits", "labels", "label_smoothing", "weights", "batch_size",
         "out");
  define(m, "softmax_squared_error", softmax_squared_error, "logits", "labels", "label_smoothing", "weights", "batch_size",
         "out");
  define(m, "softmax_distillation", softmax_distillation, "logits", "labels", "teacher", "mix", "temperature",
         "label_smoothing", "weights", "batch_size", "out");
  define(m, "squared_error", squared_error, "prediction", "target", "out");
}

}  // namespace fastlenet
