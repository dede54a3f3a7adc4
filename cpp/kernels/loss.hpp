// Losses, computed in double: the rows are short, so the accuracy costs little.
#pragma once

#include "exponential.hpp"
#include "table.hpp"

namespace fastlenet::FASTLENET_LEVEL {
namespace {

// exp((row[j] - maximum) * factor) for kDoubleLanes logits. Lanes beyond the row count as -infinity. That gives exactly 0, so
// that its product with an infinite number is NaN.
inline DoubleVector shifted_exponential(const float* row, std::int64_t left, double maximum, double factor = 1.0) {
  float lanes[kDoubleLanes];
  for (int j = 0; j < kDoubleLanes; ++j) lanes[j] = j < left ? row[j] : -__builtin_inff();
  const DoubleVector u = (load_double(lanes) - maximum) * factor;
  return u < -__DBL_MAX__ ? DoubleVector{} : exponential(u);
}

// The sum of exp((row[j] - maximum) * factor) over all classes.
inline double sum_of_exponentials(const float* row, std::int64_t classes, double maximum, double factor = 1.0) {
  DoubleVector sums = {};
  for (std::int64_t j = 0; j < classes; j += kDoubleLanes) sums += shifted_exponential(row + j, classes - j, maximum, factor);
  double sum = 0.0;
  for (int lane = 0; lane < kDoubleLanes; ++lane) sum += sums[lane];
  return sum;
}

// The largest of a row's logits, and their sum. A NaN need not be the largest: it makes the sum of exponentials NaN, and with
// it the loss and every gradient.
struct RowSums {
  double maximum, total;
};

inline RowSums sums_of_row(const float* logits, std::int64_t classes) {
  double maximum = logits[0], total = 0.0;
  for (std::int64_t j = 0; j < classes; ++j) {
    if (logits[j] > maximum) maximum = logits[j];
    total += logits[j];
  }
  return {maximum, total};
}

// The logit that is expected by a target of 1 - smoothing at the label plus smoothing / classes everywhere. With a factor of 0
// a logit is left out, since it may be infinite.
inline double expected_logit(const float* logits, std::int64_t label, std::int64_t classes, double total, double smoothing) {
  const double at_label = label >= 0 && label < classes ? logits[label] : 0.0f;
  const double off_label = smoothing / static_cast<double>(classes);
  return (smoothing < 1.0 ? (1.0 - smoothing) * at_label : 0.0) + (smoothing > 0.0 ? off_label * total : 0.0);
}

void softmax_cross_entropy(double* losses, float* dlogits, const float* logits, const std::int64_t* labels,
                           const float* weights, std::int64_t rows, std::int64_t classes, double smoothing, double scale) {
  const double off_label = smoothing / static_cast<double>(classes);
  for (std::int64_t n = 0; n < rows; ++n, logits += classes, dlogits += classes) {
    const auto [maximum, total] = sums_of_row(logits, classes);
    const double sum = sum_of_exponentials(logits, classes, maximum);
    // Read once and used only if it is a class, since another thread may change it.
    const std::int64_t label = __atomic_load_n(labels + n, __ATOMIC_RELAXED);
    const double expected = expected_logit(logits, label, classes, total, smoothing);
    const double weight = weights != nullptr ? static_cast<double>(weights[n]) : 1.0;
    losses[n] = weight * (maximum + __builtin_log(sum) - expected);
    for (std::int64_t j = 0; j < classes; j += kDoubleLanes) {
      const DoubleVector probability = shifted_exponential(logits + j, classes - j, maximum) / sum;
      for (std::int64_t lane = 0; lane < kDoubleLanes && j + lane < classes; ++lane) {
        const double target = off_label + (j + lane == label ? 1.0 - smoothing : 0.0);
        dlogits[j + lane] = static_cast<float>(weight * scale * (probability[lane] - target));
      }
    }
  }
}

void softmax_squared_error(double* losses, float* dlogits, const float* logits, const std::int64_t* labels,
                           const float* weights, std::int64_t rows, std::int64_t classes, double smoothing, double scale) {
  const double off_label = smoothing / static_cast<double>(classes);
  for (std::int64_t n = 0; n < rows; ++n, logits += classes, dlogits += classes) {
    const double maximum = sums_of_row(logits, classes).maximum;
    const double sum = sum_of_exponentials(logits, classes, maximum);
    const std::int64_t label = __atomic_load_n(labels + n, __ATOMIC_RELAXED);
    const auto target = [&](std::int64_t j) { return off_label + (j == label ? 1.0 - smoothing : 0.0); };
    double squares = 0.0, product = 0.0;  // sums of (p - target)^2 and of p * (p - target)
    for (std::int64_t j = 0; j < classes; j += kDoubleLanes) {
      const DoubleVector probability = shifted_exponential(logits + j, classes - j, maximum) / sum;
      for (std::int64_t lane = 0; lane < kDoubleLanes && j + lane < classes; ++lane) {
        const double error = probability[lane] - target(j + lane);
        squares += error * error;
        product += probability[lane] * error;
      }
    }
    const double weight = weights != nullptr ? static_cast<double>(weights[n]) : 1.0;
    losses[n] = weight * squares / static_cast<double>(classes);
    const double factor = 2.0 * weight * scale / static_cast<double>(classes);
    for (std::int64_t j = 0; j < classes; j += kDoubleLanes) {
      const DoubleVector probability = shifted_exponential(logits + j, classes - j, maximum) / sum;
      for (std::int64_t lane = 0; lane < kDoubleLanes && j + lane < classes; ++lane) {
        const double error = probability[lane] - target(j + lane);
        dlogits[j + lane] = static_cast<float>(factor * probability[lane] * (error - product));
      }
    }
  }
}

void softmax_distillation(double* losses, float* dlogits, const float* logits, const std::int64_t* labels, const float* teacher,
                          const float* weights, std::int64_t rows, std::int64_t classes, const Distillation& how,
                          double scale) {
  const double off_label = how.smoothing / static_cast<double>(classes), cooling = 1.0 / how.temperature;
  for (std::int64_t n = 0; n < rows; ++n, logits += classes, dlogits += classes, teacher += classes) {
    const auto [maximum, total] = sums_of_row(logits, classes);
    const double sum = sum_of_exponentials(logits, classes, maximum);
    const double cool_sum = sum_of_exponentials(logits, classes, maximum, cooling);
    const std::int64_t label = __atomic_load_n(labels + n, __ATOMIC_RELAXED);
    const double expected = expected_logit(logits, label, classes, total, how.smoothing);
    double mass = 0.0, taught = 0.0;  // sums of the teacher's row, and of its products with the logits less their maximum
    for (std::int64_t j = 0; j < classes; ++j) {
      mass += teacher[j];
      if (teacher[j] != 0.0f) taught += teacher[j] * (logits[j] - maximum);
    }
    const double weight = weights != nullptr ? static_cast<double>(weights[n]) : 1.0;
    const double of_labels = how.mix < 1.0 ? (1.0 - how.mix) * (maximum + __builtin_log(sum) - expected) : 0.0;
    const double hot = how.mix * how.temperature;
    const double of_teacher = how.mix > 0.0 ? hot * (how.temperature * mass * __builtin_log(cool_sum) - taught) : 0.0;
    losses[n] = weight * (of_labels + of_teacher);
    for (std::int64_t j = 0; j < classes; j += kDoubleLanes) {
      const DoubleVector probability = shifted_exponential(logits + j, classes - j, maximum) / sum;
      const DoubleVector cool = shifted_exponential(logits + j, classes - j, maximum, cooling) / cool_sum;
      for (std::int64_t lane = 0; lane < kDoubleLanes && j + lane < classes; ++lane) {
        const double target = off_label + (j + lane == label ? 1.0 - how.smoothing : 0.0);
        const double slope = (1.0 - how.mix) * (probability[lane] - target) + hot * (mass * cool[lane] - teacher[j + lane]);
        dlogits[j + lane] = static_cast<float>(weight * scale * slope);
      }
    }
  }
}

double squared_error(float* dprediction, const float* prediction, const float* target, std::int64_t count) {
  double loss = 0.0;
  for (std::int64_t i = 0; i < count; ++i) {
    const double difference = static_cast<double>(prediction[i]) - static_cast<double>(target[i]);
    loss += difference * difference;
    dprediction[i] = static_cast<float>(2.0 * difference);
  }
  return loss;
}

}  // namespace
}  // namespace fastlenet::FASTLENET_LEVEL
