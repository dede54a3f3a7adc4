// Gathers batches of images: shares them among the threads and provides their scratch memory.
#include "../machine/scratch.hpp"
#include "batches.hpp"
#include "ops.hpp"

namespace fastlenet::cpu {

namespace {

constexpr std::int64_t kImages = 16;  // per task

// The normalisation of a batch: a pixel v becomes table[v], a sample between pixels becomes sample * scale + shift.
struct Normalise {
  float table[256];
  float scale, shift;

  Normalise(double mean, double std) : scale(static_cast<float>(1.0 / (255.0 * std))), shift(static_cast<float>(-mean / std)) {
    for (int value = 0; value < 256; ++value) table[value] = static_cast<float>((value / 255.0 - mean) / std);
  }
};

std::int64_t pieces(const GatherShape& shape) { return ceil_divide(shape.n, kImages); }

std::int64_t frame_size(const GatherShape& shape, std::int64_t lanes) { return 2 * (shape.h + 3) * (shape.w + 2 + lanes); }

// The number of the n-th image. It is read once and checked again, since another thread may have changed it.
std::int64_t number_of(const std::int64_t* index, std::int64_t n, const GatherShape& shape) {
  const std::int64_t number = __atomic_load_n(index + n, __ATOMIC_RELAXED);
  return number >= 0 && number < shape.count ? number : 0;
}

// Calls body(position in the batch, number, pixels, worker) for all images.
template <typename Body>
void for_images(const std::uint8_t* images, const std::int64_t* index, const GatherShape& shape, int workers,
                const Body& body) {
  const std::int64_t pixels = shape.h * shape.w;
  parallel_for(pieces(shape), workers, [&](std::int64_t piece, int worker) {
    for (std::int64_t n = piece * kImages; n < std::min(shape.n, (piece + 1) * kImages); ++n) {
      if (n + 1 < shape.n) prefetch(images + number_of(index, n + 1, shape) * pixels, pixels);
      const std::int64_t number = number_of(index, n, shape);
      body(n, number, images + number * pixels, worker);
    }
  });
}

// A worker's scratch memory for one image.
struct Workspace {
  std::int32_t* frame;
  std::uint32_t* words;
  float *field, *other;
};

void augment(float* x, const std::uint8_t* image, const Augmentation& augmentation, const Gaussian& gaussian,
             const Workspace& workspace, const Normalise& normalise, const GatherShape& shape) {
  const KernelTable& table = kernels();
  const Distortion found = distortion(augmentation, workspace.words, shape);
  if (augmentation.warps()) {
    Warp warp{found.affine, nullptr, static_cast<float>(augmentation.elastic)};
    if (augmentation.elastic != 0.0) {
      const float* centre = gaussian.taps.data() + gaussian.taps.size() / 2;
      table.elastic_field(workspace.field, workspace.other, workspace.words + kImageWords, centre, gaussian.radius, shape);
      warp.field = workspace.field;
    }
    table.gather_warped(x, workspace.frame, image, warp, normalise.scale, normalise.shift, shape);
  } else {
    table.gather_shifted(x, image, normalise.table, found.shift, shape);
  }
  for (std::int64_t row = found.hole.h; row < found.end.h; ++row) {
    for (std::int64_t column = found.hole.w; column < found.end.w; ++column) x[row * shape.w + column] = normalise.table[0];
  }
}

}  // namespace

void gather_images(float* x, const std::uint8_t* images, const std::int64_t* index, const float* transform, double mean,
                   double std, const GatherShape& shape) {
  if (shape.n * shape.h * shape.w == 0) return;
  const KernelTable& table = kernels();
  const Normalise normalise(mean, std);
  const std::int64_t pixels = shape.h * shape.w, frame = transform ? frame_size(shape, table.lanes) : 0;
  const int workers = workers_for(pieces(shape));
  std::int32_t* frames;
  take_scratch({{frames, workers * frame}});
  for_images(images, index, shape, workers, [&](std::int64_t n, std::int64_t, const std::uint8_t* image, int worker) {
    if (transform == nullptr) {
      table.gather_image(x + n * pixels, image, normalise.table, pixels);
    } else {
      table.gather_warped(x + n * pixels, frames + worker * frame, image, {transform + n * 6, nullptr, 0.0f}, normalise.scale,
                          normalise.shift, shape);
    }
  });
}

void gather_augmented(float* x, const std::uint8_t* images, const std::int64_t* index, const Augmentation& augmentation,
                      std::uint64_t seed, std::uint32_t epoch, double mean, double std, const GatherShape& shape) {
  if (shape.n * shape.h * shape.w == 0) return;
  const KernelTable& table = kernels();
  const Normalise normalise(mean, std);
  const bool elastic = augmentation.elastic != 0.0;
  const Gaussian gaussian(augmentation.elastic_sigma, std::max(shape.h, shape.w), table.tile_rows - 1);
  const std::int64_t lanes = table.lanes, pixels = shape.h * shape.w;
  const std::int64_t frame = augmentation.warps() ? frame_size(shape, lanes) : 0;
  const std::int64_t field = elastic ? 2 * (shape.h + lanes) * (shape.w + lanes) : 0;
  const std::int64_t count = kImageWords + (elastic ? pixels + lanes : 0), words = count + 2 * lanes;
  const int workers = workers_for(pieces(shape));
  Workspace workspaces;  // of all workers
  take_scratch({{workspaces.frame, workers * frame},
                {workspaces.words, workers * words},
                {workspaces.field, workers * field},
                {workspaces.other, workers * field}});
  for_images(images, index, shape, workers, [&](std::int64_t n, std::int64_t number, const std::uint8_t* image, int worker) {
    const Workspace workspace{workspaces.frame + worker * frame, workspaces.words + worker * words,
                              workspaces.field + worker * field, workspaces.other + worker * field};
    const std::uint64_t counter = static_cast<std::uint64_t>(epoch) << 32 | static_cast<std::uint32_t>(number);
    table.random_words(workspace.words, seed, kAugmentStream, counter, count);
    augment(x + n * pixels, image, augmentation, gaussian, workspace, normalise, shape);
  });
}

}  // namespace fastlenet::cpu
