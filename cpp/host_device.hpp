// Marks functions that GPU kernels call too.
#pragma once

#ifdef __CUDACC__
#define FASTLENET_HOST_DEVICE __host__ __device__
#else
#define FASTLENET_HOST_DEVICE
#endif
