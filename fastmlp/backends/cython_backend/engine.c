/* One engine per instruction set and dtype, compiled from engine_body.h, and their table. */
#define _GNU_SOURCE  /* sched_getcpu and its kin, on Linux */
#include "engine.h"

#include <float.h>
#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "team.h"

#define JOIN_(name, real, isa) name##_##real##_##isa
#define JOIN(name, real, isa) JOIN_(name, real, isa)
#define NAME(name) JOIN(name, REAL, ISA)

/* Before a loop of constant length: unroll it completely. */
#ifdef __clang__
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

#if defined(__x86_64__)
/* Exactly the features that engine_isa_supported asks for. */
#define V2 "sse4.2,popcnt"
#define V3 "sse4.2,popcnt,avx2,fma,bmi,bmi2"
#define V4 "sse4.2,popcnt,avx2,fma,bmi,bmi2,avx512f,avx512bw,avx512cd,avx512dq,avx512vl"

/* Compile what lies between BEGIN_TARGET and END_TARGET for an instruction set. */
#define PRAGMA(...) _Pragma(#__VA_ARGS__)
#ifdef __clang__
#define BEGIN_TARGET(features) \
    PRAGMA(clang attribute push(__attribute__((target(features))), apply_to = function))
#define END_TARGET PRAGMA(clang attribute pop)
#else
#define BEGIN_TARGET(features) PRAGMA(GCC push_options) PRAGMA(GCC target(features))
#define END_TARGET PRAGMA(GCC pop_options)
#endif

/* How large tiles are. The sums of a tile must fit in the registers (32 with AVX-512 and on Arm, else
 * 16), in addition to a row of operands and a number to multiply it by.
 *
 * TILE_ROWS, TILE_VECTORS: dense. The more sums per operand that is loaded, the better.
 * MASKED_ROWS, MASKED_VECTORS: gradients from inputs that are mostly zeros. Rows can share a mask, as
 *   neighbours among the features (pixels, words of one text) are often zero together, and then use a
 *   row of operands more than once. But what is multiplied is more: of MNIST's pixels 19 % are not
 *   zero, of pairs 22 %, of fours 28 %; of zeros that know nothing of each other far more. With
 *   AVX-512, where a panel has four vectors, four rows are needed to fill the time that an addition
 *   takes. Of eight vectors one row has sums enough. Milliseconds of the gradient of 784-50-10 on AVX2
 *   (Zen 1, one thread, an epoch), the vectors of a panel being 7: rows x vectors of 4 x 2: 66,
 *   4 x 3: 56, 2 x 7: 62, 2 x 4: 48, 1 x 7: 50; of the last two, 1 x 7 makes an epoch 3 % faster on
 *   MNIST, and 11 to 18 % on random zeros.
 * SKIPPING_VECTORS: the panels of weights that inputs with zeros meet, at most. In the forward pass
 *   one walk over the mask of a sample serves a whole panel: two vectors at a time 85 ms, seven 47.
 *   Of 16 registers 14 can be sums. That is better than 8 (Zen 3, one thread, epochs): 784-100-50-25-10
 *   takes 0.89 of the time, 784-50-10 in float64 0.86, 784-300-10 0.93, with SSE4.2 0.80, 0.87, 0.83;
 *   each walk ends with a branch that is mispredicted, and a panel of 7 waits for its own sums.
 * PANEL_VECTORS: the same where predictions meet zeros; no panel is wider. Widths are compiled one by
 *   one, and the baseline has 8, because no processor of the last 15 years uses it on x86-64.
 * SKIPS_RELU: whether training also skips the zeros that ReLU makes. With AVX-512 it was not measured,
 *   and four sums there may wait for each other longer than the zeros take.
 *
 * NEON was not timed. Of the instructions in the inner loops (gcc 12, float32), these are products:
 * dense 6 x 2: 12 of 23, 5 x 4: 20 of 31, 6 x 4 and 8 x 3 keep sums in memory; masked 1 x 14: 14 of
 * 32, 1 x 8: 8 of 22, 1 x 4: 4 of 16, 2 x 8 and 4 x 4: 16 of 33. */
BEGIN_TARGET(V4)
#define ISA v4
#define ISA_NAME "x86-64-v4"
#define VECTOR_BYTES 64
#define TILE_ROWS 6
#define TILE_VECTORS 4
#define MASKED_ROWS 4
#define MASKED_VECTORS 4
#define SKIPPING_VECTORS 4
#define PANEL_VECTORS 8
#define SKIPS_RELU 0
#include "engine_dtypes.h"
END_TARGET

BEGIN_TARGET(V3)
#define ISA v3
#define ISA_NAME "x86-64-v3"
#define VECTOR_BYTES 32
#define TILE_ROWS 6
#define TILE_VECTORS 2
#define MASKED_ROWS 1
#define MASKED_VECTORS 14
#define SKIPPING_VECTORS 14
#define PANEL_VECTORS 14
#define SKIPS_RELU 1
#include "engine_dtypes.h"
END_TARGET

BEGIN_TARGET(V2)
#define ISA v2
#define ISA_NAME "x86-64-v2"
#define VECTOR_BYTES 16
#define TILE_ROWS 6
#define TILE_VECTORS 2
#define MASKED_ROWS 1
#define MASKED_VECTORS 14
#define SKIPPING_VECTORS 14
#define PANEL_VECTORS 14
#define SKIPS_RELU 1
#include "engine_dtypes.h"
END_TARGET
#endif

/* Whatever the compiler takes for granted: NEON on 64-bit Arm, SSE2 on x86-64. */
#define ISA baseline
#ifdef __aarch64__
#define BASELINE "neon"
#define TILE_ROWS 5
#define TILE_VECTORS 4
#define MASKED_ROWS 1
#define MASKED_VECTORS 14
#define SKIPPING_VECTORS 14
#define PANEL_VECTORS 14
#else
#define BASELINE "baseline"
#define TILE_ROWS 6
#define TILE_VECTORS 2
#define MASKED_ROWS 1
#define MASKED_VECTORS 8
#define SKIPPING_VECTORS 8
#define PANEL_VECTORS 8
#endif
#define ISA_NAME BASELINE
#define VECTOR_BYTES 16
#define SKIPS_RELU 1
#include "engine_dtypes.h"

#define NAME_OF(code, name) #name,
const char *const engine_activations[] = {"softmax", FUNCTIONS(NAME_OF) NULL};
const char *const engine_losses[] = {LOSSES(NAME_OF) NULL};
const char *const engine_optimizers[] = {OPTIMIZERS(NAME_OF) NULL};
const char *const engine_settings[] = {SETTINGS(NAME_OF) NULL};
#undef NAME_OF

#if defined(__x86_64__)
const char *const engine_isas[] = {"x86-64-v4", "x86-64-v3", "x86-64-v2", "baseline", NULL};

int engine_isa_supported(const char *isa)
{
    __builtin_cpu_init();
    int v2 = __builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("popcnt");
    int v3 = v2 && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
             __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2");
    int v4 = v3 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
             __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
             __builtin_cpu_supports("avx512vl");
    if (strcmp(isa, "x86-64-v4") == 0)
        return v4;
    if (strcmp(isa, "x86-64-v3") == 0)
        return v3;
    if (strcmp(isa, "x86-64-v2") == 0)
        return v2;
    return strcmp(isa, "baseline") == 0;
}
#else
const char *const engine_isas[] = {BASELINE, NULL};

int engine_isa_supported(const char *isa)
{
    return strcmp(isa, BASELINE) == 0;
}
#endif

const engine_api *engine_find(const char *isa, const char *dtype)
{
    static const engine_api *const engines[] = {
#if defined(__x86_64__)
        &api_float_v4, &api_double_v4, &api_float_v3, &api_double_v3,
        &api_float_v2, &api_double_v2,
#endif
        &api_float_baseline, &api_double_baseline,
    };
    for (size_t i = 0; i < sizeof(engines) / sizeof(engines[0]); i++)
        if (strcmp(engines[i]->isa, isa) == 0 && strcmp(engines[i]->dtype, dtype) == 0)
            return engines[i];
    return NULL;
}
