/* The matrix products, for one dtype (REAL) and instruction set (ISA).
 *
 * A vector holds LANES numbers. Weights are stored in panels of several vectors of units. Each
 * kernel computes a tile of a product, C = C0 + A B: some rows of A by some vectors of one panel,
 * with all sums in registers. How large a tile is depends on the registers, see engine.c.
 *
 *   tile         A dense
 *   sparse_tile  A a list of positions and values (CSR)
 *   masked_tile  A dense, but mostly zeros: masks mark the nonzero numbers
 *
 * All sum in the order of A's columns, so results are bit-identical for all kernels: adding 0
 * times a finite number changes nothing.
 */

#define LANES ((int)(VECTOR_BYTES / sizeof(REAL)))

/* Units of a panel, at most. */
#define PANEL_UNITS (PANEL_VECTORS * LANES)

/* CASE(n) for the n vectors that a panel may have. */
#if PANEL_VECTORS == 8
#define EACH_WIDTH(CASE) CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6) CASE(7) CASE(8)
#elif PANEL_VECTORS == 14
#define EACH_WIDTH(CASE) \
    CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6) CASE(7) \
    CASE(8) CASE(9) CASE(10) CASE(11) CASE(12) CASE(13) CASE(14)
#endif

/* Numbers that one mask speaks of. */
#define MASK_BITS 64

typedef REAL NAME(vec) __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(REAL)), may_alias));
#define vec NAME(vec)

/* sum += a * b, where `a` is one number. With AVX2, gcc (12 to 14) often keeps a product in another
 * register than the sum, and copies all sums in every step of a loop: 4 x 2 sums then take 1.6 cycles
 * per product, in place 1.0. */
#if defined(__x86_64__) && VECTOR_BYTES == 32
#define BROADCAST(a) \
    (sizeof(REAL) == 4 ? (vec)_mm256_set1_ps((float)(a)) : (vec)_mm256_set1_pd((double)(a)))
#define MULTIPLY_ADD(sum, a, b) \
    if (sizeof(REAL) == 4) \
        __asm__("vfmadd231ps %2, %1, %0" : "+x"(sum) : "x"(a), "xm"(b)); \
    else \
        __asm__("vfmadd231pd %2, %1, %0" : "+x"(sum) : "x"(a), "xm"(b))
#else
#define BROADCAST(a) (a)
#define MULTIPLY_ADD(sum, a, b) sum += a * b
#endif

/* ---- dense ---------------------------------------------------------------------------- */

/* C[i, :] = C0[i, :] + sum over k of A(i, k) * B[k, :] for `rows` rows of a panel that is
 * `vectors` vectors wide. A(i, k) is A[i * row_step + k * k_step], so the same code forms
 * activations (samples by inputs) and gradients (inputs by samples). C0 rows are c0_step
 * apart; 0 repeats one row, such as the intercepts. `rows` and `vectors` are constants
 * after inlining, so all sums stay in registers. */
static inline __attribute__((always_inline)) void NAME(tile)(
    const int rows, const int vectors, int64_t n_k,
    const REAL *restrict A, int64_t row_step, int64_t k_step,
    const REAL *restrict B, int64_t b_step,
    const REAL *C0, int64_t c0_step, REAL *C, int64_t c_step)
{
    vec sums[TILE_ROWS][TILE_VECTORS];
    UNROLL
    for (int i = 0; i < rows; i++)
        UNROLL
        for (int j = 0; j < vectors; j++)
            sums[i][j] = *(const vec *)(C0 + i * c0_step + j * LANES);
    for (int64_t k = 0; k < n_k; k++) {
        vec b[TILE_VECTORS];
        UNROLL
        for (int j = 0; j < vectors; j++)
            b[j] = *(const vec *)(B + k * b_step + j * LANES);
        UNROLL
        for (int i = 0; i < rows; i++) {
            __auto_type a = BROADCAST(A[i * row_step + k * k_step]);
            UNROLL
            for (int j = 0; j < vectors; j++)
                MULTIPLY_ADD(sums[i][j], a, b[j]);
        }
    }
    UNROLL
    for (int i = 0; i < rows; i++)
        UNROLL
        for (int j = 0; j < vectors; j++)
            *(vec *)(C + i * c_step + j * LANES) = sums[i][j];
}

/* The tile for any number of rows, and `width` units of a panel. */
static void NAME(product)(int64_t n_rows, int64_t width, int64_t n_k,
                          const REAL *A, int64_t row_step, int64_t k_step,
                          const REAL *B, int64_t b_step,
                          const REAL *C0, int64_t c0_step, REAL *C, int64_t c_step)
{
#define TILE(rows, vectors) \
    NAME(tile)(rows, vectors, n_k, A + i * row_step, row_step, k_step, B + first, b_step, \
               C0 + i * c0_step + first, c0_step, C + i * c_step + first, c_step)
#define TILES(vectors) \
    for (; i + TILE_ROWS <= n_rows; i += TILE_ROWS) \
        TILE(TILE_ROWS, vectors); \
    if (i + 4 <= n_rows) { \
        TILE(4, vectors); \
        i += 4; \
    } \
    for (; i + 2 <= n_rows; i += 2) \
        TILE(2, vectors); \
    for (; i < n_rows; i++) \
        TILE(1, vectors)

    for (int64_t first = 0; first < width; first += TILE_VECTORS * LANES) {
        int64_t i = 0, vectors = (width - first) / LANES;
        switch (vectors < TILE_VECTORS ? vectors : TILE_VECTORS) {
        case 1: TILES(1); break;
        case 2: TILES(2); break;
#if TILE_VECTORS > 2
        case 3: TILES(3); break;
        case 4: TILES(4); break;
#endif
        }
    }
#undef TILES
#undef TILE
}

/* sums = before + the sum of n rows of `width` numbers of D, which are d_step apart. Up to four
 * vectors of sums pass together, so that one need not wait for itself. */
static void NAME(sum_rows)(int64_t n, int64_t width, const REAL *restrict D, int64_t d_step,
                           const REAL *before, REAL *sums)
{
#define SUMS(vectors) \
    for (; first + vectors * LANES <= width; first += vectors * LANES) { \
        vec part[vectors]; \
        UNROLL \
        for (int j = 0; j < vectors; j++) \
            part[j] = *(const vec *)(before + first + j * LANES); \
        for (int64_t i = 0; i < n; i++) \
            UNROLL \
            for (int j = 0; j < vectors; j++) \
                part[j] += *(const vec *)(D + i * d_step + first + j * LANES); \
        UNROLL \
        for (int j = 0; j < vectors; j++) \
            *(vec *)(sums + first + j * LANES) = part[j]; \
    }
    int64_t first = 0;
    SUMS(4)
    SUMS(2)
    SUMS(1)
#undef SUMS
}

/* ---- lists ---------------------------------------------------------------------------- */

/* C[0, :] = C0 + sum over the n entries of values[k] * B[rows[k], :], where B's rows are
 * `vectors` vectors wide and b_step apart; scale, if any, multiplies values by scale[rows[k]].
 * The sparse counterpart of `tile`, with one row. */
static inline __attribute__((always_inline)) void NAME(sparse_tile)(
    const int vectors, int64_t n, const int32_t *restrict rows, const REAL *restrict values,
    const REAL *restrict scale, const REAL *restrict B, int64_t b_step, const REAL *C0, REAL *C)
{
    vec sums[PANEL_VECTORS];
    UNROLL
    for (int j = 0; j < vectors; j++)
        sums[j] = *(const vec *)(C0 + j * LANES);
    for (int64_t k = 0; k < n; k++) {
        REAL a = scale ? values[k] * scale[rows[k]] : values[k];
        const REAL *b = B + rows[k] * b_step;
        UNROLL
        for (int j = 0; j < vectors; j++)
            sums[j] += a * *(const vec *)(b + j * LANES);
    }
    UNROLL
    for (int j = 0; j < vectors; j++)
        *(vec *)(C + j * LANES) = sums[j];
}

/* The sparse tile for any panel width. */
static void NAME(sparse_product)(int64_t width, int64_t n, const int32_t *rows,
                                 const REAL *values, const REAL *scale, const REAL *B,
                                 int64_t b_step, const REAL *C0, REAL *C)
{
#define SPARSE_TILE(vectors) \
    case vectors: NAME(sparse_tile)(vectors, n, rows, values, scale, B, b_step, C0, C); break;
    switch (width / LANES) {
    EACH_WIDTH(SPARSE_TILE)
    }
#undef SPARSE_TILE
}

/* ---- mostly zeros --------------------------------------------------------------------- */

/* Part of a matrix A that is mostly zeros, seen so that its rows go with those of the product:
 * A(i, k) is element k * stride + i. */
typedef struct {
    const void *values;  /* bytes if there is a table, else numbers */
    int64_t stride;
    const REAL *table;   /* (256,) the numbers that bytes stand for, or NULL */
    const REAL *scale;   /* factors of what the bytes stand for, or NULL: of columns, scale[k], where
                            one row is a tile, else of rows, scale[i] */
} NAME(masked_matrix);

/* C[i, :] = C0[i, :] + sum over the bits k set in `mask` of A(i, k) * B[k, :]. */
static inline __attribute__((always_inline)) void NAME(masked_tile)(
    const int rows, const int vectors, const int has_table, const int scales_columns,
    const int scales_rows, uint64_t mask, const void *restrict values, int64_t stride,
    const REAL *restrict table, const REAL *restrict scale, const REAL *restrict B,
    int64_t b_step, const REAL *C0, int64_t c0_step, REAL *C, int64_t c_step)
{
    vec sums[MASKED_ROWS][PANEL_VECTORS];
    UNROLL
    for (int i = 0; i < rows; i++)
        UNROLL
        for (int j = 0; j < vectors; j++)
            sums[i][j] = *(const vec *)(C0 + i * c0_step + j * LANES);
    while (mask != 0) {
        int64_t k = __builtin_ctzll(mask);
        mask &= mask - 1;
        const REAL *row = B + k * b_step;
        /* One address for all vectors, which the compiler would else compute one by one. */
        __asm__("" : "+r"(row));
        vec b[PANEL_VECTORS];
        UNROLL
        for (int j = 0; j < vectors; j++)
            b[j] = *(const vec *)(row + j * LANES);
        UNROLL
        for (int i = 0; i < rows; i++) {
            REAL a = has_table ? table[((const uint8_t *)values)[k * stride + i]]
                               : ((const REAL *)values)[k * stride + i];
            if (scales_columns)
                a *= scale[k];
            if (scales_rows)
                a *= scale[i];
            UNROLL
            for (int j = 0; j < vectors; j++)
                sums[i][j] += a * b[j];
        }
    }
    UNROLL
    for (int i = 0; i < rows; i++)
        UNROLL
        for (int j = 0; j < vectors; j++)
            *(vec *)(C + i * c_step + j * LANES) = sums[i][j];
}

/* The masked tile for n rows of A with a mask of their own, by a whole panel; the stride of A is 1.
 * Masks are mask_step apart, and the rows' values value_step. C0 may be C. */
static void NAME(masked_rows)(int64_t n, int64_t width, const uint64_t *masks, int64_t mask_step,
                              NAME(masked_matrix) a, int64_t value_step, const REAL *B,
                              const REAL *C0, int64_t c0_step, REAL *C, int64_t c_step)
{
#define EACH_ROW(vectors, has_table, has_scale, element) \
    for (int64_t i = 0; i < n; i++) \
        NAME(masked_tile)(1, vectors, has_table, has_scale, 0, masks[i * mask_step], \
                          (const element *)a.values + i * value_step, 1, a.table, a.scale, B, \
                          vectors * LANES, C0 + i * c0_step, 0, C + i * c_step, 0)
#define ROWS(vectors) \
    case vectors: \
        if (a.table == NULL) \
            EACH_ROW(vectors, 0, 0, REAL); \
        else if (a.scale == NULL) \
            EACH_ROW(vectors, 1, 0, uint8_t); \
        else \
            EACH_ROW(vectors, 1, 1, uint8_t); \
        break;

    switch (width / LANES) {
    EACH_WIDTH(ROWS)
    }
#undef ROWS
#undef EACH_ROW
}

/* The masked tile for n tiles of `rows` rows each, by up to MASKED_VECTORS vectors of a panel. There
 * is a mask for MASKED_ROWS rows, which `rows` are or, for those that are left over, 1. C0 may
 * be C. */
static void NAME(masked_tiles)(int64_t n, int rows, int64_t width, const uint64_t *masks,
                               NAME(masked_matrix) a, const REAL *B, int64_t b_step,
                               const REAL *C0, int64_t c0_step, REAL *C, int64_t c_step)
{
#define EACH_TILE(rows, vectors, has_table, has_scale, element) \
    for (int64_t i = 0; i < n; i++) \
        NAME(masked_tile)(rows, vectors, has_table, 0, has_scale, masks[i * rows / MASKED_ROWS], \
                          (const element *)a.values + i * rows, a.stride, a.table, \
                          has_scale ? a.scale + i * rows : NULL, B, b_step, \
                          C0 + i * rows * c0_step, c0_step, C + i * rows * c_step, c_step)
#define TILES_OF(rows, vectors) \
    if (a.table == NULL) \
        EACH_TILE(rows, vectors, 0, 0, REAL); \
    else if (a.scale == NULL) \
        EACH_TILE(rows, vectors, 1, 0, uint8_t); \
    else \
        EACH_TILE(rows, vectors, 1, 1, uint8_t)
#define TILES(vectors) \
    case vectors: \
        if (rows == 1) { \
            TILES_OF(1, vectors); \
        } else { \
            TILES_OF(MASKED_ROWS, vectors); \
        } \
        break;

    switch (width / LANES) {
#if MASKED_VECTORS == PANEL_VECTORS
    EACH_WIDTH(TILES)
#else
    TILES(1) TILES(2) TILES(3) TILES(4)
#endif
    }
#undef TILES
#undef TILES_OF
#undef EACH_TILE
}

/* The mask of the bytes that are not zero, among MASK_BITS. */
static inline uint64_t NAME(mask_of_bytes)(const uint8_t *bytes)
{
#if defined(__x86_64__) && VECTOR_BYTES == 64
    __m512i v = _mm512_loadu_si512(bytes);
    return _mm512_test_epi8_mask(v, v);
#elif defined(__x86_64__) && VECTOR_BYTES == 32
    uint64_t zeros = 0;
    for (int i = 0; i < 2; i++) {
        __m256i v = _mm256_loadu_si256((const __m256i *)bytes + i);
        v = _mm256_cmpeq_epi8(v, _mm256_setzero_si256());
        zeros |= (uint64_t)(uint32_t)_mm256_movemask_epi8(v) << 32 * i;
    }
    return ~zeros;
#elif defined(__x86_64__)
    uint64_t zeros = 0;
    for (int i = 0; i < 4; i++) {
        __m128i v = _mm_loadu_si128((const __m128i *)bytes + i);
        v = _mm_cmpeq_epi8(v, _mm_setzero_si128());
        zeros |= (uint64_t)(uint32_t)_mm_movemask_epi8(v) << 16 * i;
    }
    return ~zeros;
#elif defined(__aarch64__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    /* Of each byte that is not zero the bit of its place among eight; sums of pairs gather them. */
    const uint8x16_t bits = {1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};
    uint8x16_t v[4];
    for (int i = 0; i < 4; i++) {
        v[i] = vld1q_u8(bytes + 16 * i);
        v[i] = vandq_u8(vtstq_u8(v[i], v[i]), bits);
    }
    v[0] = vpaddq_u8(vpaddq_u8(v[0], v[1]), vpaddq_u8(v[2], v[3]));
    return vgetq_lane_u64(vreinterpretq_u64_u8(vpaddq_u8(v[0], v[0])), 0);
#else
    uint64_t mask = 0;
    for (int i = 0; i < 8; i++) {
        uint64_t v;
        memcpy(&v, bytes + 8 * i, 8);
        /* The top bit of each byte that is not zero; the multiplication gathers them. */
        const uint64_t low = 0x7f7f7f7f7f7f7f7fu;
        v = (((v & low) + low) | v) & ~low;
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
        v = __builtin_bswap64(v);
#endif
        mask |= ((v >> 7) * 0x0102040810204080u >> 56) << 8 * i;
    }
    return mask;
#endif
}

/* The mask of the numbers that are not zero, among MASK_BITS. NaN is not zero. */
static inline uint64_t NAME(mask_of_numbers)(const REAL *restrict numbers)
{
#if defined(__x86_64__) && VECTOR_BYTES == 64
    uint64_t mask = 0;
    UNROLL
    for (int i = 0; i < MASK_BITS; i += LANES) {
        vec v = *(const vec *)(numbers + i);
        uint64_t part = sizeof(REAL) == 4
            ? _mm512_cmp_ps_mask((__m512)v, _mm512_setzero_ps(), _CMP_NEQ_UQ)
            : _mm512_cmp_pd_mask((__m512d)v, _mm512_setzero_pd(), _CMP_NEQ_UQ);
        mask |= part << i;
    }
    return mask;
#elif defined(__x86_64__) && VECTOR_BYTES == 32
    uint64_t mask = 0;
    UNROLL
    for (int i = 0; i < MASK_BITS; i += LANES) {
        vec v = *(const vec *)(numbers + i);
        int part = sizeof(REAL) == 4
            ? _mm256_movemask_ps(_mm256_cmp_ps((__m256)v, _mm256_setzero_ps(), _CMP_NEQ_UQ))
            : _mm256_movemask_pd(_mm256_cmp_pd((__m256d)v, _mm256_setzero_pd(), _CMP_NEQ_UQ));
        mask |= (uint64_t)(uint32_t)part << i;
    }
    return mask;
#else
    uint8_t bytes[MASK_BITS];
    for (int i = 0; i < MASK_BITS; i++)
        bytes[i] = numbers[i] != 0;
    return NAME(mask_of_bytes)(bytes);
#endif
}

/* Copy a row of n bytes, and find its masks. */
static void NAME(copy_bytes)(const uint8_t *restrict bytes, int64_t n, uint8_t *restrict to,
                             uint64_t *restrict masks)
{
    int64_t first = 0;
    for (; first + MASK_BITS <= n; first += MASK_BITS) {
        memcpy(to + first, bytes + first, MASK_BITS);
        *masks++ = NAME(mask_of_bytes)(bytes + first);
    }
    if (first == n)
        return;
    uint8_t tail[MASK_BITS] = {0};  /* what lies behind the row is not ours */
    memcpy(tail, bytes + first, (size_t)(n - first));
    memcpy(to + first, tail, (size_t)(n - first));
    *masks = NAME(mask_of_bytes)(tail);
}

/* The masks of a row of n numbers. */
static void NAME(find_masks)(const REAL *restrict numbers, int64_t n, uint64_t *restrict masks)
{
    int64_t first = 0;
    for (; first + MASK_BITS <= n; first += MASK_BITS)
        *masks++ = NAME(mask_of_numbers)(numbers + first);
    if (first == n)
        return;
    REAL tail[MASK_BITS] = {0};  /* what lies behind the row is not ours */
    memcpy(tail, numbers + first, (size_t)(n - first) * sizeof(REAL));
    *masks = NAME(mask_of_numbers)(tail);
}

/* Whether so few of the n rows' inputs are not zero that skipping zeros pays: a row alone loads
 * weights more often than a tile of rows. */
static int NAME(is_sparse)(int64_t n, const uint64_t *masks, int64_t step, int64_t n_k)
{
    int64_t found = 0;
    for (int64_t i = 0; i < n; i++)
        for (int64_t word = 0; word * MASK_BITS < n_k; word++)
            found += __builtin_popcountll(masks[i * step + word]);
    return 4 * found < 3 * n * n_k;
}

/* One stage of the transposition of 64 x 64 bits: in all squares of 2 * width bits, the upper
 * right and the lower left quarter change places (Warren, Hacker's Delight, 2nd ed., 7-3). */
static inline __attribute__((always_inline)) void NAME(transpose_stage)(
    uint64_t *rows, const int width, const uint64_t low)
{
    for (int first = 0; first < MASK_BITS; first += 2 * width) {
        for (int i = first; i < first + width; i++) {
            uint64_t change = (rows[i] >> width ^ rows[i + width]) & low;
            rows[i + width] ^= change;
            rows[i] ^= change << width;
        }
    }
}

/* Turn the masks of 64 rows of A into the masks of its 64 columns in groups of MASKED_ROWS, 1 or 4:
 * bit k of groups[i] is set if any of row k's bits from MASKED_ROWS * i on is. */
static void NAME(transpose_masks)(uint64_t *restrict rows, uint64_t *restrict groups)
{
    for (int i = 0; i < MASK_BITS; i++) {
        uint64_t v = rows[i] | rows[i] >> 1;
        if (MASKED_ROWS == 4)
            rows[i] = (v | v >> 2) & 0x1111111111111111u;
    }
    NAME(transpose_stage)(rows, 32, 0x00000000ffffffffu);
    NAME(transpose_stage)(rows, 16, 0x0000ffff0000ffffu);
    NAME(transpose_stage)(rows, 8, 0x00ff00ff00ff00ffu);
    NAME(transpose_stage)(rows, 4, 0x0f0f0f0f0f0f0f0fu);
    if (MASKED_ROWS == 1) {
        NAME(transpose_stage)(rows, 2, 0x3333333333333333u);
        NAME(transpose_stage)(rows, 1, 0x5555555555555555u);
    }
    /* Squares of MASKED_ROWS bits are in place now, each with one column that may be set. */
    for (int i = 0; i < MASK_BITS / MASKED_ROWS; i++) {
        groups[i] = 0;
        for (int j = 0; j < MASKED_ROWS; j++)
            groups[i] |= rows[MASKED_ROWS * i + j] << j;
    }
}
