// The three products of a linear layer, by one tiled kernel.
#include "common.cuh"

namespace fastlenet::cuda {

namespace {

// A block computes 32 x 32 outputs, a thread 4 x 4: per step of depth it reads two float4 from shared memory for 16
// multiply-adds. The
// tiles are small because the layers are: fc1 at batch 128 has 4 x 16 tiles for 132 multiprocessors.
constexpr int kTile = 32, kOwn = 4, kDepth = 16;
constexpr int kThreads = kTile / kOwn * (kTile / kOwn);
constexpr int kLoads = kTile * kDepth / kThreads;

// A matrix in memory. Element (i, d) belongs to output row (or column) i at depth d.
struct Operand {
  const float* data;
  std::int64_t pitch;  // between rows in memory; the elements of a row are contiguous
  int size;            // the number of i
};

// Two tiles of each operand: one is used while the other is filled. They are [depth][i] and read four i at once. The rows are 4
// longer, so that filling them along d is spread over the banks.
struct Tiles {
  alignas(16) float a[2][kDepth][kTile + 4];
  alignas(16) float b[2][kDepth][kTile + 4];
};

// A tile's elements are read in memory order: along d, or along i.
template <bool along_depth>
struct Place {
  int i, d;
  __device__ explicit Place(int number)
      : i(along_depth ? number / kDepth : number % kTile), d(along_depth ? number % kDepth : number / kTile) {}
};

// Loads this thread's share of a tile into registers, with zeros beyond the matrix.
template <bool along_depth>
__device__ __forceinline__ void fetch(float (&values)[kLoads], const Operand& from, int first, int depth_begin, int depth) {
#pragma unroll
  for (int j = 0; j < kLoads; ++j) {
    const Place<along_depth> place(static_cast<int>(threadIdx.x) + j * kThreads);
    const int i = first + place.i, d = depth_begin + place.d;
    const std::int64_t at = along_depth ? i * from.pitch + d : d * from.pitch + i;
    values[j] = i < from.size && d < depth ? from.data[at] : 0.0f;
  }
}

template <bool along_depth>
__device__ __forceinline__ void put(float (&tile)[kDepth][kTile + 4], const float (&values)[kLoads]) {
#pragma unroll
  for (int j = 0; j < kLoads; ++j) {
    const Place<along_depth> place(static_cast<int>(threadIdx.x) + j * kThreads);
    tile[place.d][place.i] = values[j];
  }
}

__device__ __forceinline__ void take_four(float (&values)[kOwn], const float* from) {
  const float4 four = *reinterpret_cast<const float4*>(from);
  values[0] = four.x;
  values[1] = four.y;
  values[2] = four.z;
  values[3] = four.w;
}

// c[m][n] = start[n] + sum over d of a(m, d) * b(n, d), one chain in the order of d. So the bits depend neither on the batch
// nor on the tiles. start may be null.
template <bool a_along_depth, bool b_along_depth>
__global__ void __launch_bounds__(kThreads, 6) product(float* c, Operand a, Operand b, const float* start, int depth) {
  Tiles& tiles = block_shared<Tiles>();
  const int first_m = static_cast<int>(blockIdx.x) * kTile, first_n = static_cast<int>(blockIdx.y) * kTile;
  const int own_m = static_cast<int>(threadIdx.x) / (kTile / kOwn) * kOwn;
  const int own_n = static_cast<int>(threadIdx.x) % (kTile / kOwn) * kOwn;
  float sum[kOwn][kOwn], next_a[kLoads], next_b[kLoads];
#pragma unroll
  for (int j = 0; j < kOwn; ++j) {
    const int n = first_n + own_n + j;
    const float from = start != nullptr && n < b.size ? start[n] : 0.0f;
#pragma unroll
    for (int i = 0; i < kOwn; ++i) sum[i][j] = from;
  }
  fetch<a_along_depth>(next_a, a, first_m, 0, depth);
  fetch<b_along_depth>(next_b, b, first_n, 0, depth);
  for (int begin = 0; begin < depth; begin += kDepth) {
    // One barrier per step is enough: the tile that is filled now was last read before the previous step's barrier.
    const int half = begin / kDepth % 2;
    put<a_along_depth>(tiles.a[half], next_a);
    put<b_along_depth>(tiles.b[half], next_b);
    __syncthreads();
    fetch<a_along_depth>(next_a, a, first_m, begin + kDepth, depth);
    fetch<b_along_depth>(next_b, b, first_n, begin + kDepth, depth);
#pragma unroll
    for (int d = 0; d < kDepth; ++d) {
      float left[kOwn], right[kOwn];
      take_four(left, &tiles.a[half][d][own_m]);
      take_four(right, &tiles.b[half][d][own_n]);
#pragma unroll
      for (int i = 0; i < kOwn; ++i) {
#pragma unroll
        for (int j = 0; j < kOwn; ++j) sum[i][j] = fmaf(left[i], right[j], sum[i][j]);
      }
    }
  }
#pragma unroll
  for (int i = 0; i < kOwn; ++i) {
#pragma unroll
    for (int j = 0; j < kOwn; ++j) {
      const int m = first_m + own_m + i, n = first_n + own_n + j;
      if (m < a.size && n < b.size) c[static_cast<std::int64_t>(m) * b.size + n] = sum[i][j];
    }
  }
}

template <bool a_along_depth, bool b_along_depth>
void launch_product(const char* op, float* c, const Operand& a, const Operand& b, const float* start, std::int64_t depth) {
  if (a.size == 0 || b.size == 0) return;
  launch(op, product<a_along_depth, b_along_depth>, dim3(blocks_of(a.size, kTile), blocks_of(b.size, kTile)), kThreads,
         stream(), c, a, b, start, static_cast<int>(depth));
}

constexpr int kBiasRows = 16;

struct Sums {
  float part[kBiasRows][kWarp];
};

// Computes dbias of 32 outputs, one per lane. The warps share the images, and their sums are added in order.
__global__ void __launch_bounds__(kWarp* kBiasRows) backward_bias(float* dbias, const float* dy, std::int64_t n, int outputs) {
  Sums& sums = block_shared<Sums>();
  const int lane = static_cast<int>(threadIdx.x) % kWarp, row = static_cast<int>(threadIdx.x) / kWarp;
  const int out = static_cast<int>(blockIdx.x) * kWarp + lane;
  float sum = 0.0f;
  if (out < outputs) {
#pragma unroll 4
    for (std::int64_t i = row; i < n; i += kBiasRows) sum += dy[i * outputs + out];
  }
  sums.part[row][lane] = sum;
  __syncthreads();
  if (row != 0 || out >= outputs) return;
  for (int i = 1; i < kBiasRows; ++i) sum += sums.part[i][lane];
  dbias[out] = sum;
}

Operand operand(const float* data, std::int64_t pitch, std::int64_t size) { return {data, pitch, static_cast<int>(size)}; }

}  // namespace

void linear_forward(float* y, const float* x, const float* weight, const float* bias, const LinearShape& shape) {
  const char* op = "linear_forward";
  for (std::int64_t size : {shape.n, shape.in, shape.out}) expect_narrow(op, size);
  launch_product<true, true>(op, y, operand(x, shape.in, shape.n), operand(weight, shape.in, shape.out), bias, shape.in);
}

void linear_backward(float* dx, float* dweight, float* dbias, const float* dy, const float* x, const float* weight,
                     const LinearShape& shape) {
  const char* op = "linear_backward";
  for (std::int64_t size : {shape.n, shape.in, shape.out}) expect_narrow(op, size);
  if (dx != nullptr) {
    launch_product<true, false>(op, dx, operand(dy, shape.out, shape.n), operand(weight, shape.in, shape.in), nullptr,
                                shape.out);
  }
  launch_product<false, false>(op, dweight, operand(dy, shape.out, shape.out), operand(x, shape.in, shape.in), nullptr,
                               shape.n);
  if (shape.out > 0) {
    launch(op, backward_bias, blocks_of(shape.out, kWarp), kWarp * kBiasRows, stream(), dbias, dy, shape.n,
           static_cast<int>(shape.out));
  }
}

}  // namespace fastlenet::cuda
