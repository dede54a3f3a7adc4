// Losses and their gradients.
#include <limits>

#include "bindings.hpp"

namespace fastlenet {

namespace {

// An op on rows of logits and their labels.
template <typename Loss>
py::tuple loss_of_rows(const char* name, Loss loss, py::handle logits_, py::handle labels_, py::handle label_smoothing_,
                       py::handle weights_, py::handle batch_size_, py::handle out) {
  Call call(name, out);
  const char* op = call.op();
  const Input<float> logits = call.input<float>("logits", logits_);
  const Input<std::int64_t> labels = call.input<std::int64_t>("labels", labels_);
  const Input<float> weights = call.optional<float>("weights", weights_);
  expect_rank(op, "logits", 2, "(n, classes)", logits.dims());
  const std::int64_t rows = logits.dims()[0], classes = logits.dims()[1];
  expect_dims(op, "labels", {rows}, labels.dims());
  if (weights.data() != nullptr) expect_dims(op, "weights", {rows}, weights.dims());
  if (classes < 1) fail(op, "logits expects at least one class, got shape " + to_string(logits.dims()));
  const double label_smoothing = number(op, "label_smoothing", label_smoothing_);
  if (!(label_smoothing >= 0.0 && label_smoothing <= 1.0)) {
    throw std::invalid_argument(wanted(op, "label_smoothing", "a number in [0, 1]", label_smoothing_));
  }
  const std::int64_t batch_size =
      batch_size_.is_none()
          ? rows
          : integer(op, "batch_size", batch_size_, 1, std::numeric_limits<std::int64_t>::max(), "a positive integer");
  expect_below(op, "labels", labels, classes);
  const Output<float> dlogits = call.output<float>(0, logits.dims());
  const auto mean = [=] {
    return loss(dlogits.data(), logits.data(), labels.data(), weights.data(), rows, classes, label_smoothing, batch_size);
  };
  if (Capture* capture = Capture::active()) {  // which keeps the loss in an array, that each launch renews
    const Output<double> kept(py::array(py::dtype::of<double>(), Dims{}));
    capture->note([=] { *kept.data() = mean(); });
    without_gil([&] { *kept.data() = mean(); });
    return py::make_tuple(kept.array(), dlogits.array());
  }
  return py::make_tuple(without_gil(mean), dlogits.array());
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
  define(m, "squared_error", squared_error, "prediction", "target", "out");
}

}  // namespace fastlenet
