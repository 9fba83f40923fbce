/* Both dtypes of the engine for the instruction set that engine.c has selected. */

#define REAL float
#define REAL_BITS uint32_t
#define REAL_SIGNED_BITS int32_t
#define REAL_MANTISSA 23
#define REAL_BIAS 127
#define REAL_EPSILON FLT_EPSILON
#define REAL_MIN FLT_MIN
#define REAL_SQRT sqrtf
#define REAL_DTYPE "float32"
/* Of exp and tanh; the high part of ln 2 has so few digits that its multiples are exact. */
#define REAL_TERMS 7
#define REAL_LOG2E 1.44269504f
#define REAL_LN2_HIGH 0x1.62e4p-1f
#define REAL_LN2_LOW 0x1.7f7d1cp-20f
#define REAL_EXP_LOW (-105.0f)
#define REAL_EXP_HIGH 89.0f
#define REAL_TANH_LIMIT 10.0f
#include "engine_body.h"

#define REAL double
#define REAL_BITS uint64_t
#define REAL_SIGNED_BITS int64_t
#define REAL_MANTISSA 52
#define REAL_BIAS 1023
#define REAL_EPSILON DBL_EPSILON
#define REAL_MIN DBL_MIN
#define REAL_SQRT sqrt
#define REAL_DTYPE "float64"
#define REAL_TERMS 13
#define REAL_LOG2E 1.4426950408889634
#define REAL_LN2_HIGH 0x1.62e42feep-1
#define REAL_LN2_LOW 0x1.a39ef35793c76p-33
#define REAL_EXP_LOW (-746.0)
#define REAL_EXP_HIGH 710.0
#define REAL_TANH_LIMIT 20.0
#include "engine_body.h"

#undef ISA
#undef ISA_NAME
#undef VECTOR_BYTES
#undef TILE_ROWS
#undef TILE_VECTORS
#undef MASKED_ROWS
#undef MASKED_VECTORS
#undef SKIPPING_VECTORS
#undef PANEL_VECTORS
#undef SKIPS_RELU
