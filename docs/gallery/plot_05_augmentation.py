"""
Augmentation, seen before it is used
====================================

Each epoch trains on other versions of the images. To see what parameters do, call the
augmentation with some images.
"""

# %%
import matplotlib.pyplot as plt
import numpy as np
from scipy.ndimage import zoom
from sklearn.datasets import load_digits

from fastmlp.augment import (
    ElasticDistortion,
    RandomAffine,
    RandomDeskew,
    RandomNoise,
    RandomThickness,
)

digits = load_digits().images[[3, 5, 8]]  # 8 x 8: with a margin, and enlarged, they have room
images = zoom(np.pad(digits, ((0, 0), (1, 1), (1, 1))), (1, 4, 4), order=3)
images = (images * 16).clip(0, 255).astype(np.uint8)

affine = RandomAffine(rotate=15, shift=3, zoom=0.15, shear=10)
elastic = ElasticDistortion(alpha=35, sigma=4)
deskew = RandomDeskew()
thickness = RandomThickness(strength=0.8)
noise = RandomNoise(scale=0.15)
steps = {
    "deskew": deskew,
    "affine": affine,
    "elastic": elastic,
    "thickness": thickness,
    "noise": noise,
    "all": deskew + affine + elastic + thickness + noise,
}

# %%
# The original of each digit, then what two epochs make of it.
rows = {"original": images}
for name, step in steps.items():
    for epoch in (1, 2):
        rows[f"{name}, {epoch}"] = step(images, seed=1, epoch=epoch)

figure, axes = plt.subplots(3, len(rows), figsize=(15, 4), layout="constrained")
for column, (name, versions) in zip(axes.T, rows.items(), strict=True):
    column[0].set_title(name, fontsize=10)
    for ax, image in zip(column, versions, strict=True):
        ax.imshow(image, cmap="gray_r", vmin=0, vmax=255)
        ax.set_axis_off()

# %%
# To train with it, pass it to the classifier: ``MLPClassifier(augment=affine + elastic)``.
