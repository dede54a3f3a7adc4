// Which instruction-set levels were built, which of them run here, and which one is in use.
#pragma once

#include <string>
#include <vector>

#include "../kernels/table.hpp"

namespace fastlenet {

// Names, best first: every level in this build, and those that this CPU and operating system support.
std::vector<std::string> levels_built();
std::vector<std::string> levels_available();

// The kernels in use: FASTLENET_ISA if set, else the best available.
const KernelTable& kernels();

// Switches the whole process to a level; for tests and benchmarks. Throws std::invalid_argument for an unknown level or
// one that this CPU lacks, and lists what there is.
void set_level(const std::string& name);

// Reads FASTLENET_ISA and selects; called once, when the extension is imported. Throws as set_level does.
void select_level();

}  // namespace fastlenet
