# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
"""Python interface of the C engine: memory ownership, argument conversion, Ctrl-C."""

import os

import numpy as np

from fastmlp.core.functions import ACTIVATIONS, CODES, LOSS_CODES
from fastmlp.core.optimizers import OPTIMIZER_CODES, SETTINGS
from fastmlp.utils.threads import usable_threads

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.exc cimport PyErr_CheckSignals
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t

cdef extern from "engine.h" nogil:
    enum input_kind:
        DENSE, BYTES, CSR

    ctypedef struct network_spec:
        int n_layers
        const int64_t *units
        int hidden
        int output
        int reads_z
        int loss
        double alpha
        input_kind inputs
        int skips_zeros

    ctypedef struct fitted_network:
        int n_layers
        const int64_t *units
        int hidden
        int output
        const void **coefs
        const void **intercepts
        int narrow

    ctypedef struct input_matrix:
        input_kind kind
        const void *values
        const int64_t *indptr
        const int32_t *indices
        int64_t n_samples
        const void *scale
        const void *table
        const void *shift
        int skips_zeros

    ctypedef struct training_data:
        input_matrix inputs
        const void *targets
        const void *weights

    ctypedef struct optimizer_spec:
        int kind
        int corrects_bias
        double *settings
        double max_grad_norm
        int64_t t

    ctypedef struct dropout_spec:
        const double *rates
        const uint32_t *thresholds
        uint64_t seed
        uint32_t epoch
        int64_t start

    ctypedef struct engine_api:
        const char *isa
        const char *dtype
        void *(*create)(const network_spec *) noexcept nogil
        void (*destroy)(void *) noexcept nogil
        int64_t (*panel)(const void *, int) noexcept nogil
        int (*load)(void *, int, const void *) noexcept nogil
        void (*store)(void *, int, void *) noexcept nogil
        void (*release)(void *, int) noexcept nogil
        int64_t (*train)(void *, const training_data *, const int64_t *, int64_t, int64_t,
                         int64_t, optimizer_spec *, const dropout_spec *, double, int *,
                         double *) noexcept nogil
        int (*objective)(void *, const training_data *, const dropout_spec *, int,
                         double *) noexcept nogil
        int (*predict)(const fitted_network *, const input_matrix *, int,
                       void *) noexcept nogil
        int (*useful_threads)(const fitted_network *, const input_matrix *) noexcept nogil
        int (*recode)(const void *, int64_t, int, uint8_t *, void *) noexcept nogil

    const char *engine_activations[]
    const char *engine_losses[]
    const char *engine_optimizers[]
    const char *engine_settings[]
    const char *engine_isas[]
    int FEW_ROWS
    int engine_isa_supported(const char *)
    const engine_api *engine_find(const char *, const char *)


cdef _names(const char **texts):
    """Return NULL-terminated texts, in the order of the engine's numbers."""
    names = []
    while texts[len(names)] != NULL:
        names.append(texts[len(names)].decode())
    return names


if (_names(<const char **> engine_activations) != list(CODES)
        or _names(<const char **> engine_losses) != list(LOSS_CODES)
        or _names(<const char **> engine_optimizers) != list(OPTIMIZER_CODES)
        or _names(<const char **> engine_settings) != list(SETTINGS)):
    raise ImportError(
        "the compiled engine is not that of this fastmlp; build it anew (pip install -e .)"
    )

# What the engine calls a dtype; asking NumPy for the name would take microseconds.
_DTYPES = {np.dtype(np.float32): b"float32", np.dtype(np.float64): b"float64"}

# Vectors of the engine (the `which` of its load and store).
cdef enum:
    PARAMETERS = 0
    STATE_1 = 1
    STATE_2 = 2
    GRADIENT = 3

# How long the engine may run before Ctrl-C is looked for, in seconds.
cdef double CHECK_INTERVAL = 0.25

# Multiply-adds that predict may do before it looks for Ctrl-C: a tenth of a second or so.
cdef double PREDICT_WORK = 2e9

# As in team.h.
MAX_THREADS = 64


def supported_isas():
    """Return the compiled instruction sets that this processor has, best first."""
    names = []
    cdef int i = 0
    while engine_isas[i] != NULL:
        if engine_isa_supported(engine_isas[i]):
            names.append(engine_isas[i].decode())
        i += 1
    return names


def _chosen_isa():
    """Return the best instruction set, or the one that FASTMLP_ISA names."""
    names = supported_isas()
    name = os.environ.get("FASTMLP_ISA") or names[0]
    if name not in names:
        raise ImportError(
            f"FASTMLP_ISA={name!r} is not an instruction set that this build and this processor "
            f"have in common; choose from {', '.join(names)} or unset it"
        )
    return name


ISA = _chosen_isa()


cdef int _threads(n_threads):
    """Return how many threads a call may use at most."""
    return min(usable_threads() if n_threads is None else n_threads, MAX_THREADS)


cdef const engine_api *_api(dtype, isa) except NULL:
    cdef const engine_api *api = engine_find(isa.encode(), _DTYPES.get(dtype, b""))
    if api == NULL:
        raise ValueError(f"there is no engine for {dtype} and {isa}")
    return api


cdef const void *_address(array) except? NULL:
    """Return where a C-contiguous array's data lies; NULL for None."""
    cdef Py_buffer view
    if array is None:
        return NULL
    PyObject_GetBuffer(array, &view, PyBUF_SIMPLE)
    PyBuffer_Release(&view)  # the array itself keeps the data
    return view.buf


cdef dropout_spec *_dropout(dropout, dropout_spec *spec, list owners) except? NULL:
    """Describe a Dropout object to the engine; NULL for None. `owners` keeps its arrays alive."""
    if dropout is None:
        return NULL
    rates = np.array(dropout.rates, dtype=np.float64)
    thresholds = np.array([dropout.threshold(i) for i in range(len(rates))], dtype=np.uint32)
    owners += [rates, thresholds]
    spec.rates = <const double *> _address(rates)
    spec.thresholds = <const uint32_t *> _address(thresholds)
    spec.seed = dropout.seed
    spec.epoch = dropout.epoch
    spec.start = dropout.start
    return spec


cdef input_matrix _matrix(inputs, list owners):
    """Describe an Inputs object to the engine; `owners` keeps what is not the caller's alive."""
    cdef input_matrix matrix
    cdef bint is_sparse = inputs.is_sparse
    values = inputs.values
    matrix.n_samples = values.shape[0]
    matrix.indptr = NULL
    matrix.indices = NULL
    matrix.table = NULL
    if is_sparse:
        matrix.kind = CSR
        indptr = np.ascontiguousarray(values.indptr, dtype=np.int64)
        indices = np.ascontiguousarray(values.indices, dtype=np.int32)
        values = np.ascontiguousarray(values.data)
        owners += [indptr, indices, values]
        matrix.indptr = <const int64_t *> _address(indptr)
        matrix.indices = <const int32_t *> _address(indices)
    else:
        matrix.kind = BYTES if values.dtype == np.uint8 else DENSE
    matrix.values = _address(values)
    matrix.scale = _address(inputs.scale)
    matrix.shift = _address(inputs.shift)
    # Looking takes longer than a few rows do, whose zeros are skipped anyway.
    n_used = matrix.n_samples if inputs.rows is None else len(inputs.rows)
    matrix.skips_zeros = n_used > FEW_ROWS and inputs.is_mostly_zeros()
    return matrix


cdef class Engine:
    """A network bound to its parameters and its data.

    See `fastmlp.backends.numpy_backend.Engine` for the contract. This one
    trains on copies of the parameters and of the optimiser's state, in a layout
    made for the processor's vectors; `sync` writes them back. The GIL is
    released while it computes. ``isa`` is for tests: another instruction set
    than `ISA`.
    """

    cdef const engine_api *api
    cdef void *handle
    cdef training_data data
    cdef int threads
    cdef readonly int threads_used
    cdef bint trained       # the host's parameters are older than the engine's
    cdef bint displaced     # the engine holds other parameters than the host's
    cdef readonly object network, parameters, inputs, targets, sample_weight, n_threads
    seconds_compiling = 0.0
    cdef object optimizer
    cdef list owners        # of memory that `data` points to

    def __cinit__(self):
        self.handle = NULL

    def __init__(
        self,
        network,
        parameters,
        inputs=None,
        targets=None,
        sample_weight=None,
        n_threads=None,
        many_passes=False,
        *,
        isa=ISA,
    ):
        if self.handle != NULL:
            raise RuntimeError("an engine is initialised once.")
        self.network = network
        self.parameters = parameters
        self.n_threads = n_threads
        self.threads = _threads(n_threads)
        self.api = _api(parameters.flat.dtype, isa)

        cdef int64_t[::1] units = np.array(network.layer_units, dtype=np.int64)
        cdef network_spec spec
        spec.n_layers = len(network.layer_units) - 1
        spec.units = &units[0]
        spec.hidden = CODES[network.activation]
        spec.output = CODES[network.output_activation]
        spec.reads_z = ACTIVATIONS[network.activation].reads_z
        spec.loss = LOSS_CODES[network.loss]
        spec.alpha = network.alpha
        spec.inputs = DENSE
        spec.skips_zeros = False
        if inputs is not None:
            self.bind(inputs, targets, sample_weight)
            spec.inputs = self.data.inputs.kind
            spec.skips_zeros = self.data.inputs.skips_zeros
        self.handle = self.api.create(&spec)
        if self.handle == NULL:
            raise MemoryError("not enough memory for the engine's copy of the weights.")
        self._load(PARAMETERS, parameters.flat)
        if many_passes and self.data.inputs.kind == DENSE and spec.skips_zeros:
            self._recode()

    def __dealloc__(self):
        if self.handle != NULL:
            self.api.destroy(self.handle)

    @property
    def isa(self):
        """The instruction set of the kernels."""
        return self.api.isa.decode()

    @property
    def skips_zeros(self):
        """Whether training passes over the zeros of the inputs."""
        return bool(self.data.inputs.skips_zeros)

    @property
    def panels(self):
        """Units that the panels of the weights have, per layer."""
        return [self.api.panel(self.handle, i) for i in range(len(self.network.layer_units) - 1)]

    @property
    def recoded(self):
        """Whether bytes have been found behind the numbers of the inputs."""
        return self.data.inputs.kind == BYTES and self.inputs.values.dtype != np.uint8

    def bind(self, inputs, targets, sample_weight):
        """Train on other samples from now on; see the NumPy backend."""
        cdef bint skips_zeros = self.data.inputs.skips_zeros
        self.inputs = inputs
        self.targets = np.ascontiguousarray(targets)
        self.sample_weight = sample_weight
        self.owners = []
        self.data.inputs = _matrix(inputs, self.owners)
        self.data.targets = _address(self.targets)
        self.data.weights = _address(sample_weight)
        if self.handle != NULL:  # its blocks have been made for the one or for the other
            self.data.inputs.skips_zeros = skips_zeros

    cdef _load(self, int which, flat):
        if self.api.load(self.handle, which, _address(flat)):
            raise MemoryError("not enough memory for the engine's state.")

    cdef _own_parameters(self):
        """Bring the engine's parameters back after `loss_and_gradient` has put others there."""
        if self.displaced:
            self._load(PARAMETERS, self.parameters.flat)
            self.displaced = False

    cdef _recode(self):
        """Look for bytes behind numbers.

        Most of a first layer's time goes into fetching its inputs. The sums stay the same, bit
        for bit.
        """
        codes = np.empty(self.inputs.values.shape, np.uint8)
        table = np.empty(256, self.inputs.dtype)
        cdef uint8_t *to = <uint8_t *> _address(codes)
        cdef void *numbers = <void *> _address(table)
        cdef int64_t n = codes.size
        cdef bint found
        with nogil:
            found = self.api.recode(self.data.inputs.values, n, self.threads, to, numbers)
        if found:
            self.owners += [codes, table]
            self.data.inputs.kind = BYTES
            self.data.inputs.values = to
            self.data.inputs.table = numbers

    def train_epoch(self, order, batch_size, optimizer, dropout=None, on_samples=None):
        """Train on every sample once; see the NumPy backend."""
        self._own_parameters()
        if optimizer is not self.optimizer:
            self.sync()
            for which, state in enumerate(optimizer.state, start=STATE_1):
                self._load(which, state)
            self.optimizer = optimizer
        cdef optimizer_spec spec
        spec.kind = OPTIMIZER_CODES[optimizer.name]
        spec.corrects_bias = optimizer.corrects_bias
        spec.max_grad_norm = optimizer.max_grad_norm
        spec.t = optimizer.t
        for i, setting in enumerate(optimizer.settings()):
            spec.settings[<int> i] = setting

        cdef const int64_t[::1] samples = np.ascontiguousarray(order, dtype=np.int64)
        cdef int64_t stop = samples.shape[0], at = 0, rows = batch_size
        cdef double summed_loss = 0.0
        cdef dropout_spec masks
        owners = []
        cdef dropout_spec *left_out = _dropout(dropout, &masks, owners)
        self.trained = True
        try:
            self.threads = _threads(self.n_threads)  # other fits may have ended
            while at < stop:
                self.threads_used = self.threads
                with nogil:
                    at = self.api.train(self.handle, &self.data, &samples[0], at, stop, rows, &spec,
                                        left_out, CHECK_INTERVAL, &self.threads_used, &summed_loss)
                if at < 0:
                    raise MemoryError("not enough memory for the activations of a batch.")
                PyErr_CheckSignals()
                if on_samples is not None:
                    on_samples(at)
        finally:
            optimizer.updated(spec.t)
        return summed_loss

    def loss_and_gradient(self, flat, out, dropout=None):
        """Compute the objective over all samples, and its gradient; see the NumPy backend."""
        self.sync()
        self.displaced = True
        self._load(PARAMETERS, np.ascontiguousarray(flat))
        cdef double loss = 0.0
        cdef int failed
        cdef dropout_spec masks
        owners = []
        cdef dropout_spec *left_out = _dropout(dropout, &masks, owners)
        self.threads = _threads(self.n_threads)
        with nogil:
            failed = self.api.objective(self.handle, &self.data, left_out, self.threads, &loss)
        if failed:
            raise MemoryError("not enough memory for the gradient.")
        self.api.store(self.handle, GRADIENT, <void *> _address(out))
        return loss

    def predict(self, inputs, out):
        """Compute the outputs of the network; see the NumPy backend."""
        if self.trained:
            self.api.store(self.handle, PARAMETERS, <void *> _address(self.parameters.flat))
        coefs, intercepts = self.parameters.coefs, self.parameters.intercepts
        return _predict(self.api, self.network, coefs, intercepts, inputs, self.n_threads, out)

    def load(self):
        """Take the host's parameters anew; see the NumPy backend."""
        self.optimizer = None
        self.trained = False
        self.displaced = True

    def sync(self):
        """Make the host's parameters and optimiser state current."""
        if not self.trained:
            return
        self.api.store(self.handle, PARAMETERS, <void *> _address(self.parameters.flat))
        for which, state in enumerate(self.optimizer.state, start=STATE_1):
            self.api.store(self.handle, which, <void *> _address(state))
            # Two copies of a large network's state would be the most that training ever holds.
            self.api.release(self.handle, which)
        self.optimizer = None
        self.trained = False


def predict(network, coefs, intercepts, inputs, n_threads, out):
    """Compute the outputs of a network without an engine; see the NumPy backend."""
    return _predict(_api(out.dtype, ISA), network, coefs, intercepts, inputs, n_threads, out)


def useful_threads(network, inputs, dtype=np.dtype(np.float64)):
    """Return how many threads a prediction is worth at most; for tests."""
    cdef int64_t[::1] units = np.array(network.layer_units, dtype=np.int64)
    cdef fitted_network fitted
    fitted.n_layers = len(network.layer_units) - 1
    fitted.units = &units[0]
    owners = []
    cdef input_matrix matrix = _matrix(inputs, owners)
    return _api(dtype, ISA).useful_threads(&fitted, &matrix)


cdef _predict(const engine_api *api, network, coefs, intercepts, inputs, n_threads, out):
    cdef int n_layers = len(coefs), layer
    # The sizes of the layers, then the addresses of their weights and of their intercepts.
    cdef int64_t *table = <int64_t *> PyMem_Malloc((3 * n_layers + 1) * sizeof(int64_t))
    if table == NULL:
        raise MemoryError
    cdef const void **weights = <const void **> (table + n_layers + 1)
    cdef fitted_network fitted
    try:
        for layer in range(n_layers + 1):
            table[layer] = network.layer_units[layer]
        for layer in range(n_layers):
            weights[layer] = _address(coefs[layer])
            weights[n_layers + layer] = _address(intercepts[layer])
        fitted.n_layers = n_layers
        fitted.units = table
        fitted.hidden = CODES[network.activation]
        fitted.output = CODES[network.output_activation]
        fitted.coefs = weights
        fitted.intercepts = weights + n_layers
        fitted.narrow = coefs[0].dtype != out.dtype
        return _predict_slices(api, &fitted, network.n_parameters, inputs, n_threads, out)
    finally:
        PyMem_Free(table)


cdef _predict_slices(const engine_api *api, const fitted_network *network, n_parameters, inputs,
                     n_threads, out):
    """Predict so many samples at a time that Ctrl-C is noticed soon."""
    owners = []
    cdef input_matrix matrix = _matrix(inputs, owners)
    cdef int64_t n = matrix.n_samples, at = 0
    cdef int64_t slice = max(1024, <int64_t> (PREDICT_WORK / <double> n_parameters))
    cdef const char *values = <const char *> matrix.values
    cdef const int64_t *indptr = matrix.indptr
    cdef size_t row_bytes = 0 if matrix.kind == CSR else inputs.values.strides[0]
    cdef size_t output_bytes = out.strides[0]
    cdef char *outputs = <char *> _address(out)
    cdef int failed, threads = api.useful_threads(network, &matrix)
    cdef bint all_finite = True
    if threads > 1:  # how many there are takes a while to find out
        threads = min(threads, _threads(n_threads))
    while at < n:
        matrix.n_samples = min(slice, n - at)
        matrix.values = values + at * row_bytes
        if indptr != NULL:
            matrix.indptr = indptr + at
        with nogil:
            failed = api.predict(network, &matrix, threads, outputs + at * output_bytes)
        if failed == 1:
            raise MemoryError("not enough memory for the activations.")
        all_finite = all_finite and failed != 2
        PyErr_CheckSignals()
        at += matrix.n_samples
    return all_finite
