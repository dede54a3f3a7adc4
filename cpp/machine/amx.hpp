// AMX on this machine: whether the CPU and the kernel have it, and the kernel's permission to use its tiles.
#pragma once

#include <string>

namespace fastlenet {

// Whether the CPU has tiles of bfloat16 and AVX512_BF16, by which the kernels round; or tiles of int8 and AVX512_VNNI, by which
// they multiply one image. The operating system must save the tiles.
bool cpu_has_amx_bf16();
bool cpu_has_amx_int8();

// Asks the kernel for permission, once per process: it belongs to the process, to all of its threads and to forked children.
// Returns why the tiles cannot be used, in one line, or "" if they can.
std::string amx_bf16_refusal();
std::string amx_int8_refusal();

// For config(): "not on this CPU", "not asked for yet", "granted", or "refused: " and why. Asks for nothing.
std::string amx_state();

}  // namespace fastlenet
