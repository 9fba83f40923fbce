"""The network's description and its flat parameter vector."""

import numpy as np
import pytest

from fastmlp.core.network import Network, Parameters


def test_sizes():
    network = Network((784, 100, 50, 10), "relu", "softmax")
    assert network.n_parameters == 784 * 100 + 100 + 100 * 50 + 50 + 50 * 10 + 10
    assert (network.n_features, network.n_outputs, network.loss) == (784, 10, "log_loss")
    assert Network((3, 1), "relu", "identity").loss == "squared_error"


def test_unknown_functions_are_refused():
    with pytest.raises(ValueError, match=r"activation must be one of .*, got 'swish'"):
        Network((2, 1), "swish", "softmax")
    with pytest.raises(ValueError, match=r"output_activation must be one of .*, got 'relu'"):
        Network((2, 1), "relu", "relu")


def test_views_share_memory_in_scikit_learns_order():
    network = Network((2, 3, 1), "relu", "logistic")
    parameters = Parameters(network, np.arange(13.0))
    assert parameters.coefs[0].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert parameters.coefs[1].tolist() == [[6], [7], [8]]
    assert parameters.intercepts[0].tolist() == [9, 10, 11]
    assert parameters.intercepts[1].tolist() == [12]
    for view in parameters.coefs + parameters.intercepts:
        assert np.shares_memory(view, parameters.flat)


def test_a_vector_of_another_length_is_refused():
    with pytest.raises(ValueError, match=r"flat must have shape \(13,\) .* got \(12,\)"):
        Parameters(Network((2, 3, 1), "relu", "logistic"), np.zeros(12))


def test_poisson_deviance_where_the_exponential_underflows():
    network = Network((1, 1), "relu", "exp")
    zero, some = np.array([[0.0]]), np.array([[2.0]])
    assert network.loss_value(zero, zero, None) == 0
    assert network.loss_value(zero, some, None) == 2
    with np.errstate(divide="ignore"):
        assert network.loss_value(some, zero, None) == np.inf


@pytest.mark.parametrize(("activation", "factor"), [("relu", 6), ("tanh", 6), ("logistic", 2)])
def test_initial_weights_draw_for_draw(activation, factor):
    network = Network((4, 3, 2), activation, "softmax")
    ours = Parameters.initial(network, np.random.RandomState(5), "float32")
    rng = np.random.RandomState(5)
    for layer, (fan_in, fan_out) in enumerate([(4, 3), (3, 2)]):
        bound = (factor / (fan_in + fan_out)) ** 0.5
        coefs = rng.uniform(-bound, bound, (fan_in, fan_out)).astype("float32")
        intercepts = rng.uniform(-bound, bound, fan_out).astype("float32")
        np.testing.assert_array_equal(ours.coefs[layer], coefs)
        np.testing.assert_array_equal(ours.intercepts[layer], intercepts)


def test_from_layers_copies():
    network = Network((2, 3, 1), "relu", "logistic")
    source = Parameters(network, np.arange(13.0))
    copy = Parameters.from_layers(network, source.coefs, source.intercepts, "float32")
    np.testing.assert_array_equal(copy.flat, source.flat)
    assert copy.flat.dtype == np.float32
    with pytest.raises(ValueError, match=r"a layer of shape \(2, 3\) was expected, got \(3, 2\)"):
        Parameters.from_layers(
            network, [source.coefs[0].T, source.coefs[1]], source.intercepts, "float64"
        )
