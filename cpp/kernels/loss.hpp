// Losses, computed in double: the rows are short, so the accuracy costs little.
#pragma once

#include "exponential.hpp"
#include "table.hpp"

namespace fastlenet::FASTLENET_LEVEL {
namespace {

// exp(row[j] - maximum) for kDoubleLanes logits. Lanes beyond the row count as -infinity and give almost zero.
inline DoubleVector shifted_exponential(const float* row, std::int64_t left, double maximum) {
  float lanes[kDoubleLanes];
  for (int j = 0; j < kDoubleLanes; ++j) lanes[j] = j < left ? row[j] : -__builtin_inff();
  return exponential(load_double(lanes) - maximum);
}

// The sum of exp(row[j] - maximum) over all classes.
inline double sum_of_exponentials(const float* row, std::int64_t classes, double maximum) {
  DoubleVector sums = {};
  for (std::int64_t j = 0; j < classes; j += kDoubleLanes) sums += shifted_exponential(row + j, classes - j, maximum);
  double sum = 0.0;
  for (int lane = 0; lane < kDoubleLanes; ++lane) sum += sums[lane];
  return sum;
}

void softmax_cross_entropy(double* losses, float* dlogits, const float* logits, const std::int64_t* labels,
                           const float* weights, std::int64_t rows, std::int64_t classes, double smoothing, double scale) {
  const double off_label = smoothing / static_cast<double>(classes);
  for (std::int64_t n = 0; n < rows; ++n, logits += classes, dlogits += classes) {
    double maximum = logits[0], total = 0.0;
    for (std::int64_t j = 0; j < classes; ++j) {
      if (logits[j] > maximum || logits[j] != logits[j]) maximum = logits[j];
      total += logits[j];
    }
    const double sum = sum_of_exponentials(logits, classes, maximum);
    // Read once and used only if it is a class, since another thread may change it.
    const std::int64_t label = __atomic_load_n(labels + n, __ATOMIC_RELAXED);
    const double at_label = label >= 0 && label < classes ? logits[label] : 0.0f;
    // With a weight of 0 the logit is left out, since it may be infinite.
    const double expected =
        (smoothing < 1.0 ? (1.0 - smoothing) * at_label : 0.0) + (smoothing > 0.0 ? off_label * total : 0.0);
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
    double maximum = logits[0];
    for (std::int64_t j = 1; j < classes; ++j) {
      if (logits[j] > maximum || logits[j] != logits[j]) maximum = logits[j];
    }
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
