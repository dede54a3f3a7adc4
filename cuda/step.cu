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
    if (i == 0) *turn.rate = turn.rates[turn.progress->steps];
  }
};

struct EndTurn {
  Progress* progress;
  const double* loss;
  std::int64_t n;
  __device__ void operator()(std::int64_t) const {
    progress->loss_sum += *loss * static_cast<double>(n);
    progress->images += n;
    progress->steps += 1;
    progress->all_steps += 1;
    progress->dropout_counter += 1;
  }
};

struct InverseRoot {
  double* result;
  const double* square;
  __device__ void operator()(std::int64_t) const { *result = *square == 0.0 ? 0.0 : 1.0 / sqrt(*square); }
};

}  // namespace

void begin_step(const Turn& turn, std::int64_t n) { launch_for_each("begin_step", n, TakeTurn{turn, n}); }

void end_step(Progress* progress, const double* loss, std::int64_t n) {
  launch_for_each("end_step", 1, EndTurn{progress, loss, n});
}

void inverse_root(double* result, const double* square) { launch_for_each("inverse_root", 1, InverseRoot{result, square}); }

}  // namespace fastlenet::cuda
