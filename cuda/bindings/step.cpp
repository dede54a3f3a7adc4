// The parts of a captured training step that are not ops.
#include "bindings.hpp"

namespace fastlenet::cuda {

void bind_step(py::module_& m) {
  PYBIND11_NUMPY_DTYPE(Progress, loss_sum, correct, images, steps, all_steps, dropout_counter, epoch);
  m.attr("progress") = py::dtype::of<Progress>();
  m.def("begin_step", [](Address progress, Address order, Address all_labels, Address all_weights, Address rates, Address index,
                         Address labels, Address weights, Address rate, std::int64_t n) {
    begin_step({at<Progress>(progress), at<std::int64_t>(order), at<std::int64_t>(all_labels), at<float>(all_weights),
                at<double>(rates), at<std::int64_t>(index), at<std::int64_t>(labels), at<float>(weights), at<double>(rate)},
               n);
  });
  define(m, "end_step", end_step);
  define(m, "inverse_root", inverse_root);
}

}  // namespace fastlenet::cuda
