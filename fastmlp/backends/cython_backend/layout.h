/* Memory, and the layout of vectors in it: panels. Part of engine_body.h. */

/* ---- memory --------------------------------------------------------------------------- */

/* Memory that is not set to anything. */
static void *NAME(allocate_raw)(int64_t n, size_t size)
{
    return allocate_aligned(64, ((size_t)(n > 0 ? n : 1) * size + 63) / 64 * 64);
}

/* Zeros. */
static REAL *NAME(allocate)(int64_t n)
{
    REAL *memory = NAME(allocate_raw)(n, sizeof(REAL));
    if (memory != NULL)
        memset(memory, 0, (size_t)n * sizeof(REAL));
    return memory;
}

static int64_t NAME(padded)(int64_t n)
{
    return (n + LANES - 1) / LANES * LANES;
}

/* Rows an odd number of cache lines apart fall into different sets of the cache. */
static int64_t NAME(odd_lines)(int64_t n)
{
    int64_t per_line = 64 / sizeof(REAL);
    return ((n + per_line - 1) / per_line | 1) * per_line;
}

/* The same for rows that are often so short that a line would matter. Of rows a multiple of 256
 * bytes apart, a column or two would fall into a quarter of the sets or fewer. */
static int64_t NAME(row_stride)(int64_t width)
{
    return width * (int64_t)sizeof(REAL) % 256 == 0 ? width + 64 / (int64_t)sizeof(REAL) : width;
}

static void NAME(free_lists)(engine *e)
{
    free(e->list_start);
    free(e->list_next);
    free(e->list_rows);
    free_aligned(e->list_values);
    e->list_start = e->list_next = e->list_rows = NULL;
    e->list_values = NULL;
    e->list_room = 0;
}

static void NAME(free_scratch)(engine *e)
{
    free_aligned(e->X);
    free(e->masks);
    e->masks = NULL;
    free_aligned(e->Y);
    free_aligned(e->weights);
    free(e->losses);
    e->X = e->Y = e->weights = NULL;
    e->losses = NULL;
    for (int l = 0; l < e->n_layers; l++) {
        free_aligned(e->layers[l].A);
        free_aligned(e->layers[l].D);
        free_aligned(e->layers[l].factors);
        e->layers[l].A = e->layers[l].D = e->layers[l].factors = NULL;
        free(e->layers[l].masks);
        free(e->layers[l].delta_masks);
        e->layers[l].masks = e->layers[l].delta_masks = NULL;
    }
    e->chunk_rows = 0;
}

static void NAME(destroy)(void *handle)
{
    engine *e = handle;
    if (e == NULL)
        return;
    if (e->layers != NULL) {
        NAME(free_scratch)(e);
        NAME(free_lists)(e);
        for (int l = 0; l < e->n_layers; l++) {
            for (int which = 0; which < 4; which++)
                free_aligned(e->layers[l].vectors[which]);
            free_aligned(e->layers[l].transposed);
        }
    }
    free_aligned(e->starts);
    free_aligned(e->delta_sums);
    free_aligned(e->shift_sums);
    free(e->layers);
    free(e->blocks);
    free(e->squares);
    free(e->gradient_squares);
    free(e);
}

/* The units of the panels of a matrix that is `width` units wide: as few panels as can be if none
 * has more than `most` vectors, and as equal. The last one may have fewer. */
static int64_t NAME(panel_units)(int64_t width, int64_t most)
{
    int64_t vectors = width / LANES, n_panels = (vectors + most - 1) / most;
    return (vectors + n_panels - 1) / n_panels * LANES;
}

/* The units of the panel that begins with unit `first`. */
static inline int64_t NAME(panel_width)(int64_t width, int64_t first, int64_t panel)
{
    return width - first < panel ? width - first : panel;
}

/* List the blocks in e->blocks, or only count them if it is NULL; their costs come later. */
static void NAME(list_blocks)(engine *e)
{
    int64_t n = 0;
    for (int l = 0; l < e->n_layers; l++) {
        const layer *y = &e->layers[l];
        int64_t rows = !y->skips ? BLOCK_ROWS : y->panel < y->width ? MASK_BITS : MASK_BITS / 2;
        for (int64_t row = 0; row < y->n_in; row += rows) {
            int64_t n_rows = y->n_in - row < rows ? y->n_in - row : rows;
            for (int64_t first = 0; first < y->width; first += y->panel) {
                int64_t width = NAME(panel_width)(y->width, first, y->panel);
                if (e->blocks != NULL)
                    e->blocks[n] = (block){l, first, width, row, n_rows, 0};
                n++;
            }
        }
    }
    e->n_blocks = n;
}

static void *NAME(create)(const network_spec *network)
{
    engine *e = calloc(1, sizeof(engine));
    if (e == NULL)
        return NULL;
    e->n_layers = network->n_layers;
    e->hidden = network->hidden;
    e->reads_z = network->reads_z;
    e->output = network->output;
    e->loss = network->loss;
    e->alpha = (REAL)network->alpha;
    e->skips_zeros = network->skips_zeros;
    e->mood.patience = 1;
    e->layers = calloc((size_t)network->n_layers, sizeof(layer));
    if (e->layers == NULL) {
        free(e);
        return NULL;
    }
    for (int l = 0; l < e->n_layers; l++) {
        layer *y = &e->layers[l];
        y->n_in = network->units[l];
        y->n_out = network->units[l + 1];
        y->width = NAME(padded)(y->n_out);
        y->stride = NAME(row_stride)(y->width);
        y->back_width = NAME(padded)(y->n_in);
        int has_zeros = l > 0 && SKIPS_RELU && network->hidden == RELU;
        y->skips = l == 0 ? network->skips_zeros : has_zeros && y->width >= SKIPPING_WIDTH;
        y->back_skips = has_zeros && l < e->n_layers - 1 && y->back_width >= SKIPPING_WIDTH;
        int is_wide = y->skips || (l == 0 && network->inputs == CSR);
        y->panel = NAME(panel_units)(y->width, is_wide ? SKIPPING_VECTORS : TILE_VECTORS);
        y->back_panel = NAME(panel_units)(y->back_width,
                                          y->back_skips ? SKIPPING_VECTORS : TILE_VECTORS);
        y->n_masks = (y->n_out + MASK_BITS - 1) / MASK_BITS;
        y->vectors[0] = NAME(allocate_raw)((y->n_in + 1) * y->width, sizeof(REAL));
        e->n_weights += y->n_in * y->width;
        if (l > 0)
            y->transposed = NAME(allocate)(y->n_out * y->back_width);
        if (y->vectors[0] == NULL || (l > 0 && y->transposed == NULL)) {
            NAME(destroy)(e);
            return NULL;
        }
    }
    NAME(list_blocks)(e);
    e->blocks = malloc((size_t)e->n_blocks * sizeof(block));
    e->squares = calloc((size_t)e->n_blocks, sizeof(double));
    e->gradient_squares = calloc((size_t)e->n_blocks, sizeof(double));
    if (e->blocks == NULL || e->squares == NULL || e->gradient_squares == NULL) {
        NAME(destroy)(e);
        return NULL;
    }
    NAME(list_blocks)(e);
    int64_t n_in = e->layers[0].n_in;
    e->input_stride = NAME(odd_lines)(n_in);
    e->byte_stride = ((n_in + 63) / 64 | 1) * 64;
    e->n_masks = (n_in + MASK_BITS - 1) / MASK_BITS;
    return e;
}

static int64_t NAME(panel)(const void *handle, int l)
{
    return ((const engine *)handle)->layers[l].panel;
}

/* The rows of a chunk, which depend on the inputs only, so that sums have a fixed order. */
static int64_t NAME(chunk_limit)(const engine *e, const input_matrix *inputs)
{
    int64_t limit = CHUNK_BYTES / (e->input_stride * (int64_t)sizeof(REAL));
    if (inputs->kind == CSR || limit > CHUNK_ROWS_MAX)
        return CHUNK_ROWS_MAX;
    return limit < 8 * TILE_ROWS ? 8 * TILE_ROWS : limit;
}

/* Make room for chunks of up to `rows` rows. Return nonzero if there is no memory. */
static int NAME(reserve)(engine *e, int64_t rows, const input_matrix *inputs)
{
    int64_t limit = NAME(chunk_limit)(e, inputs);
    if (rows > limit)
        rows = limit;
    if (rows <= e->chunk_rows && (inputs->kind == CSR || e->X != NULL))
        return 0;
    NAME(free_scratch)(e);
    int64_t n_outputs = e->layers[e->n_layers - 1].n_out;
    if (inputs->kind != CSR) {
        e->X = NAME(allocate)(rows * e->input_stride);
        e->masks = malloc((size_t)(rows * e->n_masks) * sizeof(uint64_t));
    }
    e->Y = NAME(allocate)(rows * n_outputs);
    e->weights = NAME(allocate)(rows);
    e->losses = calloc((size_t)rows, sizeof(double));
    int failed = (inputs->kind != CSR && (e->X == NULL || e->masks == NULL)) ||
                 e->Y == NULL || e->weights == NULL || e->losses == NULL;
    for (int l = 0; l < e->n_layers; l++) {
        layer *y = &e->layers[l];
        y->A = NAME(allocate)(rows * y->stride);
        y->D = NAME(allocate)(rows * y->stride);
        failed |= y->A == NULL || y->D == NULL;
        size_t masks = (size_t)(rows * y->n_masks) * sizeof(uint64_t);
        if (l < e->n_layers - 1 && e->layers[l + 1].skips)
            failed |= (y->masks = malloc(masks)) == NULL;
        if (y->back_skips)
            failed |= (y->delta_masks = malloc(masks)) == NULL;
    }
    if (failed) {
        NAME(free_scratch)(e);
        return 1;
    }
    e->chunk_rows = rows;
    return 0;
}

/* Make room for the factors of dropout and of derivatives, next to the reserved scratch. Return
 * nonzero if there is no memory. */
static int NAME(reserve_factors)(engine *e, const dropout_spec *dropout)
{
    for (int l = 0; l < e->n_layers - 1; l++) {
        layer *y = &e->layers[l];
        if (y->factors == NULL && (e->reads_z || (dropout != NULL && dropout->rates[l] > 0))) {
            y->factors = NAME(allocate)(e->chunk_rows * y->stride);
            if (y->factors == NULL)
                return 1;
        }
    }
    return 0;
}

/* The part of a batch of n samples that passes at once: batches are cut evenly. */
static int64_t NAME(rows_per_chunk)(const engine *e, const input_matrix *inputs, int64_t n)
{
    int64_t limit = NAME(chunk_limit)(e, inputs);
    int64_t n_chunks = (n + limit - 1) / limit;
    return (n + n_chunks - 1) / n_chunks;
}

/* Make room for the lists of the fullest chunk of CSR inputs. Return nonzero if there is no
 * memory. */
static int NAME(reserve_lists)(engine *e, const input_matrix *inputs, const int64_t *order,
                               int64_t start, int64_t stop, int64_t batch_size)
{
    int64_t most = 1;
    for (int64_t at = start; at < stop; at += batch_size) {
        int64_t n = stop - at < batch_size ? stop - at : batch_size;
        int64_t rows = NAME(rows_per_chunk)(e, inputs, n);
        for (int64_t from = 0; from < n; from += rows) {
            int64_t m = n - from < rows ? n - from : rows, stored = 0;
            for (int64_t i = 0; i < m; i++) {
                int64_t sample = order ? order[at + from + i] : at + from + i;
                stored += inputs->indptr[sample + 1] - inputs->indptr[sample];
            }
            most = stored > most ? stored : most;
        }
    }
    if (most <= e->list_room)
        return 0;
    NAME(free_lists)(e);
    size_t n_in = (size_t)e->layers[0].n_in;
    if (most < INT32_MAX) {
        e->list_start = malloc((n_in + 1) * sizeof(int32_t));
        e->list_next = malloc(n_in * sizeof(int32_t));
        e->list_rows = malloc((size_t)most * sizeof(int32_t));
        e->list_values = NAME(allocate)(most);
    }
    if (e->list_start == NULL || e->list_next == NULL || e->list_rows == NULL ||
        e->list_values == NULL) {
        NAME(free_lists)(e);
        return 1;
    }
    e->list_room = most;
    return 0;
}

/* ---- panels --------------------------------------------------------------------------- */

/* Copy one row of a panel, `count` numbers of it, and set the padding behind them to zero. By
 * vectors, because a call that copies so few takes longer than that. */
static inline void NAME(copy_row)(REAL *restrict to, const REAL *restrict from, int64_t count,
                                  int64_t padding)
{
    int64_t j = 0;
    for (; j + LANES <= count; j += LANES)
        *(vec *)(to + j) = *(const vec *)(from + j);
    for (; j < count; j++)
        to[j] = from[j];
    for (; j < count + padding; j++)
        to[j] = 0;
}

/* Copy a (n_rows, n_columns) matrix in C order into panels, or back. Some rows at a time, so that
 * neither side jumps to another page at every step. */
static void NAME(copy_panels)(REAL *panels, REAL *matrix, int64_t n_rows, int64_t n_columns,
                              int64_t width, int64_t panel, int into_panels)
{
    const int64_t together = 16;
    for (int64_t begin = 0; begin < n_rows; begin += together) {
        int64_t end = n_rows - begin < together ? n_rows : begin + together;
        for (int64_t first = 0; first < width; first += panel) {
            int64_t stride = NAME(panel_width)(width, first, panel);
            int64_t count = n_columns - first < stride ? n_columns - first : stride;
            REAL *in_panel = panels + first * n_rows, *in_matrix = matrix + first;
            for (int64_t i = begin; i < end; i++)
                if (into_panels)
                    NAME(copy_row)(in_panel + i * stride, in_matrix + i * n_columns, count,
                                   stride - count);
                else
                    NAME(copy_row)(in_matrix + i * n_columns, in_panel + i * stride, count, 0);
        }
    }
}

/* Bring the transposed copy of one block of weights up to date. */
static void NAME(transpose_rows)(const layer *y, const block *b)
{
    int64_t n_columns = y->n_out - b->first < b->width ? y->n_out - b->first : b->width;
    const REAL *panel = y->vectors[0] + b->first * y->n_in;
    for (int64_t i = b->row; i < b->row + b->n_rows; i++) {
        int64_t back_first = i / y->back_panel * y->back_panel;
        int64_t back_width = NAME(panel_width)(y->back_width, back_first, y->back_panel);
        REAL *to = y->transposed + back_first * y->n_out + (i - back_first);
        for (int64_t j = 0; j < n_columns; j++)
            to[(b->first + j) * back_width] = panel[i * b->width + j];
    }
}

/* Copy a flat vector in the layout of core/network.py's Parameters into panels, or back. */
static void NAME(copy_flat)(engine *e, int which, REAL *flat, int into_panels)
{
    for (int l = 0; l < e->n_layers; l++) {
        layer *y = &e->layers[l];
        NAME(copy_panels)(y->vectors[which], flat, y->n_in, y->n_out, y->width, y->panel,
                          into_panels);
        flat += y->n_in * y->n_out;
    }
    for (int l = 0; l < e->n_layers; l++) {
        layer *y = &e->layers[l];
        REAL *intercepts = y->vectors[which] + y->n_in * y->width;
        if (into_panels)
            NAME(copy_row)(intercepts, flat, y->n_out, y->width - y->n_out);
        else
            NAME(copy_row)(flat, intercepts, y->n_out, 0);
        flat += y->n_out;
    }
}

static double NAME(sum_of_squares)(const REAL *values, int64_t n)
{
    vec sums[4] = {{0}};  /* four, because one would wait for itself */
    double total = 0;
    int64_t i = 0;
    for (; i + 4 * LANES <= n; i += 4 * LANES)
        UNROLL
        for (int j = 0; j < 4; j++) {
            vec v = *(const vec *)(values + i + j * LANES);
            sums[j] += v * v;
        }
    for (; i < n; i += LANES) {
        vec v = *(const vec *)(values + i);
        sums[0] += v * v;
    }
    for (int j = 0; j < 4; j++)
        for (int k = 0; k < LANES; k++)
            total += (double)sums[j][k];
    return total;
}

static int NAME(load)(void *handle, int which, const void *flat)
{
    engine *e = handle;
    for (int l = 0; l < e->n_layers; l++) {
        layer *y = &e->layers[l];
        int64_t n = (y->n_in + 1) * y->width;
        if (y->vectors[which] == NULL)  /* copying sets every number of it */
            y->vectors[which] = flat ? NAME(allocate_raw)(n, sizeof(REAL)) : NAME(allocate)(n);
        if (y->vectors[which] == NULL)
            return 1;
    }
    if (flat == NULL)
        return 0;
    NAME(copy_flat)(e, which, (REAL *)flat, 1);
    if (which != 0)
        return 0;
    for (int64_t i = 0; i < e->n_blocks; i++) {
        const block *b = &e->blocks[i];
        const layer *y = &e->layers[b->l];
        const REAL *rows = y->vectors[0] + b->first * y->n_in + b->row * b->width;
        e->squares[i] = NAME(sum_of_squares)(rows, b->n_rows * b->width);
        if (b->l > 0)
            NAME(transpose_rows)(y, b);
    }
    return 0;
}

static void NAME(store)(void *handle, int which, void *flat)
{
    NAME(copy_flat)(handle, which, flat, 0);
}

static void NAME(release)(void *handle, int which)
{
    engine *e = handle;
    for (int l = 0; l < e->n_layers; l++) {
        free_aligned(e->layers[l].vectors[which]);
        e->layers[l].vectors[which] = NULL;
    }
}
