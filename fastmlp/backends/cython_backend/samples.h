/* Phase A: gather samples, forward and backward pass. Part of engine_body.h. */

/* The samples that a thread takes next, which are fetched from memory piece by piece while it
 * works on others: their rows lie anywhere, so that the processor cannot foresee them. */
typedef struct {
    const char *rows, *targets;
    const int64_t *order;
    int64_t row_bytes, target_bytes;
    int64_t at, stop;    /* positions in the order */
    int64_t done;        /* bytes of row `at` that are on their way */
    int64_t piece;       /* bytes to fetch at a time */
} NAME(upcoming);

static NAME(upcoming) NAME(nothing_upcoming)(const engine *e, const input_matrix *inputs,
                                             const void *targets, const int64_t *order)
{
    int64_t element = inputs->kind == BYTES ? 1 : sizeof(REAL);
    return (NAME(upcoming)){.rows = inputs->values, .targets = targets, .order = order,
                            /* sparse rows are read without a copy */
                            .row_bytes = inputs->kind == CSR ? 0 : e->layers[0].n_in * element,
                            .target_bytes = e->layers[e->n_layers - 1].n_out *
                                            (int64_t)sizeof(REAL)};
}

/* The samples at positions [begin, end) come next; fetch will be called this often before. */
static void NAME(announce)(NAME(upcoming) *u, int64_t begin, int64_t end, int64_t times)
{
    u->at = begin;
    u->stop = u->row_bytes > 0 ? end : begin;
    u->done = 0;
    u->piece = u->row_bytes * (end - begin) / (times > 0 ? times : 1) + 64;
}

static inline void NAME(fetch)(NAME(upcoming) *u)
{
    for (int64_t left = u->piece; left > 0 && u->at < u->stop; left -= 64) {
        int64_t sample = u->order ? u->order[u->at] : u->at;
        __builtin_prefetch(u->rows + sample * u->row_bytes + u->done, 0, 3);
        if (u->done == 0)
            __builtin_prefetch(u->targets + sample * u->target_bytes, 0, 3);
        u->done += 64;
        if (u->done >= u->row_bytes) {
            u->done = 0;
            u->at++;
        }
    }
}

/* Find what the bytes of inputs stand for whose zeros are skipped: table[byte], multiplied by the
 * feature's *byte_scale unless that is NULL, because one factor holds for all and is in the table.
 * Return whether the map shifts any feature. */
static int NAME(find_table)(const input_matrix *inputs, int64_t n_in, REAL *table,
                            const REAL **byte_scale)
{
    const REAL *scale = inputs->scale, *shift = inputs->shift;
    int is_uniform = 1, is_shifted = 0;
    for (int64_t i = 0; i < n_in && scale != NULL; i++) {
        is_uniform &= scale[i] == scale[0];
        is_shifted |= shift[i] != 0;
    }
    *byte_scale = is_uniform ? NULL : scale;
    for (int i = 0; i < 256; i++)
        table[i] = (inputs->table ? ((const REAL *)inputs->table)[i] : (REAL)i) *
                   (is_uniform && scale != NULL ? scale[0] : 1);
    return is_shifted;
}

/* Sparse inputs stay where they are. */
static void NAME(gather_row)(engine *e, const input_matrix *inputs, int64_t sample, int64_t row)
{
    const int64_t n = e->layers[0].n_in;
    const REAL *restrict scale = inputs->scale;
    const REAL *restrict shift = inputs->shift;
    const uint8_t *restrict bytes = (const uint8_t *)inputs->values + sample * n;
    const REAL *restrict numbers = (const REAL *)inputs->values + sample * n;
    REAL *restrict to = e->X + row * e->input_stride;
    if (inputs->kind == CSR)
        return;
    if (inputs->skips_zeros) {
        uint8_t *restrict to_bytes = (uint8_t *)e->X + row * e->byte_stride;
        uint64_t *masks = e->masks + row * e->n_masks;
        if (inputs->kind == BYTES) {
            NAME(copy_bytes)(bytes, n, to_bytes, masks);
            return;
        }
        if (scale == NULL)
            memcpy(to, numbers, (size_t)n * sizeof(REAL));
        else
            for (int64_t i = 0; i < n; i++)
                to[i] = numbers[i] * scale[i];
        NAME(find_masks)(to, n, masks);
    } else if (inputs->kind == BYTES) {
        if (scale == NULL)
            for (int64_t i = 0; i < n; i++)
                to[i] = (REAL)bytes[i];
        else
            for (int64_t i = 0; i < n; i++)
                to[i] = (REAL)bytes[i] * scale[i] + shift[i];
    } else {
        if (scale == NULL)
            memcpy(to, numbers, (size_t)n * sizeof(REAL));
        else
            for (int64_t i = 0; i < n; i++)
                to[i] = numbers[i] * scale[i] + shift[i];
    }
}

/* The numbers that begin with (row, column) of the gathered inputs whose zeros are skipped. */
static inline NAME(masked_matrix) NAME(masked_inputs)(const engine *e, enum input_kind kind,
                                                      int64_t row, int64_t column)
{
    NAME(masked_matrix) a = {.values = e->X + row * e->input_stride + column};
    if (kind == BYTES) {
        a.values = (const uint8_t *)e->X + row * e->byte_stride + column;
        a.table = e->table;
        a.scale = e->byte_scale ? e->byte_scale + column : NULL;
    }
    return a;
}

/* C = C0 + A W for n rows of A with n_masks masks each, skipping zeros. Its rows' values are a_step
 * apart, W is (n_in, width) in panels, and C0 one row, or NULL for zeros. A group of rows passes over
 * the weights that one mask speaks of while they are in the first-level cache. */
static void NAME(product_skipping_zeros)(int64_t n, const uint64_t *masks, int64_t n_masks,
                                         NAME(masked_matrix) a, int64_t a_step, const REAL *W,
                                         int64_t n_in, int64_t width, int64_t panel,
                                         const REAL *C0, REAL *C, int64_t c_step,
                                         NAME(upcoming) *next)
{
    static const REAL zeros[PANEL_UNITS];
    const int64_t element = a.table ? 1 : sizeof(REAL);
    for (int64_t first = 0; first < width; first += panel) {
        int64_t units = NAME(panel_width)(width, first, panel);
        NAME(masked_matrix) part = a;
        for (int64_t i = 0; i < n_masks; i++) {
            part.values = (const char *)a.values + i * MASK_BITS * element;
            part.scale = a.scale ? a.scale + i * MASK_BITS : NULL;
            if (next != NULL)
                NAME(fetch)(next);
            NAME(masked_rows)(n, units, masks + i, n_masks, part, a_step,
                              W + first * n_in + i * MASK_BITS * units,
                              i > 0 ? C + first : C0 ? C0 + first : zeros, i > 0 ? c_step : 0,
                              C + first, c_step);
        }
    }
}

/* A = starts + X W for rows [begin, end) of the chunk and the first layer, skipping zeros. */
static void NAME(forward_skipping_zeros)(engine *e, enum input_kind kind, const REAL *starts,
                                         int64_t begin, int64_t end, NAME(upcoming) *next)
{
    layer *y = &e->layers[0];
    int64_t stride = kind == BYTES ? e->byte_stride : e->input_stride;
    for (int64_t row = begin; row < end; row += GROUP_ROWS_MAX) {
        int64_t n = end - row < GROUP_ROWS_MAX ? end - row : GROUP_ROWS_MAX;
        NAME(product_skipping_zeros)(n, e->masks + row * e->n_masks, e->n_masks,
                                     NAME(masked_inputs)(e, kind, row, 0), stride, y->vectors[0],
                                     y->n_in, y->width, y->panel, starts, y->A + row * y->stride,
                                     y->stride, next);
    }
}

/* Run rows [begin, end) of the chunk, the samples from position `first_sample` on, forward through
 * all layers. The sums of the first layer begin with `starts`. */
static void NAME(forward)(engine *e, const input_matrix *inputs, const int64_t *order,
                          int64_t first_sample, int64_t begin, int64_t end, const REAL *starts,
                          const dropout_spec *dropout, NAME(upcoming) *next)
{
    const REAL *X = e->X;
    int64_t stride = e->input_stride;
    for (int l = 0; l < e->n_layers; l++) {
        layer *y = &e->layers[l];
        const REAL *W = y->vectors[0];
        const REAL *intercepts = W + y->n_in * y->width;
        int skips_zeros = l == 0 && inputs->skips_zeros;
        if (skips_zeros)
            NAME(forward_skipping_zeros)(e, inputs->kind, starts, begin, end, next);
        if (l > 0 && y->skips) {
            const layer *below = &e->layers[l - 1];
            const uint64_t *masks = below->masks + begin * below->n_masks;
            skips_zeros = NAME(is_sparse)(end - begin, masks, below->n_masks, y->n_in);
            if (skips_zeros)
                NAME(product_skipping_zeros)(
                    end - begin, masks, below->n_masks,
                    (NAME(masked_matrix)){.values = X + begin * stride}, stride, W, y->n_in,
                    y->width, y->panel, intercepts, y->A + begin * y->stride, y->stride, NULL);
        }
        for (int64_t first = 0; first < y->width && !skips_zeros; first += y->panel) {
            int64_t width = NAME(panel_width)(y->width, first, y->panel);
            const REAL *panel = W + first * y->n_in;
            REAL *A = y->A + begin * y->stride + first;
            if (l > 0 || inputs->kind != CSR) {
                NAME(product)(end - begin, width, y->n_in, X + begin * stride, stride, 1,
                              panel, width, intercepts + first, 0, A, y->stride);
                continue;
            }
            for (int64_t i = begin; i < end; i++, A += y->stride) {
                int64_t sample = order ? order[first_sample + i] : first_sample + i;
                int64_t from = inputs->indptr[sample];
                NAME(sparse_product)(width, inputs->indptr[sample + 1] - from,
                                     inputs->indices + from, (const REAL *)inputs->values + from,
                                     inputs->scale, panel, width, intercepts + first, A);
            }
        }
        int is_hidden = l < e->n_layers - 1;
        for (int64_t i = begin; i < end; i++)
            if (is_hidden && e->reads_z)
                NAME(activate_and_differentiate)(e->hidden, y->A + i * y->stride,
                                                 y->factors + i * y->stride, y->width);
            else
                NAME(activate)(is_hidden ? e->hidden : e->output, y->A + i * y->stride, y->n_out,
                               y->width);
        if (dropout != NULL && is_hidden && dropout->rates[l] > 0)
            for (int64_t i = begin; i < end; i++)
                NAME(drop)(dropout, l, first_sample + i, y->width, y->A + i * y->stride,
                           y->factors + i * y->stride, e->reads_z);
        for (int64_t i = begin; i < end && y->masks != NULL; i++)
            NAME(find_masks)(y->A + i * y->stride, y->n_out, y->masks + i * y->n_masks);
        X = y->A;
        stride = y->stride;
    }
}

/* Return the loss of one sample and write its deltas, both times its weight. Where the loss is
 * canonical for the output activation, the delta is output - target. As in scikit-learn,
 * probabilities are clipped for the loss only, and the squared error is halved and averaged
 * over the outputs, although the deltas of identity outputs are those of the sum. */
static double NAME(sample_loss)(enum activation output, enum loss kind, const REAL *restrict a,
                                const REAL *restrict target, REAL weight,
                                REAL *restrict delta, int64_t n)
{
    const double low = (double)REAL_EPSILON, high = (double)(1 - REAL_EPSILON);
    double loss = 0;
    for (int64_t j = 0; j < n; j++)
        delta[j] = (a[j] - target[j]) * weight;
    if (kind == SQUARED_ERROR) {
        for (int64_t j = 0; j < n && output == LOGISTIC; j++)
            delta[j] *= a[j] * (1 - a[j]) / (REAL)n;
        for (int64_t j = 0; j < n; j++) {
            double difference = (double)target[j] - (double)a[j];
            loss += difference * difference;
        }
        return 0.5 * loss / (double)n * (double)weight;
    }
    if (kind == POISSON) {
        for (int64_t j = 0; j < n; j++) {
            double p = (double)a[j], t = (double)target[j];
            loss += (t != 0 ? t * log(t / p) : 0) - t + p;
        }
        return loss * (double)weight;
    }
    for (int64_t j = 0; j < n; j++) {
        if (output == SOFTMAX && target[j] == 0)
            continue;
        double p = (double)a[j], t = (double)target[j];
        p = p < low ? low : p > high ? high : p;
        if (t != 0)
            loss -= t * log(p);
        if (output == LOGISTIC && t != 1)
            loss -= (1 - t) * log(1 - p);
    }
    return loss * (double)weight;
}

/* Run rows [begin, end) backward from the output's deltas to those of the first layer. */
static void NAME(backward)(engine *e, int64_t begin, int64_t end, const dropout_spec *dropout)
{
    for (int l = e->n_layers - 1; l > 0; l--) {
        layer *y = &e->layers[l], *below = &e->layers[l - 1];
        static const REAL zeros[PANEL_UNITS];
        int skips_zeros = 0;
        if (y->back_skips) {
            uint64_t *masks = y->delta_masks + begin * y->n_masks;
            for (int64_t i = begin; i < end; i++)
                NAME(find_masks)(y->D + i * y->stride, y->n_out, y->delta_masks + i * y->n_masks);
            skips_zeros = NAME(is_sparse)(end - begin, masks, y->n_masks, y->n_out);
            if (skips_zeros)
                NAME(product_skipping_zeros)(
                    end - begin, masks, y->n_masks,
                    (NAME(masked_matrix)){.values = y->D + begin * y->stride}, y->stride,
                    y->transposed, y->n_out, y->back_width, y->back_panel, NULL,
                    below->D + begin * below->stride, below->stride, NULL);
        }
        for (int64_t first = 0; first < y->back_width && !skips_zeros; first += y->back_panel) {
            int64_t width = NAME(panel_width)(y->back_width, first, y->back_panel);
            NAME(product)(end - begin, width, y->n_out, y->D + begin * y->stride, y->stride, 1,
                          y->transposed + first * y->n_out, width, zeros, 0,
                          below->D + begin * below->stride + first, below->stride);
        }
        for (int64_t i = begin; i < end; i++) {
            REAL *delta = below->D + i * below->stride;
            int drops = dropout != NULL && dropout->rates[l - 1] > 0;
            if (drops || e->reads_z) {
                const REAL *restrict factors = below->factors + i * below->stride;
                for (int64_t j = 0; j < below->width; j++)
                    delta[j] *= factors[j];
            }
            if (!e->reads_z)
                NAME(multiply_by_derivative)(e->hidden, below->A + i * below->stride,
                                             drops ? (REAL)(1 - dropout->rates[l - 1]) : 1, delta,
                                             below->width);
            /* Already zero, unless a diverged delta made it infinity times zero. */
            for (int64_t j = below->n_out; j < below->width; j++)
                delta[j] = 0;
        }
    }
}

/* Phase A for rows [begin, end) of the chunk, the samples from position `first_sample` on. */
static void NAME(train_rows)(const training_work *w, int64_t first_sample, int64_t begin,
                             int64_t end, const REAL *starts, NAME(upcoming) *next)
{
    engine *e = w->e;
    const training_data *data = w->data;
    layer *top = &e->layers[e->n_layers - 1];
    int64_t n_out = top->n_out;
    for (int64_t i = begin; i < end; i++) {
        int64_t sample = w->order ? w->order[first_sample + i] : first_sample + i;
        NAME(gather_row)(e, &data->inputs, sample, i);
        memcpy(e->Y + i * n_out, (const REAL *)data->targets + sample * n_out,
               (size_t)n_out * sizeof(REAL));
        e->weights[i] = data->weights ? ((const REAL *)data->weights)[sample] : 1;
    }
    NAME(forward)(e, &data->inputs, w->order, first_sample, begin, end, starts, w->dropout,
                  next);
    for (int64_t i = begin; i < end; i++)
        e->losses[i] = NAME(sample_loss)(e->output, e->loss, top->A + i * top->stride,
                                         e->Y + i * n_out, e->weights[i],
                                         top->D + i * top->stride, n_out);
    NAME(backward)(e, begin, end, w->dropout);
}

/* Make the lists of the features that are this thread's share, from the chunk's m rows. */
static void NAME(make_lists)(const training_work *w, int64_t first_sample, int64_t m, int thread,
                             int n_threads)
{
    engine *e = w->e;
    const input_matrix *inputs = &w->data->inputs;
    const REAL *values = inputs->values, *scale = inputs->scale;
    int64_t n_in = e->layers[0].n_in;
    int32_t low = (int32_t)(n_in * thread / n_threads);
    int32_t high = (int32_t)(n_in * (thread + 1) / n_threads);
    int32_t *next = e->list_next, position = 0;
    if (low < high)
        memset(next + low, 0, (size_t)(high - low) * sizeof(int32_t));
    for (int64_t i = 0; i < m; i++) {
        int64_t sample = w->order ? w->order[first_sample + i] : first_sample + i;
        for (int64_t k = inputs->indptr[sample]; k < inputs->indptr[sample + 1]; k++) {
            int32_t feature = inputs->indices[k];
            if (feature < low)
                position++;  /* lists of lower features come before ours */
            else if (feature < high)
                next[feature]++;
        }
    }
    for (int32_t feature = low; feature < high; feature++) {
        int32_t length = next[feature];
        e->list_start[feature] = next[feature] = position;
        position += length;
    }
    if (high == n_in)
        e->list_start[n_in] = position;
    for (int64_t i = 0; i < m; i++) {
        int64_t sample = w->order ? w->order[first_sample + i] : first_sample + i;
        for (int64_t k = inputs->indptr[sample]; k < inputs->indptr[sample + 1]; k++) {
            int32_t feature = inputs->indices[k];
            if (low <= feature && feature < high) {
                int32_t to = next[feature]++;
                e->list_rows[to] = (int32_t)i;
                e->list_values[to] = scale ? values[k] * scale[feature] : values[k];
            }
        }
    }
}
