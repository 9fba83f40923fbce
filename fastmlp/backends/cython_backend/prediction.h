/* Outputs for samples, many at once or a few. Part of engine_body.h. */

static int NAME(all_finite)(const input_matrix *inputs, int64_t sample, int64_t n)
{
    const REAL_BITS exponent = (REAL_BITS)(2 * REAL_BIAS + 1) << REAL_MANTISSA;
    const REAL *restrict row = (const REAL *)inputs->values + sample * n;
    REAL_BITS found = 0;
    for (int64_t i = 0; i < n; i++) {
        REAL_BITS bits;
        memcpy(&bits, row + i, sizeof(bits));
        found |= (bits & exponent) == exponent;
    }
    return !found;
}

/* Groups of rows go round the threads; each thread has its own part of the scratch rows. */
static void NAME(predict_member)(void *context, int thread, barrier *meeting)
{
    prediction_work *w = context;
    engine *e = w->e;
    const layer *top = &e->layers[e->n_layers - 1];
    int64_t n = w->inputs->n_samples, rows = w->rows_per_thread;
    int64_t begin = thread * rows, distance = rows * meeting->n_threads;
    NAME(upcoming) next = NAME(nothing_upcoming)(e, w->inputs, NULL, NULL);
    for (int64_t at = begin; at < n; at += distance) {
        int64_t m = n - at < rows ? n - at : rows, following = at + distance;
        NAME(announce)(&next, following < n ? following : n,
                       following + rows < n ? following + rows : n, e->n_masks);
        for (int64_t i = 0; i < m; i++) {
            NAME(gather_row)(e, w->inputs, at + i, begin + i);
            if (w->inputs->kind == DENSE && !NAME(all_finite)(w->inputs, at + i, e->layers[0].n_in))
                w->not_finite[thread] = 1;
        }
        NAME(forward)(e, w->inputs, NULL, at - begin, begin, begin + m, w->starts, NULL,
                      &next);
        for (int64_t i = 0; i < m; i++)
            memcpy(w->outputs + (at + i) * top->n_out, top->A + (begin + i) * top->width,
                   (size_t)top->n_out * sizeof(REAL));
    }
}

static int NAME(predict)(void *handle, const input_matrix *inputs, int n_threads, void *outputs)
{
    engine *e = handle;
    int64_t n = inputs->n_samples;
    n_threads = NAME(useful_threads)(e, n / 3, n_threads);
    /* No more than fits in the second-level cache together with the weights. */
    int64_t rows = n_threads * GROUP_ROWS_MAX;
    if (NAME(prepare_inputs)(e, inputs, 1) || NAME(reserve)(e, rows < n ? rows : n, inputs))
        return 1;
    rows = e->chunk_rows / n_threads;
    if (rows > GROUP_ROWS_MAX)
        rows = GROUP_ROWS_MAX;
    if (rows < 1) {
        rows = 1;
        n_threads = (int)e->chunk_rows;
    }
    prediction_work w = {.e = e, .inputs = inputs, .starts = NAME(find_starts)(e, 0),
                         .outputs = outputs, .rows_per_thread = rows};
    team_run(NAME(predict_member), &w, n_threads, &e->mood);
    for (int i = 0; i < n_threads; i++)
        if (w.not_finite[i])
            return 2;
    return 0;
}

/* What a sample gives a layer of n_out units, written to `to`, which has room for whole vectors;
 * the sums are those of `tile`. */
static void NAME(weigh_row)(const REAL *restrict row, int64_t n_in, const REAL *restrict W,
                            const REAL *restrict intercepts, int64_t n_out, REAL *restrict to)
{
    memcpy(to, intercepts, (size_t)n_out * sizeof(REAL));
    for (int64_t k = 0; k < n_in; k++, W += n_out) {
        REAL a = row[k];
        if (a != 0)
            for (int64_t j = 0; j < n_out; j++)
                to[j] += a * W[j];
    }
}

static int NAME(predict_rows)(const network_spec *network, const void *const *coefs,
                              const void *const *intercepts, const input_matrix *inputs,
                              void *outputs)
{
    const int64_t *units = network->units, n_in = units[0], n_out = units[network->n_layers];
    int64_t most = 0;
    for (int l = 0; l <= network->n_layers; l++)
        most = units[l] > most ? units[l] : most;
    most = NAME(padded)(most);
    REAL *row = NAME(allocate)(2 * most);
    if (row == NULL)
        return 1;
    REAL *next = row + most;
    const REAL *scale = inputs->scale, *shift = inputs->shift;
    int is_finite = 1;
    for (int64_t sample = 0; sample < inputs->n_samples; sample++) {
        if (inputs->kind == BYTES) {
            const uint8_t *from = (const uint8_t *)inputs->values + sample * n_in;
            for (int64_t i = 0; i < n_in; i++)
                row[i] = (REAL)from[i];
        } else {
            memcpy(row, (const REAL *)inputs->values + sample * n_in,
                   (size_t)n_in * sizeof(REAL));
            is_finite &= NAME(all_finite)(inputs, sample, n_in);
        }
        if (scale != NULL)
            for (int64_t i = 0; i < n_in; i++)
                row[i] = row[i] * scale[i] + shift[i];
        for (int l = 0; l < network->n_layers; l++) {
            NAME(weigh_row)(row, units[l], coefs[l], intercepts[l], units[l + 1], next);
            NAME(activate)(l == network->n_layers - 1 ? network->output : network->hidden, next,
                           units[l + 1], NAME(padded)(units[l + 1]));
            REAL *other = row;
            row = next;
            next = other;
        }
        memcpy((REAL *)outputs + sample * n_out, row, (size_t)n_out * sizeof(REAL));
    }
    free(row < next ? row : next);
    return is_finite ? 0 : 2;
}
