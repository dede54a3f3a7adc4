// Linear layers with factors of bfloat16: the factors of a product are rounded and packed, then multiplied.
#include "../machine/scratch.hpp"
#include "../machine/units.hpp"
#include "batches.hpp"
#include "ops.hpp"

namespace fastlenet::cpu {

namespace {

constexpr std::int64_t kTaskRows = 96;  // a multiple of the blocks of both instructions, 6 and 32 rows

// A product c[rows][columns] whose sums run over `depth`.
struct Sizes {
  std::int64_t rows, columns, depth;

  std::int64_t steps() const { return LowPrecisionProduct{nullptr, nullptr, nullptr, nullptr, columns, depth, {}}.steps(); }
  std::int64_t row_blocks() const { return ceil_divide(rows, kPaddedRows); }
  std::int64_t panels() const { return ceil_divide(columns, kPanelColumns); }
  std::int64_t a() const { return row_blocks() * kPaddedRows * steps(); }
  std::int64_t b() const { return panels() * kPanelColumns * steps(); }
};

Range row_block(std::int64_t block) { return {block * kPaddedRows, (block + 1) * kPaddedRows}; }

// A task is two panels of columns, of up to kTaskRows rows. Neighbouring tasks share their panels.
void multiply(const LowPrecisionTable& table, float* c, const std::uint32_t* a, const std::uint32_t* b, const float* bias,
              const Sizes& sizes) {
  const LowPrecisionProduct product{c, a, b, bias, sizes.columns, sizes.depth, planted_losses()};
  const std::int64_t groups = ceil_divide(sizes.rows, kTaskRows);
  parallel_for(groups * ceil_divide(sizes.panels(), 2), [&](std::int64_t task) {
    const std::int64_t panel = 2 * (task / groups), row = task % groups * kTaskRows;
    count_repeats(
        table.multiply(product, {row, std::min(sizes.rows, row + kTaskRows)}, {panel, std::min(sizes.panels(), panel + 2)}));
  });
}

}  // namespace

std::int64_t packed_panels_size(std::int64_t out, std::int64_t in) { return Sizes{0, out, in}.b(); }

void pack_panels(std::uint32_t* packed, const float* weight, std::int64_t out, std::int64_t in) {
  const LowPrecisionTable& table = unit();
  parallel_for(Sizes{0, out, in}.panels(),
               [&](std::int64_t panel) { table.pack_rows_as_panel(packed, weight, panel, out, in); });
}

void linear_forward_bf16(float* y, const float* x, const float* weight, const float* bias, const std::uint32_t* packed,
                         const LinearShape& shape) {
  if (shape.n == 0 || shape.out == 0) return;
  const LowPrecisionTable& table = unit();
  const Sizes sizes{shape.n, shape.out, shape.in};
  std::uint32_t *a, *b;
  take_scratch({{a, sizes.a()}, {b, packed == nullptr ? sizes.b() : 0}});
  const std::int64_t blocks = sizes.row_blocks(), panels = packed == nullptr ? sizes.panels() : 0;
  parallel_for(panels + blocks, [&](std::int64_t task) {
    if (task < panels) return table.pack_rows_as_panel(b, weight, task, shape.out, shape.in);
    table.pack_rows(a, x, row_block(task - panels), shape.n, shape.in);
  });
  multiply(table, y, a, packed == nullptr ? b : packed, bias, sizes);
}

// dx = dy * weight, dweight = dy' * x.
void linear_backward_bf16(float* dx, float* dweight, float* dbias, const float* dy, const float* x, const float* weight,
                          const LinearShape& shape) {
  if (shape.n == 0 || shape.out == 0) {
    fill_zeros(dx, shape.n * shape.in);
    fill_zeros(dweight, shape.out * shape.in);
    fill_zeros(dbias, shape.out);
    return;
  }
  const LowPrecisionTable& table = unit();
  const Sizes input{dx == nullptr ? 0 : shape.n, dx == nullptr ? 0 : shape.in, shape.out};
  const Sizes weights{shape.out, shape.in, shape.n};
  std::uint32_t *input_a, *input_b, *weights_a, *weights_b;
  take_scratch({{input_a, input.a()}, {input_b, input.b()}, {weights_a, weights.a()}, {weights_b, weights.b()}});
  const std::int64_t ends[] = {weights.row_blocks(), weights.row_blocks() + weights.panels(),
                               weights.row_blocks() + weights.panels() + input.row_blocks()};
  parallel_for(1 + ends[2] + input.panels(), [&](std::int64_t task) {
    if (task-- == 0) return kernels().linear_backward_bias(dbias, dy, {0, shape.out}, shape);
    if (task < ends[0]) {
      return table.pack_columns_as_rows(weights_a, dy, shape.out, row_block(task), shape.out, shape.n);
    }
    if (task < ends[1]) return table.pack_panel(weights_b, x, task - ends[0], shape.in, shape.n);
    if (task < ends[2]) return table.pack_rows(input_a, dy, row_block(task - ends[1]), shape.n, shape.out);
    table.pack_panel(input_b, weight, task - ends[2], shape.in, shape.out);
  });
  multiply(table, dweight, weights_a, weights_b, nullptr, weights);
  if (dx != nullptr) multiply(table, dx, input_a, input_b, nullptr, input);
}

}  // namespace fastlenet::cpu
