/* The engine for one dtype (REAL) and one instruction set (ISA).
 *
 * A minibatch takes two phases, and a team of threads meets between them:
 *
 *   A  Each thread takes some samples: gathers their inputs, runs forward
 *      through all layers, adds up the loss and runs backward to the deltas
 *      (the derivatives of the loss by the pre-activations).
 *   B  Each thread takes some rows of the weights: forms their gradient in
 *      registers from activations and deltas, adds the penalty and applies the
 *      update at once. No gradient array, no reduction over threads.
 *
 * Every sum has one fixed order, so results do not depend on the number of
 * threads. A batch whose inputs would not fit the cache passes in chunks; then
 * the gradient is accumulated over the chunks and applied with the last one.
 *
 * Sparse inputs (CSR) are not gathered. Phase A reads their rows where they lie; between the
 * phases the team turns the chunk's rows into lists per feature, for phase B.
 *
 * Layout. Vectors hold LANES numbers. A weight matrix (n_in, n_out) is cut
 * into panels of up to PANEL_VECTORS vectors of output units, zero-padded; a
 * panel is contiguous, one row per input. So the innermost product reads
 * memory straight through whatever n_out is, and no loop has a vector tail.
 * Rows of activations and deltas are zero-padded to whole vectors as well.
 */

#include "kernels.h"
#include "functions.h"
#include "dropout.h"

/* Rows of weights that one step of phase B handles: whole cache lines of the activations
 * are used up while they are in the first-level cache. The layer that skips zeros takes as
 * many rows as a mask has bits. */
#define BLOCK_ROWS (8 * TILE_ROWS)
#define BLOCK_ROWS_MAX (BLOCK_ROWS > MASK_BITS ? BLOCK_ROWS : MASK_BITS)

/* Rows that a thread takes at a time in phase A, at most. */
#define GROUP_ROWS_MAX 32

/* What an update costs, in multiplications, and samples that tell how dense inputs are. */
#define UPDATE_COST 20
#define COST_SAMPLES 256

/* Bytes of gathered inputs that one chunk may take: about a second-level cache. */
#define CHUNK_BYTES (1 << 20)
#define CHUNK_ROWS_MAX 1024

#define layer NAME(layer)
#define engine NAME(engine)
#define block NAME(block)
#define step NAME(step)
#define training_work NAME(training_work)
#define prediction_work NAME(prediction_work)

typedef struct {
    int64_t n_in, n_out;
    int64_t width;       /* n_out padded to whole vectors; the stride of A and D */
    int64_t back_width;  /* n_in padded likewise */
    REAL *vectors[4];    /* weights; two state vectors of the optimiser; gradient: in panels,
                            (n_in, width), then the intercepts, (width,) */
    REAL *transposed;    /* the weights transposed, in panels: (n_out, back_width) */
    REAL *A;             /* this layer's outputs (chunk_rows, width) */
    REAL *D;             /* deltas of these outputs, same shape */
    REAL *factors;       /* what dropout multiplies them by, same shape; NULL without dropout */
} layer;

/* Some rows of one panel of weights. */
typedef struct {
    int l;               /* layer */
    int64_t first;       /* first unit of the panel */
    int64_t width;       /* units of the panel, padding included */
    int64_t row, n_rows;
    int64_t cost_before; /* of all blocks before this one, for a batch */
} block;

typedef struct {
    int n_layers;
    enum activation hidden, output;
    enum loss loss;
    REAL alpha;
    int skips_zeros;     /* of the inputs trained on, which are dense */
    layer *layers;
    int64_t n_blocks;
    block *blocks;       /* all blocks of all layers: the work of phase B */
    int64_t cost;        /* of all blocks; 0 before it is known */
    int64_t n_weights;   /* padding included */
    double *squares;     /* (n_blocks,) sum of squares of each block's weights */
    int64_t input_stride;
    int64_t chunk_rows;  /* rows that the scratch below has room for */
    REAL *X;             /* gathered inputs (chunk_rows, input_stride); NULL while they are CSR.
                            Bytes whose zeros are skipped stay bytes: (chunk_rows, byte_stride) */
    int64_t byte_stride;
    int64_t n_masks;     /* per sample */
    uint64_t *masks;     /* (chunk_rows, n_masks) which inputs are not zero */
    REAL table[256];     /* what bytes stand for, before they are multiplied by byte_scale */
    const REAL *byte_scale; /* (n_in,), or NULL if one factor holds for all and is in the table */
    const REAL *shift;   /* (n_in,) that of inputs whose zeros are skipped, or NULL if it is 0 */
    int n_members;       /* threads that the scratch below has room for */
    REAL *starts;        /* (n_members, width of the first layer) its intercepts, and what the
                            inputs' shift adds to every sample */
    REAL *delta_sums;    /* (n_members, same) sums of its deltas over the chunk's samples */
    REAL *shift_sums;    /* (n_blocks, PANEL_UNITS) shift times weights over a block's rows */
    int64_t list_room;   /* stored values of a CSR chunk that the lists have room for */
    int32_t *list_start; /* (n_in + 1,) where the list of each feature begins */
    int32_t *list_next;  /* (n_in,) where its next entry goes while the lists are made */
    int32_t *list_rows;  /* (list_room,) rows of the chunk */
    REAL *list_values;   /* (list_room,) their scaled values */
    REAL *Y;             /* unused columns of no target are zero (chunk_rows, n_outputs) */
    REAL *weights;       /* (chunk_rows,) */
    double *losses;      /* (chunk_rows,) */
    team_mood mood;
} engine;

/* What a team trains on. Threads only read it, but for the results, which thread 0 writes. */
typedef struct {
    engine *e;
    const training_data *data;
    const int64_t *order;      /* NULL: the samples as they lie */
    int64_t start, stop, batch_size;
    optimizer_spec *optimizer; /* NULL: leave the gradient in vector 3 instead of updating */
    const dropout_spec *dropout; /* or NULL */
    double seconds;            /* stop after the batch that ends later than this */
    int64_t position;          /* OUT: the first sample not trained on */
    double summed_loss;        /* IN: of the batches before; OUT: of all */
    int out_of_time;
    share rows[MAX_THREADS];   /* phase A: groups of rows of the chunk */
    share blocks[MAX_THREADS]; /* phase B: blocks */
} training_work;

typedef struct {
    engine *e;
    const input_matrix *inputs;
    const REAL *starts;
    REAL *outputs;
    int64_t rows_per_thread;
    int not_finite[MAX_THREADS];
} prediction_work;

/* ---- memory --------------------------------------------------------------------------- */

static REAL *NAME(allocate)(int64_t n)
{
    size_t bytes = ((size_t)(n > 0 ? n : 1) * sizeof(REAL) + 63) / 64 * 64;
    REAL *memory = aligned_alloc(64, bytes);
    if (memory != NULL)
        memset(memory, 0, bytes);
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

static void NAME(free_lists)(engine *e)
{
    free(e->list_start);
    free(e->list_next);
    free(e->list_rows);
    free(e->list_values);
    e->list_start = e->list_next = e->list_rows = NULL;
    e->list_values = NULL;
    e->list_room = 0;
}

static void NAME(free_scratch)(engine *e)
{
    free(e->X);
    free(e->masks);
    e->masks = NULL;
    free(e->Y);
    free(e->weights);
    free(e->losses);
    e->X = e->Y = e->weights = NULL;
    e->losses = NULL;
    for (int l = 0; l < e->n_layers; l++) {
        free(e->layers[l].A);
        free(e->layers[l].D);
        free(e->layers[l].factors);
        e->layers[l].A = e->layers[l].D = e->layers[l].factors = NULL;
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
                free(e->layers[l].vectors[which]);
            free(e->layers[l].transposed);
        }
    }
    free(e->starts);
    free(e->delta_sums);
    free(e->shift_sums);
    free(e->layers);
    free(e->blocks);
    free(e->squares);
    free(e);
}

/* The units of the panel that begins with unit `first`. */
static inline int64_t NAME(panel_width)(int64_t width, int64_t first)
{
    return width - first < PANEL_UNITS ? width - first : PANEL_UNITS;
}

/* List the blocks in e->blocks, or only count them if it is NULL; their costs come later. */
static void NAME(list_blocks)(engine *e)
{
    int64_t n = 0;
    for (int l = 0; l < e->n_layers; l++) {
        const layer *y = &e->layers[l];
        int64_t rows = l == 0 && e->skips_zeros ? MASK_BITS : BLOCK_ROWS;
        for (int64_t row = 0; row < y->n_in; row += rows) {
            int64_t n_rows = y->n_in - row < rows ? y->n_in - row : rows;
            for (int64_t first = 0; first < y->width; first += PANEL_UNITS) {
                int64_t width = NAME(panel_width)(y->width, first);
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
        y->back_width = NAME(padded)(y->n_in);
        y->vectors[0] = NAME(allocate)((y->n_in + 1) * y->width);
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
    if (e->blocks == NULL || e->squares == NULL) {
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
        y->A = NAME(allocate)(rows * y->width);
        y->D = NAME(allocate)(rows * y->width);
        failed |= y->A == NULL || y->D == NULL;
    }
    if (failed) {
        NAME(free_scratch)(e);
        return 1;
    }
    e->chunk_rows = rows;
    return 0;
}

/* Make room for the factors of dropout, beside the reserved scratch. Return nonzero if there is no
 * memory. */
static int NAME(reserve_factors)(engine *e, const dropout_spec *dropout)
{
    for (int l = 0; l < e->n_layers - 1; l++) {
        layer *y = &e->layers[l];
        if (dropout->rates[l] > 0 && y->factors == NULL) {
            y->factors = NAME(allocate)(e->chunk_rows * y->width);
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

/* Copy a (n_rows, n_columns) matrix in C order into panels, or back. Padding stays zero. */
static void NAME(copy_panels)(REAL *panels, REAL *matrix, int64_t n_rows, int64_t n_columns,
                              int64_t width, int into_panels)
{
    for (int64_t first = 0; first < width; first += PANEL_UNITS) {
        int64_t stride = NAME(panel_width)(width, first);
        int64_t count = n_columns - first < stride ? n_columns - first : stride;
        for (int64_t i = 0; i < n_rows; i++) {
            REAL *in_panel = panels + first * n_rows + i * stride;
            REAL *in_matrix = matrix + i * n_columns + first;
            if (into_panels)
                memcpy(in_panel, in_matrix, (size_t)count * sizeof(REAL));
            else
                memcpy(in_matrix, in_panel, (size_t)count * sizeof(REAL));
        }
    }
}

/* Bring the transposed copy of one block of weights up to date. */
static void NAME(transpose_rows)(const layer *y, const block *b)
{
    int64_t n_columns = y->n_out - b->first < b->width ? y->n_out - b->first : b->width;
    const REAL *panel = y->vectors[0] + b->first * y->n_in;
    for (int64_t i = b->row; i < b->row + b->n_rows; i++) {
        int64_t back_first = i / PANEL_UNITS * PANEL_UNITS;
        int64_t back_width = NAME(panel_width)(y->back_width, back_first);
        REAL *to = y->transposed + back_first * y->n_out + (i - back_first);
        for (int64_t j = 0; j < n_columns; j++)
            to[(b->first + j) * back_width] = panel[i * b->width + j];
    }
}

/* Copy a flat vector in the layout of network.py's Parameters into panels, or back. */
static void NAME(copy_flat)(engine *e, int which, REAL *flat, int into_panels)
{
    for (int l = 0; l < e->n_layers; l++) {
        layer *y = &e->layers[l];
        NAME(copy_panels)(y->vectors[which], flat, y->n_in, y->n_out, y->width, into_panels);
        flat += y->n_in * y->n_out;
    }
    for (int l = 0; l < e->n_layers; l++) {
        layer *y = &e->layers[l];
        REAL *intercepts = y->vectors[which] + y->n_in * y->width;
        size_t bytes = (size_t)y->n_out * sizeof(REAL);
        if (into_panels)
            memcpy(intercepts, flat, bytes);
        else
            memcpy(flat, intercepts, bytes);
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
        if (y->vectors[which] == NULL)
            y->vectors[which] = NAME(allocate)((y->n_in + 1) * y->width);
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
        free(e->layers[l].vectors[which]);
        e->layers[l].vectors[which] = NULL;
    }
}

/* ---- phase A: samples ----------------------------------------------------------------- */

/* The samples that a thread takes next, which are fetched from memory piece by piece while it
 * works on others: their rows lie anywhere, so that the processor cannot foresee them. */
typedef struct {
    const char *rows, *targets;  /* targets are NULL in prediction */
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
                            /* sparse rows are read where they lie */
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
        if (u->done == 0 && u->targets != NULL)
            __builtin_prefetch(u->targets + sample * u->target_bytes, 0, 3);
        u->done += 64;
        if (u->done >= u->row_bytes) {
            u->done = 0;
            u->at++;
        }
    }
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
        if (inputs->kind == BYTES)
            memcpy(to_bytes, bytes, (size_t)n);
        else if (scale == NULL)
            memcpy(to, numbers, (size_t)n * sizeof(REAL));
        else
            for (int64_t i = 0; i < n; i++)
                to[i] = numbers[i] * scale[i];
        for (int64_t i = 0; i < n / MASK_BITS; i++)
            masks[i] = inputs->kind == BYTES ? NAME(mask_of_bytes)(to_bytes + i * MASK_BITS)
                                             : NAME(mask_of_numbers)(to + i * MASK_BITS);
        if (n % MASK_BITS != 0) {  /* what lies behind the row may be another thread's */
            REAL tail[MASK_BITS] = {0};
            int64_t first = n / MASK_BITS * MASK_BITS;
            for (int64_t i = first; i < n; i++)
                tail[i - first] = inputs->kind == BYTES ? to_bytes[i] : to[i];
            masks[n / MASK_BITS] = NAME(mask_of_numbers)(tail);
        }
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

/* A = starts + X W for rows [begin, end) of the chunk and the first layer, skipping zeros. A
 * group of samples passes over the weights that one mask speaks of while they are in the
 * first-level cache. */
static void NAME(forward_skipping_zeros)(engine *e, enum input_kind kind, const REAL *starts,
                                         int64_t begin, int64_t end, NAME(upcoming) *next)
{
    layer *y = &e->layers[0];
    int64_t stride = kind == BYTES ? e->byte_stride : e->input_stride;
    for (int64_t row = begin; row < end; row += GROUP_ROWS_MAX) {
        int64_t n = end - row < GROUP_ROWS_MAX ? end - row : GROUP_ROWS_MAX;
        for (int64_t first = 0; first < y->width; first += PANEL_UNITS) {
            int64_t width = NAME(panel_width)(y->width, first);
            const REAL *panel = y->vectors[0] + first * y->n_in;
            REAL *A = y->A + row * y->width + first;
            for (int64_t i = 0; i < e->n_masks; i++) {
                NAME(masked_matrix) a = NAME(masked_inputs)(e, kind, row, i * MASK_BITS);
                a.stride = a.scales_columns = 1;  /* A(0, k): one sample is a tile */
                NAME(fetch)(next);
                NAME(masked_product)(n, 1, width, e->masks + row * e->n_masks + i, e->n_masks,
                                     a, stride, panel + i * MASK_BITS * width, width,
                                     i == 0 ? starts + first : A, i == 0 ? 0 : y->width,
                                     A, y->width);
            }
        }
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
        for (int64_t first = 0; first < y->width && !skips_zeros; first += PANEL_UNITS) {
            int64_t width = NAME(panel_width)(y->width, first);
            const REAL *panel = W + first * y->n_in;
            REAL *A = y->A + begin * y->width + first;
            if (l > 0 || inputs->kind != CSR) {
                NAME(product)(end - begin, width, y->n_in, X + begin * stride, stride, 1,
                              panel, width, intercepts + first, 0, A, y->width);
                continue;
            }
            for (int64_t i = begin; i < end; i++, A += y->width) {
                int64_t sample = order ? order[first_sample + i] : first_sample + i;
                int64_t from = inputs->indptr[sample];
                NAME(sparse_product)(width, inputs->indptr[sample + 1] - from,
                                     inputs->indices + from, (const REAL *)inputs->values + from,
                                     inputs->scale, panel, width, intercepts + first, A);
            }
        }
        enum activation activation = l == e->n_layers - 1 ? e->output : e->hidden;
        for (int64_t i = begin; i < end; i++)
            NAME(activate)(activation, y->A + i * y->width, y->n_out, y->width);
        if (dropout != NULL && l < e->n_layers - 1 && dropout->rates[l] > 0)
            for (int64_t i = begin; i < end; i++)
                NAME(drop)(dropout, l, first_sample + i, y->width, y->A + i * y->width,
                           y->factors + i * y->width);
        X = y->A;
        stride = y->width;
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
        for (int64_t first = 0; first < y->back_width; first += PANEL_UNITS) {
            int64_t width = NAME(panel_width)(y->back_width, first);
            NAME(product)(end - begin, width, y->n_out, y->D + begin * y->width, y->width, 1,
                          y->transposed + first * y->n_out, width, zeros, 0,
                          below->D + begin * below->width + first, below->width);
        }
        for (int64_t i = begin; i < end; i++) {
            REAL *delta = below->D + i * below->width, part_kept = 1;
            if (dropout != NULL && dropout->rates[l - 1] > 0) {
                const REAL *restrict factors = below->factors + i * below->width;
                for (int64_t j = 0; j < below->width; j++)
                    delta[j] *= factors[j];
                part_kept = (REAL)(1 - dropout->rates[l - 1]);
            }
            NAME(multiply_by_derivative)(e->hidden, below->A + i * below->width, part_kept, delta,
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
        e->losses[i] = NAME(sample_loss)(e->output, e->loss, top->A + i * top->width,
                                         e->Y + i * n_out, e->weights[i],
                                         top->D + i * top->width, n_out);
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

/* ---- phase B: weights ----------------------------------------------------------------- */

/* What turns gradient sums into a step; the same for all weights of a batch. */
typedef struct {
    int adam, nesterov;
    REAL scale;  /* 1 / total weight of the batch */
    REAL rate, momentum, beta_1, beta_2, epsilon;
    REAL rest_1, rest_2; /* 1 - beta, which float32 could not tell from 0 if beta were rounded */
} step;

static step NAME(make_step)(const optimizer_spec *optimizer, int64_t t, double total_weight)
{
    step s = {0};
    s.scale = (REAL)(1 / total_weight);
    if (optimizer == NULL)
        return s;
    double rate = optimizer->learning_rate;
    s.adam = optimizer->kind == ADAM;
    if (s.adam)
        rate *= sqrt(1 - pow(optimizer->beta_2, (double)t)) /
                (1 - pow(optimizer->beta_1, (double)t));
    s.rate = (REAL)rate;
    s.nesterov = optimizer->nesterov;
    s.momentum = (REAL)optimizer->momentum;
    s.beta_1 = (REAL)optimizer->beta_1;
    s.beta_2 = (REAL)optimizer->beta_2;
    s.rest_1 = (REAL)(1 - optimizer->beta_1);
    s.rest_2 = (REAL)(1 - optimizer->beta_2);
    /* Not rounded to zero: the padding of the weights would become 0 / 0. */
    s.epsilon = (REAL)(optimizer->epsilon > REAL_MIN ? optimizer->epsilon : REAL_MIN);
    return s;
}

/* Update n weights by their gradient sums. `alpha` is 0 for intercepts. */
static void NAME(update)(const step *s, REAL alpha, int64_t n, const REAL *restrict sums,
                         REAL *restrict weights, REAL *restrict state_1, REAL *restrict state_2)
{
    const REAL scale = s->scale, rate = s->rate;
    if (s->adam) {
        const REAL beta_1 = s->beta_1, beta_2 = s->beta_2, epsilon = s->epsilon;
        const REAL rest_1 = s->rest_1, rest_2 = s->rest_2;
        for (int64_t i = 0; i < n; i++) {
            REAL g = (sums[i] + alpha * weights[i]) * scale;
            REAL m = beta_1 * state_1[i] + rest_1 * g;
            REAL v = beta_2 * state_2[i] + rest_2 * g * g;
            state_1[i] = m;
            state_2[i] = v;
            weights[i] -= rate * m / (REAL_SQRT(v) + epsilon);
        }
    } else {
        /* Nesterov: w += momentum * v - rate * g; plain momentum: w += v. */
        const REAL momentum = s->momentum;
        const REAL ahead = s->nesterov ? momentum : 1, extra = s->nesterov ? rate : 0;
        for (int64_t i = 0; i < n; i++) {
            REAL g = (sums[i] + alpha * weights[i]) * scale;
            REAL v = momentum * state_1[i] - rate * g;
            state_1[i] = v;
            weights[i] += ahead * v - extra * g;
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
    int64_t index;  /* of the inputs' masks that these are made of; -1 for none */
    uint64_t masks[CHUNK_ROWS_MAX / MASK_BITS][MASK_BITS / MASKED_ROWS];
} NAME(feature_masks);

static void NAME(find_feature_masks)(const engine *e, int64_t index, int64_t m,
                                     NAME(feature_masks) *features)
{
    if (features->index == index)
        return;
    features->index = index;
    for (int64_t row = 0; row < m; row += MASK_BITS) {
        uint64_t masks[MASK_BITS] __attribute__((aligned(64)));
        for (int64_t i = 0; i < MASK_BITS; i++)
            masks[i] = row + i < m ? e->masks[(row + i) * e->n_masks + index] : 0;
        NAME(transpose_masks)(masks, features->masks[row / MASK_BITS]);
    }
}

/* sums = before + X^T D for the rows of block b, skipping zeros. */
static void NAME(gradient_skipping_zeros)(const engine *e, enum input_kind kind, const block *b,
                                          int64_t m, const REAL *D, NAME(place) place,
                                          NAME(feature_masks) *features,
                                          const REAL *delta_sums)
{
    const layer *y = &e->layers[0];
    int64_t n_tiles = b->n_rows / MASKED_ROWS, rest = n_tiles * MASKED_ROWS;
    NAME(find_feature_masks)(e, b->row / MASK_BITS, m, features);
    /* The next block's inputs, of which other threads have gathered some. */
    if (kind == BYTES && b->first + b->width == y->width)
        for (int64_t row = 0; row < m; row++)
            __builtin_prefetch((const uint8_t *)e->X + row * e->byte_stride + b->row + MASK_BITS);
    for (int64_t row = 0; row < m; row += MASK_BITS) {
        const uint64_t *masks = features->masks[row / MASK_BITS];
        const REAL *before = row == 0 ? place.before : place.sums;
        int64_t before_step = row == 0 ? place.before_step : b->width;
        NAME(masked_matrix) a = NAME(masked_inputs)(e, kind, row, b->row);
        a.stride = kind == BYTES ? e->byte_stride : e->input_stride;
        NAME(masked_product)(n_tiles, MASKED_ROWS, b->width, masks, 1, a, MASKED_ROWS,
                             D + row * y->width, y->width, before, before_step,
                             place.sums, b->width);
        if (rest == b->n_rows)
            continue;
        a = NAME(masked_inputs)(e, kind, row, b->row + rest);
        a.stride = kind == BYTES ? e->byte_stride : e->input_stride;
        NAME(masked_product)(b->n_rows - rest, 1, b->width, masks + n_tiles, 0, a, 1,
                             D + row * y->width, y->width, before + rest * before_step,
                             before_step, place.sums + rest * b->width, b->width);
    }
    if (e->shift != NULL)
        for (int64_t i = 0; i < b->n_rows; i++)
            for (int64_t j = 0; j < b->width; j++)
                place.sums[i * b->width + j] += e->shift[b->row + i] * delta_sums[b->first + j];
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
    static const REAL one = 1, zeros[PANEL_UNITS];
    const layer *y = &e->layers[0];
    for (int64_t first = 0; first < y->width; first += PANEL_UNITS)
        NAME(product)(1, NAME(panel_width)(y->width, first), m, &one, 0, 0, y->D + first,
                      y->width, zeros, 0, sums + first, 0);
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
        NAME(gradient_skipping_zeros)(e, inputs->kind, b, m, D, place, features, delta_sums);
    } else if (b->l == 0 && inputs->kind == CSR) {
        for (int64_t i = 0; i < b->n_rows; i++) {
            int32_t start = e->list_start[b->row + i];
            NAME(sparse_product)(b->width, e->list_start[b->row + i + 1] - start,
                                 e->list_rows + start, e->list_values + start, NULL, D, y->width,
                                 place.before + i * place.before_step,
                                 place.sums + i * b->width);
        }
    } else {
        const REAL *A = b->l == 0 ? e->X : e->layers[b->l - 1].A;
        int64_t a_step = b->l == 0 ? e->input_stride : e->layers[b->l - 1].width;
        NAME(product)(b->n_rows, b->width, m, A + b->row, 1, a_step, D, y->width, place.before,
                      place.before_step, place.sums, b->width);
    }
    if (is_last) {
        NAME(use_up)(y, offset, size, place.sums, e->alpha, s, updates);
        if (updates) {
            e->squares[index] = NAME(sum_of_squares)(y->vectors[0] + offset, size);
            if (b->l > 0)
                NAME(transpose_rows)(y, b);
            else if (e->shift != NULL)
                NAME(sum_shift)(e, index);
        }
    }
    if (b->row == 0) {
        static const REAL one = 1;
        int64_t at = y->n_in * y->width + b->first;
        place = NAME(find_place)(y, at, b->width, buffer, is_first, is_last && updates);
        NAME(product)(1, b->width, m, &one, 0, 0, D, y->width, place.before, 0, place.sums, 0);
        if (is_last)
            NAME(use_up)(y, at, b->width, place.sums, 0, s, updates);
    }
}

/* ---- batches -------------------------------------------------------------------------- */

static double NAME(now)(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

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
    features.index = -1;
    if (delta_sums != NULL)
        NAME(sum_deltas)(e, c->m, delta_sums);
    for (;;) {
        int index = take_item(w->blocks, n_threads, thread);
        if (index < 0)
            return;
        NAME(fetch)(next);
        NAME(phase_b_block)(e, &w->data->inputs, index, c->m, c->is_first, c->is_last, s,
                            w->optimizer != NULL, &features, delta_sums);
    }
}

/* What every thread of the team does: all batches, in step with the others. */
static void NAME(train_member)(void *context, int thread, barrier *meeting)
{
    training_work *w = context;
    engine *e = w->e;
    const input_matrix *inputs = &w->data->inputs;
    int n_threads = meeting->n_threads;
    int64_t t = w->optimizer ? w->optimizer->t : 0;
    double deadline = thread == 0 ? NAME(now)() + w->seconds : 0;
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
            if (c.is_last && NAME(now)() > deadline)
                w->out_of_time = 1;
        }
        if (counts)
            NAME(phase_b)(w, &c, thread, n_threads, &s, &next);
        barrier_wait(meeting);
        c = following;
    }
    if (thread == 0) {
        w->summed_loss = summed_loss;
        w->position = c.m > 0 ? c.batch : w->stop;
        if (w->optimizer)
            w->optimizer->t = t;
    }
}

/* More threads than the work is worth cost more in meetings than they save. */
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
        double density = 1;
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
    const REAL *scale = inputs->scale, *shift = inputs->shift;
    e->byte_scale = e->shift = NULL;
    if (!inputs->skips_zeros)
        return 0;
    int is_uniform = 1;
    for (int64_t i = 0; i < y->n_in && scale != NULL; i++) {
        is_uniform &= scale[i] == scale[0];
        if (shift[i] != 0)
            e->shift = shift;
    }
    e->byte_scale = is_uniform ? NULL : scale;
    for (int i = 0; i < 256; i++)
        e->table[i] = (inputs->table ? ((const REAL *)inputs->table)[i] : (REAL)i) *
                      (is_uniform && scale != NULL ? scale[0] : 1);
    if (e->shift == NULL)
        return 0;
    if (n_threads > e->n_members) {
        free(e->starts);
        free(e->delta_sums);
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
    int accumulates = w->optimizer == NULL || w->batch_size > NAME(chunk_limit)(e, inputs);
    if (e->cost == 0)
        NAME(estimate_costs)(e, inputs, w->batch_size);
    return NAME(prepare_inputs)(e, inputs, n_threads) ||
           NAME(reserve)(e, w->batch_size, inputs) ||
           (w->dropout != NULL && NAME(reserve_factors)(e, w->dropout)) || (accumulates && NAME(load)(e, 3, NULL)) ||
           (inputs->kind == CSR &&
            NAME(reserve_lists)(e, inputs, w->order, w->start, w->stop, w->batch_size));
}

static int64_t NAME(train)(void *handle, const training_data *data, const int64_t *order,
                           int64_t start, int64_t stop, int64_t batch_size,
                           optimizer_spec *optimizer, const dropout_spec *dropout,
                           double seconds, int n_threads, double *summed_loss)
{
    engine *e = handle;
    training_work w = {.e = e, .data = data, .order = order, .start = start, .stop = stop,
                       .batch_size = batch_size, .optimizer = optimizer, .dropout = dropout,
                       .seconds = seconds, .summed_loss = *summed_loss};
    n_threads = NAME(useful_threads)(e, batch_size, n_threads);
    if (NAME(prepare)(e, &w, n_threads))
        return -1;
    team_run(NAME(train_member), &w, n_threads, &e->mood);
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

/* ---- prediction ----------------------------------------------------------------------- */

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

/* ---- bytes behind numbers -------------------------------------------------------------- */

typedef struct {
    const REAL *values;
    int64_t n;
    uint8_t *bytes;
    REAL *table;
    REAL divisor;
    atomic_int failed;
} NAME(recoding_work);

/* The byte that a number is if it is one divided by the divisor; else any. */
static inline uint8_t NAME(byte_of)(REAL value, REAL divisor)
{
    REAL byte = value * divisor + (REAL)0.5;
    byte = byte < 0 ? 0 : byte;
    byte = byte < 255 ? byte : 255;  /* NaN too, which no table has */
    return (uint8_t)(int32_t)byte;
}

static void NAME(recode_member)(void *context, int thread, barrier *meeting)
{
    NAME(recoding_work) *w = context;
    const int64_t piece = 1 << 12;
    for (int64_t at = thread * piece; at < w->n; at += piece * meeting->n_threads) {
        int64_t n = w->n - at < piece ? w->n - at : piece;
        const REAL *restrict values = w->values + at, *restrict table = w->table;
        const REAL divisor = w->divisor;
        uint8_t *restrict bytes = w->bytes + at;
        int differs = 0;
        for (int64_t i = 0; i < n; i++)
            bytes[i] = NAME(byte_of)(values[i], divisor);
        for (int64_t i = 0; i < n; i++)
            differs |= table[bytes[i]] != values[i];
        if (differs)
            atomic_store(&w->failed, 1);
        if (atomic_load(&w->failed))
            return;
    }
}

static int NAME(recode)(const void *values, int64_t n, int n_threads, uint8_t *bytes, void *table)
{
    static const REAL divisors[] = {1, 255, 256, 16};
    const int64_t n_seen = n < 1 << 16 ? n : 1 << 16;
    for (size_t d = 0; d < sizeof(divisors) / sizeof(divisors[0]); d++) {
        NAME(recoding_work) w = {.values = values, .n = n, .bytes = bytes, .table = table,
                                 .divisor = divisors[d]};
        atomic_init(&w.failed, 0);
        for (int i = 0; i < 256; i++)
            w.table[i] = (REAL)i / w.divisor;
        /* Whoever has multiplied by 1 / 255 instead got other last digits: the data tell. */
        for (int64_t i = 0; i < n_seen; i++) {
            REAL value = w.values[i * (n / n_seen)];
            REAL *entry = &w.table[NAME(byte_of)(value, w.divisor)];
            if (value > *entry * (1 - 2 * REAL_EPSILON) && value < *entry * (1 + 2 * REAL_EPSILON))
                *entry = value;
        }
        team_mood mood = {0};
        team_run(NAME(recode_member), &w, n_threads, &mood);
        if (!atomic_load(&w.failed))
            return 1;
    }
    return 0;
}

/* ---- decoding ------------------------------------------------------------------------- */

static void NAME(scale_bytes)(const uint8_t *bytes, int64_t n, double scale, double shift,
                              void *out)
{
    REAL *restrict to = out;
    const uint8_t *restrict from = bytes;
    const REAL a = (REAL)scale, b = (REAL)shift;
    for (int64_t i = 0; i < n; i++)
        to[i] = (REAL)from[i] * a + b;
}

/* Element types that may lie at any address. */
#ifndef FASTMLP_UNALIGNED
#define FASTMLP_UNALIGNED
typedef uint16_t unaligned_16 __attribute__((aligned(1), may_alias));
typedef uint32_t unaligned_32 __attribute__((aligned(1), may_alias));
typedef uint64_t unaligned_64 __attribute__((aligned(1), may_alias));
#endif

/* In place has its own loop: the compiler vectorises it without asking about overlap. */
#define SWAP(bits) \
    if (out == payload) { \
        unaligned_##bits *p = out; \
        for (int64_t i = 0; i < n; i++) \
            p[i] = __builtin_bswap##bits(p[i]); \
    } else { \
        const unaligned_##bits *restrict from = payload; \
        unaligned_##bits *restrict to = out; \
        for (int64_t i = 0; i < n; i++) \
            to[i] = __builtin_bswap##bits(from[i]); \
    }

static void NAME(swap_bytes)(const void *payload, int64_t n, int element_size, void *out)
{
    switch (element_size) {
    case 2: SWAP(16) break;
    case 4: SWAP(32) break;
    case 8: SWAP(64) break;
    }
}

static const engine_api NAME(api) = {
    .isa = ISA_NAME,
    .dtype = REAL_DTYPE,
    .create = NAME(create),
    .destroy = NAME(destroy),
    .load = NAME(load),
    .store = NAME(store),
    .release = NAME(release),
    .train = NAME(train),
    .objective = NAME(objective),
    .predict = NAME(predict),
    .predict_rows = NAME(predict_rows),
    .recode = NAME(recode),
    .scale_bytes = NAME(scale_bytes),
    .swap_bytes = NAME(swap_bytes),
};

#undef SWAP
#undef LANES
#undef PANEL_UNITS
#undef MASK_BITS
#undef MASKED_ROWS
#undef BLOCK_ROWS
#undef BLOCK_ROWS_MAX
#undef GROUP_ROWS_MAX
#undef UPDATE_COST
#undef COST_SAMPLES
#undef CHUNK_BYTES
#undef CHUNK_ROWS_MAX
#undef vec
#undef block
#undef layer
#undef engine
#undef step
#undef training_work
#undef prediction_work
#undef REAL
#undef REAL_BITS
#undef REAL_SIGNED_BITS
#undef REAL_MANTISSA
#undef REAL_BIAS
#undef REAL_EPSILON
#undef REAL_MIN
#undef REAL_SQRT
#undef REAL_DTYPE
#undef REAL_TERMS
#undef REAL_LOG2E
#undef REAL_LN2_HIGH
#undef REAL_LN2_LOW
#undef REAL_EXP_LOW
#undef REAL_EXP_HIGH
#undef REAL_TANH_LIMIT
