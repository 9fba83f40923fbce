/* Outputs for samples. Part of engine_body.h.
 *
 * Weights are read without a copy, so nothing is cached that could be out of date. There are three
 * methods, which sum in the order of the inputs, so that results are bit-identical (for finite
 * weights; except for inputs with a shift, which becomes part of the intercepts if zeros are
 * skipped):
 *
 *   few rows        Rows of the weights are summed, multiplied by the nonzero inputs. Always used
 *                   for CSR rows in the first layer.
 *   small weights   They are packed into panels once per call, and threads process groups of rows
 *                   through all layers.
 *   large weights   Each thread packs a block of them, some rows by some panels, and applies it to
 *                   all rows of a chunk. There is a barrier after each layer.
 */

/* Rows that pass over packed weights together: whole tiles of 6, 4 and 2 rows. */
#define GROUP_ROWS 48

/* Groups in a chunk of rows that passes through large weights, at most: packing a block costs about
 * as much as 15 rows that pass over it, and the activations of a chunk must stay in the cache. */
#define CHUNK_GROUPS 7

/* Weights are small if they stay in the second-level cache, and in what is left of the third. */
#define SMALL_BYTES (1 << 20)

/* A block of large weights: so many inputs, whole masks, by a piece of a row of 512 bytes. It
 * takes 128 KB, a part of the second-level cache. */
#define PACKED_INPUTS 256
#define PACKED_UNITS (512 / (int)sizeof(REAL))

/* Vector products, each about a cycle, that every thread must have, or starting and joining it, some
 * 100 us, takes longer than it saves. */
#define THREAD_COST 600000

/* Vectors of weights per activation for which checking for zeros is worthwhile. */
#define WIDE_VECTORS 16

#define prediction NAME(prediction)
#define sample_rows NAME(sample_rows)

/* Rows of inputs or activations. */
typedef struct {
    const REAL *values;      /* or NULL: bytes or CSR */
    const uint8_t *bytes;    /* or NULL */
    int64_t stride;
    const uint64_t *masks;   /* which of them are not zero, or NULL: zeros are not skipped */
    int64_t n_masks;         /* per row */
    int64_t first_sample;    /* of the inputs */
} sample_rows;

typedef struct {
    const fitted_network *network;
    const input_matrix *inputs;
    REAL *outputs;
    int64_t n_samples;
    int is_in_place;         /* whether dense inputs are used without a copy */
    int64_t n_masks;         /* per sample; 0 unless zeros are skipped */
    int64_t n_hidden_masks;  /* per row of activations; 0 unless zeros of ReLU are skipped */
    REAL table[256];         /* of bytes whose zeros are skipped; see find_table */
    const REAL *byte_scale;
    REAL **intercepts;       /* per layer, padded; the first layer's with what the shift adds */
    REAL *packed;            /* all layers' weights in panels, if they are small */
    int64_t input_stride;    /* of rows that are not in place */
    int64_t stride;          /* of activations */
    int64_t rows;            /* of activations that a thread, or a chunk, has room for */
    REAL *scratch;           /* of all threads */
    int64_t scratch_length;  /* of one thread, or of a chunk */
    uint64_t *masks;         /* the same (rows, n_masks), then two (rows, n_hidden_masks) */
    int64_t masks_length;    /* of one thread, or of a chunk */
    REAL *blocks;            /* (n_threads, PACKED_INPUTS * PACKED_UNITS) for large weights */
    int32_t *lists;          /* (n_threads, most units) for few rows */
    atomic_int next[2];      /* task that is taken next, in this phase and in the one after it */
    int not_finite[MAX_THREADS];
} prediction;

/* ---- unpacked weights ------------------------------------------------------------------ */

/* Row k of a layer's weights from unit `first` on. `narrow` weights are float32 in a float64
 * network; it is a constant after inlining. */
#define WEIGHT(row, j) (narrow ? (REAL)((const float *)(row))[j] : ((const REAL *)(row))[j])

static inline const void *NAME(weights_at)(const fitted_network *network, int l, int64_t k,
                                           int64_t first)
{
    size_t size = network->narrow ? sizeof(float) : sizeof(REAL);
    return (const char *)network->coefs[l] + (size_t)(k * network->units[l + 1] + first) * size;
}

/* to[j] += sum over the n entries of values[t] * W[rows[t], j], j < n_units, whose rows are
 * n_out apart; scale, if any, multiplies values by scale[rows[t]]. Four rows of weights pass
 * together, so that sums are loaded and stored less often. */
static inline __attribute__((always_inline)) void NAME(add_rows_of)(
    const int narrow, int64_t n, const int32_t *restrict rows, const REAL *restrict values,
    const REAL *restrict scale, const void *W, int64_t n_out, int64_t n_units, REAL *restrict to)
{
    size_t step = (size_t)n_out * (narrow ? sizeof(float) : sizeof(REAL));
#define ROW(t) ((const char *)W + (size_t)rows[t] * step)
#define VALUE(t) (scale ? values[t] * scale[rows[t]] : values[t])
    int64_t t = 0;
    for (; t + 4 <= n; t += 4) {
        const void *restrict r0 = ROW(t), *restrict r1 = ROW(t + 1);
        const void *restrict r2 = ROW(t + 2), *restrict r3 = ROW(t + 3);
        REAL a0 = VALUE(t), a1 = VALUE(t + 1), a2 = VALUE(t + 2), a3 = VALUE(t + 3);
        for (int64_t j = 0; j < n_units; j++) {
            REAL sum = to[j];
            sum += a0 * WEIGHT(r0, j);
            sum += a1 * WEIGHT(r1, j);
            sum += a2 * WEIGHT(r2, j);
            sum += a3 * WEIGHT(r3, j);
            to[j] = sum;
        }
    }
    for (; t < n; t++) {
        const void *restrict row = ROW(t);
        REAL a = VALUE(t);
        for (int64_t j = 0; j < n_units; j++)
            to[j] += a * WEIGHT(row, j);
    }
#undef ROW
#undef VALUE
}

static void NAME(add_rows)(int narrow, int64_t n, const int32_t *rows, const REAL *values,
                           const REAL *scale, const void *W, int64_t n_out, int64_t n_units,
                           REAL *to)
{
    if (narrow && sizeof(REAL) > sizeof(float))
        NAME(add_rows_of)(1, n, rows, values, scale, W, n_out, n_units, to);
    else
        NAME(add_rows_of)(0, n, rows, values, scale, W, n_out, n_units, to);
}

static inline __attribute__((always_inline)) void NAME(pack_rows_of)(
    const int narrow, const void *W, int64_t n_out, int64_t n_rows, int64_t n_units,
    int64_t panel, REAL *restrict packed)
{
    size_t size = narrow ? sizeof(float) : sizeof(REAL), step = (size_t)n_out * size;
    int64_t width = NAME(padded)(n_units);
    for (int64_t k = 0; k < n_rows; k++) {
        const char *row = (const char *)W + (size_t)k * step;
        /* A row that is long lies on other pages than the next, which no processor foresees. */
        if (k + 8 < n_rows)
            for (int64_t byte = 0; byte < n_units * (int64_t)size; byte += 64)
                __builtin_prefetch(row + 8 * step + byte, 0, 3);
        for (int64_t first = 0; first < width; first += panel) {
            int64_t length = NAME(panel_width)(width, first, panel);
            int64_t count = n_units - first < length ? n_units - first : length;
            REAL *restrict to = packed + first * n_rows + k * length;
            int64_t j = 0;
            for (; j + LANES <= count; j += LANES)
                for (int i = 0; i < LANES; i++)
                    to[j + i] = WEIGHT(row, first + j + i);
            for (; j < length; j++)
                to[j] = j < count ? WEIGHT(row, first + j) : 0;
        }
    }
}

/* Copy n_rows rows of n_units weights, which are n_out apart, into panels. */
static void NAME(pack_rows)(int narrow, const void *W, int64_t n_out, int64_t n_rows,
                            int64_t n_units, int64_t panel, REAL *packed)
{
    if (narrow && sizeof(REAL) > sizeof(float))
        NAME(pack_rows_of)(1, W, n_out, n_rows, n_units, panel, packed);
    else
        NAME(pack_rows_of)(0, W, n_out, n_rows, n_units, panel, packed);
}

/* Copy n of a layer's intercepts from unit `first` on. */
static void NAME(copy_intercepts)(const fitted_network *network, int l, int64_t first, int64_t n,
                                  REAL *to)
{
    const int narrow = network->narrow;
    for (int64_t j = 0; j < n; j++)
        to[j] = WEIGHT(network->intercepts[l], first + j);
}

/* ---- inputs ------------------------------------------------------------------------------ */

/* Whether n numbers are finite: only then is 0 times each of them 0. */
static int NAME(all_finite)(const REAL *restrict numbers, int64_t n)
{
    vec sums[4] = {{0}};
    REAL rest = 0;
    int64_t i = 0;
    for (; i + 4 * LANES <= n; i += 4 * LANES)
        UNROLL
        for (int j = 0; j < 4; j++)
            sums[j] += 0 * *(const vec *)(numbers + i + j * LANES);
    for (; i < n; i++)
        rest += 0 * numbers[i];
    sums[0] += sums[1] + sums[2] + sums[3];
    for (int j = 0; j < LANES; j++)
        rest += sums[0][j];
    return rest == 0;
}

/* Bring a sample of dense inputs or bytes to `to`, unless it is used in place, and find the
 * masks of what is not zero. */
static void NAME(load_sample)(const prediction *p, int64_t sample, REAL *restrict to,
                             uint64_t *restrict masks)
{
    const input_matrix *inputs = p->inputs;
    const int64_t n = p->network->units[0];
    const REAL *restrict scale = inputs->scale;
    const REAL *restrict shift = inputs->shift;
    const uint8_t *restrict bytes = (const uint8_t *)inputs->values + sample * n;
    const REAL *restrict numbers = (const REAL *)inputs->values + sample * n;
    int is_dense = inputs->kind == DENSE;
    if (!p->is_in_place) {
        if (is_dense && p->n_masks > 0)
            for (int64_t i = 0; i < n; i++)
                to[i] = numbers[i] * scale[i];
        else if (is_dense && scale != NULL)
            for (int64_t i = 0; i < n; i++)
                to[i] = numbers[i] * scale[i] + shift[i];
        else if (is_dense)
            memcpy(to, numbers, (size_t)n * sizeof(REAL));
        else if (scale != NULL)
            for (int64_t i = 0; i < n; i++)
                to[i] = (REAL)bytes[i] * scale[i] + shift[i];
        else
            for (int64_t i = 0; i < n; i++)
                to[i] = (REAL)bytes[i];
        numbers = to;
    }
    if (p->n_masks == 0)
        return;
    if (is_dense) {
        NAME(find_masks)(numbers, n, masks);
        return;
    }
    int64_t first = 0;
    for (; first + MASK_BITS <= n; first += MASK_BITS)
        *masks++ = NAME(mask_of_bytes)(bytes + first);
    if (first < n) {
        uint8_t tail[MASK_BITS] = {0};  /* what lies behind the row is not ours */
        memcpy(tail, bytes + first, (size_t)(n - first));
        *masks = NAME(mask_of_bytes)(tail);
    }
}

/* Load n samples from `first` on, the first of them to `to`. Return whether they are finite. */
static int NAME(load_samples)(const prediction *p, int64_t first, int64_t n, REAL *to,
                              uint64_t *masks)
{
    int64_t n_in = p->network->units[0];
    if (p->inputs->kind == CSR)
        return 1;
    for (int64_t i = 0; i < n && (p->n_masks > 0 || !p->is_in_place); i++)
        NAME(load_sample)(p, first + i, to + i * p->input_stride, masks + i * p->n_masks);
    return p->inputs->kind != DENSE ||
           NAME(all_finite)((const REAL *)p->inputs->values + first * n_in, n * n_in);
}

/* The input's rows from `sample` on: loaded into `to` and `masks`, or in place. */
static sample_rows NAME(input_rows)(const prediction *p, int64_t sample, const REAL *to,
                                    const uint64_t *masks)
{
    sample_rows rows = {.first_sample = sample, .masks = p->n_masks > 0 ? masks : NULL,
                        .n_masks = p->n_masks};
    int64_t n_in = p->network->units[0];
    if (p->inputs->kind == CSR)
        return rows;
    if (!p->is_in_place) {
        rows.values = to;
        rows.stride = p->input_stride;
    } else {
        rows.stride = n_in;
        if (p->inputs->kind == DENSE)
            rows.values = (const REAL *)p->inputs->values + sample * n_in;
        else
            rows.bytes = (const uint8_t *)p->inputs->values + sample * n_in;
    }
    return rows;
}

/* ---- layers ------------------------------------------------------------------------------ */

/* The units of a panel of n_units packed units of layer l. */
static int64_t NAME(packed_panel)(const prediction *p, int l, int64_t n_units)
{
    int skips = l == 0 ? p->n_masks > 0 : p->n_hidden_masks > 0;
    return NAME(panel_units)(NAME(padded)(n_units), skips ? PANEL_VECTORS : TILE_VECTORS);
}

/* C = C0 + A B for n_rows rows of A from `row` on, the n_k inputs from k on, and packed weights
 * B of `width` units. C0 may be C; its rows are c0_step apart. */
static void NAME(weigh)(const prediction *p, const sample_rows *A, int64_t row, int64_t n_rows,
                        int64_t k, int64_t n_k, const REAL *B, int64_t width, int64_t panel,
                        const REAL *C0, int64_t c0_step, REAL *C, int64_t c_step)
{
    /* Rows in groups, whose inputs stay in the second-level cache until all panels have passed. */
    for (int64_t at = 0; at < n_rows; at += GROUP_ROWS) {
        int64_t n = n_rows - at < GROUP_ROWS ? n_rows - at : GROUP_ROWS;
        int64_t stride = A->stride, element = (row + at) * stride + k, from_step = c0_step;
        const uint64_t *masks =
            A->masks ? A->masks + (row + at) * A->n_masks + k / MASK_BITS : NULL;
        const REAL *from = C0 + at * c0_step;
        REAL *to = C + at * c_step;
        if (masks == NULL || (A->values && !NAME(is_sparse)(n, masks, A->n_masks, n_k))) {
            for (int64_t first = 0; first < width; first += panel) {
                int64_t units = NAME(panel_width)(width, first, panel);
                NAME(product)(n, units, n_k, A->values + element, stride, 1, B + first * n_k,
                              units, from + first, from_step, to + first, c_step);
            }
            continue;
        }
        for (int64_t i = 0; i < n_k; i += MASK_BITS, from = to, from_step = c_step) {
            NAME(masked_matrix) a = {0};
            if (A->values) {
                a.values = A->values + element + i;
            } else {
                a.values = A->bytes + element + i;
                a.table = p->table;
                a.scale = p->byte_scale ? p->byte_scale + k + i : NULL;
            }
            const uint64_t *words = masks + i / MASK_BITS;
            for (int64_t first = 0; first < width; first += panel) {
                int64_t units = NAME(panel_width)(width, first, panel);
                NAME(masked_rows)(n, units, words, A->n_masks, a, stride,
                                  B + first * n_k + i * units, from + first, from_step,
                                  to + first, c_step);
            }
        }
    }
}

/* C[i, :] = intercepts + what CSR row `sample` + i gives the first layer, for n_rows rows. */
static void NAME(weigh_sparse)(const prediction *p, int64_t sample, int64_t n_rows, REAL *C,
                               int64_t c_step)
{
    const fitted_network *network = p->network;
    const input_matrix *inputs = p->inputs;
    int64_t n_out = network->units[1];
    for (int64_t i = 0; i < n_rows; i++) {
        int64_t from = inputs->indptr[sample + i], n = inputs->indptr[sample + i + 1] - from;
        memcpy(C + i * c_step, p->intercepts[0], (size_t)n_out * sizeof(REAL));
        NAME(add_rows)(network->narrow, n, inputs->indices + from,
                       (const REAL *)inputs->values + from, inputs->scale, network->coefs[0],
                       n_out, n_out, C + i * c_step);
    }
}

static enum activation NAME(activation_of)(const fitted_network *network, int l)
{
    return l == network->n_layers - 1 ? network->output : network->hidden;
}

/* Apply the function of layer l to n_rows rows of sums, from unit `first` on, with which a mask
 * begins, and find their masks if the next layer skips zeros. */
static void NAME(activate_rows)(const prediction *p, int l, REAL *C, int64_t n_rows, int64_t first,
                                int64_t n_units, uint64_t *masks)
{
    for (int64_t i = 0; i < n_rows; i++) {
        REAL *row = C + i * p->stride + first;
        NAME(activate)(NAME(activation_of)(p->network, l), row, n_units, NAME(padded)(n_units));
        if (p->n_hidden_masks > 0)
            NAME(find_masks)(row, n_units, masks + i * p->n_hidden_masks + first / MASK_BITS);
    }
}

/* Activations as inputs of the next layer. */
static sample_rows NAME(activation_rows)(const prediction *p, const REAL *C, const uint64_t *masks)
{
    return (sample_rows){.values = C, .stride = p->stride, .n_masks = p->n_hidden_masks,
                         .masks = p->n_hidden_masks > 0 ? masks : NULL};
}

/* Hand out n_rows rows of the output layer. */
static void NAME(hand_out)(const prediction *p, const REAL *A, int64_t stride, int64_t sample,
                           int64_t n_rows)
{
    int64_t n_out = p->network->units[p->network->n_layers];
    for (int64_t i = 0; i < n_rows; i++)
        memcpy(p->outputs + (sample + i) * n_out, A + i * stride, (size_t)n_out * sizeof(REAL));
}

/* ---- small weights ----------------------------------------------------------------------- */

static void NAME(predict_groups)(void *context, int thread, barrier *meeting)
{
    (void)meeting;
    prediction *p = context;
    const fitted_network *network = p->network;
    REAL *X = p->scratch + thread * p->scratch_length;
    REAL *buffers = X + (p->is_in_place ? 0 : p->rows * p->input_stride);
    uint64_t *masks = p->masks + thread * p->masks_length;
    uint64_t *hidden_masks = masks + p->rows * p->n_masks;
    for (;;) {
        int64_t begin = (int64_t)atomic_fetch_add(&p->next[0], 1) * p->rows;
        if (begin >= p->n_samples)
            return;
        int64_t n = p->n_samples - begin < p->rows ? p->n_samples - begin : p->rows;
        if (!NAME(load_samples)(p, begin, n, X, masks))
            p->not_finite[thread] = 1;
        sample_rows A = NAME(input_rows)(p, begin, X, masks);
        const REAL *packed = p->packed;
        for (int l = 0; l < network->n_layers; l++) {
            int64_t n_in = network->units[l], n_out = network->units[l + 1];
            int64_t width = NAME(padded)(n_out);
            REAL *C = buffers + l % 2 * p->rows * p->stride;
            if (l == 0 && p->inputs->kind == CSR) {
                NAME(weigh_sparse)(p, begin, n, C, p->stride);
            } else {
                NAME(weigh)(p, &A, 0, n, 0, n_in, packed, width, NAME(packed_panel)(p, l, n_out),
                            p->intercepts[l], 0, C, p->stride);
                packed += n_in * width;
            }
            uint64_t *C_masks = hidden_masks + l % 2 * p->rows * p->n_hidden_masks;
            NAME(activate_rows)(p, l, C, n, 0, n_out, C_masks);
            A = NAME(activation_rows)(p, C, C_masks);
        }
        NAME(hand_out)(p, A.values, p->stride, begin, n);
    }
}

/* ---- large weights ----------------------------------------------------------------------- */

/* Take a task of a phase, of which there are n; -1 if all are taken. */
static int64_t NAME(take_task)(prediction *p, int phase, int64_t n)
{
    int64_t task = atomic_fetch_add(&p->next[phase % 2], 1);
    return task < n ? task : -1;
}

/* The beginning of a thread's part of n rows, and the end of the part before it. */
static int64_t NAME(part)(int64_t n, int thread, int n_threads)
{
    return n * thread / n_threads;
}

/* One layer for the n rows of a chunk, all threads together: a task is some rows by a piece of
 * the units, so many that every thread finds some. */
static void NAME(predict_layer)(prediction *p, int l, int phase, const sample_rows *A, int64_t n,
                                REAL *C, uint64_t *C_masks, int thread, int n_threads)
{
    const fitted_network *network = p->network;
    int64_t n_in = network->units[l], n_out = network->units[l + 1];
    int is_sparse = l == 0 && p->inputs->kind == CSR;
    int64_t n_pieces = is_sparse ? 1 : (n_out + PACKED_UNITS - 1) / PACKED_UNITS;
    int64_t most = (n + GROUP_ROWS - 1) / GROUP_ROWS, n_parts = 1;
    if (is_sparse)
        most = n;
    if (n_threads > 1 && n_pieces < 2 * n_threads)
        n_parts = (2 * n_threads + n_pieces - 1) / n_pieces;
    n_parts = n_parts < most ? n_parts : most;
    REAL *block = p->blocks + (int64_t)thread * PACKED_INPUTS * PACKED_UNITS;
    for (;;) {
        int64_t task = NAME(take_task)(p, phase, n_pieces * n_parts);
        if (task < 0)
            return;
        int64_t begin = n * (task % n_parts) / n_parts;
        int64_t n_rows = n * (task % n_parts + 1) / n_parts - begin;
        int64_t first = task / n_parts * PACKED_UNITS;
        int64_t n_units = is_sparse || n_out - first < PACKED_UNITS ? n_out - first : PACKED_UNITS;
        int64_t width = NAME(padded)(n_units), panel = NAME(packed_panel)(p, l, n_units);
        REAL *to = C + begin * p->stride + first;
        if (is_sparse)
            NAME(weigh_sparse)(p, A->first_sample + begin, n_rows, to, p->stride);
        for (int64_t k = 0; k < n_in && !is_sparse; k += PACKED_INPUTS) {
            int64_t n_k = n_in - k < PACKED_INPUTS ? n_in - k : PACKED_INPUTS;
            NAME(pack_rows)(network->narrow, NAME(weights_at)(network, l, k, first), n_out, n_k,
                            n_units, panel, block);
            NAME(weigh)(p, A, begin, n_rows, k, n_k, block, width, panel,
                        k == 0 ? p->intercepts[l] + first : to, k == 0 ? 0 : p->stride, to,
                        p->stride);
        }
        if (l < network->n_layers - 1)
            NAME(activate_rows)(p, l, C + begin * p->stride, n_rows, first, n_units,
                                C_masks + begin * p->n_hidden_masks);
    }
}

static void NAME(predict_chunks)(void *context, int thread, barrier *meeting)
{
    prediction *p = context;
    const fitted_network *network = p->network;
    int n_threads = meeting->n_threads, phase = 0;
    int64_t n_out = network->units[network->n_layers];
    REAL *buffers = p->scratch + (p->is_in_place ? 0 : p->rows * p->input_stride);
    uint64_t *hidden_masks = p->masks + p->rows * p->n_masks;
    for (int64_t at = 0; at < p->n_samples; at += p->rows) {
        int64_t n = p->n_samples - at < p->rows ? p->n_samples - at : p->rows;
        int64_t begin = NAME(part)(n, thread, n_threads);
        int64_t end = NAME(part)(n, thread + 1, n_threads);
        if (!NAME(load_samples)(p, at + begin, end - begin, p->scratch + begin * p->input_stride,
                                p->masks + begin * p->n_masks))
            p->not_finite[thread] = 1;
        sample_rows A = NAME(input_rows)(p, at, p->scratch, p->masks);
        for (int l = 0; l < network->n_layers; l++, phase++) {
            REAL *C = buffers + l % 2 * p->rows * p->stride;
            barrier_wait(meeting);
            if (thread == 0)
                atomic_store(&p->next[(phase + 1) % 2], 0);
            uint64_t *C_masks = hidden_masks + l % 2 * p->rows * p->n_hidden_masks;
            NAME(predict_layer)(p, l, phase, &A, n, C, C_masks, thread, n_threads);
            A = NAME(activation_rows)(p, C, C_masks);
        }
        barrier_wait(meeting);
        for (int64_t i = begin; i < end; i++)
            NAME(activate)(network->output, (REAL *)A.values + i * p->stride, n_out, n_out);
        NAME(hand_out)(p, A.values + begin * p->stride, p->stride, at + begin, end - begin);
    }
}

/* ---- few rows ---------------------------------------------------------------------------- */

/* All rows at once; each thread takes some units of every layer. */
static void NAME(predict_few)(void *context, int thread, barrier *meeting)
{
    prediction *p = context;
    const fitted_network *network = p->network;
    int n_threads = meeting->n_threads;
    int64_t n = p->n_samples, n_out = network->units[network->n_layers];
    /* Every thread brings all samples to its own place; it reads all of them. */
    REAL *X = p->scratch + thread * p->scratch_length, *entries = X + n * p->input_stride;
    REAL *buffers = p->scratch + n_threads * p->scratch_length;
    int32_t *list = p->lists + thread * p->stride;
    if (!NAME(load_samples)(p, 0, n, X, NULL))
        p->not_finite[thread] = 1;
    sample_rows A = NAME(input_rows)(p, 0, X, NULL);
    for (int l = 0; l < network->n_layers; l++) {
        int64_t n_in = network->units[l], units = network->units[l + 1];
        int64_t first = NAME(part)(units, thread, n_threads);
        int64_t n_units = NAME(part)(units, thread + 1, n_threads) - first;
        REAL *C = buffers + l % 2 * n * p->stride + first;
        for (int64_t i = 0; i < n; i++)
            memcpy(C + i * p->stride, p->intercepts[l] + first, (size_t)n_units * sizeof(REAL));
        if (l == 0 && p->inputs->kind == CSR) {
            const input_matrix *inputs = p->inputs;
            for (int64_t i = 0; i < n; i++) {
                int64_t from = inputs->indptr[i];
                NAME(add_rows)(network->narrow, inputs->indptr[i + 1] - from,
                               inputs->indices + from, (const REAL *)inputs->values + from,
                               inputs->scale, NAME(weights_at)(network, 0, 0, first), units,
                               n_units, C + i * p->stride);
            }
        } else {
            /* The inputs that are not zero in one of the rows. */
            int64_t found = 0;
            for (int64_t k = 0; k < n_in; k++) {
                int counts = 0;
                for (int64_t i = 0; i < n; i++) {
                    REAL a = A.values[i * A.stride + k];
                    entries[i * p->stride + found] = a;
                    counts |= a != 0;
                }
                list[found] = (int32_t)k;
                found += counts;
            }
            /* Rows of weights stay in the first-level cache until all samples have had them. */
            int64_t together = n == 1 ? found : 4;
            for (int64_t t = 0; t < found; t += together)
                for (int64_t i = 0; i < n; i++)
                    NAME(add_rows)(network->narrow, found - t < together ? found - t : together,
                                   list + t, entries + i * p->stride + t, NULL,
                                   NAME(weights_at)(network, l, 0, first), units, n_units,
                                   C + i * p->stride);
        }
        for (int64_t i = 0; i < n && l < network->n_layers - 1; i++)
            NAME(activate)(network->hidden, C + i * p->stride, n_units, n_units);
        barrier_wait(meeting);
        A = (sample_rows){.values = C - first, .stride = p->stride};
    }
    if (thread > 0)
        return;
    for (int64_t i = 0; i < n; i++)
        NAME(activate)(network->output, (REAL *)A.values + i * p->stride, n_out, n_out);
    NAME(hand_out)(p, A.values, p->stride, 0, n);
}

/* ---- the call ---------------------------------------------------------------------------- */

/* Look at the affine map of inputs whose zeros are skipped, and find what the first layer's sums
 * begin with: its intercepts and what the shift adds to every sample. */
static void NAME(map_inputs)(prediction *p, const int32_t *all_inputs)
{
    const fitted_network *network = p->network;
    int64_t n_in = network->units[0], n_out = network->units[1];
    if (NAME(find_table)(p->inputs, n_in, p->table, &p->byte_scale))
        NAME(add_rows)(network->narrow, n_in, all_inputs, p->inputs->shift, NULL,
                       network->coefs[0], n_out, n_out, p->intercepts[0]);
}

/* What a call takes, in vector products, makes so many threads worth while. */
static int NAME(threads_for_prediction)(const fitted_network *network, const input_matrix *inputs)
{
    int64_t cost = 0, n = inputs->n_samples;
    for (int l = 0; l < network->n_layers; l++) {
        int64_t n_in = network->units[l], vectors = NAME(padded)(network->units[l + 1]) / LANES;
        int64_t products = n * n_in * vectors;
        if (l == 0 && inputs->kind == CSR)
            products = 2 * (inputs->indptr[n] - inputs->indptr[0]) * vectors;
        else if (l == 0 && inputs->skips_zeros)
            products /= 2;
        else if (n <= FEW_ROWS)  /* the weights come from memory */
            products = n_in * vectors * (n > VECTOR_BYTES / 8 ? n : VECTOR_BYTES / 8);
        cost += products;
    }
    int64_t worth = 1 + cost / THREAD_COST;
    return worth < MAX_THREADS ? (int)worth : MAX_THREADS;
}

/* Whether a hidden layer's activations meet so many vectors of weights that it pays to look for
 * their zeros. */
static int NAME(wide_layers)(const fitted_network *network)
{
    for (int l = 1; l < network->n_layers; l++)
        if (NAME(padded)(network->units[l + 1]) / LANES >= WIDE_VECTORS)
            return 1;
    return 0;
}

static int NAME(predict)(const fitted_network *network, const input_matrix *inputs, int n_threads,
                         void *outputs)
{
    const int64_t *units = network->units;
    int64_t n = inputs->n_samples, most = 0, n_weights = 0, n_intercepts = 0;
    int is_sparse = inputs->kind == CSR, is_few = n <= FEW_ROWS;
    for (int l = 0; l < network->n_layers; l++) {
        int64_t width = NAME(padded)(units[l + 1]);
        most = width > most ? width : most;
        n_intercepts += width;
        if (l > 0 || !is_sparse)
            n_weights += units[l] * width;
    }
    int is_small = n_weights * (int64_t)sizeof(REAL) <= SMALL_BYTES;
    prediction p = {.network = network, .inputs = inputs, .outputs = outputs, .n_samples = n,
                    .stride = NAME(odd_lines)(most), .input_stride = NAME(odd_lines)(units[0])};
    if (is_sparse)
        p.input_stride = 0;  /* rows are read without a copy */
    if (inputs->skips_zeros && !is_few && !is_sparse)
        p.n_masks = (units[0] + MASK_BITS - 1) / MASK_BITS;
    if (network->hidden == RELU && !is_few && NAME(wide_layers)(network))
        p.n_hidden_masks = (most + MASK_BITS - 1) / MASK_BITS;
    /* Bytes whose zeros are skipped are looked up in the table. */
    p.is_in_place = is_sparse || (inputs->kind == BYTES ? p.n_masks > 0 : inputs->scale == NULL);

    int64_t n_places = 1;  /* of scratch rows */
    if (is_few) {
        p.rows = n;
        if (!is_sparse && units[0] > most)  /* lists of inputs, too */
            p.stride = NAME(odd_lines)(units[0]);
        p.scratch_length = n * (p.input_stride + p.stride);
        n_places = n_threads;
    } else if (is_small) {
        int64_t most_rows = n_threads * GROUP_ROWS, n_groups = (n + most_rows - 1) / most_rows;
        int64_t tiles = (n + TILE_ROWS - 1) / TILE_ROWS;
        n_groups *= n_threads;  /* as many for each */
        p.rows = (tiles + n_groups - 1) / n_groups * TILE_ROWS;
        n_places = n_threads;
    } else {
        int64_t groups = CHUNK_GROUPS > n_threads ? CHUNK_GROUPS : n_threads;
        int64_t n_chunks = (n + groups * GROUP_ROWS - 1) / (groups * GROUP_ROWS);
        p.rows = (n + n_chunks - 1) / n_chunks;
    }
    int64_t n_buffers = 2 * p.rows * p.stride, n_scratch = n_buffers;
    if (!is_few) {
        p.scratch_length = (p.is_in_place ? 0 : p.rows * p.input_stride) + n_buffers;
        n_scratch = 0;
    }
    n_scratch += n_places * p.scratch_length;
    p.masks_length = p.rows * (p.n_masks + 2 * p.n_hidden_masks);
    int64_t n_lists = is_few ? n_threads * p.stride : p.n_masks > 0 ? units[0] : 0;
    int64_t n_blocks = is_few || is_small ? 0 : (int64_t)n_threads * PACKED_INPUTS * PACKED_UNITS;
    REAL *intercepts = NAME(allocate)(n_intercepts);
    p.intercepts = malloc((size_t)network->n_layers * sizeof(REAL *));
    p.scratch = NAME(allocate_raw)(n_scratch, sizeof(REAL));
    p.masks = NAME(allocate_raw)(n_places * p.masks_length, sizeof(uint64_t));
    p.lists = NAME(allocate_raw)(n_lists, sizeof(int32_t));
    p.blocks = NAME(allocate_raw)(n_blocks, sizeof(REAL));
    p.packed = NAME(allocate_raw)(is_small && !is_few ? n_weights : 0, sizeof(REAL));
    int failed = intercepts == NULL || p.intercepts == NULL || p.scratch == NULL ||
                 p.masks == NULL || p.lists == NULL || p.blocks == NULL || p.packed == NULL;
    if (!failed) {
        REAL *to = intercepts, *panels = p.packed;
        for (int l = 0; l < network->n_layers; l++) {
            p.intercepts[l] = to;
            NAME(copy_intercepts)(network, l, 0, units[l + 1], to);
            to += NAME(padded)(units[l + 1]);
            if (is_few || !is_small || (l == 0 && is_sparse))
                continue;
            NAME(pack_rows)(network->narrow, network->coefs[l], units[l + 1], units[l],
                            units[l + 1], NAME(packed_panel)(&p, l, units[l + 1]), panels);
            panels += units[l] * NAME(padded)(units[l + 1]);
        }
        if (p.n_masks > 0) {
            for (int64_t i = 0; i < units[0]; i++)
                p.lists[i] = (int32_t)i;
            NAME(map_inputs)(&p, p.lists);
        }
        team_mood mood = {.patience = 1};
        team_run(is_few ? NAME(predict_few) : is_small ? NAME(predict_groups)
                                                       : NAME(predict_chunks),
                 &p, n_threads, &mood);
    }
    int is_finite = 1;
    for (int i = 0; i < n_threads; i++)
        is_finite &= !p.not_finite[i];
    free_aligned(intercepts);
    free(p.intercepts);
    free_aligned(p.scratch);
    free_aligned(p.masks);
    free_aligned(p.lists);
    free_aligned(p.blocks);
    free_aligned(p.packed);
    return failed ? 1 : is_finite ? 0 : 2;
}

#undef WEIGHT
#undef prediction
#undef sample_rows
#undef GROUP_ROWS
#undef CHUNK_GROUPS
#undef SMALL_BYTES
#undef PACKED_INPUTS
#undef PACKED_UNITS
#undef THREAD_COST
#undef WIDE_VECTORS
