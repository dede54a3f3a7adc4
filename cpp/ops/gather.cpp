// Gathers batches of images: shares them among the threads and provides their scratch memory.
#include <new>

#include "../machine/scratch.hpp"
#include "batches.hpp"
#include "ops.hpp"

namespace fastlenet::cpu {

namespace {

constexpr std::int64_t kImages = 16;  // per task

// The normalisation of a channel: what a pixel becomes; a sample between pixels becomes sample * scale + shift.
template <typename Pixel>
struct Normalise;

template <>
struct Normalise<std::uint8_t> {
  float table[256];  // a pixel v becomes table[v]
  float scale, shift;

  Normalise(double mean, double std) : scale(static_cast<float>(1.0 / (255.0 * std))), shift(static_cast<float>(-mean / std)) {
    for (int value = 0; value < 256; ++value) table[value] = static_cast<float>((value / 255.0 - mean) / std);
  }

  float black() const { return table[0]; }
  void gather(float* x, const std::uint8_t* image, const GatherShape& shape) const {
    kernels().gather_image(x, image, table, plane_of(shape));
  }
  void gather_shifted(float* x, const std::uint8_t* image, Pair by, const GatherShape& shape) const {
    kernels().gather_shifted(x, image, table, by, shape);
  }
  void gather_warped(float* x, float* frame, const std::uint8_t* image, const Warp& warp, const GatherShape& shape) const {
    kernels().gather_warped(x, reinterpret_cast<std::int32_t*>(frame), image, warp, scale, shift, shape);
  }
};

template <>
struct Normalise<float> {
  double mean, std;
  float scale, shift;

  Normalise(double mean_, double std_)
      : mean(mean_), std(std_), scale(static_cast<float>(1.0 / std_)), shift(static_cast<float>(-mean_ / std_)) {}

  float black() const { return static_cast<float>(-mean / std); }
  void gather(float* x, const float* image, const GatherShape& shape) const {
    kernels().gather_floats(x, image, mean, std, plane_of(shape));
  }
  void gather_shifted(float* x, const float* image, Pair by, const GatherShape& shape) const {
    kernels().gather_floats_shifted(x, image, mean, std, by, shape);
  }
  void gather_warped(float* x, float* frame, const float* image, const Warp& warp, const GatherShape& shape) const {
    kernels().gather_floats_warped(x, frame, image, warp, scale, shift, shape);
  }
};

// Of all channels, in scratch memory.
template <typename Pixel>
constexpr std::int64_t kNormaliseFloats = (sizeof(Normalise<Pixel>) + sizeof(float) - 1) / sizeof(float);

template <typename Pixel>
const Normalise<Pixel>* normalise_channels(float* room, const double* mean, const double* std, std::int64_t channels) {
  Normalise<Pixel>* const all = reinterpret_cast<Normalise<Pixel>*>(room);
  for (std::int64_t c = 0; c < channels; ++c) new (all + c) Normalise<Pixel>(mean[c], std[c]);
  return all;
}

std::int64_t pieces(const GatherShape& shape) { return ceil_divide(shape.n, kImages); }

std::int64_t frame_size(const GatherShape& shape, std::int64_t lanes) { return 2 * (shape.h + 3) * (shape.w + 2 + lanes); }

// The number of the n-th image. It is read once and checked again, since another thread may have changed it.
std::int64_t number_of(const std::int64_t* index, std::int64_t n, const GatherShape& shape) {
  const std::int64_t number = __atomic_load_n(index + n, __ATOMIC_RELAXED);
  return number >= 0 && number < shape.count ? number : 0;
}

// Calls body(position in the batch, number, pixels, worker) for all images.
template <typename Pixel, typename Body>
void for_images(const Pixel* images, const std::int64_t* index, const GatherShape& shape, int workers, const Body& body) {
  const std::int64_t pixels = pixels_of(shape), bytes = pixels * static_cast<std::int64_t>(sizeof(Pixel));
  parallel_for(pieces(shape), workers, [&](std::int64_t piece, int worker) {
    for (std::int64_t n = piece * kImages; n < std::min(shape.n, (piece + 1) * kImages); ++n) {
      if (n + 1 < shape.n) prefetch(images + number_of(index, n + 1, shape) * pixels, bytes);
      const std::int64_t number = number_of(index, n, shape);
      body(n, number, images + number * pixels, worker);
    }
  });
}

// A worker's scratch memory for one image.
struct Workspace {
  float* frame;
  std::uint32_t* words;
  float *field, *other;
};

// Distorts all channels of an image alike.
template <typename Pixel>
void augment(float* x, const Pixel* image, const float* view, const Augmentation& augmentation, const Gaussian& gaussian,
             const Workspace& workspace, const Normalise<Pixel>* normalise, const GatherShape& shape) {
  const Distortion found = distortion(augmentation, workspace.words, shape, view);
  Warp warp{found.affine, nullptr, found.bend};
  if (augmentation.elastic != 0.0) {
    const float* centre = gaussian.taps.data() + gaussian.taps.size() / 2;
    kernels().elastic_field(workspace.field, workspace.other, workspace.words + kImageWords, centre, gaussian.radius, shape);
    warp.field = workspace.field;
  }
  for (std::int64_t c = 0; c < shape.c; ++c, x += plane_of(shape), image += plane_of(shape)) {
    if (augmentation.warps() || view != nullptr) {
      normalise[c].gather_warped(x, workspace.frame, image, warp, shape);
    } else {
      normalise[c].gather_shifted(x, image, found.shift, shape);
    }
    for (std::int64_t row = found.hole.h; row < found.end.h; ++row) {
      for (std::int64_t column = found.hole.w; column < found.end.w; ++column) x[row * shape.w + column] = normalise[c].black();
    }
  }
}

}  // namespace

template <typename Pixel>
void gather_images(float* x, const Pixel* images, const std::int64_t* index, const float* transform, const double* mean,
                   const double* std, const GatherShape& shape) {
  if (shape.n * pixels_of(shape) == 0) return;
  const std::int64_t frame = transform != nullptr ? frame_size(shape, kernels().lanes) : 0;
  const int workers = workers_for(pieces(shape));
  float* normalisations;
  PerWorker<float> frames;
  take_scratch({{normalisations, shape.c * kNormaliseFloats<Pixel>}, {frames, workers, frame}});
  const Normalise<Pixel>* const normalise = normalise_channels<Pixel>(normalisations, mean, std, shape.c);
  for_images(images, index, shape, workers, [&](std::int64_t n, std::int64_t, const Pixel* image, int worker) {
    for (std::int64_t c = 0; c < shape.c; ++c) {
      float* const to = x + n * pixels_of(shape) + c * plane_of(shape);
      const Pixel* const from = image + c * plane_of(shape);
      if (transform == nullptr) {
        normalise[c].gather(to, from, shape);
      } else {
        normalise[c].gather_warped(to, frames[worker], from, {transform + n * 6, nullptr, nullptr}, shape);
      }
    }
  });
}

template <typename Pixel>
void gather_augmented(float* x, const Pixel* images, const std::int64_t* index, const float* views,
                      const Augmentation& augmentation, std::uint64_t seed, std::uint32_t epoch, const double* mean,
                      const double* std, const GatherShape& shape) {
  if (shape.n * pixels_of(shape) == 0) return;
  const KernelTable& table = kernels();
  const bool elastic = augmentation.elastic != 0.0;
  const Gaussian gaussian(augmentation.elastic_sigma, std::max(shape.h, shape.w), table.tile_rows - 1);
  const std::int64_t lanes = table.lanes;
  const std::int64_t frame = augmentation.warps() || views != nullptr ? frame_size(shape, lanes) : 0;
  const std::int64_t field = elastic ? 2 * (shape.h + lanes) * (shape.w + lanes) : 0;
  const std::int64_t count = kImageWords + (elastic ? plane_of(shape) + lanes : 0), words = count + 2 * lanes;
  const int workers = workers_for(pieces(shape));
  float* normalisations;
  PerWorker<float> frames, fields, others;
  PerWorker<std::uint32_t> all_words;
  take_scratch({{normalisations, shape.c * kNormaliseFloats<Pixel>},
                {frames, workers, frame},
                {all_words, workers, words},
                {fields, workers, field},
                {others, workers, field}});
  const Normalise<Pixel>* const normalise = normalise_channels<Pixel>(normalisations, mean, std, shape.c);
  for_images(images, index, shape, workers, [&](std::int64_t n, std::int64_t number, const Pixel* image, int worker) {
    const Workspace workspace{frames[worker], all_words[worker], fields[worker], others[worker]};
    const std::uint64_t counter = static_cast<std::uint64_t>(epoch) << 32 | static_cast<std::uint32_t>(number);
    table.random_words(workspace.words, seed, kAugmentStream, counter, count);
    const float* view = views == nullptr ? nullptr : views + 6 * number;
    augment(x + n * pixels_of(shape), image, view, augmentation, gaussian, workspace, normalise, shape);
  });
}

template void gather_images(float*, const std::uint8_t*, const std::int64_t*, const float*, const double*, const double*,
                            const GatherShape&);
template void gather_images(float*, const float*, const std::int64_t*, const float*, const double*, const double*,
                            const GatherShape&);
template void gather_augmented(float*, const std::uint8_t*, const std::int64_t*, const float*, const Augmentation&,
                               std::uint64_t, std::uint32_t, const double*, const double*, const GatherShape&);
template void gather_augmented(float*, const float*, const std::int64_t*, const float*, const Augmentation&, std::uint64_t,
                               std::uint32_t, const double*, const double*, const GatherShape&);

}  // namespace fastlenet::cpu
