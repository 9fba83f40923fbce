"""``fastmlp recipes``: the published systems that can be trained again."""

from fastmlp.cli.options import Json, Quiet
from fastmlp.cli.output import print_json, print_table
from fastmlp.recipes import RECIPES, TABLE, TABLE_DESCRIPTION


def recipes(as_json: Json = False, quiet: Quiet = False) -> None:
    """List the published systems that 'fastmlp train --recipe NAME' trains again.

    Shown are the published accuracy, and ours: on the test images or, for dropout-300, on the
    images that it sets aside for validation. Ours are means over five seeds from dropout-300 on. Of
    'best', which is our own, stands the best published accuracy of two layers beside it; 'pictures'
    and 'table' are what is trained on folders of pictures and on tables if no recipe is named.

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
            (name, what, *("" if score is None else f"{score:.3f}" for score in scores))
            for name, what, *scores in rows
        ],
    )
