// The optimizers' steps.
#include "bindings.hpp"

namespace fastlenet::cuda {

namespace {

Average average_at(const Address& values, float decay) { return {at<float>(values), decay}; }

}  // namespace

void bind_update(py::module_& m) {
  using RateGiven = Passed<const Rate&>::Given;
  m.def("sgd_step", [](Address parameters, Address gradients, Address velocity, Address average, RateGiven lr,
                       std::int64_t count, float momentum, bool nesterov, float weight_decay, float decay) {
    sgd_step(at<float>(parameters), at<float>(gradients), at<float>(velocity), average_at(average, decay),
             Passed<const Rate&>::value(lr), count, {momentum, weight_decay, nesterov});
  });
  m.def("adam_step", [](Address parameters, Address gradients, Address first_moment, Address second_moment, Address average,
                        std::int64_t count, Passed<const Count&>::Given step, RateGiven lr, double beta1, double beta2,
                        double eps, double weight_decay, float decay) {
    adam_step(at<float>(parameters), at<float>(gradients), at<float>(first_moment), at<float>(second_moment),
              average_at(average, decay), count, Passed<const Count&>::value(step), Passed<const Rate&>::value(lr),
              {beta1, beta2, eps, weight_decay});
  });
  m.def("muon_step",
        [](Address parameters, Address gradients, Address velocity, Address average, std::int64_t count, py::handle matrices,
           RateGiven lr, RateGiven matrix_lr, float momentum, bool nesterov, float weight_decay, float decay) {
          muon_step(at<float>(parameters), at<float>(gradients), at<float>(velocity), average_at(average, decay), count,
                    matrix_parts("muon_step", "matrices", matrices, count), Passed<const Rate&>::value(lr),
                    Passed<const Rate&>::value(matrix_lr), {momentum, weight_decay, nesterov});
        });
  define(m, "ema_step", ema_step);
}

}  // namespace fastlenet::cuda
