// Gives Python the checks of sizes and numbers in shapes.cpp and arguments.hpp, which all ops use.
#include <limits>

#include "bindings.hpp"

namespace fastlenet::cuda {

void bind_checks(py::module_& m) {
  m.def("expect_dims", expect_dims);
  m.def("expect_rank", expect_rank);
  m.def("number", number);
  m.def("fraction", fraction);
  m.def("not_negative", not_negative);
  m.def("word", word);
  m.def("count_from_one", [](const char* op, const char* argument, py::handle value) {
    return integer(op, argument, value, 1, std::numeric_limits<std::int64_t>::max(), "a count from 1");
  });
  m.def("positive", [](const char* op, const char* argument, py::handle value) {
    return integer(op, argument, value, 1, std::numeric_limits<std::int64_t>::max(), "a positive integer");
  });
  m.def("normalisation", [](const char* op, py::handle mean, py::handle std, std::int64_t channels) {
    const Normalisation found(op, mean, std, channels);
    return py::make_tuple(found.mean, found.std);
  });
}

}  // namespace fastlenet::cuda
