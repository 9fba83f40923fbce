"""``fastmlp recipes``: published models that can be reproduced."""

from fastmlp.cli.options import Json, Quiet
from fastmlp.cli.output import print_json, print_table, score_in_words
from fastmlp.recipes import RECIPES, TABLE, TABLE_DESCRIPTION


def recipes(as_json: Json = False, quiet: Quiet = False) -> None:
    """List the published models that 'fastmlp train --recipe NAME' reproduces.

    Shown are the published accuracy and ours: on the test images or, for dropout-300, on its
    validation images. From dropout-300 on, ours are means over five seeds; record's is of one seed.
    'best' and 'record' are our own, with the best published accuracy of two layers, and of any
    multilayer perceptron, for comparison; record averages over augmented copies of each image, and
    takes up to half an hour on two cores. 'pictures' and 'table' are the defaults for folders of
    images and for tables.

    For example:

        fastmlp recipes
        fastmlp train --recipe lbfgs-397
    """
    headings = ("recipe", "what it is", "published", "ours")
    rows: list[tuple[str, str, float | None, float | None]] = [
        (r.name, r.description, r.published, r.ours) for r in RECIPES.values()
    ]
    rows.append((TABLE, TABLE_DESCRIPTION, None, None))
    if as_json:
        print_json({"recipes": [dict(zip(headings, row, strict=True)) for row in rows]})
        return
    print_table(
        headings,
        [
            (name, what, *("" if score is None else score_in_words(score) for score in scores))
            for name, what, *scores in rows
        ],
    )
