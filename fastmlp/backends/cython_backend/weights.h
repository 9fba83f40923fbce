/* Phase B: gradient and update of the weights. Part of engine_body.h. */

/* What turns gradient sums into a step; the same for all weights of a batch. */
typedef struct {
    enum optimizer kind;
    REAL scale;  /* 1 / total weight of the batch */
    REAL settings[N_SETTINGS];
} step;

static step NAME(make_step)(const optimizer_spec *optimizer, int64_t t, double total_weight)
{
    step s = {0};
    s.scale = (REAL)(1 / total_weight);
    if (optimizer == NULL)
        return s;
    s.kind = optimizer->kind;
    for (int i = 0; i < N_SETTINGS; i++)
        s.settings[i] = (REAL)optimizer->settings[i];
    const double *given = optimizer->settings;
    if (optimizer->corrects_bias)
        s.settings[RATE] = (REAL)(given[RATE] * (sqrt(1 - pow(given[BETA_2], (double)t)) /
                                                 (1 - pow(given[BETA_1], (double)t))));
    /* Not rounded to zero: the padding of the weights would become 0 / 0. */
    s.settings[EPSILON] = (REAL)(given[EPSILON] > REAL_MIN ? given[EPSILON] : REAL_MIN);
    return s;
}

/* Update n weights by their gradient sums. `alpha` is 0 for intercepts. */
static void NAME(update)(const step *s, REAL alpha, int64_t n, const REAL *restrict sums,
                         REAL *restrict weights, REAL *restrict state_1, REAL *restrict state_2)
{
    const REAL scale = s->scale, rate = s->settings[RATE];
    switch (s->kind) {
    case SGD: {
        /* Nesterov: w += momentum * v - rate * g; plain momentum: w += v. */
        const REAL momentum = s->settings[MOMENTUM], ahead = s->settings[AHEAD];
        const REAL extra = s->settings[NESTEROV] * rate;
        for (int64_t i = 0; i < n; i++) {
            REAL g = (sums[i] + alpha * weights[i]) * scale;
            REAL v = momentum * state_1[i] - rate * g;
            state_1[i] = v;
            weights[i] += ahead * v - extra * g;
        }
        break;
    }
    case ADAM:
    case ADAMW: {
        const REAL beta_1 = s->settings[BETA_1], rest_1 = s->settings[REST_1];
        const REAL beta_2 = s->settings[BETA_2], rest_2 = s->settings[REST_2];
        const REAL epsilon = s->settings[EPSILON], decay = s->settings[DECAY];
        for (int64_t i = 0; i < n && s->kind == ADAM; i++) {
            REAL g = (sums[i] + alpha * weights[i]) * scale;
            REAL m = beta_1 * state_1[i] + rest_1 * g;
            REAL v = beta_2 * state_2[i] + rest_2 * g * g;
            state_1[i] = m;
            state_2[i] = v;
            weights[i] -= rate * m / (REAL_SQRT(v) + epsilon);
        }
        for (int64_t i = 0; i < n && s->kind == ADAMW; i++) {
            REAL g = (sums[i] + alpha * weights[i]) * scale;
            REAL m = beta_1 * state_1[i] + rest_1 * g;
            REAL v = beta_2 * state_2[i] + rest_2 * g * g;
            state_1[i] = m;
            state_2[i] = v;
            weights[i] -= decay * weights[i] + rate * m / (REAL_SQRT(v) + epsilon);
        }
        break;
    }
    }
}

/* Turn n gradient sums into gradients. */
static void NAME(finish_gradient)(const step *s, REAL alpha, int64_t n,
                                  const REAL *restrict weights, REAL *restrict sums)
{
    for (int64_t i = 0; i < n; i++)
        sums[i] = (sums[i] + alpha * weights[i]) * s->scale;
}

/* Where the gradient sums of `offset` in layer y's vectors go: to the buffer if this chunk uses
 * them up, else to vector 3, where those of earlier chunks are. */
typedef struct {
    const REAL *before;  /* the sums of earlier chunks, or one row of zeros */
    int64_t before_step; /* between its rows */
    REAL *sums;
} NAME(place);

static NAME(place) NAME(find_place)(layer *y, int64_t offset, int64_t width, REAL *buffer,
                                    int is_first, int uses_up)
{
    static const REAL zeros[PANEL_UNITS];
    REAL *stored = y->vectors[3] ? y->vectors[3] + offset : NULL;
    return (NAME(place)){is_first ? zeros : stored, is_first ? 0 : width,
                         uses_up ? buffer : stored};
}

/* Use up n gradient sums at `offset` of layer y's vectors: update, or only finish them. */
static void NAME(use_up)(layer *y, int64_t offset, int64_t n, REAL *sums, REAL alpha,
                         const step *s, int updates)
{
    REAL *weights = y->vectors[0] + offset;
    if (updates)
        NAME(update)(s, alpha, n, sums, weights, y->vectors[1] + offset,
                     y->vectors[2] ? y->vectors[2] + offset : NULL);
    else
        NAME(finish_gradient)(s, alpha, n, weights, sums);
}

/* What a thread keeps during phase B: the masks of the features that it is at, in groups, which
 * tell in which samples of the chunk they are not all zero. */
typedef struct {
    const uint64_t *source; /* the first sample's mask that these are made of, or NULL */
    uint64_t masks[CHUNK_ROWS_MAX / MASK_BITS][MASK_BITS / MASKED_ROWS];
} NAME(feature_masks);

static void NAME(find_feature_masks)(const uint64_t *source, int64_t n_masks, int64_t m,
                                     NAME(feature_masks) *features)
{
    if (features->source == source)
        return;
    features->source = source;
    for (int64_t row = 0; row < m; row += MASK_BITS) {
        uint64_t masks[MASK_BITS] __attribute__((aligned(64)));
        for (int64_t i = 0; i < MASK_BITS; i++)
            masks[i] = row + i < m ? source[(row + i) * n_masks] : 0;
        NAME(transpose_masks)(masks, features->masks[row / MASK_BITS]);
    }
}

/* sums = before + A^T D for the rows of block b, skipping the zeros of A, whose value at the first
 * sample and the block's first row is where `a` begins. `masks` are the block's. */
static void NAME(gradient_skipping_zeros)(const layer *y, const block *b, int64_t m,
                                          NAME(masked_matrix) a, const REAL *D,
                                          NAME(place) place, const NAME(feature_masks) *features)
{
    const int64_t element = a.table ? 1 : sizeof(REAL);
    int64_t n_tiles = b->n_rows / MASKED_ROWS, rest = n_tiles * MASKED_ROWS;
    int64_t part = NAME(panel_units)(b->width, MASKED_VECTORS);
    NAME(masked_matrix) left = a;  /* the rows that are no whole tile */
    left.scale = a.scale ? a.scale + rest : NULL;
    for (int64_t row = 0; row < m; row += MASK_BITS) {
        const uint64_t *masks = features->masks[row / MASK_BITS] + b->row % MASK_BITS / MASKED_ROWS;
        const REAL *before = row == 0 ? place.before : place.sums;
        int64_t before_step = row == 0 ? place.before_step : b->width;
        for (int64_t first = 0; first < b->width; first += part)
            NAME(masked_tiles)(n_tiles, MASKED_ROWS, NAME(panel_width)(b->width, first, part),
                               masks, a, D + row * y->stride + first, y->stride, before + first,
                               before_step, place.sums + first, b->width);
        left.values = (const char *)a.values + rest * element;
        for (int64_t first = 0; first < b->width && rest < b->n_rows; first += part)
            NAME(masked_tiles)(b->n_rows - rest, 1, NAME(panel_width)(b->width, first, part),
                               masks + n_tiles, left, D + row * y->stride + first, y->stride,
                               before + rest * before_step + first, before_step,
                               place.sums + rest * b->width + first, b->width);
        a.values = (const char *)a.values + MASK_BITS * a.stride * element;
    }
}

/* The same for the inputs, whose map may shift them. */
static void NAME(input_gradient_skipping_zeros)(const engine *e, enum input_kind kind,
                                                const block *b, int64_t m, const REAL *D,
                                                NAME(place) place,
                                                NAME(feature_masks) *features,
                                                const REAL *delta_sums)
{
    const layer *y = &e->layers[0];
    NAME(masked_matrix) a = NAME(masked_inputs)(e, kind, 0, b->row);
    a.stride = kind == BYTES ? e->byte_stride : e->input_stride;
    NAME(find_feature_masks)(e->masks + b->row / MASK_BITS, e->n_masks, m, features);
    /* The next block's inputs, of which other threads have gathered some. */
    if (kind == BYTES && b->first + b->width == y->width)
        for (int64_t row = 0; row < m; row++)
            __builtin_prefetch((const uint8_t *)e->X + row * e->byte_stride + b->row + MASK_BITS);
    NAME(gradient_skipping_zeros)(y, b, m, a, D, place, features);
    if (e->shift != NULL)
        for (int64_t i = 0; i < b->n_rows; i++)
            for (int64_t j = 0; j < b->width; j++)
                place.sums[i * b->width + j] += e->shift[b->row + i] * delta_sums[b->first + j];
}

/* The same for the activations of the layer below. Return whether they have zeros enough; if not,
 * nothing is done. */
static int NAME(try_skipping_zeros)(const engine *e, const block *b, int64_t m, const REAL *D,
                                    NAME(place) place, NAME(feature_masks) *features)
{
    const layer *y = &e->layers[b->l], *below = y - 1;
    NAME(find_feature_masks)(below->masks + b->row / MASK_BITS, below->n_masks, m, features);
    const int64_t first = b->row % MASK_BITS / MASKED_ROWS;
    int64_t found = 0;
    for (int64_t row = 0; row < m; row += MASK_BITS)
        for (int64_t i = 0; i < b->n_rows / MASKED_ROWS; i++)
            found += __builtin_popcountll(features->masks[row / MASK_BITS][first + i]);
    if (4 * found >= 3 * m * b->n_rows)
        return 0;
    NAME(masked_matrix) a = {.values = below->A + b->row, .stride = below->stride};
    NAME(gradient_skipping_zeros)(y, b, m, a, D, place, features);
    return 1;
}

/* Sum up what the inputs' shift adds to the units of block `index`: t W, of
 * (s x + t) W = s x W + t W. */
static void NAME(sum_shift)(engine *e, int64_t index)
{
    const block *b = &e->blocks[index];
    const REAL *rows = e->layers[0].vectors[0] + b->first * e->layers[0].n_in + b->row * b->width;
    REAL *sums = e->shift_sums + index * PANEL_UNITS;
    memset(sums, 0, (size_t)b->width * sizeof(REAL));
    for (int64_t i = 0; i < b->n_rows; i++)
        for (int64_t j = 0; j < b->width; j++)
            sums[j] += e->shift[b->row + i] * rows[i * b->width + j];
}

/* What the sums of the first layer begin with. */
static const REAL *NAME(find_starts)(engine *e, int thread)
{
    const layer *y = &e->layers[0];
    const REAL *intercepts = y->vectors[0] + y->n_in * y->width;
    if (e->shift == NULL)
        return intercepts;
    REAL *starts = e->starts + thread * y->width;
    memcpy(starts, intercepts, (size_t)y->width * sizeof(REAL));
    for (int64_t i = 0; i < e->n_blocks && e->blocks[i].l == 0; i++)
        for (int64_t j = 0; j < e->blocks[i].width; j++)
            starts[e->blocks[i].first + j] += e->shift_sums[i * PANEL_UNITS + j];
    return starts;
}

/* Sum up the first layer's deltas of the m samples of a chunk. */
static void NAME(sum_deltas)(const engine *e, int64_t m, REAL *sums)
{
    const layer *y = &e->layers[0];
    memset(sums, 0, (size_t)y->width * sizeof(REAL));
    NAME(sum_rows)(m, y->width, y->D, y->stride, sums, sums);
}

/* Bring what is derived from a block's weights up to date. */
static void NAME(weights_changed)(engine *e, int64_t index)
{
    const block *b = &e->blocks[index];
    layer *y = &e->layers[b->l];
    e->squares[index] = NAME(sum_of_squares)(
        y->vectors[0] + b->first * y->n_in + b->row * b->width, b->n_rows * b->width);
    if (b->l > 0)
        NAME(transpose_rows)(y, b);
    else if (e->shift != NULL)
        NAME(sum_shift)(e, index);
}

/* Update a block by its gradient in vector 3, which is finished, times s->scale. */
static void NAME(update_block)(engine *e, int64_t index, const step *s)
{
    const block *b = &e->blocks[index];
    layer *y = &e->layers[b->l];
    int64_t offset = b->first * y->n_in + b->row * b->width;
    NAME(use_up)(y, offset, b->n_rows * b->width, y->vectors[3] + offset, 0, s, 1);
    NAME(weights_changed)(e, index);
    if (b->row == 0) {
        offset = y->n_in * y->width + b->first;
        NAME(use_up)(y, offset, b->width, y->vectors[3] + offset, 0, s, 1);
    }
}

/* Handle block `index` over the m samples of a chunk: form the gradient sums of its weights,
 * A^T D, and with the last chunk use them up. A panel's first block takes its intercepts along. */
static void NAME(phase_b_block)(engine *e, const input_matrix *inputs, int64_t index, int64_t m,
                                int is_first, int is_last, const step *s, int updates,
                                NAME(feature_masks) *features, const REAL *delta_sums)
{
    REAL buffer[BLOCK_ROWS_MAX * PANEL_UNITS] __attribute__((aligned(64)));
    const block *b = &e->blocks[index];
    layer *y = &e->layers[b->l];
    int64_t offset = b->first * y->n_in + b->row * b->width, size = b->n_rows * b->width;
    const REAL *D = y->D + b->first;
    /* The other threads have read these weights; they are made ours while their gradient is
     * formed, so that the update need not wait. */
    for (int64_t i = 0; i < size && updates && is_last; i += (int64_t)(64 / sizeof(REAL)))
        __builtin_prefetch(y->vectors[0] + offset + i, 1, 3);
    NAME(place) place =
        NAME(find_place)(y, offset, b->width, buffer, is_first, is_last && updates);

    if (b->l == 0 && inputs->skips_zeros) {
        NAME(input_gradient_skipping_zeros)(e, inputs->kind, b, m, D, place, features,
                                            delta_sums);
    } else if (b->l == 0 && inputs->kind == CSR) {
        for (int64_t i = 0; i < b->n_rows; i++) {
            int32_t start = e->list_start[b->row + i];
            NAME(sparse_product)(b->width, e->list_start[b->row + i + 1] - start,
                                 e->list_rows + start, e->list_values + start, NULL, D, y->stride,
                                 place.before + i * place.before_step,
                                 place.sums + i * b->width);
        }
    } else if (b->l == 0 || !y->skips || !NAME(try_skipping_zeros)(e, b, m, D, place, features)) {
        const REAL *A = b->l == 0 ? e->X : e->layers[b->l - 1].A;
        int64_t a_step = b->l == 0 ? e->input_stride : e->layers[b->l - 1].stride;
        NAME(product)(b->n_rows, b->width, m, A + b->row, 1, a_step, D, y->stride, place.before,
                      place.before_step, place.sums, b->width);
    }
    if (is_last) {
        NAME(use_up)(y, offset, size, place.sums, e->alpha, s, updates);
        if (updates)
            NAME(weights_changed)(e, index);
        else
            e->gradient_squares[index] = NAME(sum_of_squares)(place.sums, size);
    }
    if (b->row == 0) {
        int64_t at = y->n_in * y->width + b->first;
        place = NAME(find_place)(y, at, b->width, buffer, is_first, is_last && updates);
        NAME(sum_rows)(m, b->width, D, y->stride, place.before, place.sums);
        if (is_last)
            NAME(use_up)(y, at, b->width, place.sums, 0, s, updates);
        if (is_last && !updates)
            e->gradient_squares[index] += NAME(sum_of_squares)(place.sums, b->width);
    }
}
