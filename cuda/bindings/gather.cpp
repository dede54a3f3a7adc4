// Batches of images, plain or distorted.
#include "bindings.hpp"

namespace fastlenet::cuda {

using Numbers = std::vector<double>;

void bind_gather(py::module_& m) {
  py::class_<GatherShape>(m, "GatherShape").def_property_readonly("x", [](const GatherShape& shape) {
    return py::make_tuple(shape.n, shape.c, shape.h, shape.w);
  });
  m.def("gather_shape", gather_shape);
  m.def("expect_transformable", expect_transformable);
  m.def("gather_images", [](Address x, Address images, bool floats, Address index, Address transform, const Numbers& mean,
                            const Numbers& std, const GatherShape& shape) {
    const auto gather = [&](auto pixels) {
      gather_images(at<float>(x), pixels, at<std::int64_t>(index), at<float>(transform), mean.data(), std.data(), shape);
    };
    floats ? gather(at<const float>(images)) : gather(at<const std::uint8_t>(images));
  });
  m.def("gather_augmented", [](Address x, Address images, bool floats, Address index, std::int64_t shift, double rotation,
                               double scale, double shear, double elastic, double elastic_sigma, std::int64_t cutout,
                               std::uint64_t seed, Passed<const Count&>::Given epoch, Address views, Address taps,
                               std::int64_t radius, const Numbers& mean, const Numbers& std, const GatherShape& shape) {
    const Augmentation augmentation{shift, rotation, scale, shear, elastic, elastic_sigma, cutout};
    const auto gather = [&](auto pixels) {
      gather_augmented(at<float>(x), pixels, at<std::int64_t>(index), at<float>(views), augmentation, seed,
                       Passed<const Count&>::value(epoch), {at<float>(taps), radius}, mean.data(), std.data(), shape);
    };
    floats ? gather(at<const float>(images)) : gather(at<const std::uint8_t>(images));
  });
  m.def("gaussian_taps", [](double sigma, std::int64_t size) {
    const Gaussian gaussian(sigma, size, 0);
    return py::array_t<float>(static_cast<py::ssize_t>(gaussian.taps.size()), gaussian.taps.data());
  });
}

}  // namespace fastlenet::cuda
