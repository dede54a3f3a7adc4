// The ops on addresses of device memory and on shapes that shapes.cpp has checked; python/fastlenet/cuda has the arrays.
#include "bindings.hpp"

#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <limits>
#include <optional>

#include "../cpp/bindings/arguments.hpp"
#include "../cpp/bindings/gil.hpp"
#include "dlpack.hpp"

namespace fastlenet::cuda {

namespace py = pybind11;

namespace {

// The address of an array's first element; None stands for an absent one.
using Address = std::optional<std::uintptr_t>;

template <typename Element>
Element* at(const Address& address) {
  return address ? reinterpret_cast<Element*>(*address) : nullptr;
}

float* floats(const Address& address) { return at<float>(address); }

// As Python has them: (address or None, factor or offset).
using RateArgument = std::pair<Address, double>;
using CountArgument = std::pair<Address, std::uint64_t>;

Rate rate_of(const RateArgument& argument) { return {at<const double>(argument.first), argument.second}; }

Count count_of(const CountArgument& argument) { return {at<const std::uint64_t>(argument.first), argument.second}; }

struct DeviceMemory {
  explicit DeviceMemory(std::size_t bytes) : memory(allocate(bytes)) {}
  std::uintptr_t address() const { return reinterpret_cast<std::uintptr_t>(memory.get()); }
  Memory memory;
};

void bind_memory(py::module_& m) {
  py::class_<DeviceMemory>(m, "Memory").def(py::init<std::size_t>()).def_property_readonly("address", &DeviceMemory::address);
  m.def("copy_to_device", [](Address to, const py::array& from) {
    copy_to_device(at<void>(to), from.data(), static_cast<std::size_t>(from.nbytes()));
  });
  m.def("copy_to_host", [](py::array to, Address from) {
    void* data = to.mutable_data();
    const std::size_t bytes = static_cast<std::size_t>(to.nbytes());
    without_gil([&] { copy_to_host(data, at<void>(from), bytes); });
  });
  m.def("copy_on_device",
        [](Address to, Address from, std::size_t bytes) { copy_on_device(at<void>(to), at<void>(from), bytes); });
  m.def("set_bytes", [](Address to, int value, std::size_t bytes) { set_bytes(at<void>(to), value, bytes); });
  m.def("fill", [](Address to, float value, std::int64_t count) { fill(floats(to), value, count); });
  m.def("synchronize", synchronize, py::call_guard<WithoutGil>());
  m.def("expect_on_device", [](Address address) { expect_on_device(at<void>(address)); });
  m.def("to_dlpack", to_dlpack);
  m.def("from_dlpack", from_dlpack);
  m.def("thread_orders", thread_orders);
  m.def("set_thread_order", set_thread_order);
}

void bind_graphs(py::module_& m) {
  py::class_<Graph>(m, "Graph").def("launch", &Graph::launch);
  m.def("begin_graph", Graph::begin);
  m.def("end_graph", Graph::end);
}

void bind_shapes(py::module_& m) {
  py::class_<ConvShape>(m, "ConvShape").def_property_readonly("y", [](const ConvShape& shape) {
    return py::make_tuple(shape.n, shape.k, shape.p, shape.q);
  });
  py::class_<PoolShape>(m, "PoolShape")
      .def_property_readonly("x", [](const PoolShape& shape) { return py::make_tuple(shape.n, shape.c, shape.h, shape.w); })
      .def_property_readonly("y", [](const PoolShape& shape) { return py::make_tuple(shape.n, shape.c, shape.p, shape.q); });
  py::class_<ConvPoolShape>(m, "ConvPoolShape")
      .def_property_readonly(
          "y",
          [](const ConvPoolShape& shape) { return py::make_tuple(shape.pool.n, shape.pool.c, shape.pool.p, shape.pool.q); })
      .def_property_readonly("window", [](const ConvPoolShape& shape) { return shape.pool.r * shape.pool.s; });
  py::class_<LinearShape>(m, "LinearShape").def_property_readonly("y", [](const LinearShape& shape) {
    return py::make_tuple(shape.n, shape.out);
  });
  py::class_<GatherShape>(m, "GatherShape").def_property_readonly("x", [](const GatherShape& shape) {
    return py::make_tuple(shape.n, 1, shape.h, shape.w);
  });
  m.def("conv_shape", [](const char* op, const Dims& x, const Dims& weight, py::handle stride, py::handle padding) {
    return conv_shape(op, x, weight, pair(op, "stride", stride), pair(op, "padding", padding));
  });
  m.def("pool_shape", [](const char* op, const Dims& x, py::handle kernel_size, py::handle stride, py::handle padding) {
    const Pair size = pair(op, "kernel_size", kernel_size);
    return pool_shape(op, x, size, stride.is_none() ? size : pair(op, "stride", stride), pair(op, "padding", padding));
  });
  m.def("unpool_shape",
        [](const char* op, const Dims& dy, py::handle x_shape) { return unpool_shape(op, dy, sizes(op, "x_shape", x_shape)); });
  m.def("conv_pool_shape", [](const char* op, const Dims& x, const Dims& weight, py::handle padding, py::handle kernel_size) {
    return conv_pool_shape(op, x, weight, pair(op, "padding", padding), pair(op, "kernel_size", kernel_size));
  });
  m.def("linear_shape", linear_shape);
  m.def("gather_shape", gather_shape);
  m.def("expect_transformable", expect_transformable);
  m.def("expect_dims", expect_dims);
  m.def("expect_rank", expect_rank);
  m.def("expect_filters", expect_filters);
}

void bind_numbers(py::module_& m) {
  m.def("number", number);
  m.def("fraction", fraction);
  m.def("word", word);
  m.def("count_from_one", [](const char* op, const char* argument, py::handle value) {
    return integer(op, argument, value, 1, std::numeric_limits<std::int64_t>::max(), "a count from 1");
  });
  m.def("normalisation", [](const char* op, py::handle mean, py::handle std) {
    const Normalisation found(op, mean, std);
    return py::make_tuple(found.mean, found.std);
  });
}

void bind_layers(py::module_& m) {
  m.def("conv2d_forward", [](Address y, Address x, Address weight, Address bias, const ConvShape& shape) {
    conv2d_forward(floats(y), floats(x), floats(weight), floats(bias), shape);
  });
  m.def("conv2d_backward",
        [](Address dx, Address dweight, Address dbias, Address dy, Address x, Address weight, const ConvShape& shape) {
          conv2d_backward(floats(dx), floats(dweight), floats(dbias), floats(dy), floats(x), floats(weight), shape);
        });
  m.def("max_pool2d_forward", [](Address y, Address indices, Address x, const PoolShape& shape) {
    max_pool2d_forward(floats(y), at<std::int32_t>(indices), floats(x), shape);
  });
  m.def("max_pool2d_backward", [](Address dx, Address dy, Address indices, const PoolShape& shape) {
    max_pool2d_backward(floats(dx), floats(dy), at<std::int32_t>(indices), shape);
  });
  m.def("conv2d_relu_max_pool2d_forward",
        [](Address y, Address winners, Address x, Address weight, Address bias, const ConvPoolShape& shape) {
          conv2d_relu_max_pool2d_forward(floats(y), at<std::uint8_t>(winners), floats(x), floats(weight), floats(bias), shape);
        });
  m.def("conv2d_relu_max_pool2d_backward", [](Address dx, Address dweight, Address dbias, Address dy, Address winners,
                                              Address x, Address weight, const ConvPoolShape& shape) {
    conv2d_relu_max_pool2d_backward(floats(dx), floats(dweight), floats(dbias), floats(dy), at<std::uint8_t>(winners),
                                    floats(x), floats(weight), shape);
  });
  m.def("linear_forward", [](Address y, Address x, Address weight, Address bias, const LinearShape& shape) {
    linear_forward(floats(y), floats(x), floats(weight), floats(bias), shape);
  });
  m.def("linear_backward",
        [](Address dx, Address dweight, Address dbias, Address dy, Address x, Address weight, const LinearShape& shape) {
          linear_backward(floats(dx), floats(dweight), floats(dbias), floats(dy), floats(x), floats(weight), shape);
        });
}

void bind_gather(py::module_& m) {
  m.def("gather_images",
        [](Address x, Address images, Address index, Address transform, double mean, double std, const GatherShape& shape) {
          gather_images(floats(x), at<std::uint8_t>(images), at<std::int64_t>(index), floats(transform), mean, std, shape);
        });
  m.def("gather_augmented",
        [](Address x, Address images, Address index, std::int64_t shift, double rotation, double scale, double shear,
           double elastic, double elastic_sigma, std::int64_t cutout, std::uint64_t seed, CountArgument epoch, Address taps,
           std::int64_t radius, double mean, double std, const GatherShape& shape) {
          const Augmentation augmentation{shift, rotation, scale, shear, elastic, elastic_sigma, cutout};
          gather_augmented(floats(x), at<std::uint8_t>(images), at<std::int64_t>(index), augmentation, seed, count_of(epoch),
                           {floats(taps), radius}, mean, std, shape);
        });
  m.def("gaussian_taps", [](double sigma, std::int64_t size) {
    const Gaussian gaussian(sigma, size, 0);
    return py::array_t<float>(static_cast<py::ssize_t>(gaussian.taps.size()), gaussian.taps.data());
  });
}

void bind_step(py::module_& m) {
  PYBIND11_NUMPY_DTYPE(Progress, loss_sum, images, steps, all_steps, dropout_counter, epoch);
  m.attr("progress") = py::dtype::of<Progress>();
  m.def("begin_step", [](Address progress, Address order, Address all_labels, Address rates, Address index, Address labels,
                         Address rate, std::int64_t n) {
    begin_step({at<Progress>(progress), at<std::int64_t>(order), at<std::int64_t>(all_labels), at<double>(rates),
                at<std::int64_t>(index), at<std::int64_t>(labels), at<double>(rate)},
               n);
  });
  m.def("end_step",
        [](Address progress, Address loss, std::int64_t n) { end_step(at<Progress>(progress), at<double>(loss), n); });
  m.def("inverse_root", [](Address result, Address square) { inverse_root(at<double>(result), at<double>(square)); });
}

void bind_element_wise(py::module_& m) {
  using Map = void (*)(float*, const float*, std::int64_t);
  using Gradient = void (*)(float*, const float*, const float*, std::int64_t);
  for (const auto& [name, map] :
       {std::pair<const char*, Map>{"relu_forward", relu_forward}, {"sigmoid_forward", sigmoid_forward}}) {
    m.def(name, [map = map](Address y, Address x, std::int64_t count) { map(floats(y), floats(x), count); });
  }
  for (const auto& [name, gradient] : {std::pair<const char*, Gradient>{"relu_backward", relu_backward},
                                       {"sigmoid_backward", sigmoid_backward},
                                       {"dropout_backward", dropout_backward}}) {
    m.def(name, [gradient = gradient](Address dx, Address dy, Address other, std::int64_t count) {
      gradient(floats(dx), floats(dy), floats(other), count);
    });
  }
  m.def("dropout_forward",
        [](Address y, Address mask, Address x, double rate, std::uint64_t seed, CountArgument counter, std::int64_t count) {
          dropout_forward(floats(y), floats(mask), floats(x), rate, seed, count_of(counter), count);
        });
  m.def("softmax_cross_entropy", [](Address loss, Address dlogits, Address logits, Address labels, std::int64_t rows,
                                    std::int64_t classes, double label_smoothing) {
    softmax_cross_entropy(at<double>(loss), floats(dlogits), floats(logits), at<std::int64_t>(labels), rows, classes,
                          label_smoothing);
  });
  m.def("squared_error", [](Address loss, Address dprediction, Address prediction, Address target, std::int64_t count) {
    squared_error(at<double>(loss), floats(dprediction), floats(prediction), floats(target), count);
  });
}

void bind_updates(py::module_& m) {
  m.def("sgd_step", [](Address parameters, Address gradients, Address velocity, RateArgument lr, std::int64_t count,
                       float momentum, bool nesterov, float weight_decay) {
    sgd_step(floats(parameters), floats(gradients), floats(velocity), rate_of(lr), count, {momentum, weight_decay, nesterov});
  });
  m.def("adam_step", [](Address parameters, Address gradients, Address first_moment, Address second_moment, std::int64_t count,
                        CountArgument step, RateArgument lr, double beta1, double beta2, double eps, double weight_decay) {
    adam_step(floats(parameters), floats(gradients), floats(first_moment), floats(second_moment), count, count_of(step),
              rate_of(lr), {beta1, beta2, eps, weight_decay});
  });
  m.def("ema_step", [](Address average, Address parameters, std::int64_t count, float decay) {
    ema_step(floats(average), floats(parameters), count, decay);
  });
}

}  // namespace

py::object backend() {
  auto m = py::reinterpret_borrow<py::module_>(py::module_::import("types").attr("ModuleType")("fastlenet._core.cuda"));
  bind_memory(m);
  bind_graphs(m);
  bind_shapes(m);
  bind_numbers(m);
  bind_layers(m);
  bind_gather(m);
  bind_step(m);
  bind_element_wise(m);
  bind_updates(m);
  return m;
}

}  // namespace fastlenet::cuda
