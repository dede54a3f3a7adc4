#include "cpu_ops.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <vector>

#include "batches.hpp"

namespace fastlenet::cpu {

void relu_forward(float* y, const float* x, std::int64_t count) {
  const KernelTable& table = kernels();
  for_pieces(count, kPiece, [&](Range r) { table.relu_forward(y + r.begin, x + r.begin, r.end - r.begin); });
}

void relu_backward(float* dx, const float* dy, const float* y, std::int64_t count) {
  const KernelTable& table = kernels();
  for_pieces(count, kPiece, [&](Range r) { table.relu_backward(dx + r.begin, dy + r.begin, y + r.begin, r.end - r.begin); });
}

void sigmoid_forward(float* y, const float* x, std::int64_t count) {
  const KernelTable& table = kernels();
  for_pieces(count, kPiece, [&](Range r) { table.sigmoid_forward(y + r.begin, x + r.begin, r.end - r.begin); });
}

void sigmoid_backward(float* dx, const float* dy, const float* y, std::int64_t count) {
  const KernelTable& table = kernels();
  for_pieces(count, kPiece, [&](Range r) { table.sigmoid_backward(dx + r.begin, dy + r.begin, y + r.begin, r.end - r.begin); });
}

void dropout_forward(float* y, float* mask, const float* x, double rate, std::uint64_t seed, std::uint64_t counter,
                     std::int64_t count) {
  const KernelTable& table = kernels();
  const std::uint64_t threshold = static_cast<std::uint64_t>(std::nearbyint(rate * 4294967296.0));
  const float scale = static_cast<float>(1.0 / (1.0 - rate));
  for_pieces(count, kPiece, [&](Range r) { table.dropout_forward(y, mask, x, threshold, scale, seed, counter, r); });
}

void dropout_backward(float* dx, const float* dy, const float* mask, std::int64_t count) {
  const KernelTable& table = kernels();
  for_pieces(count, kPiece,
             [&](Range r) { table.dropout_backward(dx + r.begin, dy + r.begin, mask + r.begin, r.end - r.begin); });
}

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

void sgd_step(float* parameters, const float* gradients, float* velocity, std::int64_t count, const SgdStep& step) {
  const KernelTable& table = kernels();
  for_pieces(count, kPiece, [&](Range r) {
    table.sgd_step(parameters + r.begin, gradients + r.begin, velocity ? velocity + r.begin : nullptr, r.end - r.begin, step);
  });
}

void adam_step(float* parameters, const float* gradients, float* first_moment, float* second_moment, std::int64_t count,
               const AdamStep& step) {
  const KernelTable& table = kernels();
  for_pieces(count, kPiece, [&](Range r) {
    table.adam_step(parameters + r.begin, gradients + r.begin, first_moment + r.begin, second_moment + r.begin, r.end - r.begin,
                    step);
  });
}

void ema_step(float* average, const float* parameters, std::int64_t count, float decay) {
  const KernelTable& table = kernels();
  for_pieces(count, kPiece, [&](Range r) { table.ema_step(average + r.begin, parameters + r.begin, r.end - r.begin, decay); });
}

double multiply_add_peak(int threads, double seconds) {
  using Clock = std::chrono::steady_clock;
  const KernelTable& table = kernels();
  std::vector<double> rates(static_cast<std::size_t>(threads));
  const int before = num_threads();
  set_num_threads(threads);
  parallel_for(threads, [&](std::int64_t task) {
    double operations = 0.0, total = 0.0, elapsed = 0.0;
    volatile float keep = 0.0f;
    const Clock::time_point start = Clock::now();
    do {
      keep = table.multiply_add_peak(2000, &operations);
      total += operations;
      elapsed = std::chrono::duration<double>(Clock::now() - start).count();
    } while (elapsed < seconds);
    static_cast<void>(keep);
    rates[static_cast<std::size_t>(task)] = total / elapsed;
  });
  set_num_threads(before);
  double sum = 0.0;
  for (double rate : rates) sum += rate;
  return sum;
}

}  // namespace fastlenet::cpu
