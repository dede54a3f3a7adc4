// Batches of images, with or without distortions.
#include "bindings.hpp"

namespace fastlenet {

namespace {

// The arguments and the result of both kinds of gather_images.
struct Gather {
  Call call;
  Input<std::uint8_t> images;
  Input<std::int64_t> index;
  Input<float> transform;
  Normalisation normalisation;
  GatherShape shape;
  Output<float> x;

  Gather(py::handle images_, py::handle index_, py::handle transform_, py::handle mean, py::handle std, py::handle out)
      : call("gather_images", out),
        images(call.input<std::uint8_t>("images", images_)),
        index(call.input<std::int64_t>("index", index_)),
        transform(call.optional<float>("transform", transform_)),
        normalisation(call.op(), mean, std),
        shape(gather_shape(call.op(), images.dims(), index.dims())),
        x(call.output<float>(0, {shape.n, 1, shape.h, shape.w})) {
    if (transform.data() != nullptr) expect_dims(call.op(), "transform", {shape.n, 2, 3}, transform.dims());
    expect_below(call.op(), "index", index, shape.count);
  }
};

py::array gather_images(py::handle images, py::handle index, py::handle mean, py::handle std, py::handle transform,
                        py::handle out) {
  const Gather g(images, index, transform, mean, std, out);
  if (!transform.is_none()) expect_transformable(g.call.op(), g.shape);
  without_gil([&] {
    cpu::gather_images(g.x.data(), g.images.data(), g.index.data(), g.transform.data(), g.normalisation.mean,
                       g.normalisation.std, g.shape);
  });
  return g.x.array();
}

// fastlenet.augment has already checked the augmentation's numbers.
py::array gather_augmented(py::handle images, py::handle index, py::handle mean, py::handle std, std::int64_t shift,
                           double rotation, double scale, double shear, double elastic, double elastic_sigma,
                           std::int64_t cutout, std::uint64_t seed, std::uint32_t epoch, py::handle out) {
  const Augmentation augmentation{shift, rotation, scale, shear, elastic, elastic_sigma, cutout};
  const Gather g(images, index, py::none(), mean, std, out);
  expect_transformable(g.call.op(), g.shape);
  without_gil([&] {
    cpu::gather_augmented(g.x.data(), g.images.data(), g.index.data(), augmentation, seed, epoch, g.normalisation.mean,
                          g.normalisation.std, g.shape);
  });
  return g.x.array();
}

}  // namespace

void bind_gather(py::module_& m) {
  define(m, "gather_images", gather_images, "images", "index", "mean", "std", "transform", "out");
  define(m, "gather_augmented", gather_augmented, "images", "index", "mean", "std", "shift", "rotation", "scale", "shear",
         "elastic", "elastic_sigma", "cutout", "seed", "epoch", "out");
}

}  // namespace fastlenet
