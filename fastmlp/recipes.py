"""Recipes: published systems that ``fastmlp train --recipe NAME`` trains again."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

__all__ = ["RECIPES", "Recipe", "get"]


@dataclass(frozen=True)
class Recipe:
    """A published system: what it learns from, with which parameters, and what came out.

    Attributes
    ----------
    name, description : str
        What it is called, and what it is, in one line.
    dataset : str
        A name that `fastmlp.datasets.load` knows.
    parameters : mapping of str to object
        Of `fastmlp.MLPClassifier`.
    test_score : float
        Published accuracy on the test samples.
    our_test_score : float
        What `parameters` lead to here.
    source : str
        Whose figures the published ones are.
    train_score : float, optional
        Published accuracy on the training samples, if there is one.
    losses : tuple of float
        Published loss per epoch, if there are.
    """

    name: str
    description: str
    dataset: str
    parameters: Mapping[str, Any]
    test_score: float
    our_test_score: float
    source: str
    train_score: float | None = None
    losses: tuple[float, ...] = ()


_TABLE = (
    Recipe(
        name="sgd-50",
        description="One hidden layer of 50 units, stochastic gradient descent, 10 epochs.",
        dataset="mnist",
        parameters=MappingProxyType(
            {
                "hidden_layer_sizes": (50,),
                "max_iter": 10,
                "alpha": 1e-4,
                "solver": "sgd",
                "random_state": 1,
                "learning_rate_init": 0.1,
                "input_scale": 1 / 255,
                # The published digits are float64's; float32 is faster and as accurate.
                "dtype": "float64",
            }
        ),
        losses=(
            *(0.32009978, 0.15347534, 0.11544755, 0.09279764, 0.07889367),
            *(0.07170497, 0.06282111, 0.05530788, 0.04960484, 0.04645355),
        ),
        train_score=0.987,
        test_score=0.970,
        our_test_score=0.970,
        source="a published run of scikit-learn's MLPClassifier, which scikit-learn 1.9 repeats",
    ),
    Recipe(
        name="adam-100-50-25",
        description="Three hidden layers of 100, 50 and 25 units, Adam, 20 epochs.",
        dataset="mnist",
        # The author also set learning_rate="adaptive", which does nothing with Adam, left the
        # pixels unscaled, which costs 0.01 of the score, and encoded the labels as columns, which
        # lets the network answer none or several digits.
        parameters=MappingProxyType(
            {
                "hidden_layer_sizes": (100, 50, 25),
                "max_iter": 20,
                "solver": "adam",
                "random_state": 1,
                "input_scale": 1 / 255,
            }
        ),
        test_score=0.97,
        our_test_score=0.973,
        source="an author's run of scikit-learn's MLPClassifier",
    ),
    Recipe(
        name="lbfgs-397",
        description="One hidden layer of 397 units, L-BFGS on standardized pixels, until it ends.",
        dataset="mnist",
        parameters=MappingProxyType(
            {
                "hidden_layer_sizes": (397,),
                "solver": "lbfgs",
                "alpha": 1e-5,
                "max_iter": 200,
                "random_state": 1,
                "input_scale": "standard",
            }
        ),
        test_score=0.977,
        our_test_score=0.977,
        source="a run of scikit-learn 1.9's MLPClassifier in float32; the author gave no figure",
    ),
)
RECIPES: Mapping[str, Recipe] = MappingProxyType({recipe.name: recipe for recipe in _TABLE})


def get(name: str) -> Recipe:
    """Return the recipe of that name.

    Raises
    ------
    ValueError
        If there is none; the message lists those there are.

    Examples
    --------
    >>> get("sgd-50").parameters["hidden_layer_sizes"]
    (50,)
    """
    if name not in RECIPES:
        raise ValueError(f"recipe must be one of {list(RECIPES)}, got {name!r}.")
    return RECIPES[name]
