/* The masks of dropout, for one dtype and instruction set: Philox-4x32-10, as in
 * core/random_bits.py.
 *
 * Sixteen counters, which give the words of 64 adjacent units, are processed in
 * parallel, in vectors. The compiler would not vectorize the same loops over arrays.
 */

#define COUNTERS 16
#define WORD_LANES ((int)(VECTOR_BYTES / sizeof(uint32_t)))
#define words NAME(words)
#define products NAME(products)

typedef uint32_t words __attribute__((vector_size(VECTOR_BYTES)));
typedef uint64_t products __attribute__((vector_size(VECTOR_BYTES)));

/* Multiply words; return the upper halves of the products and write the lower ones. */
static inline __attribute__((always_inline)) words NAME(multiply_words)(words a, uint32_t b,
                                                                        words *lower)
{
    const uint64_t low = 0xFFFFFFFF;
    products even = ((products)a & low) * (uint64_t)b, odd = ((products)a >> 32) * (uint64_t)b;
    *lower = (words)((even & low) | (odd << 32));
    return (words)((even >> 32) | (odd & ~low));
}

/* Draw the factors of a row of units, padded to `width`, for the sample at position `at` of the
 * order, and multiply the row by them. They are left in `factors`, or multiply what is there. */
static void NAME(drop)(const dropout_spec *dropout, int layer_index, int64_t at, int64_t width,
                       REAL *restrict row, REAL *restrict factors, int multiplies)
{
    const uint64_t position = (uint64_t)(dropout->start + at);
    const uint32_t layer_word = (uint32_t)(layer_index + (position >> 32 << 8));
    const uint32_t threshold = dropout->thresholds[layer_index];
    const REAL kept = (REAL)(1 / (1 - dropout->rates[layer_index]));
    const words none = {0};
    for (int64_t first = 0; first < width; first += 4 * COUNTERS) {
        uint32_t drawn[4 * COUNTERS] __attribute__((aligned(64)));
        for (int i = 0; i < COUNTERS; i += WORD_LANES) {
            words c0, c1 = none + layer_word, c2 = none + (uint32_t)position;
            words c3 = none + dropout->epoch, low_0, low_1;
            uint32_t k0 = (uint32_t)dropout->seed, k1 = (uint32_t)(dropout->seed >> 32);
            for (int j = 0; j < WORD_LANES; j++)
                c0[j] = (uint32_t)(first / 4 + i + j);
            for (int round = 0; round < 10; round++, k0 += 0x9E3779B9, k1 += 0xBB67AE85) {
                words high_0 = NAME(multiply_words)(c0, 0xD2511F53, &low_0);
                words high_1 = NAME(multiply_words)(c2, 0xCD9E8D57, &low_1);
                c0 = high_1 ^ c1 ^ k0;
                c1 = low_1;
                c2 = high_0 ^ c3 ^ k1;
                c3 = low_0;
            }
            *(words *)(drawn + i) = c0;
            *(words *)(drawn + COUNTERS + i) = c1;
            *(words *)(drawn + 2 * COUNTERS + i) = c2;
            *(words *)(drawn + 3 * COUNTERS + i) = c3;
        }
        int64_t n = width - first < 4 * COUNTERS ? width - first : 4 * COUNTERS;
        for (int64_t j = 0; j < n; j++) {
            REAL factor = drawn[j] >= threshold ? kept : 0;
            factors[first + j] = multiplies ? factors[first + j] * factor : factor;
            row[first + j] *= factor;
        }
    }
}

#undef COUNTERS
#undef WORD_LANES
#undef words
#undef products
