/* exp and tanh as polynomials, and the activations that use them, for one dtype and instruction
 * set. The loops have no branches and no calls, so that the compiler vectorizes them;
 * the scalar functions of the C library would take longer than the matrix products.
 *
 * Method: x = n ln 2 + r with |r| <= ln 2 / 2, exp(x) = 2^n exp(r), and exp(r) by its Taylor
 * series up to REAL_TERMS, whose remainder is below half a unit in the last place
 * (Muller, Elementary Functions, 3rd ed., ch. 11). tests/test_backends.py checks the errors
 * against the C library.
 */

/* 1 / k!, from k = 2 on. */
static const REAL NAME(inverse_factorials)[] = {
    (REAL)(1.0 / 2), (REAL)(1.0 / 6), (REAL)(1.0 / 24), (REAL)(1.0 / 120), (REAL)(1.0 / 720),
    (REAL)(1.0 / 5040), (REAL)(1.0 / 40320), (REAL)(1.0 / 362880), (REAL)(1.0 / 3628800),
    (REAL)(1.0 / 39916800), (REAL)(1.0 / 479001600), (REAL)(1.0 / 6227020800),
};

/* 2^n for n within the exponents of normal numbers. */
static inline __attribute__((always_inline)) REAL NAME(power_of_2)(REAL_BITS n)
{
    REAL_BITS bits = (n + REAL_BIAS) << REAL_MANTISSA;
    REAL power;
    memcpy(&power, &bits, sizeof(power));
    return power;
}

/* Return exp(r) - 1 and, in *n, the power of two: exp(x) = 2^n exp(r). NaN gives NaN. */
static inline __attribute__((always_inline)) REAL NAME(reduced_expm1)(REAL x, REAL_BITS *n)
{
    /* Adding it rounds to an integer, which then stands in the last bits of the sum. */
    const REAL magic = (REAL)1.5 * (REAL)((REAL_BITS)1 << REAL_MANTISSA);
    REAL shifted = x * REAL_LOG2E + magic, whole = shifted - magic;
    REAL_BITS bits, zero;
    memcpy(&bits, &shifted, sizeof(bits));
    memcpy(&zero, &magic, sizeof(zero));
    *n = bits - zero;
    REAL r = x - whole * REAL_LN2_HIGH - whole * REAL_LN2_LOW;
    REAL p = NAME(inverse_factorials)[REAL_TERMS - 2];
    for (int k = REAL_TERMS - 3; k >= 0; k--)
        p = p * r + NAME(inverse_factorials)[k];
    return r + r * r * p;
}

static inline __attribute__((always_inline)) REAL NAME(exp)(REAL x)
{
    /* Beyond these limits the result is 0 or infinity. */
    x = x < REAL_EXP_LOW ? REAL_EXP_LOW : x;
    x = x > REAL_EXP_HIGH ? REAL_EXP_HIGH : x;
    REAL_BITS n;
    REAL p = NAME(reduced_expm1)(x, &n) + 1;
    /* In two steps, because 2^n itself may be no normal number. */
    REAL_BITS half = (REAL_BITS)((REAL_SIGNED_BITS)n >> 1);
    return p * NAME(power_of_2)(half) * NAME(power_of_2)(n - half);
}

static inline __attribute__((always_inline)) REAL NAME(tanh)(REAL x)
{
    /* Beyond these limits it is 1 to the last bit. */
    x = x < -REAL_TANH_LIMIT ? -REAL_TANH_LIMIT : x;
    x = x > REAL_TANH_LIMIT ? REAL_TANH_LIMIT : x;
    REAL_BITS n;
    REAL p = NAME(reduced_expm1)(2 * x, &n), scale = NAME(power_of_2)(n);
    REAL expm1 = p * scale + (scale - 1); /* of 2 x; small x keep their accuracy */
    return expm1 / (expm1 + 2);
}

/* A function of one number: its value at z, and its derivative there, where `a` is the value. As in
 * core/functions.py; derivatives that need z are taken in the forward pass. */
#define FUNCTION(name, value, derivative)                                                          \
    static inline __attribute__((always_inline)) REAL NAME(name##_value)(REAL z)                   \
    {                                                                                              \
        return value;                                                                              \
    }                                                                                              \
    static inline __attribute__((always_inline)) REAL NAME(name##_derivative)(REAL z, REAL a)      \
    {                                                                                              \
        (void)z, (void)a;                                                                          \
        return derivative;                                                                         \
    }

FUNCTION(exp, NAME(exp)(z), a)
FUNCTION(identity, z, 1)
FUNCTION(logistic, 1 / (1 + NAME(exp)(-z)), a * (1 - a))
FUNCTION(tanh, NAME(tanh)(z), 1 - a * a)
FUNCTION(relu, z < 0 ? 0 : z, a == 0 ? 0 : 1) /* NaN stays, so that a diverged network is noticed */
FUNCTION(leaky_relu, z > 0 ? z : (REAL)0.01 * z, a > 0 ? 1 : (REAL)0.01)
#define GELU_TANH NAME(tanh)((REAL)0.7978845608028654 * (z + (REAL)0.044715 * z * z * z))
FUNCTION(gelu, (REAL)0.5 * z * (1 + GELU_TANH),
         (REAL)0.5 * (1 + GELU_TANH) + (REAL)0.5 * z * (1 - GELU_TANH * GELU_TANH) *
             ((REAL)0.7978845608028654 * (1 + (REAL)0.134145 * z * z)))
#undef GELU_TANH
FUNCTION(silu, z * NAME(logistic_value)(z),
         NAME(logistic_value)(z) + a * (1 - NAME(logistic_value)(z)))

/* Apply an activation to a row of n units, padded to `width`. The padding may end as anything:
 * nothing reads it. */
static void NAME(activate)(enum activation activation, REAL *restrict row, int64_t n,
                           int64_t width)
{
    switch (activation) {
#define CASE(code, name)                                                                           \
    case code:                                                                                     \
        for (int64_t i = 0; i < width; i++)                                                        \
            row[i] = NAME(name##_value)(row[i]);                                                   \
        break;
    FUNCTIONS(CASE)
#undef CASE
    case SOFTMAX: {
        REAL max = row[0], sum = 0;
        for (int64_t i = 1; i < n; i++)
            max = row[i] > max ? row[i] : max;
        for (int64_t i = 0; i < width; i++)
            row[i] = NAME(exp)(row[i] - max);
        for (int64_t i = 0; i < n; i++)
            sum += row[i];
        for (int64_t i = 0; i < width; i++)
            row[i] /= sum;
        break;
    }
    }
}

/* Apply a hidden activation to a padded row, and write its derivatives. */
static void NAME(activate_and_differentiate)(enum activation activation, REAL *restrict row,
                                             REAL *restrict slopes, int64_t width)
{
    switch (activation) {
#define CASE(code, name)                                                                           \
    case code:                                                                                     \
        for (int64_t i = 0; i < width; i++) {                                                      \
            REAL z = row[i], a = NAME(name##_value)(z);                                            \
            row[i] = a;                                                                            \
            slopes[i] = NAME(name##_derivative)(z, a);                                             \
        }                                                                                          \
        break;
    FUNCTIONS(CASE)
#undef CASE
    case SOFTMAX:
        break;
    }
}

/* Multiply n deltas, padding included, by the activation's derivative, expressed by its value,
 * factor * a: dropout has multiplied those that it has kept. */
static void NAME(multiply_by_derivative)(enum activation activation, const REAL *restrict a,
                                         REAL factor, REAL *restrict delta, int64_t n)
{
    switch (activation) {
#define CASE(code, name)                                                                           \
    case code:                                                                                     \
        for (int64_t i = 0; i < n; i++)                                                            \
            delta[i] *= NAME(name##_derivative)(0, factor * a[i]);                                 \
        break;
    FUNCTIONS(CASE)
#undef CASE
    case SOFTMAX:
        break;
    }
}

#undef FUNCTION
