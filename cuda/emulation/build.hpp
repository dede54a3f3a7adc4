// What a GPU and the emulated one differ in besides launching.
#pragma once

namespace fastlenet::cuda {

constexpr const char* kBuild = "built for the emulated GPU";
// Every allocation is a new one, for the address sanitizer.
constexpr bool kKeepFreedMemory = false;

}  // namespace fastlenet::cuda
