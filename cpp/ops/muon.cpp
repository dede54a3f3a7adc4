// Muon's step on flat buffers: orthogonal steps for some matrices, the step of SGD for all other parameters.
//
// Newton-Schulz, X <- (a I + b G + c G^2) X with G = X X^T, needs X only at its ends: every round multiplies X from the left by
// P = a I + b G + c G^2, and G becomes P G P. So the rounds accumulate Q <- P Q in matrices of the smaller side n, and the step
// is Q X. For n x m that is about n^2 m/2 + 17 n^3/2 + n^2 m multiply-adds in place of 5 (2 n^2 m + n^3); 2.9 M in place of 13
// M for LeNet's 50 x 500. G squares the singular values of X: to keep the small ones, G and Q are in double precision.
#include <cmath>
#include <vector>

#include "../machine/scratch.hpp"
#include "batches.hpp"
#include "ops.hpp"

namespace fastlenet::cpu {

namespace {

// The lines of a matrix's longer side are cut into at most kStrips strips, of at least kStrip lines: 64 lines of 50 doubles lie
// in a core's first cache. The number does not depend on the threads, because each strip's part of a Gram matrix is a sum of
// its own.
constexpr std::int64_t kStrips = 8, kStrip = 64;
constexpr std::int64_t kRows = 10;  // rows of a symmetric matrix, in one task
// Above this side, whose rounds take a thread about a millisecond, the threads share the rounds of a matrix.
constexpr std::int64_t kLargeSide = 128;

// One matrix, n x m or m x n with n <= m, and its workspace. A line is one of the m columns or rows.
struct Matrix {
  std::int64_t begin, rows, columns, n, m, pitch, strip, strips;
  bool wide;
  float *direction, *moved, *narrow;
  double *gram, *factor, *product, *total, *next;
  double scale = 0.0;  // 1 / |X|

  Matrix(const MatrixPart& part, std::int64_t double_lanes)
      : begin(part.begin),
        rows(part.rows),
        columns(part.columns),
        n(std::min(rows, columns)),
        m(std::max(rows, columns)),
        pitch(ceil_divide(n, double_lanes) * double_lanes),
        strip(std::max(kStrip, ceil_divide(m, kStrips))),
        strips(ceil_divide(m, strip)),
        wide(rows <= columns) {}

  // Cuts the workspace from a block of floats, at multiples of a cache line. Returns the floats used. Without a block it only
  // counts them.
  std::int64_t place(float* block) {
    std::int64_t used = 0;
    const auto take = [&](auto*& array, std::int64_t size) {
      if (block != nullptr) array = reinterpret_cast<std::remove_reference_t<decltype(array)>>(block + used);
      used += ceil_divide(size * static_cast<std::int64_t>(sizeof *array / sizeof(float)), 16) * 16;
    };
    take(direction, rows * columns), take(moved, rows * columns), take(narrow, n * n);
    take(gram, strips * n * pitch), take(factor, n * pitch), take(product, n * pitch), take(total, n * pitch),
        take(next, n * pitch);
    return used;
  }

  // Calls body(range) for the contiguous elements of these lines: for all together, or for those of each row.
  template <typename Body>
  void for_elements(Range lines, const Body& body) const {
    if (!wide) return body(Range{lines.begin * columns, lines.end * columns});
    for (std::int64_t row = 0; row < rows; ++row) body(Range{row * columns + lines.begin, row * columns + lines.end});
  }
};

struct Step {
  float* parameters;
  const float* gradients;
  float* velocity;
  const Average& average;
  const MuonStep& rule;
  const KernelTable& table = kernels();

  // SGD's step and the average, of some parameters.
  void move(std::int64_t at, const float* direction, float* speed, std::int64_t count, const SgdStep& sgd) const {
    table.sgd_step(parameters + at, direction, speed, count, sgd);
    if (average.values != nullptr) table.ema_step(average.values + at, parameters + at, count, average.decay);
  }
};

// X as the momentum gives it, by a step of rate -1 from zero, and its part of the Gram matrix. tall is scratch for the lines.
void start_lines(const Matrix& w, Range lines, double* tall, const Step& step) {
  const SgdStep momentum{-1.0f, step.rule.sgd.momentum, 0.0f, step.rule.sgd.nesterov};
  w.for_elements(lines, [&](Range r) {
    std::fill(w.direction + r.begin, w.direction + r.end, 0.0f);
    float* velocity = step.velocity != nullptr ? step.velocity + w.begin + r.begin : nullptr;
    step.table.sgd_step(w.direction + r.begin, step.gradients + w.begin + r.begin, velocity, r.end - r.begin, momentum);
  });
  step.table.widen_columns(tall, w.direction, w.rows, w.columns, w.pitch, lines);
  double* part = w.gram + lines.begin / w.strip * w.n * w.pitch;
  step.table.symmetric_upper({part, tall, tall, nullptr, 1, w.pitch, lines.end - lines.begin, w.n, w.pitch, 1.0, 0.0, 0.0},
                             {0, w.n});
}

// Five rounds: the polynomial of G = X X^T / |X|^2 that X is multiplied by. `each` shares ranges of rows.
template <typename Each>
void accumulate(Matrix& w, const KernelTable& table, const Each& each) {
  for (std::int64_t strip = 1; strip < w.strips; ++strip) {
    const double* part = w.gram + strip * w.n * w.pitch;
    for (std::int64_t i = 0; i < w.n * w.pitch; ++i) w.gram[i] += part[i];
  }
  double squares = 0.0;
  for (std::int64_t i = 0; i < w.n; ++i) squares += w.gram[i * w.pitch + i];
  w.scale = squares == 0.0 ? 0.0 : 1.0 / std::sqrt(squares);
  const double shrink = squares == 0.0 ? 0.0 : 1.0 / squares;
  for (std::int64_t i = 0; i < w.n * w.pitch; ++i) w.gram[i] *= shrink;
  each(w.n, [&](Range rows) { table.symmetric_mirror(w.gram, w.pitch, rows); });
  // c = factor * a b + d_factor * d + diagonal * I. All are polynomials of one symmetric matrix, so that they commute.
  const auto multiply = [&](double* c, const double* a, const double* b, double factor, const double* d, double d_factor,
                            double diagonal) {
    const SymmetricSum sum{c, a, b, d, w.pitch, 1, w.n, w.n, w.pitch, factor, d_factor, diagonal};
    each(w.n, [&](Range rows) { table.symmetric_upper(sum, rows); });
    each(w.n, [&](Range rows) { table.symmetric_mirror(c, w.pitch, rows); });
  };
  constexpr double a = kQuintic[0], b = kQuintic[1], c = kQuintic[2];
  for (int round = 0; round < kNewtonRounds; ++round) {
    multiply(w.factor, w.gram, w.gram, c, w.gram, b, a);
    if (round + 1 < kNewtonRounds) {  // G = P G P
      multiply(w.product, w.factor, w.gram, 1.0, nullptr, 0.0, 0.0);
      multiply(w.gram, w.factor, w.product, 1.0, nullptr, 0.0, 0.0);
    }
    if (round == 0) {
      std::swap(w.total, w.factor);
    } else {
      multiply(w.next, w.factor, w.total, 1.0, nullptr, 0.0, 0.0);
      std::swap(w.total, w.next);
    }
  }
  for (std::int64_t i = 0; i < w.n; ++i) {
    for (std::int64_t j = 0; j < w.n; ++j) w.narrow[i * w.n + j] = static_cast<float>(w.total[i * w.pitch + j]);
  }
}

// Q X or X Q, and the step along it.
void finish_lines(const Matrix& w, Range lines, float* panel, const Step& step) {
  const KernelTable& table = step.table;
  w.for_elements(lines, [&](Range r) { table.multiply_by(w.direction + r.begin, w.scale, r.end - r.begin); });
  const std::int64_t width = table.tile_vectors * table.lanes;
  const Range columns = w.wide ? lines : Range{0, w.columns}, rows = w.wide ? Range{0, w.rows} : lines;
  const float* left = w.wide ? w.narrow : w.direction + rows.begin * w.columns;
  for (std::int64_t at = columns.begin; at < columns.end; at += width) {
    table.linear_backward_input(w.moved + rows.begin * w.columns, panel, left, w.wide ? w.direction : w.narrow,
                                {at, std::min(columns.end, at + width)}, {rows.end - rows.begin, w.columns, w.n});
  }
  const double sides = std::sqrt(std::max(1.0, static_cast<double>(w.rows) / static_cast<double>(w.columns)));
  const SgdStep move{static_cast<float>(step.rule.matrix_lr * sides), 0.0f, step.rule.sgd.weight_decay, false};
  w.for_elements(lines, [&](Range r) { step.move(w.begin + r.begin, w.moved + r.begin, nullptr, r.end - r.begin, move); });
}

struct Strip {
  Matrix* matrix;
  Range lines;
};

std::vector<Strip> cut_strips(std::vector<Matrix>& matrices) {
  std::vector<Strip> strips;
  for (Matrix& matrix : matrices) {
    for (std::int64_t at = 0; at < matrix.m; at += matrix.strip) {
      strips.push_back({&matrix, {at, std::min(matrix.m, at + matrix.strip)}});
    }
  }
  return strips;
}

// The parameters outside the matrices, in pieces.
std::vector<Range> cut_rest(const std::vector<Matrix>& matrices, std::int64_t count) {
  std::vector<Range> pieces;
  std::int64_t begin = 0;
  const auto add = [&](std::int64_t end) {
    for (; begin < end; begin = std::min(end, begin + kPiece)) pieces.push_back({begin, std::min(end, begin + kPiece)});
  };
  for (const Matrix& matrix : matrices) {
    add(matrix.begin);
    begin = matrix.begin + matrix.rows * matrix.columns;
  }
  add(count);
  return pieces;
}

}  // namespace

// Three regions for all matrices together. In the second, a thread does a small matrix's rounds while others step through the
// other parameters.
void muon_step(float* parameters, const float* gradients, float* velocity, const Average& average, std::int64_t count,
               const std::vector<MatrixPart>& parts, const MuonStep& rule) {
  const Step step{parameters, gradients, velocity, average, rule};
  const KernelTable& table = step.table;
  std::vector<Matrix> matrices;
  std::int64_t size = 0, tall = 0, panel = 0;
  for (const MatrixPart& part : parts) {
    if (part.rows == 0 || part.columns == 0) continue;
    const Matrix& matrix = matrices.emplace_back(part, table.lanes / 2);
    size += matrices.back().place(nullptr);
    tall = std::max(tall, 2 * std::min(matrix.strip, matrix.m) * matrix.pitch);  // in floats
    panel = std::max(panel, matrix.n * table.tile_vectors * table.lanes);
  }
  const std::vector<Strip> strips = cut_strips(matrices);
  const std::int64_t tasks = static_cast<std::int64_t>(strips.size());
  const int workers = workers_for(tasks);
  float* block;
  PerWorker<float> workspaces;
  take_scratch({{block, size}, {workspaces, workers, std::max(tall, panel)}});
  for (Matrix& matrix : matrices) block += matrix.place(block);
  const auto for_strips = [&](const auto& body) {
    parallel_for(tasks, workers, [&](std::int64_t task, int worker) {
      const Strip& strip = strips[static_cast<std::size_t>(task)];
      body(*strip.matrix, strip.lines, workspaces[worker]);
    });
  };

  for_strips([&](const Matrix& matrix, Range lines, float* workspace) {
    start_lines(matrix, lines, reinterpret_cast<double*>(workspace), step);
  });
  std::vector<Matrix*> small;
  for (Matrix& matrix : matrices) {
    if (matrix.n <= kLargeSide) {
      small.push_back(&matrix);
    } else {
      accumulate(matrix, table, [](std::int64_t rows, const auto& body) { for_pieces(rows, kRows, body); });
    }
  }
  const std::vector<Range> rest = cut_rest(matrices, count);
  const std::int64_t first = static_cast<std::int64_t>(small.size());
  parallel_for(first + static_cast<std::int64_t>(rest.size()), [&](std::int64_t task) {
    if (task < first) {
      return accumulate(*small[static_cast<std::size_t>(task)], table,
                        [](std::int64_t rows, const auto& body) { body(Range{0, rows}); });
    }
    const Range r = rest[static_cast<std::size_t>(task - first)];
    step.move(r.begin, gradients + r.begin, velocity != nullptr ? velocity + r.begin : nullptr, r.end - r.begin, rule.sgd);
  });
  for_strips([&](const Matrix& matrix, Range lines, float* workspace) { finish_lines(matrix, lines, workspace, step); });
}

}  // namespace fastlenet::cpu
