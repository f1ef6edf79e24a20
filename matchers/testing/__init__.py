"""Property tests for matchers: strategies and makers of detection scenes, and ``check_matcher``.

Needs hypothesis: ``pip install "ragged-batch[testing]"``.

    def test_my_matcher():
        check_matcher(MyMatcher(), priors=grid_points((64, 64), strides=[8, 16]))
"""

from matchers.testing.check import check_matcher, standard_scenes
from matchers.testing.dense_scenes import ODD_BOXES, SCENES, dense_scene
from matchers.testing.own_scenes import MakeTargets, scenes_of
from matchers.testing.properties.table import MATCHER_PROPERTIES
from matchers.testing.random_scenes import make_boxes, make_scene
from matchers.testing.reporting.report import Report
from matchers.testing.scene import CANVAS, Image, Scene
from matchers.testing.strategies import LAYOUTS, in_layout, numbers_of_targets, scenes, target_sources

__all__ = [
    "CANVAS",
    "LAYOUTS",
    "MATCHER_PROPERTIES",
    "ODD_BOXES",
    "SCENES",
    "Image",
    "MakeTargets",
    "Report",
    "Scene",
    "check_matcher",
    "dense_scene",
    "in_layout",
    "make_boxes",
    "make_scene",
    "numbers_of_targets",
    "scenes",
    "scenes_of",
    "standard_scenes",
    "target_sources",
]
