/* Both dtypes of the engine for the instruction set that engine.c has selected. */

#define REAL float
#define REAL_EPSILON FLT_EPSILON
#define REAL_MIN FLT_MIN
#define REAL_EXP expf
#define REAL_TANH tanhf
#define REAL_SQRT sqrtf
#define REAL_DTYPE "float32"
#include "engine_body.h"

#define REAL double
#define REAL_EPSILON DBL_EPSILON
#define REAL_MIN DBL_MIN
#define REAL_EXP exp
#define REAL_TANH tanh
#define REAL_SQRT sqrt
#define REAL_DTYPE "float64"
#include "engine_body.h"

#undef ISA
#undef ISA_NAME
#undef VECTOR_BYTES
#undef PANEL_VECTORS
#undef TILE_ROWS
