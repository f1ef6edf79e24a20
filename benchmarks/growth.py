"""How the time of a criterion grows with images, predictions and objects, and with objects that gather in one image."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from benchmarks import criteria
from benchmarks.contest import Options, milliseconds
from benchmarks.criterion_scenes import CriterionScene
from benchmarks.scenes import STRIDES, Shape
from benchmarks.timing import Timing, compare

PICTURE = "growth.svg"
DESCRIPTION = """Milliseconds from lists of ground truth to gradients, forward and backward, as one number grows, and
the time for each valid pair of an object and a prediction, relative to the first line of its curve: 1 is linear growth;
less, where much is not done for pairs. The points of a curve take turns. Objects in one image: 2,030 in 16 images, ever
more of them in one, at the end 2,000 and 15 times 2. Four layers of queries for D-FINE.
"""
# Over skew, all have as many objects.
_OBJECTS, _IMAGES = 2030, 16


@dataclass(frozen=True)
class Curve:
    """Shapes along one dimension, by the number that grows."""

    shapes: Mapping[int, Shape]


def _skewed(most: int) -> Shape:
    others, rest = divmod(_OBJECTS - most, _IMAGES - 1)
    return Shape((most, *[others + (image < rest) for image in range(_IMAGES - 1)]))


def dense_curves() -> dict[str, Curve]:
    """For heads with a prediction for each grid point."""
    return {
        "images": Curve({count: Shape((25,) * count) for count in (1, 2, 4, 8, 16)}),
        "predictions": Curve({_points(side): Shape((25,) * 4, side) for side in (384, 640, 896, 1280)}),
        "objects": Curve({count: Shape((count,) * 4) for count in (10, 30, 100, 300, 1000)}),
        "objects in one image": Curve({most: _skewed(most) for most in (127, 500, 1000, 2000)}),
    }


def set_curves() -> dict[str, Curve]:
    """For heads with queries; there are no more objects in an image than queries, except over skew."""
    return {
        "images": Curve({count: Shape((25,) * count) for count in (1, 2, 4, 8, 16, 32)}),
        "predictions": Curve({queries: Shape((25,) * 4, queries=queries) for queries in (100, 300, 900, 2700)}),
        "objects": Curve({count: Shape((count,) * 4, queries=900) for count in (10, 30, 100, 300)}),
        "objects in one image": Curve({most: _skewed(most) for most in (127, 500, 1000, 2000)}),
    }


def _points(canvas: int) -> int:
    return sum((canvas // stride) ** 2 for stride in STRIDES)


CASES = {name: case for name, case in criteria.CASES.items() if case.grows}
CURVES: dict[str | None, Callable[[], dict[str, Curve]]] = {"grid points": dense_curves, "queries": set_curves}


@dataclass(frozen=True)
class Point:
    """One line of the table."""

    criterion: str
    over: str
    value: int
    pairs: int
    timing: Timing

    @property
    def per_pair(self) -> float:
        """Nanoseconds."""
        return self.timing.median * 1e3 / self.pairs


def measured(name: str) -> Iterator[Point]:
    """All points of the curves of one criterion."""
    case = CASES[name]
    scene = case.grows_in or case.scene
    for over, curve in CURVES[case.grows]().items():
        made = {value: scene(shape) for value, shape in curve.shapes.items()}
        runs = {str(value): case.at(given.truth.canvas).run(given) for value, given in made.items()}
        timings = compare(runs)
        for value, given in made.items():
            yield Point(name, over, value, _pairs(given), timings[str(value)])


def _pairs(scene: CriterionScene) -> int:
    return sum(map(len, scene.boxes)) * scene.num_predictions


def exponent(points: Sequence[Point]) -> float:
    """Of the power of the number of pairs that fits the times best: 1 is linear growth. NaN if that number is one."""
    x = [math.log(point.pairs) for point in points]
    y = [math.log(point.timing.median) for point in points]
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    spread = sum((a - mean_x) ** 2 for a in x)
    return sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True)) / spread if spread > 1e-9 else math.nan


def section(options: Options) -> str:
    """The text of the section; the picture is drawn next to it."""
    curves: dict[tuple[str, str], list[Point]] = {}
    for name in options.names or CASES:
        for point in measured(name):
            curves.setdefault((name, point.over), []).append(point)
    lines = ["| criterion | grows | to | valid pairs | ms | ns a pair | relative |", "|---" * 7 + "|"]
    lines += [_line(point, points[0]) for points in curves.values() for point in points]
    worst = ["", "| criterion | grows | highest relative time of a pair | fitted exponent |", "|---" * 4 + "|"]
    for (name, over), points in curves.items():
        highest = max(point.per_pair for point in points) / points[0].per_pair
        power = exponent(points)
        worst.append(f"| {name} | {over} | {highest:.2f} | {'' if math.isnan(power) else f'{power:.2f}'} |")
    picture = options.folder / PICTURE
    draw(curves, picture)
    return "\n".join([f"{DESCRIPTION}\n![growth]({picture.name})\n", *lines, *worst])


def _line(point: Point, first: Point) -> str:
    cells = [point.criterion, point.over, str(point.value), f"{point.pairs:,}", milliseconds(point.timing)]
    return f"| {' | '.join(cells)} | {point.per_pair:.2f} | {point.per_pair / first.per_pair:.2f} |"


def draw(curves: Mapping[tuple[str, str], Sequence[Point]], path: Path) -> None:
    """A panel for each dimension, a line for each criterion."""
    panels = list(dict.fromkeys(over for _, over in curves))
    figure = Figure(figsize=(3.4 * len(panels), 3.6), layout="constrained")
    FigureCanvasSVG(figure)
    grid: Any = figure.subplots(1, len(panels), squeeze=False, sharey=True)
    for axes, over in zip(grid[0], panels, strict=True):
        for (name, dimension), points in curves.items():
            if dimension == over:
                times = [point.timing.median / 1e3 for point in points]
                axes.loglog([point.value for point in points], times, marker="o", markersize=3, label=name)
        axes.set_title(over, fontsize=10)
        axes.grid(alpha=0.3)
    grid[0][0].set_ylabel("ms, forward and backward")
    grid[0][0].legend(fontsize=7)
    with rc_context({"svg.fonttype": "none"}):  # text stays text, which is smaller
        figure.savefig(path, metadata={"Date": None})
