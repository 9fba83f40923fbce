/* The engine for one dtype (REAL) and one instruction set (ISA).
 *
 * A minibatch has two phases, with a barrier of the threads in between:
 *
 *   A  forward and backward pass: each thread gathers the inputs of some
 *      samples, computes their activations and loss, and the deltas (the
 *      derivatives of the loss by the pre-activations).
 *   B  weight update: each thread computes the gradient of some rows of the
 *      weights in registers from activations and deltas, adds the penalty and
 *      applies the update. No gradient array, no reduction over threads.
 *
 * Every sum has a fixed order, so results do not depend on the number of
 * threads. A batch whose inputs do not fit into the cache is processed in chunks;
 * then the gradient is accumulated over the chunks and applied with the last one.
 *
 * Sparse inputs (CSR) are not gathered. Phase A reads their rows without a copy; between the
 * phases the threads convert the chunk's rows to lists per feature, for phase B.
 *
 * Layout. Vectors hold LANES numbers. A weight matrix (n_in, n_out) is cut
 * into panels of some vectors of output units, zero-padded; a
 * panel is contiguous, one row per input. Where inputs are dense, a panel is as
 * wide as a tile of the product; where zeros are skipped, up to
 * SKIPPING_VECTORS, because all its vectors share one walk over a mask. So the innermost product reads
 * memory sequentially for any n_out, and no loop has a vector tail.
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

/* Units of a hidden layer from which on it is worth looking for the zeros of the one below. */
#define SKIPPING_WIDTH (7 * LANES)

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

typedef struct {
    int64_t n_in, n_out;
    int64_t width;       /* n_out padded to whole vectors */
    int64_t stride;      /* between the rows of A, D and factors */
    int64_t back_width;  /* n_in, padded */
    int64_t panel, back_panel; /* units of a panel of the weights, and of these transposed */
    int skips;           /* whether zeros among its inputs are looked for, as those that ReLU makes */
    int back_skips;      /* the same among its deltas */
    REAL *vectors[4];    /* weights; two state vectors of the optimiser; gradient: in panels,
                            (n_in, width), then the intercepts, (width,) */
    REAL *transposed;    /* the weights transposed, in panels: (n_out, back_width) */
    REAL *A;             /* this layer's outputs (chunk_rows, stride), of which width are used */
    REAL *D;             /* deltas of these outputs, same shape */
    int64_t n_masks;     /* per row of A */
    uint64_t *masks;     /* (chunk_rows, n_masks) which of A are not zero; NULL if nobody asks */
    uint64_t *delta_masks; /* the same of D */
    REAL *factors;       /* same shape, NULL if not used: what dropout multiplies the outputs by,
                            times the derivatives, if these need the pre-activations */
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
    int reads_z;
    enum loss loss;
    REAL alpha;
    int skips_zeros;     /* of the inputs trained on, which are dense */
    layer *layers;
    int64_t n_blocks;
    block *blocks;       /* all blocks of all layers: the work of phase B */
    int64_t cost;        /* of all blocks; 0 before it is known */
    int64_t n_weights;   /* padding included */
    double *squares;     /* (n_blocks,) sum of squares of each block's weights */
    double *gradient_squares; /* (n_blocks,) the same of its gradient, if that is clipped */
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
    const int64_t *order;      /* NULL: the samples in order */
    int64_t start, stop, batch_size;
    optimizer_spec *optimizer; /* NULL: leave the gradient in vector 3 instead of updating */
    int clips;                 /* the gradient's norm has a limit */
    const dropout_spec *dropout; /* or NULL */
    double seconds;            /* stop after the batch that ends later than this */
    int64_t position;          /* OUT: the first sample not trained on */
    double summed_loss;        /* IN: of the batches before; OUT: of all */
    int out_of_time;
    share rows[MAX_THREADS];   /* phase A: groups of rows of the chunk */
    share blocks[MAX_THREADS]; /* phase B: blocks */
} training_work;

#include "layout.h"
#include "samples.h"
#include "weights.h"
#include "training.h"
#include "prediction.h"
#include "bytes.h"

static const engine_api NAME(api) = {
    .isa = ISA_NAME,
    .dtype = REAL_DTYPE,
    .create = NAME(create),
    .destroy = NAME(destroy),
    .panel = NAME(panel),
    .load = NAME(load),
    .store = NAME(store),
    .release = NAME(release),
    .train = NAME(train),
    .objective = NAME(objective),
    .predict = NAME(predict),
    .useful_threads = NAME(threads_for_prediction),
    .recode = NAME(recode),
};

#undef LANES
#undef PANEL_UNITS
#undef EACH_WIDTH
#undef MASK_BITS
#undef BLOCK_ROWS
#undef BLOCK_ROWS_MAX
#undef GROUP_ROWS_MAX
#undef SKIPPING_WIDTH
#undef UPDATE_COST
#undef COST_SAMPLES
#undef CHUNK_BYTES
#undef CHUNK_ROWS_MAX
#undef vec
#undef BROADCAST
#undef MULTIPLY_ADD
#undef block
#undef layer
#undef engine
#undef step
#undef training_work
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
