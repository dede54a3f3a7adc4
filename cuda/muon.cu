// Muon's step: Newton-Schulz on the Gram matrix of the smaller side, in double precision, as cpp/ops/muon.cpp explains it.
//
// A matrix is a chain of twenty small kernels, one for each product. Every element of a product is one thread's sum.
#include <cmath>

#include "update.cuh"

namespace fastlenet::cuda {

namespace {

// X as the momentum gives it.
struct Direction {
  float* direction;
  const float* gradients;
  float* velocity;
  SgdRule rule;
  __device__ void operator()(std::int64_t i) const {
    const float gradient = gradients[i];
    if (rule.momentum == 0.0f) {
      direction[i] = gradient;
      return;
    }
    velocity[i] = rule.momentum * velocity[i] + gradient;
    direction[i] = rule.nesterov ? gradient + rule.momentum * velocity[i] : velocity[i];
  }
};

// x[i * line + l * step] of the smaller side i < n and the larger side l < m.
struct Gram {
  double* gram;
  const float* x;
  std::int64_t n, m, line, step;
  __device__ void operator()(std::int64_t at) const {
    const std::int64_t i = at / n, j = at % n;
    if (j < i) return;
    double sum = 0.0;
    for (std::int64_t l = 0; l < m; ++l) {
      sum += static_cast<double>(x[i * line + l * step]) * static_cast<double>(x[j * line + l * step]);
    }
    gram[i * n + j] = gram[j * n + i] = sum;
  }
};

// The trace of the Gram matrix is |X|^2: G = gram / |X|^2 and scale = 1 / |X|, or zeros.
struct Normalise {
  double *scaled, *scale;
  const double* gram;
  std::int64_t n;
  __device__ void operator()(std::int64_t at) const {
    double squares = 0.0;
    for (std::int64_t i = 0; i < n; ++i) squares += gram[i * n + i];
    scaled[at] = squares == 0.0 ? 0.0 : gram[at] * (1.0 / squares);
    if (at == 0) *scale = squares == 0.0 ? 0.0 : 1.0 / sqrt(squares);
  }
};

// c = factor * a b + d_factor * d + diagonal * I; all are polynomials of one symmetric matrix, so that they commute.
struct Symmetric {
  double* c;
  const double *a, *b, *d;
  std::int64_t n;
  double factor, d_factor, diagonal;
  __device__ void operator()(std::int64_t at) const {
    const std::int64_t i = at / n, j = at % n;
    if (j < i) return;
    double sum = 0.0;
    for (std::int64_t l = 0; l < n; ++l) sum += a[i * n + l] * b[l * n + j];
    sum = factor * sum + (d != nullptr ? d_factor * d[i * n + j] : 0.0) + (i == j ? diagonal : 0.0);
    c[i * n + j] = c[j * n + i] = sum;
  }
};

// The matrix moves along Q X or X Q.
struct Finish {
  Sgd move;  // along the sums, not along its gradients
  const double *total, *scale;
  const float* x;
  std::int64_t n, columns;
  bool wide;
  __device__ void operator()(std::int64_t at) const {
    const std::int64_t row = at / columns, column = at % columns;
    float sum = 0.0f;
    for (std::int64_t l = 0; l < n; ++l) {
      const float factor = static_cast<float>(total[wide ? row * n + l : l * n + column]);
      const float unit = static_cast<float>(static_cast<double>(x[wide ? l * columns + column : row * n + l]) * *scale);
      sum += factor * unit;
    }
    move.along(at, sum);
  }
};

Average from(const Average& average, std::int64_t begin) {
  return {average.values != nullptr ? average.values + begin : nullptr, average.decay};
}

}  // namespace

void muon_step(float* parameters, const float* gradients, float* velocity, const Average& average, std::int64_t count,
               const std::vector<MatrixPart>& parts, const Rate& lr, const Rate& matrix_lr, const SgdRule& rule) {
  const auto rest = [&](std::int64_t begin, std::int64_t end) {
    const Sgd move{parameters + begin, gradients + begin, velocity != nullptr ? velocity + begin : nullptr, lr, rule};
    launch_step("muon_step", end - begin, move, from(average, begin), parameters + begin);
  };
  std::int64_t end = 0;
  for (const MatrixPart& part : parts) {
    if (part.rows == 0 || part.columns == 0) continue;
    rest(end, part.begin);
    const bool wide = part.rows <= part.columns;
    const std::int64_t size = part.rows * part.columns, n = wide ? part.rows : part.columns, m = size / n, square = n * n;
    end = part.begin + size;
    const Memory memory = allocate(static_cast<std::size_t>(5 * square + 1) * sizeof(double));
    const Memory direction_memory = allocate(static_cast<std::size_t>(size) * sizeof(float));
    double* gram = static_cast<double*>(memory.get());
    double *factor = gram + square, *product = factor + square, *total = product + square, *next = total + square;
    double* scale = next + square;
    float* x = static_cast<float*>(direction_memory.get());
    float* matrix_velocity = velocity != nullptr ? velocity + part.begin : nullptr;
    launch_for_each("muon_step", size, Direction{x, gradients + part.begin, matrix_velocity, rule});
    launch_for_each("muon_step", square, Gram{product, x, n, m, wide ? part.columns : 1, wide ? 1 : part.columns});
    launch_for_each("muon_step", square, Normalise{gram, scale, product, n});
    const auto multiply = [&](double* c, const double* a, const double* b, double by, const double* d, double d_factor,
                              double diagonal) {
      launch_for_each("muon_step", square, Symmetric{c, a, b, d, n, by, d_factor, diagonal});
    };
    for (int round = 0; round < kNewtonRounds; ++round) {
      multiply(factor, gram, gram, kQuintic[2], gram, kQuintic[1], kQuintic[0]);
      if (round + 1 < kNewtonRounds) {  // G = P G P
        multiply(product, factor, gram, 1.0, nullptr, 0.0, 0.0);
        multiply(gram, factor, product, 1.0, nullptr, 0.0, 0.0);
      }
      if (round == 0) {
        std::swap(total, factor);
      } else {
        multiply(next, factor, total, 1.0, nullptr, 0.0, 0.0);
        std::swap(total, next);
      }
    }
    const double sides = std::sqrt(std::fmax(1.0, static_cast<double>(part.rows) / static_cast<double>(part.columns)));
    const Sgd move{parameters + part.begin,
                   nullptr,
                   nullptr,
                   {matrix_lr.base, matrix_lr.factor * sides},
                   {0.0f, rule.weight_decay, false}};
    launch_step("muon_step", size, Finish{move, total, scale, x, n, part.columns, wide}, from(average, part.begin),
                parameters + part.begin);
  }
  rest(end, count);
}

}  // namespace fastlenet::cuda
