// The parts of a captured training step that are not ops: they select the step's images and learning rate, and record its loss.
#include "common.cuh"

namespace fastlenet::cuda {

namespace {

struct TakeTurn {
  Turn turn;
  std::int64_t n;
  __device__ void operator()(std::int64_t i) const {
    const std::int64_t number = turn.order[turn.progress->images + i];
    turn.index[i] = number;
    turn.labels[i] = turn.all_labels[number];
    if (turn.all_weights != nullptr) turn.weights[i] = turn.all_weights[number];
    if (i == 0) *turn.rate = turn.rates[turn.progress->steps];
  }
};

struct EndTurn {
  Progress* progress;
  const double* loss;
  const float* logits;
  const std::int64_t* labels;
  std::int64_t n, classes;
  __device__ void operator()(std::int64_t i) const {
    if (is_right(i)) atomicAdd(&progress->correct, 1ull);
    if (i != 0) return;
    progress->loss_sum += *loss * static_cast<double>(n);
    progress->images += n;
    progress->steps += 1;
    progress->all_steps += 1;
    progress->dropout_counter += 1;
  }

  // Whether the first of an image's largest logits is that of its label.
  __device__ bool is_right(std::int64_t i) const {
    const float* row = logits + i * classes;
    std::int64_t largest = 0;
    for (std::int64_t j = 1; j < classes; ++j) {
      if (row[j] > row[largest]) largest = j;
    }
    return largest == labels[i];
  }
};

struct InverseRoot {
  double* result;
  const double* square;
  double at_least;
  __device__ void operator()(std::int64_t) const {
    const double larger = *square < at_least ? at_least : *square;  // NaN stays
    *result = larger == 0.0 ? 0.0 : 1.0 / sqrt(larger);
  }
};

}  // namespace

void begin_step(const Turn& turn, std::int64_t n) { launch_for_each("begin_step", n, TakeTurn{turn, n}); }

void end_step(Progress* progress, const double* loss, const float* logits, const std::int64_t* labels, std::int64_t n,
              std::int64_t classes) {
  launch_for_each("end_step", n, EndTurn{progress, loss, logits, labels, n, classes});
}

void inverse_root(double* result, const double* square, double at_least) {
  launch_for_each("inverse_root", 1, InverseRoot{result, square, at_least});
}

}  // namespace fastlenet::cuda
