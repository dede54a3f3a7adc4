// The instruction-set levels: which were built, which this CPU supports, and which one is in use.
#pragma once

#include <string>
#include <vector>

#include "../kernels/table.hpp"

namespace fastlenet {

// Names, best first: every level in this build, and those that this CPU and operating system support.
std::vector<std::string> levels_built();
std::vector<std::string> levels_available();

#if defined(__x86_64__)
bool cpu_has_v3();  // the instructions of x86-64-v3 and x86-64-v4
bool cpu_has_v4();
#endif

// The kernels of the level in use: FASTLENET_ISA if set, else the best available.
const KernelTable& kernels();

// Switches the whole process to a level; for tests and benchmarks. For a level that is unknown, or that this CPU lacks, throws
// std::invalid_argument, which lists the available ones.
void set_level(const std::string& name);

// Selects the level by FASTLENET_ISA. Called once, when the extension is imported. Throws as set_level does.
void select_level();

}  // namespace fastlenet
