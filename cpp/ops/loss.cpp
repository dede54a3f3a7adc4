// The losses of a batch and their gradients.
#include <limits>
#include <vector>

#include "batches.hpp"
#include "ops.hpp"

namespace fastlenet::cpu {

namespace {

using RowLoss = decltype(KernelTable::softmax_cross_entropy);

// The sum of the rows' losses, added in their order, over the size of the batch that they belong to.
double mean_of_rows(RowLoss kernel, float* dlogits, const float* logits, const std::int64_t* labels, const float* weights,
                    std::int64_t rows, std::int64_t classes, double label_smoothing, std::int64_t batch_size) {
  if (batch_size == 0) return std::numeric_limits<double>::quiet_NaN();
  std::vector<double> losses(static_cast<std::size_t>(rows));
  for_pieces(rows, 64, [&](Range r) {
    kernel(losses.data() + r.begin, dlogits + r.begin * classes, logits + r.begin * classes, labels + r.begin,
           weights != nullptr ? weights + r.begin : nullptr, r.end - r.begin, classes, label_smoothing,
           1.0 / static_cast<double>(batch_size));
  });
  double total = 0.0;
  for (double loss : losses) total += loss;
  return total / static_cast<double>(batch_size);
}

}  // namespace

double softmax_cross_entropy(float* dlogits, const float* logits, const std::int64_t* labels, const float* weights,
                             std::int64_t rows, std::int64_t classes, double label_smoothing, std::int64_t batch_size) {
  return mean_of_rows(kernels().softmax_cross_entropy, dlogits, logits, labels, weights, rows, classes, label_smoothing,
                      batch_size);
}

double softmax_squared_error(float* dlogits, const float* logits, const std::int64_t* labels, const float* weights,
                             std::int64_t rows, std::int64_t classes, double label_smoothing, std::int64_t batch_size) {
  return mean_of_rows(kernels().softmax_squared_error, dlogits, logits, labels, weights, rows, classes, label_smoothing,
                      batch_size);
}

double squared_error(float* dprediction, const float* prediction, const float* target, std::int64_t count) {
  return kernels().squared_error(dprediction, prediction, target, count);
}

}  // namespace fastlenet::cpu
