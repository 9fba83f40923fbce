"""Images as block characters: which character, in which colour, at which place."""

import io

import numpy as np
import pytest
from rich.console import Console

from fastmlp.cli.terminal_images import print_images

OPTIONS = {"markup": False, "emoji": False, "highlight": False, "width": 500}


def printed(images, captions, width=80, encoding="utf-8", **options):
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding, newline="")
    console = Console(file=stream, **OPTIONS, **options)
    print_images(console, np.asarray(images), captions, width)
    stream.flush()
    return stream.buffer.getvalue().decode(encoding)


def test_a_shade_is_the_mean_of_two_pixels():
    image = [[0, 4, 8, 8], [0, 0, 0, 8]]
    assert printed([image], ["0: 7"]) == "0: 7\n ░▒█\n"
    assert printed([image], ["0: 7"], encoding="latin-1") == "0: 7\n .+#\n"


def test_an_odd_number_of_rows_ends_in_black():
    assert printed([[[0], [8], [8]]], ["a"]) == "a\n▒\n▒\n"


def test_images_share_a_scale_and_stand_side_by_side_while_there_is_room():
    images = np.array([[[8, 8], [8, 8]], [[4, 4], [4, 4]], [[0, 0], [0, 0]]])
    assert printed(images, ["a", "b", "c"]) == "a   b   c\n██  ▒▒\n"
    assert printed(images, ["a", "b", "c"], width=6) == "a   b\n██  ▒▒\n\nc\n\n"
    assert printed(images, ["a", "b", "c"], width=1).startswith("a\n██\n\nb\n")
    # A caption wider than the image makes room for itself.
    assert printed(images[[2, 0]], ["12345", "b"]) == "12345  b\n       ██\n"


@pytest.mark.parametrize("options", [{"no_color": True}, {"encoding": "ascii"}])
def test_colours_are_used_only_where_they_show(options):
    text = printed([[[8], [0]]], ["a"], force_terminal=True, color_system="truecolor", **options)
    assert "▀" not in text and "38;2" not in text


def test_in_colour_a_character_is_two_pixels():
    text = printed([[[8], [4]]], ["a"], force_terminal=True, color_system="truecolor")
    assert "\x1b[38;2;255;255;255;48;2;0;0;0m▀" in text
