// Constants that differ between a GPU and the emulated GPU.
#pragma once

namespace fastlenet::cuda {

constexpr const char* kBuild = "built for the emulated GPU";
// No memory is reused, for the address sanitizer.
constexpr bool kKeepFreedMemory = false;

}  // namespace fastlenet::cuda
