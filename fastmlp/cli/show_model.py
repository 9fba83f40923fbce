"""``fastmlp show-model``: the card of a saved model."""

import typer

from fastmlp.cli.models import load_model
from fastmlp.cli.options import Json, ModelFile, Quiet
from fastmlp.cli.output import print_facts, print_json


def show_model(model_file: ModelFile, as_json: Json = False, quiet: Quiet = False) -> None:
    """Print the card of a saved model: what it is, its data, scores, training and versions.

    'fastmlp export --to card' writes the same as Markdown.

    For example:

        fastmlp show-model model.npz
        fastmlp show-model model.npz --json
    """
    from fastmlp import cards

    found = cards.card(load_model(model_file, None, None))
    if as_json:
        print_json({"model file": model_file, **found})
        return
    for i, (title, section) in enumerate(found.items()):
        typer.echo(("\n" if i else "") + title.upper())
        print_facts(
            {cards.in_words(name): cards.in_words(value) for name, value in section.items()}
        )
