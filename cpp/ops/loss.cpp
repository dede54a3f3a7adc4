// The losses of a batch and their gradients.
#include <limits>
#include <vector>

#include "batches.hpp"
#include "ops.hpp"

namespace fastlenet::cpu {

double softmax_cross_entropy(float* dlogits, const float* logits, const std::int64_t* labels, std::int64_t rows,
                             std::int64_t classes, double label_smoothing) {
  if (rows == 0) return std::numeric_limits<double>::quiet_NaN();
  const KernelTable& table = kernels();
  std::vector<double> losses(static_cast<std::size_t>(rows));
  for_pieces(rows, 64, [&](Range r) {
    table.softmax_cross_entropy(losses.data() + r.begin, dlogits + r.begin * classes, logits + r.begin * classes,
                                labels + r.begin, r.end - r.begin, classes, label_smoothing, 1.0 / static_cast<double>(rows));
  });
  double total = 0.0;
  for (double loss : losses) total += loss;
  return total / static_cast<double>(rows);
}

double squared_error(float* dprediction, const float* prediction, const float* target, std::int64_t count) {
  return kernels().squared_error(dprediction, prediction, target, count);
}

}  // namespace fastlenet::cpu
