"""Which images are hard: ranked by the loss that each would have alone (``reduction="sample"``)."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import SubFigure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from example.data import Samples
from example.evaluate import Evaluation
from example.logs import by_name
from example.picture import draw_objects, legend_of_objects, new_figure
from losses import total


@dataclass(frozen=True)
class Ranking:
    """Images from hard to easy.

    Args:
        order: Which image is at each place.
        totals: Loss of each image, by image.
    """

    order: list[int]
    totals: Tensor


def rank_images(losses: dict[str, Tensor]) -> Ranking:
    """Rank images by the sum of their loss terms (N,).

    >>> rank_images({"class": torch.tensor([1.0, 3.0]), "box": torch.tensor([0.5, 0.0])}).order
    [1, 0]
    """
    totals = total(losses)
    return Ranking(totals.argsort(descending=True, stable=True).tolist(), totals)


def write_ranking(ranking: Ranking, found: Evaluation, samples: Samples, path: Path) -> None:
    """Write a table with a row for each image."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["rank", "image", "objects", "loss", *found.losses])
        for place, index in enumerate(ranking.order, start=1):
            values = [ranking.totals[index], *(term[index] for term in found.losses.values())]
            objects = len(found.targets[index]["labels"])
            writer.writerow([place, samples.name(index), objects, *(f"{float(value):.6g}" for value in values)])


def draw_hardest(ranking: Ranking, found: Evaluation, samples: Samples, path: Path, *, count: int = 10) -> Path:
    """Draw the losses of all images in order, and the images with the highest.

    Returns:
        The path.
    """
    hardest = ranking.order[:count]
    columns = min(5, len(hardest))
    rows = -(-len(hardest) // columns)
    figure = new_figure(max(2.6 * columns, 9.0), 2.2 + 3.1 * rows)
    above, below = figure.subfigures(2, 1, squeeze=False, height_ratios=[2.0, 3.1 * rows]).flat
    _draw_order(above, ranking, len(hardest))
    grid = below.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for place, (index, axes) in enumerate(zip(hardest, grid.flat, strict=False), start=1):
        image, _ = samples[index]
        draw_objects(axes, image, found.targets[index], found.detections[index], samples.task.class_names)
        terms = by_name({name: float(term[index]) for name, term in found.losses.items()})
        largest = max(terms, key=lambda name: terms[name])
        axes.set_title(
            f"{place}. {samples.name(index)}\nloss {ranking.totals[index]:.2f}, most of it {largest}", fontsize=9
        )
    crowds = any(bool(found.targets[index]["ignore"].any()) for index in hardest if "ignore" in found.targets[index])
    below.legend(handles=legend_of_objects(crowds), loc="outside lower center", ncols=3, frameon=False)
    figure.savefig(path, dpi=110)
    return path


def _draw_order(figure: SubFigure, ranking: Ranking, count: int) -> None:
    axes, values = figure.subplots(), ranking.totals[ranking.order].tolist()
    places = range(1, len(values) + 1)
    colors = ["#d55e00"] * count + ["#9ecae1"] * (len(values) - count)
    axes.bar(places, values, width=1.0, color=colors)
    axes.set_title(
        f"loss of each of {len(values)} images, from hard to easy; the first {count} are shown below", fontsize=10
    )
    axes.set_xlim(0.4, len(values) + 0.6)
    axes.set_ylabel("loss")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.spines[["top", "right"]].set_visible(False)
