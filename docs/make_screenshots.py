"""Train two models, and take the README's pictures of their pages: python docs/make_screenshots.py.

It needs Chromium with its driver, Selenium and Pillow. Each picture shows a page in a window of
1280 pixels and on a phone of 390, in light or in dark colors.
"""

import io
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains

from fastmlp import MLPClassifier
from fastmlp.datasets import load_mnist
from fastmlp.export.html import to_html
from fastmlp.tables import make_table_pipeline

HERE = Path(__file__).parent
WINDOWS = ((1280, 900), (390, 844))
GAP = 24
ARGUMENTS = (
    "headless", "no-sandbox", "disable-gpu", "hide-scrollbars", "no-first-run",
    "disable-background-networking", "disable-component-update", "disable-sync",
)  # fmt: skip

#: A seven, in parts of the canvas.
SEVEN = [(0.28, 0.24), (0.45, 0.23), (0.71, 0.24), (0.62, 0.42), (0.53, 0.6), (0.47, 0.82)]


def digits() -> MLPClassifier:
    """Train the recipe sgd-50 on MNIST."""
    (X, y), _ = load_mnist()
    model = MLPClassifier(
        (50,),
        solver="sgd",
        learning_rate_init=0.1,
        max_iter=10,
        n_iter_no_change=10,
        random_state=1,
        input_scale=1 / 255,
    )
    return model.fit(X, y)


def houses() -> Any:
    """Train on a table of invented houses."""
    random = np.random.RandomState(0)
    n = 1500
    towns = {"Altstadt": 1.3, "Harbour": 1.25, "Hill": 1.4, "Meadows": 0.9, "Station": 0.8}
    frame = pd.DataFrame(
        {
            "area": random.gamma(9, 13, n).round(),
            "built": random.randint(1900, 2024, n),
            "district": random.choice(list(towns), n, p=[0.1, 0.2, 0.1, 0.4, 0.2]),
            "garden": random.choice(["yes", "no"], n, p=[0.4, 0.6]),
            "energy class": random.choice(list("ABCDEFG"), n),
            "km to centre": random.gamma(2, 1.5, n).round(1),
            "sold": pd.Timestamp("2018-01-01") + pd.to_timedelta(random.randint(0, 2500, n), "D"),
        }
    )
    price = (
        frame["area"]
        * 2900
        * frame["district"].map(towns)
        * (1 + 0.0015 * (frame["built"] - 1960))
        * (1 + 0.1 * (frame["garden"] == "yes"))
        * np.exp(-0.04 * frame["km to centre"] + random.normal(0, 0.08, n))
    )
    frame.loc[random.rand(n) < 0.06, "km to centre"] = np.nan
    model = make_table_pipeline("regression", n_rows=n, random_state=0).fit(frame, price.round(-3))
    model.metadata_ = {
        "kind": "table",
        "target": "price",
        "ranges": {
            "area": [50.0, 112.0, 220.0],
            "built": [1900.0, 1962.0, 2023.0],
            "district": ["Meadows", "Harbour", "Station", "Altstadt", "Hill"],
            "km to centre": [0.2, 2.4, 10.0],
        },
    }
    return model


def draw(driver: webdriver.Chrome) -> None:
    """Draw a seven."""
    canvas = driver.find_element("css selector", "[data-part=canvas]")
    size = canvas.rect

    def at(x: float, y: float) -> tuple[int, int]:
        return int((x - 0.5) * size["width"]), int((y - 0.5) * size["height"])

    pen = ActionChains(driver, duration=30).move_to_element_with_offset(canvas, *at(*SEVEN[0]))
    pen.click_and_hold()
    for point in SEVEN[1:]:
        pen.move_to_element_with_offset(canvas, *at(*point))
    pen.release().perform()


def fill(driver: webdriver.Chrome) -> None:
    """Enter some values that are not typical."""
    driver.execute_script(
        """
for (const [name, value] of Object.entries(arguments[0])) {
  const label = [...document.querySelectorAll(".field > label")].find(
    ({textContent}) => textContent === name);
  const control = document.getElementById(label.htmlFor);
  control.value = value;
  control.dispatchEvent(new Event("input", {bubbles: true}));
}
""",
        {"area": "165", "district": "Harbour", "built": "1931", "km to centre": "0.8"},
    )


def screenshot(page: Path, act: Any, window: tuple[int, int], scheme: str) -> Image.Image:
    """Return what a window shows once somebody has used the page."""
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or shutil.which("google-chrome") or ""
    with tempfile.TemporaryDirectory() as folder:
        for argument in (*ARGUMENTS, f"user-data-dir={folder}"):
            options.add_argument(f"--{argument}")
        service = webdriver.ChromeService(shutil.which("chromedriver"))
        with webdriver.Chrome(options=options, service=service) as driver:
            width, height = window
            metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
            driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
            feature = {"name": "prefers-color-scheme", "value": scheme}
            driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
            driver.get(page.as_uri())
            time.sleep(0.5)
            act(driver)
            time.sleep(1)
            return Image.open(io.BytesIO(driver.get_screenshot_as_png())).convert("RGB")


def beside_each_other(pictures: list[Image.Image], color: str) -> Image.Image:
    """Return pictures in a row, on a ground."""
    width = sum(picture.width for picture in pictures) + GAP * (len(pictures) + 1)
    height = max(picture.height for picture in pictures) + 2 * GAP
    joined = Image.new("RGB", (width, height), color)
    left = GAP
    for picture in pictures:
        joined.paste(picture, (left, GAP))
        left += picture.width + GAP
    return joined


def main() -> None:
    """Write the pictures beside this file."""
    with tempfile.TemporaryDirectory() as folder:
        for name, model, act in (("digits", digits(), draw), ("houses", houses(), fill)):
            page = Path(folder, f"{name}.html")
            to_html(model, page)
            kind = "draw" if name == "digits" else "form"
            for scheme, color in (("light", "#e4e7ec"), ("dark", "#05070a")):
                pictures = [screenshot(page, act, window, scheme) for window in WINDOWS]
                joined = beside_each_other(pictures, color)
                end = "" if scheme == "light" else "_dark"
                joined.save(HERE / f"page_{kind}{end}.png", optimize=True)


if __name__ == "__main__":
    main()
