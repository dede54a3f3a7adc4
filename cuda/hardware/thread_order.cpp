#include "../cuda_ops.hpp"

namespace fastlenet::cuda {

std::vector<std::string> thread_orders() { return {"hardware"}; }

void set_thread_order(const std::string&) {}

}  // namespace fastlenet::cuda
