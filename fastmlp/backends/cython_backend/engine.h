/* The interface between the Cython module and the C engine.
 *
 * engine.c compiles engine_body.h once per dtype and instruction set; each
 * compilation provides one `engine_api`. Handles are opaque: the layout of
 * the weights inside depends on the width of the vectors.
 */
#ifndef FASTMLP_ENGINE_H
#define FASTMLP_ENGINE_H

#include <stddef.h>
#include <stdint.h>

/* The functions of layers and the losses, in the order of core/functions.py; their names are
 * compared when the module is imported. Each function of one number has a line in functions.h. */
#define FUNCTIONS(X) X(EXP, exp) X(IDENTITY, identity) X(LOGISTIC, logistic) X(TANH, tanh) \
    X(RELU, relu) X(LEAKY_RELU, leaky_relu) X(GELU, gelu) X(SILU, silu)
#define LOSSES(X) X(LOG_LOSS, log_loss) X(SQUARED_ERROR, squared_error) X(POISSON, poisson)

/* The optimisers, and the numbers that their updates read, in the order of core/optimizers.py. */
#define OPTIMIZERS(X) X(SGD, sgd) X(ADAM, adam) X(ADAMW, adamw)
#define SETTINGS(X) X(RATE, rate) X(MOMENTUM, momentum) X(AHEAD, ahead) X(NESTEROV, nesterov) \
    X(BETA_1, beta_1) X(BETA_2, beta_2) X(REST_1, rest_1) X(REST_2, rest_2) X(EPSILON, epsilon) \
    X(DECAY, decay)

#define CODE(code, name) code,
enum activation { SOFTMAX, FUNCTIONS(CODE) };
enum loss { LOSSES(CODE) };
enum optimizer { OPTIMIZERS(CODE) };
enum setting { SETTINGS(CODE) N_SETTINGS };
#undef CODE

/* NULL-terminated. */
extern const char *const engine_activations[], *const engine_losses[];
extern const char *const engine_optimizers[], *const engine_settings[];

enum input_kind { DENSE, BYTES, CSR };

typedef struct {
    int n_layers;           /* layers of weights */
    const int64_t *units;   /* n_layers + 1 sizes, from the input to the output */
    enum activation hidden, output;
    int reads_z;            /* the derivative of `hidden` needs the pre-activation */
    enum loss loss;
    double alpha;           /* L2 penalty */
    enum input_kind inputs; /* what the inputs to train on will be, */
    int skips_zeros;        /* and what they will say */
} network_spec;

/* A network to predict with. */
typedef struct {
    int n_layers;
    const int64_t *units;
    enum activation hidden, output;
    const void *const *coefs;      /* per layer (units[l], units[l + 1]) in C order */
    const void *const *intercepts; /* per layer (units[l + 1],) */
    int narrow;             /* these are float32, although the engine's dtype is float64 */
} fitted_network;

/* Rows up to which a prediction skips all zeros of its inputs, whatever skips_zeros says: packing
 * the weights would take longer than using them unpacked. */
#define FEW_ROWS 4

/* A matrix, seen through an affine map. */
typedef struct {
    enum input_kind kind;
    const void *values;     /* DENSE and BYTES: (n_samples, n_features) in C order, of the
                               engine's dtype or uint8. CSR: the stored values, in its dtype */
    const int64_t *indptr;  /* CSR: (n_samples + 1,) where each row begins */
    const int32_t *indices; /* CSR: the column of each stored value */
    int64_t n_samples;
    const void *scale;      /* (n_features,) of the engine's dtype, or NULL with shift */
    const void *table;      /* BYTES: (256,) of the engine's dtype, what the bytes stand for; or
                               NULL, if for themselves. Only with skips_zeros */
    const void *shift;      /* not used by CSR, whose zeros must stay zero */
    int skips_zeros;        /* DENSE and BYTES: so many are zeros that looking for them pays */
} input_matrix;

/* What to train on. */
typedef struct {
    input_matrix inputs;
    const void *targets;    /* (n_samples, n_outputs) of the engine's dtype */
    const void *weights;    /* (n_samples,) of the engine's dtype, or NULL for all ones */
} training_data;

typedef struct {
    enum optimizer kind;
    int corrects_bias;      /* the rate is Adam's, before the correction */
    double settings[N_SETTINGS];
    double max_grad_norm;   /* gradients with a larger one are scaled down to it; 0: no limit */
    int64_t t;              /* updates so far; advanced by training */
} optimizer_spec;

/* Hidden units to leave out of one epoch; see Dropout in core/random_bits.py. */
typedef struct {
    const double *rates;    /* (n_layers - 1,) per hidden layer */
    const uint32_t *thresholds; /* (n_layers - 1,) the least random word that keeps a unit */
    uint64_t seed;
    uint32_t epoch;
    int64_t start;          /* position in the epoch of the first sample of the order */
} dropout_spec;

typedef struct {
    const char *isa;
    const char *dtype;

    /* Return a new engine, or NULL if there is no memory. */
    void *(*create)(const network_spec *network);
    void (*destroy)(void *engine);

    /* Units of a panel of a layer's weights, which one walk over zeros serves; for tests. */
    int64_t (*panel)(const void *engine, int layer);

    /* Copy between the engine and flat vectors in the layout of Parameters in core/network.py.
     * `which` is 0 for the parameters, 1 and 2 for the optimiser's state vectors,
     * 3 for the gradient. Return nonzero if there is no memory. */
    int (*load)(void *engine, int which, const void *flat);
    void (*store)(void *engine, int which, void *flat);

    /* Give back the memory of one of the vectors; load makes room again. */
    void (*release)(void *engine, int which);

    /* Train on order[start:stop] in batches, for about `seconds` at most, and return the
     * position reached, or -1 if there is no memory. Goes on adding to *summed_loss. `dropout`
     * may be NULL. *n_threads are the most there may be, and then those that it was worth. */
    int64_t (*train)(void *engine, const training_data *data, const int64_t *order,
                     int64_t start, int64_t stop, int64_t batch_size,
                     optimizer_spec *optimizer, const dropout_spec *dropout, double seconds,
                     int *n_threads, double *summed_loss);

    /* Leave the gradient of the objective over all samples in vector 3 and its value in
     * *loss. Return nonzero if there is no memory. */
    int (*objective)(void *engine, const training_data *data, const dropout_spec *dropout,
                     int n_threads, double *loss);

    /* Write the outputs, (n_samples, n_outputs), of a network that needs no engine: its weights are
     * read without a copy. Return 0, 1 if there is no memory, 2 if an input of a DENSE matrix is
     * not finite. */
    int (*predict)(const fitted_network *network, const input_matrix *inputs, int n_threads,
                   void *outputs);

    /* How many threads a prediction is worth, at most. */
    int (*useful_threads)(const fitted_network *network, const input_matrix *inputs);

    /* Find bytes and a table of 256 numbers with values[i] = table[bytes[i]] exactly. Return
     * whether there are any: images are often bytes divided by 255. */
    int (*recode)(const void *values, int64_t n, int n_threads, uint8_t *bytes, void *table);
} engine_api;

/* The instruction sets that were compiled in, best first, NULL-terminated. */
extern const char *const engine_isas[];

/* Whether this processor has the instruction set. */
int engine_isa_supported(const char *isa);

/* dtype is "float32" or "float64". NULL if there is no such engine. */
const engine_api *engine_find(const char *isa, const char *dtype);

#endif
