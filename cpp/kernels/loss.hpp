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

void softmax_cross_entropy(double* losses, float* dlogits, const float* logits, const std::int64_t* labels, std::int64_t rows,
                           std::int64_t classes, double smoothing, double scale) {
  const double off_label = smoothing / static_cast<double>(classes);
  for (std::int64_t n = 0; n < rows; ++n, logits += classes, dlogits += classes) {
    double maximum = logits[0], total = 0.0;
    for (std::int64_t j = 0; j < classes; ++j) {
      if (logits[j] > maximum || logits[j] != logits[j]) maximum = logits[j];
      total += logits[j];
    }
    DoubleVector sums = {};
    for (std::int64_t j = 0; j < classes; j += kDoubleLanes) {
      sums += shifted_exponential(logits + j, classes - j, maximum);
    }
    double sum = 0.0;
    for (int lane = 0; lane < kDoubleLanes; ++lane) sum += sums[lane];

    // Read once and used only if it is a class, since another thread may change it.
    const std::int64_t label = __atomic_load_n(labels + n, __ATOMIC_RELAXED);
    const double at_label = label >= 0 && label < classes ? logits[label] : 0.0f;
    // With a weight of 0 the logit is left out, since it may be infinite.
    const double expected =
        (smoothing < 1.0 ? (1.0 - smoothing) * at_label : 0.0) + (smoothing > 0.0 ? off_label * total : 0.0);
    losses[n] = maximum + __builtin_log(sum) - expected;
    for (std::int64_t j = 0; j < classes; j += kDoubleLanes) {
      const DoubleVector probability = shifted_exponential(logits + j, classes - j, maximum) / sum;
      for (std::int64_t lane = 0; lane < kDoubleLanes && j + lane < classes; ++lane) {
        const double target = off_label + (j + lane == label ? 1.0 - smoothing : 0.0);
        dlogits[j + lane] = static_cast<float>(scale * (probability[lane] - target));
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
