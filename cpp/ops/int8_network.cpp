#include "int8_network.hpp"

#include <algorithm>

#include "../machine/parallel.hpp"
#include "../machine/scratch.hpp"
#include "batches.hpp"

namespace fastlenet::cpu {

namespace {

// Of a worker, in words of 4 bytes: the planes before and after a layer, and cells.
struct Sizes {
  std::int64_t planes = 0, cells = 0;

  Sizes(const std::vector<std::unique_ptr<Int8Layer>>& layers, Int8Layer::Blocks blocks) {
    for (const auto& layer : layers) {
      const std::int64_t features = std::max(layer->inputs, layer->gives_scores() ? 4 * layer->outputs : layer->outputs);
      planes = std::max(planes, ceil_divide(features * blocks.lanes, 64) * 16 * blocks.count);
      cells = std::max(cells, layer->cells(blocks));
    }
  }
};

const void* through(const std::vector<std::unique_ptr<Int8Layer>>& layers, const std::uint8_t* x, std::uint8_t* one,
                    std::uint8_t* other, Cell* cells, Int8Layer::Blocks blocks) {
  for (const auto& layer : layers) {
    layer->forward(one, x, cells, blocks);
    x = one;
    std::swap(one, other);
  }
  return x;
}

// Of 16 lanes, an image alone takes an eighth of the time of a block (Zen 4), so that up to half a block is faster one by one.
bool one_by_one(std::int64_t n, const Int8Table& table) { return 2 * n <= table.lanes; }

}  // namespace

void int8_forward(float* scores, const std::uint8_t* images, std::int64_t n, const Int8Table& table,
                  const std::vector<std::unique_ptr<Int8Layer>>& layers) {
  const std::int64_t inputs = layers.front()->inputs, outputs = layers.back()->outputs;
  const bool single = one_by_one(n, table);
  const std::int64_t lanes = single ? 1 : table.lanes, blocks = ceil_divide(n, lanes);
  const std::int64_t most = single ? 1 : table.together;
  const std::int64_t each = std::clamp<std::int64_t>(ceil_divide(blocks, workers_for(blocks)), 1, most);
  const std::int64_t tasks = ceil_divide(blocks, each);
  const int workers = workers_for(tasks);
  const Sizes sizes(layers, {each, lanes});
  PerWorker<std::uint32_t> before, after;
  PerWorker<Cell> all_cells;
  take_scratch({{before, workers, sizes.planes}, {after, workers, sizes.planes}, {all_cells, workers, sizes.cells}});
  parallel_for(tasks, workers, [&](std::int64_t task, int worker) {
    const std::int64_t first = task * each, end = std::min(blocks, first + each);
    std::uint8_t* x = reinterpret_cast<std::uint8_t*>(before[worker]);
    std::uint8_t* y = reinterpret_cast<std::uint8_t*>(after[worker]);
    Cell* cells = all_cells[worker];
    if (single) {
      const void* found = through(layers, images + first * inputs, y, x, cells, {1, 1});
      std::copy_n(static_cast<const float*>(found), outputs, scores + first * outputs);
      return;
    }
    for (std::int64_t block = first; block < end; ++block) {
      const std::int64_t image = block * lanes, count = std::min(lanes, n - image);
      table.spread(x + (block - first) * inputs * lanes, images + image * inputs, count, inputs);
    }
    const float* found = static_cast<const float*>(through(layers, x, y, x, cells, {end - first, lanes}));
    for (std::int64_t image = first * lanes; image < std::min(n, end * lanes); ++image) {
      const float* lane = found + (image / lanes - first) * outputs * lanes + image % lanes;
      for (std::int64_t k = 0; k < outputs; ++k) scores[image * outputs + k] = lane[k * lanes];
    }
  });
}

}  // namespace fastlenet::cpu
