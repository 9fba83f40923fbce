"""A multilayer perceptron one sample and one unit at a time, in float64.

Slow and obvious on purpose, and it imports nothing of fastmlp: every backend
is compared with it. Written from the formulas in scikit-learn's documentation
of neural networks, not from any implementation.
"""

import math
from operator import mul

import numpy as np


def activation(name, z):
    """Value of a hidden activation at the number z."""
    if name == "identity":
        return z
    if name == "relu":
        return max(z, 0.0)
    if name == "tanh":
        return math.tanh(z)
    if name == "leaky_relu":
        return z if z > 0 else 0.01 * z
    if name == "gelu":
        return 0.5 * z * (1 + math.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z**3)))
    if name == "silu":
        return z / (1 + math.exp(-z)) if z > -700 else 0.0
    return 1 / (1 + math.exp(-z))


def slope(name, z):
    """Derivative of a hidden activation at the number z."""
    if name == "leaky_relu":
        return 1.0 if z > 0 else 0.01
    if name == "gelu":
        t = math.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z**3))
        inner = math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * z**2)
        return 0.5 * (1 + t) + 0.5 * z * (1 - t * t) * inner
    if name == "silu":
        share = 1 / (1 + math.exp(-z)) if z > -700 else 0.0
        return share * (1 + z * (1 - share))
    a = activation(name, z)
    return {
        "identity": 1.0,
        "relu": 1.0 if z > 0 else 0.0,
        "tanh": 1 - a * a,
        "logistic": a * (1 - a),
    }[name]


def output(name, z):
    """Values of the output layer at the vector z."""
    if name == "identity":
        return list(z)
    if name == "exp":
        return [math.exp(v) for v in z]
    if name == "logistic":
        return [1 / (1 + math.exp(-v)) for v in z]
    powers = [math.exp(v - max(z)) for v in z]
    return [p / sum(powers) for p in powers]


def forward(coefs, intercepts, hidden, out, x, factors=None):
    """Pre-activations and activations of every layer for one sample.

    `factors`, per hidden layer, are those of dropout.
    """
    zs, activations = [], [list(x)]
    for layer, (W, b) in enumerate(zip(coefs, intercepts, strict=True)):
        previous = activations[-1]
        units = zip(b, zip(*W, strict=True), strict=True)
        z = [intercept + sum(map(mul, previous, column)) for intercept, column in units]
        zs.append(z)
        is_output = layer == len(coefs) - 1
        activations.append(output(out, z) if is_output else [activation(hidden, v) for v in z])
        if factors and not is_output:
            activations[-1] = [a * f for a, f in zip(activations[-1], factors[layer], strict=True)]
    return zs, activations


def as_lists(arrays):
    """Return the arrays as lists, whose elements Python reads faster one by one."""
    return [array.tolist() for array in arrays]


def predict(coefs, intercepts, hidden, out, X):
    """Outputs of the network for every row of X."""
    layers = as_lists(coefs), as_lists(intercepts)
    return np.array([forward(*layers, hidden, out, x)[1][-1] for x in X.tolist()])


def philox(counter, key):
    """Four words of 32 bits, by Philox-4x32-10 (Salmon et al., 2011)."""
    (a, b, c, d), (k, m) = counter, key
    for _ in range(10):
        p, q = 0xD2511F53 * a, 0xCD9E8D57 * c
        a, b, c, d = (q >> 32) ^ b ^ k, q % 2**32, (p >> 32) ^ d ^ m, p % 2**32
        k, m = (k + 0x9E3779B9) % 2**32, (m + 0xBB67AE85) % 2**32
    return [a, b, c, d]


def dropout_factors(rate, seed, epoch, position, layer, n_units):
    """What dropout multiplies the units of a hidden layer by, for one sample."""
    position = int(position)
    key = [seed % 2**32, seed >> 32]
    middle = [layer + 256 * (position >> 32), position % 2**32, epoch]
    words = [philox([u // 64 * 16 + u % 16, *middle], key)[u // 16 % 4] for u in range(n_units)]
    return [0.0 if word < round(rate * 2**32) else 1 / (1 - rate) for word in words]


def sample_loss(out, p, y, squared=False):
    """Loss of one sample."""
    if out == "identity" or squared:
        return 0.5 * sum((a - b) ** 2 for a, b in zip(p, y, strict=True)) / len(y)
    if out == "exp":
        return sum((t * math.log(t / q) if t else 0) - t + q for q, t in zip(p, y, strict=True))
    if out == "softmax":
        return -sum(t * math.log(q) for q, t in zip(p, y, strict=True) if t)
    return -sum(
        (t * math.log(q) if t else 0) + ((1 - t) * math.log(1 - q) if t != 1 else 0)
        for q, t in zip(p, y, strict=True)
    )


def objective(
    coefs, intercepts, hidden, out, alpha, X, Y, weights=None, squared=False, dropout=None, start=0
):
    """Objective and its gradients over all rows of X.

    With `squared`, logistic outputs have the squared error. `dropout` is (rate
    per hidden layer, seed, epoch), and `start` the first row's position.
    """
    weights = np.ones(len(X)) if weights is None else weights
    d_coefs = [np.zeros(W.shape) for W in coefs]
    d_intercepts = [np.zeros(b.shape) for b in intercepts]
    layers = as_lists(coefs), as_lists(intercepts)
    loss = 0.0
    for position, (x, y, weight) in enumerate(zip(*as_lists([X, Y, weights]), strict=True), start):
        factors = None
        if dropout:
            rates, seed, epoch = dropout
            factors = [
                dropout_factors(rate, seed, epoch, position, layer, W.shape[1])
                for layer, (rate, W) in enumerate(zip(rates, coefs[:-1], strict=True))
            ]
        zs, activations = forward(*layers, hidden, out, x, factors)
        loss += weight * sample_loss(out, activations[-1], y, squared)
        delta = [weight * (p - t) for p, t in zip(activations[-1], y, strict=True)]
        if squared and out == "logistic":
            delta = [d * p * (1 - p) / len(y) for d, p in zip(delta, activations[-1], strict=True)]
        for layer in range(len(coefs) - 1, -1, -1):
            d_coefs[layer] += np.outer(activations[layer], delta)
            d_intercepts[layer] += delta
            if layer:
                W = layers[0][layer]
                delta = [
                    slope(hidden, zs[layer - 1][i])
                    * (factors[layer - 1][i] if factors else 1)
                    * sum(map(mul, W[i], delta))
                    for i in range(len(W))
                ]
    total = sum(weights)
    loss = loss / total + 0.5 * alpha * sum((W**2).sum() for W in coefs) / total
    d_coefs = [(d + alpha * W) / total for d, W in zip(d_coefs, coefs, strict=True)]
    return loss, d_coefs, [d / total for d in d_intercepts]


class SGD:
    """Momentum, Nesterov's or plain."""

    def __init__(self, rate, momentum, nesterov):
        self.rate, self.momentum, self.nesterov = rate, momentum, nesterov
        self.velocity = None

    def step(self, values, gradients):
        if self.velocity is None:
            self.velocity = [np.zeros(g.shape) for g in gradients]
        for value, v, g in zip(values, self.velocity, gradients, strict=True):
            v[...] = self.momentum * v - self.rate * g
            value += self.momentum * v - self.rate * g if self.nesterov else v


class Adam:
    """Adam with epsilon outside the bias correction."""

    def __init__(self, rate, beta_1, beta_2, epsilon):
        self.rate, self.beta_1, self.beta_2, self.epsilon = rate, beta_1, beta_2, epsilon
        self.t, self.m, self.v = 0, None, None

    def step(self, values, gradients):
        if self.m is None:
            self.m = [np.zeros(g.shape) for g in gradients]
            self.v = [np.zeros(g.shape) for g in gradients]
        self.t += 1
        rate = self.rate * math.sqrt(1 - self.beta_2**self.t) / (1 - self.beta_1**self.t)
        for value, m, v, g in zip(values, self.m, self.v, gradients, strict=True):
            m[...] = self.beta_1 * m + (1 - self.beta_1) * g
            v[...] = self.beta_2 * v + (1 - self.beta_2) * g**2
            value -= rate * m / (np.sqrt(v) + self.epsilon)


class AdamW(Adam):
    """Decoupled weight decay: what is taken from the weights is not in the gradient."""

    def step(self, values, gradients, weight_decay=0.01):
        before = [value.copy() for value in values]
        super().step(values, gradients)
        for value, old in zip(values, before, strict=True):
            value -= self.rate * weight_decay * old


OPTIMIZERS = {"adam": Adam, "adamw": AdamW}


def train_epoch(
    coefs, intercepts, hidden, out, alpha, X, Y, order, batch_size, optimizer, weights=None,
    squared=False, dropout=None,
):  # fmt: skip
    """Train in place; return the sum of batch objectives times batch sizes."""
    total = 0.0
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        w = None if weights is None else weights[batch]
        loss, d_coefs, d_intercepts = objective(
            coefs, intercepts, hidden, out, alpha, X[batch], Y[batch], w, squared, dropout, start
        )
        gradients = d_coefs + d_intercepts
        norm = math.sqrt(sum((g**2).sum() for g in gradients))
        if 0 < getattr(optimizer, "max_norm", 0) < norm:
            gradients = [g * optimizer.max_norm / norm for g in gradients]
        optimizer.step(coefs + intercepts, gradients)
        total += loss * len(batch)
    return total
