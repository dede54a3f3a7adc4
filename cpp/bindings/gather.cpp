// Batches of images, with or without distortions.
#include "bindings.hpp"

namespace fastlenet {

namespace {

// Whether the images are float32. All others are checked as uint8.
bool are_floats(py::handle images) {
  if (!py::isinstance<py::array>(images)) return false;
  const py::dtype dtype = py::reinterpret_borrow<py::array>(images).dtype();
  return py::detail::npy_api::get().PyArray_EquivTypes_(dtype.ptr(), py::dtype::of<float>().ptr());
}

// The arguments and the result of both kinds of gather_images.
template <typename Pixel>
struct Gather {
  Call call;
  Input<Pixel> images;
  Input<std::int64_t> index;
  Input<float> transform, views;
  GatherShape shape;
  Normalisation normalisation;
  Output<float> x;

  Gather(py::handle images_, py::handle index_, py::handle transform_, py::handle views_, py::handle mean, py::handle std,
         py::handle out)
      : call("gather_images", out),
        images(call.input<Pixel>("images", images_, "uint8 or float32")),
        index(call.input<std::int64_t>("index", index_)),
        transform(call.optional<float>("transform", transform_)),
        views(call.optional<float>("views", views_)),
        shape(gather_shape(call.op(), images.dims(), index.dims())),
        normalisation(call.op(), mean, std, images.dims().size() == 4 ? shape.c : 0),
        x(call.output<float>(0, {shape.n, shape.c, shape.h, shape.w})) {
    if (transform.data() != nullptr) expect_dims(call.op(), "transform", {shape.n, 2, 3}, transform.dims());
    if (views.data() != nullptr) expect_dims(call.op(), "views", {shape.count, 2, 3}, views.dims());
    expect_below(call.op(), "index", index, shape.count);
  }
};

template <typename Pixel>
py::array gather_images_of(py::handle images, py::handle index, py::handle mean, py::handle std, py::handle transform,
                           py::handle out) {
  const Gather<Pixel> g(images, index, transform, py::none(), mean, std, out);
  if (!transform.is_none()) expect_transformable(g.call.op(), g.shape);
  run_renewed(false, [x = g.x, from = g.images, index = g.index, by = g.transform, normal = g.normalisation, shape = g.shape] {
    cpu::gather_images(x.data(), from.data(), index.data(), by.data(), normal.mean.data(), normal.std.data(), shape);
  });
  return g.x.array();
}

py::array gather_images(py::handle images, py::handle index, py::handle mean, py::handle std, py::handle transform,
                        py::handle out) {
  const auto gather = are_floats(images) ? gather_images_of<float> : gather_images_of<std::uint8_t>;
  return gather(images, index, mean, std, transform, out);
}

template <typename Pixel>
py::array gather_augmented_of(py::handle images, py::handle index, py::handle mean, py::handle std,
                              const Augmentation& augmentation, std::uint64_t seed, const Renewed<std::uint64_t>& epoch,
                              py::handle views, py::handle out) {
  const Gather<Pixel> g(images, index, py::none(), views, mean, std, out);
  expect_transformable(g.call.op(), g.shape);
  run_renewed(epoch.is_fixed(), [x = g.x, from = g.images, index = g.index, normal = g.normalisation, shape = g.shape,
                                 views = g.views, augmentation, seed, epoch] {
    cpu::gather_augmented(x.data(), from.data(), index.data(), views.data(), augmentation, seed,
                          static_cast<std::uint32_t>(epoch.count()), normal.mean.data(), normal.std.data(), shape);
  });
  return g.x.array();
}

// fastlenet.augment has already checked the augmentation's numbers.
py::array gather_augmented(py::handle images, py::handle index, py::handle mean, py::handle std, std::int64_t shift,
                           double rotation, double scale, double shear, double elastic, double elastic_sigma,
                           std::int64_t cutout, std::uint64_t seed, py::handle epoch, py::handle views, py::handle out) {
  const Augmentation augmentation{shift, rotation, scale, shear, elastic, elastic_sigma, cutout};
  const auto gather = are_floats(images) ? gather_augmented_of<float> : gather_augmented_of<std::uint8_t>;
  const std::int64_t number = integer("gather_images", "epoch", epoch, 0, 0xFFFFFFFF, "an integer in 0..2^32-1");
  return gather(images, index, mean, std, augmentation, seed, renewed_count(epoch, static_cast<std::uint64_t>(number)), views,
                out);
}

}  // namespace

void bind_gather(py::module_& m) {
  define(m, "gather_images", gather_images, "images", "index", "mean", "std", "transform", "out");
  define(m, "gather_augmented", gather_augmented, "images", "index", "mean", "std", "shift", "rotation", "scale", "shear",
         "elastic", "elastic_sigma", "cutout", "seed", "epoch", "views", "out");
}

}  // namespace fastlenet
