// The losses of a batch and their gradients.
#include <limits>
#include <vector>

#include "batches.hpp"
#include "ops.hpp"

namespace fastlenet::cpu {

namespace {

// The sum of the rows' losses, added in their order, over the size of the batch that they belong to. kernel(losses, rows,
// scale) computes a range of rows.
template <typename Kernel>
double mean_of_rows(std::int64_t rows, std::int64_t batch_size, const Kernel& kernel) {
  if (batch_size == 0) return std::numeric_limits<double>::quiet_NaN();
  std::vector<double> losses(static_cast<std::size_t>(rows));
  for_pieces(rows, 64, [&](Range r) { kernel(losses.data() + r.begin, r, 1.0 / static_cast<double>(batch_size)); });
  double total = 0.0;
  for (double loss : losses) total += loss;
  return total / static_cast<double>(batch_size);
}

const float* at(const float* weights, Range r) { return weights != nullptr ? weights + r.begin : nullptr; }

double mean_of_labels(decltype(KernelTable::softmax_cross_entropy) kernel, float* dlogits, const float* logits,
                      const std::int64_t* labels, const float* weights, std::int64_t rows, std::int64_t classes,
                      double label_smoothing, std::int64_t batch_size) {
  return mean_of_rows(rows, batch_size, [&](double* losses, Range r, double scale) {
    kernel(losses, dlogits + r.begin * classes, logits + r.begin * classes, labels + r.begin, at(weights, r), r.end - r.begin,
           classes, label_smoothing, scale);
  });
}

}  // namespace

double softmax_cross_entropy(float* dlogits, const float* logits, const std::int64_t* labels, const float* weights,
                             std::int64_t rows, std::int64_t classes, double label_smoothing, std::int64_t batch_size) {
  return mean_of_labels(kernels().softmax_cross_entropy, dlogits, logits, labels, weights, rows, classes, label_smoothing,
                        batch_size);
}

double softmax_squared_error(float* dlogits, const float* logits, const std::int64_t* labels, const float* weights,
                             std::int64_t rows, std::int64_t classes, double label_smoothing, std::int64_t batch_size) {
  return mean_of_labels(kernels().softmax_squared_error, dlogits, logits, labels, weights, rows, classes, label_smoothing,
                        batch_size);
}

double softmax_distillation(float* dlogits, const float* logits, const std::int64_t* labels, const float* teacher,
                            const float* weights, std::int64_t rows, std::int64_t classes, const Distillation& how,
                            std::int64_t batch_size) {
  return mean_of_rows(rows, batch_size, [&](double* losses, Range r, double scale) {
    kernels().softmax_distillation(losses, dlogits + r.begin * classes, logits + r.begin * classes, labels + r.begin,
                                   teacher + r.begin * classes, at(weights, r), r.end - r.begin, classes, how, scale);
  });
}

double squared_error(float* dprediction, const float* prediction, const float* target, std::int64_t count) {
  return kernels().squared_error(dprediction, prediction, target, count);
}

}  // namespace fastlenet::cpu
