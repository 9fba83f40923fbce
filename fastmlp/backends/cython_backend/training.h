/* Batches and epochs: the two phases, synchronized across threads. Part of engine_body.h. */

static double NAME(sum)(const double *values, int64_t n)
{
    double total = 0;
    for (int64_t i = 0; i < n; i++)
        total += values[i];
    return total;
}

/* Groups of rows of a chunk for phase A: as many for each thread, and none so large that it would
 * not stay in the first-level cache. */
static int64_t NAME(n_groups)(int64_t n_rows, int n_threads)
{
    int64_t most = (int64_t)n_threads * GROUP_ROWS_MAX;
    return n_threads * ((n_rows + most - 1) / most);
}

/* The row that a group begins with: groups are whole tiles. */
static int64_t NAME(group_begin)(int64_t n_rows, int64_t n_groups, int64_t group)
{
    int64_t tiles = (n_rows + TILE_ROWS - 1) / TILE_ROWS;
    int64_t row = tiles * group / n_groups * TILE_ROWS;
    return row < n_rows ? row : n_rows;
}

/* Share out the rows of a chunk for phase A. */
static void NAME(share_rows)(training_work *w, int64_t n_rows, int n_threads)
{
    int n = (int)NAME(n_groups)(n_rows, n_threads) / n_threads;
    for (int i = 0; i < n_threads; i++) {
        atomic_store_explicit(&w->rows[i].next, n * i, memory_order_relaxed);
        w->rows[i].end = n * (i + 1);
    }
}

/* Share out the blocks for phase B, so that the shares cost the same. A thread's blocks remain
 * the same, and with them what its cache holds, but for those that others take. */
static void NAME(share_blocks)(training_work *w, int n_threads)
{
    const engine *e = w->e;
    int64_t i = 0;
    for (int thread = 0; thread < n_threads; thread++) {
        atomic_store_explicit(&w->blocks[thread].next, (int)i, memory_order_relaxed);
        while (i < e->n_blocks && e->blocks[i].cost_before * n_threads / e->cost <= thread)
            i++;
        w->blocks[thread].end = (int)i;
    }
}

/* The part of a batch that passes at once; the whole batch, usually. */
typedef struct {
    int64_t batch, n; /* where the batch begins in the order, and its samples; none at the end */
    int64_t from, m;  /* where in the batch this chunk begins, and its samples */
    int is_first, is_last;
} NAME(chunk);

static NAME(chunk) NAME(chunk_at)(const training_work *w, int64_t batch, int64_t from)
{
    NAME(chunk) c = {.batch = batch, .from = from, .is_first = from == 0};
    if (batch >= w->stop)
        return c;
    c.n = w->stop - batch < w->batch_size ? w->stop - batch : w->batch_size;
    int64_t rows = NAME(rows_per_chunk)(w->e, &w->data->inputs, c.n);
    c.m = c.n - from < rows ? c.n - from : rows;
    c.is_last = from + c.m == c.n;
    return c;
}

static NAME(chunk) NAME(next_chunk)(const training_work *w, const NAME(chunk) *c)
{
    return c->is_last ? NAME(chunk_at)(w, c->batch + c->n, 0)
                      : NAME(chunk_at)(w, c->batch, c->from + c->m);
}

/* Announce what this thread will take of the chunk that comes next. It calls fetch once per block
 * of the present chunk and, if it skips zeros, per group of rows and mask. */
static void NAME(announce_chunk)(NAME(upcoming) *u, const engine *e, const NAME(chunk) *c,
                                 int thread, int n_threads)
{
    int64_t first = c->batch + c->from;
    if (c->m == 0) {
        NAME(announce)(u, first, first, 1);
        return;
    }
    int64_t n = NAME(n_groups)(c->m, n_threads), own = n / n_threads;
    NAME(announce)(u, first + NAME(group_begin)(c->m, n, own * thread),
                   first + NAME(group_begin)(c->m, n, own * (thread + 1)),
                   e->skips_zeros ? own * e->n_masks : e->n_blocks / n_threads);
}

/* Phase A of a chunk: run its samples forward and backward. */
static void NAME(phase_a)(training_work *w, const NAME(chunk) *c, int thread, int n_threads,
                          const REAL *starts, NAME(upcoming) *next)
{
    int64_t n_groups = NAME(n_groups)(c->m, n_threads);
    for (;;) {
        int group = take_item(w->rows, n_threads, thread);
        if (group < 0)
            return;
        NAME(train_rows)(w, c->batch + c->from, NAME(group_begin)(c->m, n_groups, group),
                         NAME(group_begin)(c->m, n_groups, group + 1), starts, next);
    }
}

/* Phase B of a chunk: form the gradient of its samples and, with a batch's last chunk, update. */
static void NAME(phase_b)(training_work *w, const NAME(chunk) *c, int thread, int n_threads,
                          const step *s, NAME(upcoming) *next)
{
    engine *e = w->e;
    REAL *delta_sums = e->shift ? e->delta_sums + thread * e->layers[0].width : NULL;
    NAME(feature_masks) features;
    features.source = NULL;
    if (delta_sums != NULL)
        NAME(sum_deltas)(e, c->m, delta_sums);
    for (;;) {
        int index = take_item(w->blocks, n_threads, thread);
        if (index < 0)
            return;
        NAME(fetch)(next);
        NAME(phase_b_block)(e, &w->data->inputs, index, c->m, c->is_first, c->is_last, s,
                            w->optimizer != NULL && !w->clips, &features, delta_sums);
    }
}

/* Update by a batch's gradient, which is finished, once it is scaled down to the largest norm that
 * it may have. Every thread adds up the same sums. */
static void NAME(update_clipped)(training_work *w, int thread, int n_threads, step s)
{
    engine *e = w->e;
    double norm = sqrt(NAME(sum)(e->gradient_squares, e->n_blocks));
    double most = w->optimizer->max_grad_norm;
    s.scale = norm > most ? (REAL)(most / norm) : 1;
    for (int64_t index = thread; index < e->n_blocks; index += n_threads)
        NAME(update_block)(e, index, &s);
}

/* What every thread of the team does: all batches, in step with the others. */
static void NAME(train_member)(void *context, int thread, barrier *meeting)
{
    training_work *w = context;
    engine *e = w->e;
    const input_matrix *inputs = &w->data->inputs;
    int n_threads = meeting->n_threads;
    int64_t t = w->optimizer ? w->optimizer->t : 0;
    double deadline = thread == 0 ? 1e-9 * (double)nanoseconds() + w->seconds : 0;
    double summed_loss = w->summed_loss, loss = 0, total_weight = 0;
    const REAL *starts = NULL;
    NAME(upcoming) next = NAME(nothing_upcoming)(e, inputs, w->data->targets, w->order);
    NAME(chunk) c = NAME(chunk_at)(w, w->start, 0);
    if (thread == 0)
        NAME(share_rows)(w, c.m, n_threads);
    barrier_wait(meeting);

    while (c.m > 0 && !w->out_of_time) {
        NAME(chunk) following = NAME(next_chunk)(w, &c);
        NAME(announce_chunk)(&next, e, &following, thread, n_threads);
        if (c.is_first) {
            starts = NAME(find_starts)(e, thread);
            loss = total_weight = 0;
            /* The penalty is that of the weights before this batch's update. */
            if (thread == 0 && e->alpha != 0)
                loss = 0.5 * (double)e->alpha * NAME(sum)(e->squares, e->n_blocks);
        }
        if (thread == 0)
            NAME(share_blocks)(w, n_threads);
        NAME(phase_a)(w, &c, thread, n_threads, starts, &next);
        if (inputs->kind == CSR)
            NAME(make_lists)(w, c.batch + c.from, c.m, thread, n_threads);
        barrier_wait(meeting);

        for (int64_t i = 0; i < c.m; i++)
            total_weight += (double)e->weights[i];
        /* A batch without weight teaches nothing: no update, no loss. */
        int counts = !c.is_last || total_weight != 0;
        t += c.is_last && counts;
        step s = NAME(make_step)(w->optimizer, t, total_weight);
        if (thread == 0) {
            NAME(share_rows)(w, following.m, n_threads);
            loss += NAME(sum)(e->losses, c.m);
            if (c.is_last && total_weight != 0)
                summed_loss += loss / total_weight * (double)c.n;
            if (c.is_last && 1e-9 * (double)nanoseconds() > deadline)
                w->out_of_time = 1;
        }
        if (counts)
            NAME(phase_b)(w, &c, thread, n_threads, &s, &next);
        barrier_wait(meeting);
        if (w->clips && c.is_last) {
            if (counts)
                NAME(update_clipped)(w, thread, n_threads, s);
            barrier_wait(meeting);
        }
        c = following;
    }
    if (thread == 0) {
        w->summed_loss = summed_loss;
        w->position = c.m > 0 ? c.batch : w->stop;
        if (w->optimizer)
            w->optimizer->t = t;
    }
}

/* With too many threads, barriers cost more than they save. */
static int NAME(useful_threads)(const engine *e, int64_t rows, int n_threads)
{
    int64_t flops = 6 * e->n_weights * rows;
    int64_t limit = 1 + flops / 1000000;
    return n_threads < limit ? n_threads : (int)limit;
}

/* Estimate what the blocks cost for a batch, so that threads get equal parts: a multiplication
 * per weight and sample whose input is not zero, and the update. */
static void NAME(estimate_costs)(engine *e, const input_matrix *inputs, int64_t batch_size)
{
    int64_t n = inputs->n_samples, n_in = e->layers[0].n_in, cost = 0;
    int64_t stride = (n + COST_SAMPLES - 1) / COST_SAMPLES;
    for (int64_t i = 0; i < e->n_blocks; i++) {
        block *b = &e->blocks[i];
        double density = b->l > 0 && e->layers[b->l].skips ? 0.5 : 1;
        if (b->l == 0 && inputs->skips_zeros && b->first > 0) {
            b->cost_before = cost;  /* the block before it has the same inputs */
            cost += (cost - b[-1].cost_before) * b->width / b[-1].width;
            continue;
        }
        if (b->l == 0 && inputs->skips_zeros) {
            int64_t found = 0, seen = 0;
            for (int64_t sample = 0; sample < n; sample += stride, seen += b->n_rows) {
                const uint8_t *bytes = (const uint8_t *)inputs->values + sample * n_in + b->row;
                const REAL *numbers = (const REAL *)inputs->values + sample * n_in + b->row;
                for (int64_t j = 0; j < b->n_rows; j++)
                    found += inputs->kind == BYTES ? bytes[j] != 0 : numbers[j] != 0;
            }
            density = (double)found / (double)seen;
        }
        b->cost_before = cost;
        cost += (int64_t)((density * (double)batch_size + UPDATE_COST) *
                          (double)(b->n_rows * b->width)) + 1;
    }
    e->cost = cost;
}

/* Look at the affine map of inputs whose zeros are skipped. Return nonzero if there is no
 * memory. */
static int NAME(prepare_inputs)(engine *e, const input_matrix *inputs, int n_threads)
{
    const layer *y = &e->layers[0];
    e->byte_scale = e->shift = NULL;
    if (!inputs->skips_zeros)
        return 0;
    if (NAME(find_table)(inputs, y->n_in, e->table, &e->byte_scale))
        e->shift = inputs->shift;
    if (e->shift == NULL)
        return 0;
    if (n_threads > e->n_members) {
        free_aligned(e->starts);
        free_aligned(e->delta_sums);
        e->starts = NAME(allocate)(n_threads * y->width);
        e->delta_sums = NAME(allocate)(n_threads * y->width);
        e->n_members = e->starts && e->delta_sums ? n_threads : 0;
    }
    if (e->shift_sums == NULL)
        e->shift_sums = NAME(allocate)(e->n_blocks * PANEL_UNITS);
    if (e->n_members == 0 || e->shift_sums == NULL)
        return 1;
    for (int64_t i = 0; i < e->n_blocks && e->blocks[i].l == 0; i++)
        NAME(sum_shift)(e, i);
    return 0;
}

/* Make room for what training on batches of this size needs besides the weights. Return nonzero
 * if there is no memory. */
static int NAME(prepare)(engine *e, const training_work *w, int n_threads)
{
    const input_matrix *inputs = &w->data->inputs;
    int accumulates = w->optimizer == NULL || w->clips ||
                      w->batch_size > NAME(chunk_limit)(e, inputs);
    if (e->cost == 0)
        NAME(estimate_costs)(e, inputs, w->batch_size);
    return NAME(prepare_inputs)(e, inputs, n_threads) ||
           NAME(reserve)(e, w->batch_size, inputs) ||
           NAME(reserve_factors)(e, w->dropout) || (accumulates && NAME(load)(e, 3, NULL)) ||
           (inputs->kind == CSR &&
            NAME(reserve_lists)(e, inputs, w->order, w->start, w->stop, w->batch_size));
}

static int64_t NAME(train)(void *handle, const training_data *data, const int64_t *order,
                           int64_t start, int64_t stop, int64_t batch_size,
                           optimizer_spec *optimizer, const dropout_spec *dropout,
                           double seconds, int *n_threads, double *summed_loss)
{
    engine *e = handle;
    training_work w = {.e = e, .data = data, .order = order, .start = start, .stop = stop,
                       .batch_size = batch_size, .optimizer = optimizer,
                       .clips = optimizer->max_grad_norm > 0, .dropout = dropout,
                       .seconds = seconds, .summed_loss = *summed_loss};
    *n_threads = NAME(useful_threads)(e, batch_size, *n_threads);
    if (NAME(prepare)(e, &w, *n_threads))
        return -1;
    team_run(NAME(train_member), &w, *n_threads, &e->mood);
    *summed_loss = w.summed_loss;
    return w.position;
}

static int NAME(objective)(void *handle, const training_data *data, const dropout_spec *dropout,
                           int n_threads, double *loss)
{
    engine *e = handle;
    int64_t n = data->inputs.n_samples;
    training_work w = {.e = e, .data = data, .stop = n, .batch_size = n, .dropout = dropout,
                       .seconds = INFINITY};
    n_threads = NAME(useful_threads)(e, n, n_threads);
    if (NAME(prepare)(e, &w, n_threads))
        return 1;
    team_run(NAME(train_member), &w, n_threads, &e->mood);
    *loss = w.summed_loss / (double)n;
    return 0;
}
