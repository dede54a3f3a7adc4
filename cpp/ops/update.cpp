// The optimizers' steps on flat buffers. The threads share the pieces.
#include "batches.hpp"
#include "ops.hpp"

namespace fastlenet::cpu {

namespace {

// Of a piece whose parameters a step has just left in the cache.
void update_average(const KernelTable& table, const Average& average, const float* parameters, Range r) {
  if (average.values != nullptr) {
    table.ema_step(average.values + r.begin, parameters + r.begin, r.end - r.begin, average.decay);
  }
}

}  // namespace

void sgd_step(float* parameters, const float* gradients, float* velocity, const Average& average, std::int64_t count,
              const SgdStep& step) {
  const KernelTable& table = kernels();
  for_pieces(count, kPiece, [&](Range r) {
    table.sgd_step(parameters + r.begin, gradients + r.begin, velocity ? velocity + r.begin : nullptr, r.end - r.begin, step);
    update_average(table, average, parameters, r);
  });
}

void adam_step(float* parameters, const float* gradients, float* first_moment, float* second_moment, const Average& average,
               std::int64_t count, const AdamStep& step) {
  const KernelTable& table = kernels();
  for_pieces(count, kPiece, [&](Range r) {
    table.adam_step(parameters + r.begin, gradients + r.begin, first_moment + r.begin, second_moment + r.begin, r.end - r.begin,
                    step);
    update_average(table, average, parameters, r);
  });
}

void ema_step(float* average, const float* parameters, std::int64_t count, float decay) {
  const KernelTable& table = kernels();
  for_pieces(count, kPiece, [&](Range r) { table.ema_step(average + r.begin, parameters + r.begin, r.end - r.begin, decay); });
}

}  // namespace fastlenet::cpu
