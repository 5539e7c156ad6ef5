/* For op_tests/oracle/clock_points.py: joins the parts of split requests with the accesses of AITER's mla_reduce_v1, of
 * which there is no code object. Two waves for each head and row: the list's bounds, where its parts are, their LSEs, one
 * a lane, and then the parts themselves, two under way. */
#include "device.h"

constexpr int WIDTH = 512, MOST = 256, LANES = 64;
constexpr float LOG2_E = 1.44269504f;

static __device__ inline float across(float value, int lane, bool sums) {
    for (int step = 1; step < LANES; step *= 2) {
        int bits = __builtin_amdgcn_ds_bpermute(4 * (lane ^ step), __builtin_bit_cast(int, value));
        float other = __builtin_bit_cast(float, bits);
        value = sums ? value + other : __builtin_fmaxf(value, other);
    }
    return value;
}

extern "C" __global__ __attribute__((amdgpu_flat_work_group_size(1, 128))) void merge(
    const int *bounds, const int *final_rows, const int *places, const float *lse, const float *parts, u32 *out, int heads) {
    __shared__ int place[MOST];
    __shared__ float weight[MOST];
    int t = thread_x(), lane = t % LANES, head = block_x(), row = (int)__builtin_amdgcn_workgroup_id_y();
    int list = (int)__builtin_amdgcn_workgroup_id_z(), begin = bounds[list], count = bounds[list + 1] - begin;
    if (count < 2) return;
    for (int i = t; i < count; i += 2 * LANES) place[i] = places[begin + i] + row;
    barrier();
    if (__builtin_amdgcn_readfirstlane(t) < LANES) {
        float value[MOST / LANES], top = -__builtin_inff(), sum = 0;
        for (int i = 0; i < MOST / LANES; i++) {
            int part = i * LANES + lane;
            value[i] = part < count ? lse[(long)place[part] * heads + head] : -__builtin_inff();
            top = __builtin_fmaxf(top, value[i]);
        }
        top = across(top, lane, false);
        for (float &x : value) sum += x = __builtin_amdgcn_exp2f((x - top) * LOG2_E);
        sum = across(sum, lane, true);
        for (int i = 0; i < MOST / LANES; i++) weight[i * LANES + lane] = value[i] / sum;
    }
    barrier();
    const float *mine = parts + (long)head * WIDTH + 4 * t;
    auto load = [&](int i) { return *(const f32x4 *)(mine + (long)place[i] * heads * WIDTH); };
    f32x4 even = load(0), total = 0;
    int i = 0;
#pragma unroll 1
    for (; i + 2 < count; i += 2) {
        f32x4 odd = load(i + 1);
        total += even * weight[i];
        even = load(i + 2);
        total += odd * weight[i + 1];
    }
    total += even * weight[i];
    if (i + 1 < count) total += load(i + 1) * weight[i + 1];
    u32 half[4];
    for (int c = 0; c < 4; c++) {
        float sum = total[c];
        half[c] = (__builtin_bit_cast(u32, sum) + 0x8000) >> 16;
    }
    u32 *to = out + ((long)(final_rows[2 * list] + row) * heads + head) * (WIDTH / 2) + 2 * t;
    to[0] = half[0] | half[1] << 16;
    to[1] = half[2] | half[3] << 16;
}
