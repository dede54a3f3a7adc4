// Losses, computed in double: the rows are short, so the accuracy costs little.
#include "common.cuh"

namespace fastlenet::cuda {

namespace {

constexpr int kThreads = 128;

// The largest of a warp's values, or NaN if one of them is NaN.
__device__ __forceinline__ double maximum_of_warp(double value) {
#pragma unroll
  for (int lanes = kWarp / 2; lanes > 0; lanes /= 2) {
    const double other = __shfl_xor_sync(kAllLanes, value, lanes);
    value = other > value || other != other ? other : value;
  }
  return value;
}

// The logit that a smoothed target expects. With a factor of 0 a logit is left out, since it may be infinite.
__device__ __forceinline__ double expected_logit(double smoothing, double off_label, double at_label, double total) {
  return (smoothing < 1.0 ? (1.0 - smoothing) * at_label : 0.0) + (smoothing > 0.0 ? off_label * total : 0.0);
}

// A warp computes one row of logits; its lanes share the classes. losses[rows], and dlogits = scale * (softmax - target).
__global__ void __launch_bounds__(kThreads, 8)
    softmax(double* losses, float* dlogits, const float* logits, const std::int64_t* labels, const float* weights,
            std::int64_t rows, int classes, double smoothing, double scale, Fault* fault) {
  const std::int64_t row = (static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x) / kWarp;
  if (row >= rows) return;  // the whole warp
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const std::int64_t label = labels[row];
  if (label < 0 || label >= classes) *fault = Fault::kLabels;
  logits += row * classes;
  dlogits += row * classes;
  double maximum = -INFINITY, total = 0.0, at_label = 0.0, sum = 0.0;
  for (int j = lane; j < classes; j += kWarp) {
    const double logit = logits[j];
    if (logit > maximum || logit != logit) maximum = logit;
    total += logit;
    if (j == label) at_label = logit;
  }
  maximum = maximum_of_warp(maximum);
  for (int j = lane; j < classes; j += kWarp) sum += exp(logits[j] - maximum);
  sum = sum_of_warp(sum);
  total = sum_of_warp(total);
  at_label = sum_of_warp(at_label);
  const double off_label = smoothing / classes, weight = weights != nullptr ? static_cast<double>(weights[row]) : 1.0;
  for (int j = lane; j < classes; j += kWarp) {
    const double target = off_label + (j == label ? 1.0 - smoothing : 0.0);
    dlogits[j] = static_cast<float>(weight * scale * (exp(logits[j] - maximum) / sum - target));
  }
  if (lane == 0) {
    const double expected = expected_logit(smoothing, off_label, at_label, total);
    losses[row] = weight * (maximum + log(sum) - expected);
  }
}

// The same for the mean over the classes of (softmax - target)^2: losses[rows], and dlogits = scale * its gradient.
__global__ void __launch_bounds__(kThreads, 8)
    softmax_squares(double* losses, float* dlogits, const float* logits, const std::int64_t* labels, const float* weights,
                    std::int64_t rows, int classes, double smoothing, double scale, Fault* fault) {
  const std::int64_t row = (static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x) / kWarp;
  if (row >= rows) return;  // the whole warp
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const std::int64_t label = labels[row];
  if (label < 0 || label >= classes) *fault = Fault::kLabels;
  logits += row * classes;
  dlogits += row * classes;
  double maximum = -INFINITY, sum = 0.0, squares = 0.0, product = 0.0;
  for (int j = lane; j < classes; j += kWarp) {
    const double logit = logits[j];
    if (logit > maximum || logit != logit) maximum = logit;
  }
  maximum = maximum_of_warp(maximum);
  for (int j = lane; j < classes; j += kWarp) sum += exp(logits[j] - maximum);
  sum = sum_of_warp(sum);
  const double off_label = smoothing / classes, weight = weights != nullptr ? static_cast<double>(weights[row]) : 1.0;
  for (int j = lane; j < classes; j += kWarp) {
    const double probability = exp(logits[j] - maximum) / sum;
    const double error = probability - off_label - (j == label ? 1.0 - smoothing : 0.0);
    squares += error * error;
    product += probability * error;
  }
  squares = sum_of_warp(squares);
  product = sum_of_warp(product);
  const double factor = 2.0 * weight * scale / classes;
  for (int j = lane; j < classes; j += kWarp) {
    const double probability = exp(logits[j] - maximum) / sum;
    const double error = probability - off_label - (j == label ? 1.0 - smoothing : 0.0);
    dlogits[j] = static_cast<float>(factor * probability * (error - product));
  }
  if (lane == 0) losses[row] = weight * squares / classes;
}

// Distillation: 1 - mix times softmax's losses and gradients, and mix * temperature^2 times those of the teacher's
// probabilities and softmax(logits / temperature).
__global__ void __launch_bounds__(kThreads, 6)
    softmax_taught(double* losses, float* dlogits, const float* logits, const std::int64_t* labels, const float* teacher,
                   const float* weights, std::int64_t rows, int classes, double smoothing, double temperature, double mix,
                   double scale, Fault* fault) {
  const std::int64_t row = (static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x) / kWarp;
  if (row >= rows) return;  // the whole warp
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const std::int64_t label = labels[row];
  if (label < 0 || label >= classes) *fault = Fault::kLabels;
  logits += row * classes;
  dlogits += row * classes;
  teacher += row * classes;
  double maximum = -INFINITY, total = 0.0, at_label = 0.0, sum = 0.0, cool_sum = 0.0, mass = 0.0, taught = 0.0;
  for (int j = lane; j < classes; j += kWarp) {
    const double logit = logits[j];
    if (logit > maximum || logit != logit) maximum = logit;
    total += logit;
    if (j == label) at_label = logit;
  }
  maximum = maximum_of_warp(maximum);
  const double cooling = 1.0 / temperature;
  for (int j = lane; j < classes; j += kWarp) {
    const double shifted = logits[j] - maximum, given = teacher[j];
    sum += exp(shifted);
    cool_sum += exp(shifted * cooling);
    mass += given;
    if (given != 0.0) taught += given * shifted;
  }
  sum = sum_of_warp(sum);
  cool_sum = sum_of_warp(cool_sum);
  mass = sum_of_warp(mass);
  taught = sum_of_warp(taught);
  total = sum_of_warp(total);
  at_label = sum_of_warp(at_label);
  const double off_label = smoothing / classes, weight = weights != nullptr ? static_cast<double>(weights[row]) : 1.0;
  const double hot = mix * temperature;
  for (int j = lane; j < classes; j += kWarp) {
    const double shifted = logits[j] - maximum;
    const double target = off_label + (j == label ? 1.0 - smoothing : 0.0);
    const double slope =
        (1.0 - mix) * (exp(shifted) / sum - target) + hot * (mass * (exp(shifted * cooling) / cool_sum) - teacher[j]);
    dlogits[j] = static_cast<float>(weight * scale * slope);
  }
  if (lane == 0) {
    const double expected = expected_logit(smoothing, off_label, at_label, total);
    const double of_labels = mix < 1.0 ? (1.0 - mix) * (maximum + log(sum) - expected) : 0.0;
    const double of_teacher = mix > 0.0 ? hot * (temperature * mass * log(cool_sum) - taught) : 0.0;
    losses[row] = weight * (of_labels + of_teacher);
  }
}

struct Partial {
  double warp[kThreads / kWarp];
};

// The sum over a block, returned in its first thread. It is always the same tree.
__device__ __forceinline__ double sum_of_block(double value) {
  Partial& partial = block_shared<Partial>();
  value = sum_of_warp(value);
  if (threadIdx.x % kWarp == 0) partial.warp[threadIdx.x / kWarp] = value;
  __syncthreads();
  double sum = 0.0;
  for (int i = 0; i < kThreads / kWarp; ++i) sum += partial.warp[i];
  return sum;
}

// result = scale * sum of values, computed by one block.
__global__ void __launch_bounds__(kThreads) sum_all(double* result, const double* values, std::int64_t count, double scale) {
  double sum = 0.0;
  for (std::int64_t i = threadIdx.x; i < count; i += kThreads) sum += values[i];
  sum = sum_of_block(sum);
  if (threadIdx.x == 0) *result = scale * sum;
}

constexpr int kParts = 64;

// parts[kParts]: the sum of each block's share of the squares.
__global__ void __launch_bounds__(kThreads)
    squares(double* parts, float* dprediction, const float* prediction, const float* target, std::int64_t count) {
  double sum = 0.0;
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x; i < count; i += kParts * kThreads) {
    const double difference = static_cast<double>(prediction[i]) - static_cast<double>(target[i]);
    sum += difference * difference;
    dprediction[i] = static_cast<float>(2.0 * difference);
  }
  sum = sum_of_block(sum);
  if (threadIdx.x == 0) parts[blockIdx.x] = sum;
}

void mean_of_rows(const char* op, decltype(softmax)* kernel, double* loss, float* dlogits, const float* logits,
                  const std::int64_t* labels, const float* weights, std::int64_t rows, std::int64_t classes,
                  double label_smoothing, std::int64_t batch_size) {
  expect_narrow(op, classes);
  const Memory memory = allocate(static_cast<std::size_t>(rows) * sizeof(double));
  double* losses = static_cast<double*>(memory.get());
  const double scale = 1.0 / static_cast<double>(batch_size);  // of an empty batch the mean is 0 * infinity, NaN
  if (rows > 0) {
    launch(op, kernel, blocks_of(rows * kWarp, kThreads), kThreads, stream(), losses, dlogits, logits, labels, weights, rows,
           static_cast<int>(classes), label_smoothing, scale, fault());
  }
  launch(op, sum_all, 1, kThreads, stream(), loss, losses, rows, scale);
}

}  // namespace

void softmax_cross_entropy(double* loss, float* dlogits, const float* logits, const std::int64_t* labels, const float* weights,
                           std::int64_t rows, std::int64_t classes, double label_smoothing, std::int64_t batch_size) {
  mean_of_rows("softmax_cross_entropy", softmax, loss, dlogits, logits, labels, weights, rows, classes, label_smoothing,
               batch_size);
}

void softmax_squared_error(double* loss, float* dlogits, const float* logits, const std::int64_t* labels, const float* weights,
                           std::int64_t rows, std::int64_t classes, double label_smoothing, std::int64_t batch_size) {
  mean_of_rows("softmax_squared_error", softmax_squares, loss, dlogits, logits, labels, weights, rows, classes, label_smoothing,
               batch_size);
}

void softmax_distillation(double* loss, float* dlogits, const float* logits, const std::int64_t* labels, const float* teacher,
                          const float* weights, std::int64_t rows, std::int64_t classes, double label_smoothing,
                          double temperature, double mix, std::int64_t batch_size) {
  const char* op = "softmax_distillation";
  expect_narrow(op, classes);
  const Memory memory = allocate(static_cast<std::size_t>(rows) * sizeof(double));
  double* losses = static_cast<double*>(memory.get());
  const double scale = 1.0 / static_cast<double>(batch_size);
  if (rows > 0) {
    launch(op, softmax_taught, blocks_of(rows * kWarp, kThreads), kThreads, stream(), losses, dlogits, logits, labels, teacher,
           weights, rows, static_cast<int>(classes), label_smoothing, temperature, mix, scale, fault());
  }
  launch(op, sum_all, 1, kThreads, stream(), loss, losses, rows, scale);
}

void squared_error(double* loss, float* dprediction, const float* prediction, const float* target, std::int64_t count) {
  const char* op = "squared_error";
  const Memory memory = allocate(kParts * sizeof(double));
  double* parts = static_cast<double*>(memory.get());
  launch(op, squares, kParts, kThreads, stream(), parts, dprediction, prediction, target, count);
  launch(op, sum_all, 1, kThreads, stream(), loss, parts, std::int64_t{kParts}, 1.0);
}

}  // namespace fastlenet::cuda
