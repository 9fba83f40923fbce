"""Stopping rules and schedules of the training loop, on an engine that plays back losses."""

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning

from fastmlp import MLPRegressor
from fastmlp.core.network import Network, Parameters
from fastmlp.training import SGD, Adam, InMemory, Progress, TrainingState, train


class PlaybackEngine:
    """An engine whose losses are given; every epoch adds 1 to its parameter."""

    def __init__(self, losses):
        network = Network((1, 1), "relu", "identity")
        self.parameters = Parameters(network, np.zeros(2))
        self.losses = iter(losses)
        self.orders = []

    def train_epoch(self, order, batch_size, optimizer, dropout=None, on_samples=None):
        self.orders.append(order)
        self.parameters.flat += 1
        loss = next(self.losses)
        if isinstance(loss, BaseException):
            raise loss
        return loss * len(order)

    def sync(self):
        pass


def run(losses, optimizer=None, state=None, early_stopping=False, **overrides):
    engine = PlaybackEngine(losses)
    progress = Progress(state or TrainingState(), early_stopping=early_stopping, tol=0.1)
    parameters = {
        "n_samples": 4,
        "max_iter": len(losses),
        "tol": 0.1,
        "n_iter_no_change": 2,
        **overrides,
    }
    passes = InMemory(engine, 4, 2, shuffle=True, random_state=np.random.RandomState(0))
    train(engine, optimizer or SGD(np.zeros(2)), progress, passes, **parameters)
    return progress.n_epochs, engine, progress.state()


def test_stops_after_n_iter_no_change_epochs_and_one_more():
    epochs, _, state = run([1.0, 0.95, 0.94, 0.93, 0.5])
    assert epochs == 4
    assert state.loss_curve == [1.0, 0.95, 0.94, 0.93]
    assert state.best_loss == 0.93
    assert state.n_samples_seen == 16


def test_an_improvement_restarts_the_count():
    epochs, _, _ = run([1.0, 0.95, 0.94, 0.5, 0.45, 0.44, 0.43, 0.1])
    assert epochs == 7


def test_a_tolerance_in_float32_does_not_round_the_loss():
    progress = Progress(TrainingState(), tol=np.float32(1e-12))
    for loss in (0.7, 0.7 + 1e-9):
        progress.add({"loss": loss}, 1, np.zeros(1))
    assert progress.no_improvement_count == 1


def test_infinite_patience():
    with pytest.warns(ConvergenceWarning, match=r"Maximum iterations \(9\) reached"):
        epochs, _, _ = run([1.0] * 9, n_iter_no_change=np.inf)
    assert epochs == 9


def test_adaptive_divides_the_rate_by_five_until_it_is_tiny():
    optimizer = SGD(np.zeros(2), learning_rate_init=1e-5, schedule="adaptive")
    rates = []
    run(
        [1.0] * 20,
        optimizer,
        n_iter_no_change=1,
        on_epoch=lambda report: rates.append(optimizer.learning_rate),
    )
    np.testing.assert_allclose(rates, [1e-5] * 3 + [2e-6] * 2 + [4e-7] * 2)


def test_invscaling_counts_samples():
    optimizer = SGD(np.zeros(2), learning_rate_init=0.5, schedule="invscaling", power_t=0.25)
    with pytest.warns(ConvergenceWarning):
        run([3.0, 2.0], optimizer)
    assert optimizer.learning_rate == 0.5 / (8 + 1) ** 0.25


def test_adam_ends_when_stalled():
    epochs, _, _ = run([1.0] * 9, Adam(np.zeros(2), np.zeros(2)))
    assert epochs == 4


def test_permutations_compose_as_in_scikit_learn():
    with pytest.warns(ConvergenceWarning):
        _, engine, _ = run([3.0, 2.0])
    rng = np.random.RandomState(0)
    first, second = np.arange(4), np.arange(4)
    rng.shuffle(first)
    rng.shuffle(second)
    np.testing.assert_array_equal(engine.orders[0], first)
    np.testing.assert_array_equal(engine.orders[1], first[second])


def test_best_validation_score_is_kept():
    scores = iter([0.5, 0.9, 0.7, 0.8, 0.6])
    epochs, engine, state = run(
        [1.0] * 5, validate=lambda: (0.0, next(scores)), early_stopping=True
    )
    assert epochs == 5
    assert state.best_validation_score == 0.9
    assert engine.parameters.flat.tolist() == [2, 2]


def test_a_score_that_is_not_a_number_is_never_best():
    scores = iter([0.5, np.nan])
    with pytest.warns(ConvergenceWarning):
        _, engine, _ = run([1.0, np.nan], validate=lambda: (0.0, next(scores)), early_stopping=True)
    assert engine.parameters.flat.tolist() == [1, 1]


def test_interrupt_keeps_what_is_learned():
    with pytest.warns(UserWarning, match="Training interrupted by user."):
        epochs, engine, state = run([1.0, 0.5, KeyboardInterrupt()])
    assert epochs == 2
    assert state.loss_curve == [1.0, 0.5]
    assert engine.parameters.flat.tolist() == [3, 3]


def test_state_goes_on():
    _, _, state = run([1.0, 0.95, 0.94, 0.93])
    epochs, _, state = run([0.92] * 5, state=state)
    assert epochs == 1
    assert len(state.loss_curve) == 5


@pytest.mark.parametrize("rate", [-0.1, np.nan, np.inf, None, "a", [0.1, 0.2]])
def test_what_a_schedule_returns_is_checked(rate):
    rates = {1: 0.1, 2: rate}
    model = MLPRegressor(hidden_layer_sizes=(2,), max_iter=3, lr_schedule=rates.get)
    message = r"lr_schedule must return a finite learning rate of at least 0, got .* for epoch 2\."
    with pytest.raises(ValueError, match=message):
        model.fit([[0.0], [1.0]], [0.0, 1.0])
