"""The rule of FCOS."""

from __future__ import annotations

from reference import dense
from reliability import arguments
from reliability.arguments import matcher

from cases.finding import Choice
from cases.plans import by_rule
from cases.planted import of_matcher, points
from cases.scenes import POINTS
from matchers import FCOS
from tests.mutation.planting import Mutant

PROVES = ("FCOS",)
CASES = {"fcos": (FCOS(), POINTS)}
reference = by_rule(dense.fcos, "center_radius", "regress_range")
CHOICES = {"FCOS": Choice("points", FCOS)}
CALLS = {"FCOS": matcher(FCOS, arguments.POINTS, center_radius=1.5, regress_range=(4.0, 8.0))}
# fmt: off
BAD_INPUTS = [
    ("a range that is out of order", lambda: FCOS(regress_range=(8.0, 4.0)), ValueError, r"regress_range must be a pair \(low, high\) in order, got \(8.0, 4.0\)"),
    ("no radius for the centre", lambda: FCOS(center_radius=0.0), ValueError, "center_radius must be positive, got 0.0"),
    ("FCOS without points", lambda: FCOS()(arguments.predictions(), arguments.targets()), ValueError, "FCOS needs priors: grid points"),
]
# fmt: on
OPERATIONS = {"fcos": of_matcher(FCOS, points)}
BUGS = [
    Mutant(
        "batch-global",
        "targets of image 0 are wanted",
        "matchers.dense.fcos",
        "tile = pairs.sample[tiles.row] * tiling.per_image + tiles.tile",
        "tile = 0 * pairs.sample[tiles.row] + tiles.tile",
        "fcos",
        "order",
    )
]
