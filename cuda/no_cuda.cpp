// Linked when the package is built without CUDA.
#include "cuda_ops.hpp"

namespace fastlenet::cuda {

const char* status() { return "not built"; }

}  // namespace fastlenet::cuda
