/* The C engine, through its interface, against plain loops in float64 that use nothing of it.
 *
 * Runs every engine that was compiled in and that this processor supports, without Python, so that
 * it runs wherever there is a C compiler: tests/test_engine_c.py builds it for this machine, and
 * for 64-bit Arm and Windows in emulators. Of the settings' values, each pair occurs at least once.
 *
 *     cc -O3 -std=gnu11 -pthread -Ifastmlp/backends/cython_backend tests/engine_test.c \
 *         fastmlp/backends/cython_backend/engine.c -lm
 *
 * Prints a line per group of checks; ends with status 1 if any has failed.
 */
#include "engine.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COUNT(array) ((int)(sizeof(array) / sizeof((array)[0])))
#define MAX_LAYERS 3

/* ---- checks ------------------------------------------------------------------------------ */

static int n_passed, n_failed, n_group;
static const char *what = "";  /* is being tested */

static void check(int is_right, const char *of)
{
    n_group++;
    if (is_right) {
        n_passed++;
        return;
    }
    if (n_failed++ < 20)
        printf("FAILED: %s: %s\n", what, of);
}

static void end_group(const char *name)
{
    printf("%s: %d checks\n", name, n_group);
    fflush(stdout);
    n_group = 0;
}

/* ---- memory, numbers ----------------------------------------------------------------------- */

static void *taken[1024];
static int n_taken;

/* Zeros, until give_back. */
static void *take(int64_t n, size_t size)
{
    void *memory = calloc((size_t)(n > 0 ? n : 1), size);
    if (memory == NULL || n_taken == COUNT(taken)) {
        printf("not enough memory\n");
        exit(1);
    }
    return taken[n_taken++] = memory;
}

static double *numbers(int64_t n)
{
    return take(n, sizeof(double));
}

static double *copy(const double *values, int64_t n)
{
    return memcpy(numbers(n), values, (size_t)n * sizeof(double));
}

/* Free what has been taken since there were `n` pieces. */
static void give_back(int n)
{
    while (n_taken > n)
        free(taken[--n_taken]);
}

static uint64_t random_state;

static uint64_t random_word(void)  /* splitmix64 */
{
    uint64_t z = random_state += 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}

static int random_below(int n)
{
    return (int)(random_word() % (uint64_t)n);
}

static double uniform(double low, double high)
{
    return low + (high - low) * (double)(random_word() >> 11) * 0x1p-53;
}

static void fill(double *values, int64_t n, double low, double high)
{
    for (int64_t i = 0; i < n; i++)
        values[i] = uniform(low, high);
}

/* The numbers in the engine's dtype. Rounds the originals, too, so that both are equal. */
static void *in_dtype(double *values, int64_t n, int is_float)
{
    if (values == NULL)
        return NULL;
    if (!is_float)
        return copy(values, n);
    float *rounded = take(n, sizeof(float));
    for (int64_t i = 0; i < n; i++)
        values[i] = (double)(rounded[i] = (float)values[i]);
    return rounded;
}

static double *from_dtype(const void *values, int64_t n, int is_float)
{
    double *to = numbers(n);
    for (int64_t i = 0; i < n; i++)
        to[i] = is_float ? (double)((const float *)values)[i] : ((const double *)values)[i];
    return to;
}

static size_t size_of(int is_float)
{
    return is_float ? sizeof(float) : sizeof(double);
}

/* The largest error that is seen, in parts of what is allowed. */
static double largest_error;

/* Whether no number is further from the expected one than is allowed, in parts of the largest. */
static int is_close(const double *expected, const void *values, int64_t n, int is_float)
{
    double largest = 0, error = 0, allowed = is_float ? 1e-5 : 1e-13;
    for (int64_t i = 0; i < n; i++) {
        double value =
            is_float ? (double)((const float *)values)[i] : ((const double *)values)[i];
        double difference = fabs(value - expected[i]);
        if (!(difference <= error))
            error = isnan(difference) ? INFINITY : difference;
        largest = fabs(expected[i]) > largest ? fabs(expected[i]) : largest;
    }
    if (error > 0 && error / (allowed * largest) > largest_error)
        largest_error = error / (allowed * largest);
    return error <= allowed * largest;
}

/* ---- the plain network --------------------------------------------------------------------- */

typedef struct {
    int n_layers;
    int64_t units[MAX_LAYERS + 1];
    enum activation hidden, output;
    enum loss loss;
    double alpha;
    double rate;  /* of dropout, in all hidden layers; 0 for none */
    uint64_t seed;
    uint32_t epoch;
} network;

static int64_t n_parameters(const network *net)
{
    int64_t n = 0;
    for (int l = 0; l < net->n_layers; l++)
        n += (net->units[l] + 1) * net->units[l + 1];
    return n;
}

/* Where a layer's weights begin among the parameters: all layers', then all intercepts. */
static int64_t coefs_at(const network *net, int layer)
{
    int64_t at = 0;
    for (int l = 0; l < layer; l++)
        at += net->units[l] * net->units[l + 1];
    return at;
}

static int64_t intercepts_at(const network *net, int layer)
{
    int64_t at = coefs_at(net, net->n_layers);
    for (int l = 0; l < layer; l++)
        at += net->units[l + 1];
    return at;
}

static double value_of(enum activation f, double z)
{
    switch (f) {
    case EXP: return exp(z);
    case IDENTITY: return z;
    case LOGISTIC: return 1 / (1 + exp(-z));
    case TANH: return tanh(z);
    case RELU: return z > 0 ? z : 0;
    case LEAKY_RELU: return z > 0 ? z : 0.01 * z;
    case GELU: return 0.5 * z * (1 + tanh(sqrt(2 / acos(-1)) * (z + 0.044715 * z * z * z)));
    case SILU: return z / (1 + exp(-z));
    case SOFTMAX: break;
    }
    return NAN;
}

static double slope_of(enum activation f, double z)
{
    double a = value_of(f, z);
    switch (f) {
    case EXP: return a;
    case IDENTITY: return 1;
    case LOGISTIC: return a * (1 - a);
    case TANH: return 1 - a * a;
    case RELU: return z > 0 ? 1 : 0;
    case LEAKY_RELU: return z > 0 ? 1 : 0.01;
    case GELU: {
        double c = sqrt(2 / acos(-1)), t = tanh(c * (z + 0.044715 * z * z * z));
        return 0.5 * (1 + t) + 0.5 * z * (1 - t * t) * c * (1 + 3 * 0.044715 * z * z);
    }
    case SILU: {
        double share = 1 / (1 + exp(-z));
        return share * (1 + z * (1 - share));
    }
    case SOFTMAX: break;
    }
    return NAN;
}

/* The word of Philox-4x32-10 that decides on a hidden unit; see core/random_bits.py. */
static uint32_t dropout_word(const network *net, int64_t position, int layer, int64_t unit)
{
    uint32_t c[4] = {(uint32_t)(unit / 64 * 16 + unit % 16), (uint32_t)layer, (uint32_t)position,
                     net->epoch};
    uint32_t key[2] = {(uint32_t)net->seed, (uint32_t)(net->seed >> 32)};
    for (int round = 0; round < 10; round++) {
        uint64_t p = (uint64_t)0xD2511F53 * c[0], q = (uint64_t)0xCD9E8D57 * c[2];
        uint32_t next[4] = {(uint32_t)(q >> 32) ^ c[1] ^ key[0], (uint32_t)q,
                            (uint32_t)(p >> 32) ^ c[3] ^ key[1], (uint32_t)p};
        memcpy(c, next, sizeof(c));
        key[0] += 0x9E3779B9;
        key[1] += 0xBB67AE85;
    }
    return c[unit / 16 % 4];
}

/* How near a sum has come to zero, where the slope of ReLU jumps. */
static double nearest_kink;

/* Sums and outputs of all layers for a sample; those of layer l are z[l + 1] and a[l + 1]. */
static void forward(const network *net, const double *parameters, int64_t position, double **z,
                    double **a, double **factors)
{
    for (int l = 0; l < net->n_layers; l++) {
        int64_t n_in = net->units[l], n_out = net->units[l + 1];
        const double *W = parameters + coefs_at(net, l);
        double *sums = z[l + 1], *outputs = a[l + 1], total = 0;
        int is_hidden = l < net->n_layers - 1;
        enum activation f = is_hidden ? net->hidden : net->output;
        memcpy(sums, parameters + intercepts_at(net, l), (size_t)n_out * sizeof(double));
        for (int64_t i = 0; i < n_in; i++)
            for (int64_t j = 0; j < n_out && a[l][i] != 0; j++)
                sums[j] += a[l][i] * W[i * n_out + j];
        for (int64_t j = 0; j < n_out; j++)
            total += exp(sums[j]);
        for (int64_t j = 0; j < n_out; j++) {
            outputs[j] = f == SOFTMAX ? exp(sums[j]) / total : value_of(f, sums[j]);
            if (!is_hidden)
                continue;
            if (f == RELU || f == LEAKY_RELU)
                nearest_kink = fabs(sums[j]) < nearest_kink ? fabs(sums[j]) : nearest_kink;
            factors[l + 1][j] = 1;
            if (net->rate > 0)
                factors[l + 1][j] = dropout_word(net, position, l, j) < net->rate * 0x1p32
                                        ? 0 : 1 / (1 - net->rate);
            outputs[j] *= factors[l + 1][j];
        }
    }
}

static void rows_for(const network *net, double **rows)
{
    for (int l = 0; l <= net->n_layers; l++)
        rows[l] = numbers(net->units[l]);
}

static double loss_of(const network *net, const double *p, const double *target)
{
    double loss = 0;
    int64_t n = net->units[net->n_layers];
    for (int64_t j = 0; j < n; j++) {
        double t = target[j];
        if (net->loss == SQUARED_ERROR)
            loss += 0.5 * (p[j] - t) * (p[j] - t) / (double)n;
        else if (net->loss == POISSON)
            loss += (t > 0 ? t * log(t / p[j]) : 0) - t + p[j];
        else
            loss -= (t > 0 ? t * log(p[j]) : 0) +
                    (net->output == LOGISTIC && t < 1 ? (1 - t) * log(1 - p[j]) : 0);
    }
    return loss;
}

/* The objective over n samples of an order, whose first is at `position` in the epoch, and its
 * gradient. *total_weight is set to their weight; without any, nothing else is. */
static double objective(const network *net, const double *parameters, const double *X,
                        const double *Y, const double *weights, const int64_t *order, int64_t n,
                        int64_t position, double *gradient, double *total_weight)
{
    int before = n_taken, last = net->n_layers;
    double *z[MAX_LAYERS + 1], *a[MAX_LAYERS + 1], *factors[MAX_LAYERS + 1], *d[MAX_LAYERS + 1];
    double loss = 0, total = 0;
    int64_t n_out = net->units[last], n_coefs = coefs_at(net, last);
    rows_for(net, z), rows_for(net, a), rows_for(net, factors), rows_for(net, d);
    memset(gradient, 0, (size_t)n_parameters(net) * sizeof(double));
    for (int64_t s = 0; s < n; s++) {
        int64_t sample = order ? order[s] : s;
        double weight = weights ? weights[sample] : 1;
        const double *target = Y + sample * n_out;
        memcpy(a[0], X + sample * net->units[0], (size_t)net->units[0] * sizeof(double));
        forward(net, parameters, position + s, z, a, factors);
        loss += weight * loss_of(net, a[last], target);
        total += weight;
        for (int64_t j = 0; j < n_out; j++) {
            double p = a[last][j];
            d[last][j] = weight * (p - target[j]);
            if (net->output == LOGISTIC && net->loss == SQUARED_ERROR)
                d[last][j] *= p * (1 - p) / (double)n_out;
        }
        for (int l = last - 1; l >= 0; l--) {
            int64_t width = net->units[l + 1];
            const double *W = parameters + coefs_at(net, l);
            double *dW = gradient + coefs_at(net, l), *db = gradient + intercepts_at(net, l);
            for (int64_t j = 0; j < width; j++)
                db[j] += d[l + 1][j];
            for (int64_t i = 0; i < net->units[l]; i++) {
                double sum = 0;
                for (int64_t j = 0; j < width && a[l][i] != 0; j++)
                    dW[i * width + j] += a[l][i] * d[l + 1][j];
                if (l == 0)
                    continue;
                for (int64_t j = 0; j < width; j++)
                    sum += W[i * width + j] * d[l + 1][j];
                d[l][i] = sum * factors[l][i] * slope_of(net->hidden, z[l][i]);
            }
        }
    }
    give_back(before);
    *total_weight = total;
    for (int64_t i = 0; i < n_coefs; i++) {
        loss += 0.5 * net->alpha * parameters[i] * parameters[i];
        gradient[i] += net->alpha * parameters[i];
    }
    for (int64_t i = 0; i < n_parameters(net); i++)
        gradient[i] /= total;
    return loss / total;
}

/* ---- optimizers ------------------------------------------------------------------------------ */

/* What the tests train with, and the hyperparameters of all. Epsilon is so large that rounding does
 * not decide about a step. */
static const struct {
    const char *name;
    enum optimizer kind;
    double momentum;
    int nesterov;
    double max_norm;
} methods[] = {
    {"sgd", SGD, 0, 0, 0},         {"momentum", SGD, 0.9, 0, 0}, {"nesterov", SGD, 0.9, 1, 0},
    {"clipped", SGD, 0.5, 0, 0.1}, {"adam", ADAM, 0, 0, 0},      {"adamw", ADAMW, 0, 0, 0},
};
#define LEARNING_RATE 0.05
#define FIRST_DECAY 0.9
#define SECOND_DECAY 0.99
#define SMALLEST 0.01
#define WEIGHT_DECAY 0.1

static optimizer_spec optimizer_of(int method)
{
    double momentum = methods[method].momentum;
    optimizer_spec spec = {.kind = methods[method].kind, .max_grad_norm = methods[method].max_norm};
    spec.corrects_bias = spec.kind != SGD;
    spec.settings[RATE] = LEARNING_RATE;
    spec.settings[MOMENTUM] = momentum;
    spec.settings[AHEAD] = methods[method].nesterov ? momentum : 1;
    spec.settings[NESTEROV] = methods[method].nesterov;
    spec.settings[BETA_1] = FIRST_DECAY;
    spec.settings[BETA_2] = SECOND_DECAY;
    spec.settings[REST_1] = 1 - FIRST_DECAY;
    spec.settings[REST_2] = 1 - SECOND_DECAY;
    spec.settings[EPSILON] = SMALLEST;
    spec.settings[DECAY] = spec.kind == ADAMW ? LEARNING_RATE * WEIGHT_DECAY : 0;
    return spec;
}

/* Update t of n parameters. */
static void update(int method, int t, int64_t n, const double *gradient, double *parameters,
                   double *first, double *second)
{
    double norm = 0, limit = methods[method].max_norm;
    for (int64_t i = 0; i < n; i++)
        norm += gradient[i] * gradient[i];
    norm = sqrt(norm);
    for (int64_t i = 0; i < n; i++) {
        double g = limit > 0 && norm > limit ? gradient[i] * limit / norm : gradient[i];
        double momentum = methods[method].momentum, old = parameters[i];
        if (methods[method].kind == SGD) {
            first[i] = momentum * first[i] - LEARNING_RATE * g;
            parameters[i] +=
                methods[method].nesterov ? momentum * first[i] - LEARNING_RATE * g : first[i];
            continue;
        }
        first[i] = FIRST_DECAY * first[i] + (1 - FIRST_DECAY) * g;
        second[i] = SECOND_DECAY * second[i] + (1 - SECOND_DECAY) * g * g;
        parameters[i] -= LEARNING_RATE * sqrt(1 - pow(SECOND_DECAY, t)) /
                         (1 - pow(FIRST_DECAY, t)) * first[i] / (sqrt(second[i]) + SMALLEST);
        if (methods[method].kind == ADAMW)
            parameters[i] -= LEARNING_RATE * WEIGHT_DECAY * old;
    }
}

/* ---- inputs ---------------------------------------------------------------------------------- */

enum factors { NONE, UNIFORM, BY_FEATURE, SHIFTED };

static const struct {
    const char *name;
    enum input_kind kind;
    int skips_zeros;
    enum factors factors;
    int has_table;
} forms[] = {
    {"dense", DENSE, 0, NONE, 0},
    {"dense, shifted", DENSE, 0, SHIFTED, 0},
    {"bytes", BYTES, 0, NONE, 0},
    {"bytes, shifted", BYTES, 0, SHIFTED, 0},
    {"mostly zeros", DENSE, 1, NONE, 0},
    {"mostly zeros, scaled", DENSE, 1, BY_FEATURE, 0},
    {"mostly zeros, shifted", DENSE, 1, SHIFTED, 0},
    {"mostly zero bytes", BYTES, 1, NONE, 0},
    {"mostly zero bytes, a factor", BYTES, 1, UNIFORM, 0},
    {"mostly zero bytes, scaled", BYTES, 1, BY_FEATURE, 0},
    {"mostly zero bytes, shifted", BYTES, 1, SHIFTED, 0},
    {"mostly zero bytes, table", BYTES, 1, NONE, 1},
    {"mostly zero bytes, table, shifted", BYTES, 1, SHIFTED, 1},
    {"CSR", CSR, 0, NONE, 0},
    {"CSR, scaled", CSR, 0, BY_FEATURE, 0},
};

/* Random inputs of a form, as the engine reads them, and in *X the numbers that they stand for. */
static input_matrix make_inputs(int form, int64_t n, int64_t n_in, int is_float, double **X)
{
    enum input_kind kind = forms[form].kind;
    enum factors factors = forms[form].factors;
    int has_zeros = forms[form].skips_zeros || kind == CSR;
    int are_small = factors == NONE && !forms[form].has_table;  /* bytes */
    input_matrix matrix = {.kind = kind, .n_samples = n, .skips_zeros = forms[form].skips_zeros};
    double *values = numbers(n * n_in), *scale = NULL, *shift = NULL, *table = NULL;
    uint8_t *bytes = take(n * n_in, 1);
    for (int64_t i = 0; i < n * n_in; i++) {
        if (has_zeros && random_below(10) < 7)
            continue;
        bytes[i] = (uint8_t)(are_small ? random_below(3) : random_below(256));
        values[i] = kind == BYTES ? bytes[i] : uniform(-1, 1);
    }
    void *own = in_dtype(values, n * n_in, is_float);
    if (forms[form].has_table) {
        table = numbers(256);
        fill(table + 1, 255, -1, 1);
        matrix.table = in_dtype(table, 256, is_float);
    }
    if (factors != NONE) {
        double unit = kind == BYTES && table == NULL ? 1 / 255.0 : 1;
        scale = numbers(n_in);
        shift = numbers(n_in);
        fill(scale, n_in, 0.5 * unit, 1.5 * unit);
        for (int64_t i = 0; i < n_in && factors == UNIFORM; i++)
            scale[i] = unit;
        if (factors == SHIFTED)
            fill(shift, n_in, -0.5, 0.5);
        matrix.scale = in_dtype(scale, n_in, is_float);
        matrix.shift = kind == CSR ? NULL : in_dtype(shift, n_in, is_float);
    }
    *X = numbers(n * n_in);
    for (int64_t i = 0; i < n * n_in; i++) {
        double value = table ? table[bytes[i]] : values[i];
        (*X)[i] = scale ? value * scale[i % n_in] + shift[i % n_in] : value;
    }
    matrix.values = kind == BYTES ? (void *)bytes : own;
    if (kind != CSR)
        return matrix;
    int64_t *indptr = take(n + 1, sizeof(int64_t)), n_stored = 0;
    int32_t *indices = take(n * n_in, sizeof(int32_t));
    double *stored = numbers(n * n_in);
    for (int64_t i = 0; i < n; i++) {
        for (int64_t k = 0; k < n_in; k++) {
            double value = values[i * n_in + k];
            if (value == 0 && random_below(20) > 0)  /* some zeros are stored */
                continue;
            stored[n_stored] = value;
            indices[n_stored++] = (int32_t)k;
        }
        indptr[i + 1] = n_stored;
    }
    matrix.values = in_dtype(stored, n_stored, is_float);
    matrix.indices = indices;
    matrix.indptr = indptr;
    return matrix;
}

/* ---- a problem --------------------------------------------------------------------------------- */

static const struct {
    const char *name;
    enum activation output;
    enum loss loss;
    int64_t n;
} outputs[] = {
    {"softmax 10", SOFTMAX, LOG_LOSS, 10},        {"softmax 3", SOFTMAX, LOG_LOSS, 3},
    {"logistic 1", LOGISTIC, LOG_LOSS, 1},        {"logistic 17", LOGISTIC, LOG_LOSS, 17},
    {"logistic squared", LOGISTIC, SQUARED_ERROR, 4}, {"identity 1", IDENTITY, SQUARED_ERROR, 1},
    {"identity 7", IDENTITY, SQUARED_ERROR, 7},   {"poisson", EXP, POISSON, 2},
};

static const enum activation hidden_functions[] = {EXP,  IDENTITY,   LOGISTIC, TANH,
                                                   RELU, LEAKY_RELU, GELU,     SILU};

/* Units of the hidden layers, 0 for none. */
static const int64_t widths[][2] = {{1},   {3},      {7},       {16},    {33},     {50},  {70},
                                    {104}, {130}, {50, 33}, {16, 130}, {70, 7}, {33, 16}, {3, 1}, {0}};

/* Settings by their place in the tables above. */
typedef struct {
    int form, hidden, output, widths, method;
    int64_t n_in, batch;
    int is_weighted, drops;
} settings;

static network network_of(const settings *s)
{
    network net = {.hidden = hidden_functions[s->hidden], .output = outputs[s->output].output,
                   .loss = outputs[s->output].loss, .alpha = 0.1, .rate = s->drops ? 0.25 : 0,
                   .seed = 0x123456789ABCDEFu, .epoch = 7};
    net.units[0] = s->n_in;
    for (int i = 0; i < 2 && widths[s->widths][i] > 0; i++)
        net.units[++net.n_layers] = widths[s->widths][i];
    net.units[++net.n_layers] = outputs[s->output].n;
    return net;
}

static double *make_parameters(const network *net)
{
    double *parameters = numbers(n_parameters(net));
    for (int l = 0; l < net->n_layers; l++) {
        double limit = 1.2 / sqrt((double)net->units[l]);
        fill(parameters + coefs_at(net, l), net->units[l] * net->units[l + 1], -limit, limit);
        fill(parameters + intercepts_at(net, l), net->units[l + 1], -0.5, 0.5);
    }
    return parameters;
}

static double *make_targets(const network *net, int64_t n)
{
    int64_t n_out = net->units[net->n_layers];
    double *Y = numbers(n * n_out);
    for (int64_t i = 0; i < n * n_out; i++) {
        if (net->output == LOGISTIC && net->loss == LOG_LOSS)
            Y[i] = random_below(2);
        else if (net->loss == POISSON)
            Y[i] = random_below(4);
        else if (net->output != SOFTMAX)
            Y[i] = uniform(0, 1);
        else if (i % n_out == 0)
            Y[i + random_below((int)n_out)] = 1;
    }
    return Y;
}

static void describe(const settings *s, const char *isa, int is_float)
{
    static char text[300];
    snprintf(text, sizeof(text),
             "%s %s, %s, %d inputs, hidden %d+%d %s, %s, %s, batches of %d%s%s", isa,
             is_float ? "float32" : "float64", forms[s->form].name, (int)s->n_in,
             (int)widths[s->widths][0], (int)widths[s->widths][1],
             engine_activations[hidden_functions[s->hidden]], outputs[s->output].name,
             methods[s->method].name, (int)s->batch, s->is_weighted ? ", weighted" : "",
             s->drops ? ", dropout" : "");
    what = text;
}

/* ---- training --------------------------------------------------------------------------------- */

static int most_threads_used;

/* Two batches, the second smaller, and the objective of one, by all engines of a dtype, which must
 * agree with the plain network, and for each number of threads to the last bit. */
static int train_problem(const settings *s, int is_float)
{
    network net = network_of(s);
    int64_t first = 2, stop = first + s->batch + s->batch / 2 + 1, n = stop + 3;
    int64_t size = n_parameters(&net), n_out = net.units[net.n_layers];
    double *X, *Y = make_targets(&net, n), *weights = NULL;
    training_data data = {.inputs = make_inputs(s->form, n, s->n_in, is_float, &X)};
    data.targets = in_dtype(Y, n * n_out, is_float);
    if (s->is_weighted) {
        weights = numbers(n);
        for (int64_t i = 0; i < n; i++)
            weights[i] = i > 0 && random_below(4) == 0 ? 0 : uniform(0.5, 2);
        data.weights = in_dtype(weights, n, is_float);
    }
    int64_t *order = take(n, sizeof(int64_t));
    for (int64_t i = 0; i < n; i++) {
        int64_t j = random_below((int)i + 1);
        order[i] = order[j];
        order[j] = i;
    }

    /* The plain network. */
    double *begin = make_parameters(&net);
    void *flat = in_dtype(begin, size, is_float);
    double *parameters = copy(begin, size), *first_state = numbers(size);
    double *second_state = numbers(size), *gradient = numbers(size), summed_loss = 0, total;
    int64_t position = 1000, t = 3;  /* as if an epoch were going on */
    nearest_kink = INFINITY;
    double loss = objective(&net, begin, X, Y, weights, NULL, s->batch, position, gradient, &total);
    double *expected_gradient = copy(gradient, size);
    for (int64_t at = first; at < stop; at += s->batch) {
        int64_t m = stop - at < s->batch ? stop - at : s->batch;
        double value = objective(&net, parameters, X, Y, weights, order + at, m, position + at,
                                 gradient, &total);
        if (total == 0)
            continue;
        summed_loss += value * (double)m;
        update(s->method, (int)++t, size, gradient, parameters, first_state, second_state);
    }
    if (nearest_kink < (is_float ? 1e-5 : 1e-12))
        return 0;  /* rounding may decide on a slope */

    double rates[MAX_LAYERS];
    uint32_t thresholds[MAX_LAYERS];
    for (int l = 0; l < net.n_layers - 1; l++) {
        rates[l] = net.rate;
        thresholds[l] = (uint32_t)(net.rate * 0x1p32);
    }
    dropout_spec dropout = {rates, thresholds, net.seed, net.epoch, position};
    network_spec spec = {.n_layers = net.n_layers, .units = net.units, .hidden = net.hidden,
                         .output = net.output, .loss = net.loss, .alpha = net.alpha,
                         .reads_z = net.hidden == GELU || net.hidden == SILU,
                         .skips_zeros = data.inputs.skips_zeros};
    void *results[4], *zeros = take(size, size_of(is_float));
    size_t bytes = (size_t)size * size_of(is_float);
    for (int i = 0; i < 4; i++)
        results[i] = take(size, size_of(is_float));
    void *before[4] = {NULL};
    for (const char *const *isa = engine_isas; *isa != NULL; isa++) {
        if (!engine_isa_supported(*isa))
            continue;
        const engine_api *api = engine_find(*isa, is_float ? "float32" : "float64");
        double losses[2], losses_before[2];
        describe(s, *isa, is_float);
        for (int n_threads = 1; n_threads <= 3; n_threads += 2) {
            optimizer_spec optimizer = optimizer_of(s->method);
            optimizer.t = 3;
            void *engine = api->create(&spec);
            training_data few = data;
            few.inputs.n_samples = s->batch;
            int n_states = optimizer.kind == SGD ? 1 : 2, used = n_threads;
            int failed = api->load(engine, 0, flat) ||
                         api->objective(engine, &few, s->drops ? &dropout : NULL, n_threads,
                                        &losses[0]);
            check(!failed, "objective");
            api->store(engine, 3, results[3]);
            api->release(engine, 3);
            for (int which = 1; which <= n_states; which++)
                failed |= api->load(engine, which, zeros);
            losses[1] = 0;
            check(!failed &&
                  api->train(engine, &data, order, first, stop, s->batch, &optimizer,
                             s->drops ? &dropout : NULL, 1e9, &used, &losses[1]) == stop,
                  "train");
            for (int which = 0; which <= n_states; which++)
                api->store(engine, which, results[which]);
            api->destroy(engine);
            most_threads_used = used > most_threads_used ? used : most_threads_used;
            check(optimizer.t == t, "the number of updates");
            if (n_threads > 1) {
                int same = memcmp(losses, losses_before, sizeof(losses)) == 0;
                for (int which = 0; which < 4; which++)
                    same &= memcmp(results[which], before[which], bytes) == 0;
                check(same, "the number of threads matters");
                continue;
            }
            memcpy(losses_before, losses, sizeof(losses));
            for (int which = 0; which < 4; which++) {
                before[which] = before[which] ? before[which] : take(size, size_of(is_float));
                memcpy(before[which], results[which], bytes);
            }
            check(is_close(&loss, is_float ? (void *)&(float){(float)losses[0]} : &losses[0], 1,
                           is_float), "the objective");
            check(is_close(expected_gradient, results[3], size, is_float), "its gradient");
            check(summed_loss == losses[1] ||
                  is_close(&summed_loss, is_float ? (void *)&(float){(float)losses[1]} : &losses[1],
                           1, is_float), "the loss of training");
            check(is_close(parameters, results[0], size, is_float), "weights");
            check(is_close(first_state, results[1], size, is_float), "the first state");
            if (n_states > 1)
                check(is_close(second_state, results[2], size, is_float), "the second state");
        }
    }
    return 1;
}

static void train(const settings *s, uint64_t seed)
{
    for (int is_float = 0; is_float < 2; is_float++) {
        int told = 0;
        for (int attempt = 0; attempt < 50 && !told; attempt++) {
            random_state = seed + (uint64_t)attempt * 1000003;
            told = train_problem(s, is_float);
            give_back(0);
        }
        check(told, "no data without a sum close to zero");
    }
}

/* ---- prediction ------------------------------------------------------------------------------- */

/* Outputs by all engines of a dtype, for each number of threads to the last bit the same. Of many
 * rows, the plain network computes some. */
static void predict_network(const settings *s, const network *net, int64_t n, int is_float,
                            int narrow)
{
    double *X, *z[MAX_LAYERS + 1], *a[MAX_LAYERS + 1], *factors[MAX_LAYERS + 1];
    input_matrix inputs = make_inputs(s->form, n, net->units[0], is_float, &X);
    double *parameters = make_parameters(net);
    int64_t size = n_parameters(net), n_out = net->units[net->n_layers];
    size_t bytes = (size_t)(n * n_out) * size_of(is_float);
    char *flat = in_dtype(parameters, size, is_float || narrow);
    const void *coefs[MAX_LAYERS], *intercepts[MAX_LAYERS];
    for (int l = 0; l < net->n_layers; l++) {
        coefs[l] = flat + (size_t)coefs_at(net, l) * size_of(is_float || narrow);
        intercepts[l] = flat + (size_t)intercepts_at(net, l) * size_of(is_float || narrow);
    }
    fitted_network fitted = {.n_layers = net->n_layers, .units = net->units,
                             .hidden = net->hidden, .output = net->output, .coefs = coefs,
                             .intercepts = intercepts, .narrow = narrow};
    int64_t step = n > 40 ? n / 16 : 1, n_seen = (n + step - 1) / step;
    double *expected = numbers(n_seen * n_out);
    rows_for(net, z), rows_for(net, a), rows_for(net, factors);
    for (int64_t i = 0; i < n_seen; i++) {
        memcpy(a[0], X + i * step * net->units[0], (size_t)net->units[0] * sizeof(double));
        forward(net, parameters, 0, z, a, factors);
        memcpy(expected + i * n_out, a[net->n_layers], (size_t)n_out * sizeof(double));
    }
    char *results = take(n * n_out, size_of(is_float)), *before = take(n * n_out, size_of(is_float));
    char *seen = take(n_seen * n_out, size_of(is_float));
    size_t row = (size_t)n_out * size_of(is_float);
    for (const char *const *isa = engine_isas; *isa != NULL; isa++) {
        if (!engine_isa_supported(*isa))
            continue;
        const engine_api *api = engine_find(*isa, is_float ? "float32" : "float64");
        describe(s, *isa, is_float);
        check(api->useful_threads(&fitted, &inputs) >= 1, "useful threads");
        for (int n_threads = 1; n_threads <= 3; n_threads += 2) {
            memset(results, 0xff, bytes);
            check(api->predict(&fitted, &inputs, n_threads, results) == 0, "predict");
            if (n_threads > 1) {
                check(memcmp(results, before, bytes) == 0, "the number of threads matters");
                continue;
            }
            memcpy(before, results, bytes);
            for (int64_t i = 0; i < n_seen; i++)
                memcpy(seen + (size_t)i * row, results + (size_t)(i * step) * row, row);
            check(is_close(expected, seen, n_seen * n_out, is_float), "outputs");
        }
        if (inputs.kind == DENSE) {
            void *values = (void *)inputs.values;
            size_t last = (size_t)(n * net->units[0] - 1) * size_of(is_float);
            double nan = NAN, kept;
            memcpy(&kept, (char *)values + last, size_of(is_float));
            memcpy((char *)values + last, is_float ? (void *)&(float){NAN} : &nan,
                   size_of(is_float));
            check(api->predict(&fitted, &inputs, 2, results) == 2, "NaN is noticed");
            memcpy((char *)values + last, &kept, size_of(is_float));
        }
    }
}

static void predict(const settings *s, const network *net, int64_t n, uint64_t seed)
{
    for (int is_float = 0; is_float < 2; is_float++) {
        for (int narrow = 0; narrow < 2 - is_float; narrow++) {
            random_state = seed;
            predict_network(s, net, n, is_float, narrow);
            give_back(0);
        }
    }
}

/* ---- pairs ------------------------------------------------------------------------------------- */

#define MAX_PARAMETERS 9
#define MAX_VALUES 16

/* Which pairs of two parameters' values have not occurred. */
typedef struct {
    int n_parameters, n_values[MAX_PARAMETERS];
    char is_missing[MAX_PARAMETERS][MAX_VALUES][MAX_PARAMETERS][MAX_VALUES];
} pairs;

static pairs all_pairs(int n_parameters, const int *n_values)
{
    pairs p = {.n_parameters = n_parameters};
    memset(p.is_missing, 1, sizeof(p.is_missing));
    memcpy(p.n_values, n_values, (size_t)n_parameters * sizeof(int));
    return p;
}

/* Choose the next case, with as many new pairs as of some dozen by chance. Return 0 at the end. */
static int next_case(pairs *p, int *chosen)
{
    int most = 0, start[4] = {-1};
    for (int i = 0; i < p->n_parameters && start[0] < 0; i++)
        for (int j = i + 1; j < p->n_parameters && start[0] < 0; j++)
            for (int v = 0; v < p->n_values[i] && start[0] < 0; v++)
                for (int w = 0; w < p->n_values[j] && start[0] < 0; w++)
                    if (p->is_missing[i][v][j][w])
                        start[0] = i, start[1] = v, start[2] = j, start[3] = w;
    for (int attempt = 0; attempt < 50 && start[0] >= 0; attempt++) {
        int values[MAX_PARAMETERS], found = 0;
        for (int i = 0; i < p->n_parameters; i++)
            values[i] = random_below(p->n_values[i]);
        values[start[0]] = start[1];
        values[start[2]] = start[3];
        for (int i = 0; i < p->n_parameters; i++)
            for (int j = i + 1; j < p->n_parameters; j++)
                found += p->is_missing[i][values[i]][j][values[j]];
        if (found > most) {
            most = found;
            memcpy(chosen, values, (size_t)p->n_parameters * sizeof(int));
        }
    }
    for (int i = 0; i < p->n_parameters && most > 0; i++)
        for (int j = i + 1; j < p->n_parameters; j++)
            p->is_missing[i][chosen[i]][j][chosen[j]] = 0;
    return most > 0;
}

static void train_pairs(void)
{
    static const int64_t n_ins[] = {1, 5, 63, 64, 65, 200}, batches[] = {1, 5, 32, 77};
    const int n_values[] = {COUNT(forms), COUNT(hidden_functions), COUNT(outputs), COUNT(widths),
                            COUNT(methods), COUNT(n_ins), COUNT(batches), 2, 2};
    pairs p = all_pairs(COUNT(n_values), n_values);
    int v[MAX_PARAMETERS];
    random_state = 1;
    for (uint64_t seed = 1; next_case(&p, v); seed++) {
        settings s = {v[0], v[1], v[2], v[3], v[4], n_ins[v[5]], batches[v[6]], v[7], v[8]};
        uint64_t state = random_state;
        train(&s, seed);
        random_state = state;
    }
    check(most_threads_used > 1, "several threads");
    end_group("training");
}

/* Batches that pass in several chunks: many features, or many rows if they are sparse. */
static void train_chunks(void)
{
    for (int form = 0; form < COUNT(forms); form++) {
        int is_sparse = forms[form].kind == CSR;
        settings s = {.form = form, .hidden = 3, .output = form % COUNT(outputs), .widths = 1,
                      .method = form % COUNT(methods), .n_in = is_sparse ? 20 : 5700,
                      .batch = is_sparse ? 1100 : 50};
        if (forms[form].factors == SHIFTED || is_sparse)  /* one form of each method suffices */
            train(&s, (uint64_t)form);
    }
    end_group("training in chunks");
}

static void predict_pairs(void)
{
    static const int64_t n_ins[] = {1, 5, 63, 64, 65, 200}, rows[] = {1, 3, 4, 5, 32, 77};
    const int n_values[] = {COUNT(forms),  COUNT(hidden_functions), COUNT(outputs),
                            COUNT(widths), COUNT(n_ins),            COUNT(rows)};
    pairs p = all_pairs(COUNT(n_values), n_values);
    int v[MAX_PARAMETERS];
    random_state = 1;
    for (uint64_t seed = 1; next_case(&p, v); seed++) {
        settings s = {.form = v[0], .hidden = v[1], .output = v[2], .widths = v[3],
                      .n_in = n_ins[v[4]], .batch = rows[v[5]]};
        if (forms[s.form].has_table && s.batch <= FEW_ROWS)
            s.batch = FEW_ROWS + 1;  /* a table is for inputs whose zeros are skipped */
        network net = network_of(&s);
        uint64_t state = random_state;
        predict(&s, &net, s.batch, seed);
        random_state = state;
    }
    end_group("prediction");
}

/* Weights that do not fit into the second-level cache, with zeros of ReLU that are skipped. */
static void predict_large(void)
{
    for (int form = 0; form < COUNT(forms); form++) {
        settings s = {.form = form, .hidden = form % 2 ? 4 : 3, .output = form % COUNT(outputs),
                      .widths = 0, .n_in = 70, .batch = form == 8 ? 350 : 7};
        network net = network_of(&s);
        net.n_layers = 3;
        net.units[1] = 530;
        net.units[2] = 520;
        net.units[3] = outputs[s.output].n;
        predict(&s, &net, s.batch, (uint64_t)form);
    }
    end_group("prediction with large weights");
}

/* ---- copies ------------------------------------------------------------------------------------- */

/* What is loaded is stored, bit for bit. */
static void load_and_store(void)
{
    for (int i = 0; i < 2 * COUNT(widths); i++) {
        int is_float = i % 2;
        settings s = {.widths = i / 2, .output = i % COUNT(outputs), .n_in = 1 + i * 5};
        network net = network_of(&s);
        network_spec spec = {.n_layers = net.n_layers, .units = net.units, .hidden = net.hidden,
                             .output = net.output, .loss = net.loss, .skips_zeros = i % 3 == 0};
        int64_t size = n_parameters(&net);
        size_t bytes = (size_t)size * size_of(is_float);
        double *values = numbers(size);
        void *stored = take(size, size_of(is_float));
        random_state = (uint64_t)i;
        for (const char *const *isa = engine_isas; *isa != NULL; isa++) {
            if (!engine_isa_supported(*isa))
                continue;
            const engine_api *api = engine_find(*isa, is_float ? "float32" : "float64");
            void *engine = api->create(&spec), *flat[4];
            describe(&s, *isa, is_float);
            for (int which = 0; which < 4; which++) {
                fill(values, size, -1, 1);
                flat[which] = in_dtype(values, size, is_float);
                check(api->load(engine, which, flat[which]) == 0, "load");
            }
            for (int which = 0; which < 4; which++) {
                api->store(engine, which, stored);
                check(memcmp(stored, flat[which], bytes) == 0, "store");
            }
            api->release(engine, 2);
            check(api->load(engine, 2, flat[1]) == 0, "load after release");
            api->store(engine, 2, stored);
            check(memcmp(stored, flat[1], bytes) == 0, "store after release");
            api->destroy(engine);
        }
        give_back(0);
    }
    end_group("load and store");
}

/* Bytes are found behind numbers that are made of them, and behind no others. */
static void recode(void)
{
    static const double divisors[] = {1, 255, 256, 16};
    const int64_t n = 70003;  /* more than are looked at first, and no multiple of anything */
    for (int i = 0; i < 2 * (COUNT(divisors) + 2); i++) {
        int is_float = i % 2, d = i / 2, is_other = d == COUNT(divisors) + 1;
        double *values = numbers(n), table[256];
        uint8_t *bytes = take(n, 1);
        random_state = (uint64_t)i;
        for (int64_t k = 0; k < n; k++) {
            values[k] = random_below(256);
            if (d < COUNT(divisors))  /* the quotient is rounded once */
                values[k] = is_float ? (double)((float)values[k] / (float)divisors[d])
                                     : values[k] / divisors[d];
            else  /* a product with the rounded reciprocal has other last digits */
                values[k] = is_float ? (double)((float)values[k] * (1.0f / 255))
                                     : values[k] * (1.0 / 255);
        }
        if (is_other)
            values[n - 1] = 0.123;
        void *own = in_dtype(values, n, is_float);
        for (const char *const *isa = engine_isas; *isa != NULL; isa++) {
            if (!engine_isa_supported(*isa))
                continue;
            const engine_api *api = engine_find(*isa, is_float ? "float32" : "float64");
            what = *isa;
            for (int n_threads = 1; n_threads <= 3; n_threads += 2) {
                int found = api->recode(own, n, n_threads, bytes, table), before = n_taken;
                check(found == !is_other, "whether there are bytes");
                double *numbers_of = from_dtype(table, 256, is_float);
                int same = 1;
                for (int64_t k = 0; k < n && found; k++)
                    same &= numbers_of[bytes[k]] == values[k];
                check(same, "bytes");
                give_back(before);
            }
        }
        give_back(0);
    }
    end_group("recode");
}

int main(void)
{
    printf("engines:");
    for (const char *const *isa = engine_isas; *isa != NULL; isa++)
        printf(" %s%s", *isa, engine_isa_supported(*isa) ? "" : " (not on this processor)");
    printf("\n");
    load_and_store();
    recode();
    train_pairs();
    train_chunks();
    predict_pairs();
    predict_large();
    printf("largest error: %.2g of what is allowed; most threads: %d\n", largest_error,
           most_threads_used);
    printf("%d passed, %d failed\n", n_passed, n_failed);
    return n_failed > 0;
}
