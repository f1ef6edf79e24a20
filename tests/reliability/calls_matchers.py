"""A valid call of everything public in ``matchers`` but the matchers, which have theirs in ``cases.matchers``."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import torch
from cases import MATCHERS
from cases.finding import joined
from reliability.arguments import (
    COUNT,
    PRIORS,
    SIZES,
    assignment,
    boxes,
    columns,
    flags,
    flat,
    gt,
    images,
    keypoints,
    labels,
    logits,
    matcher,
    meta,
    of_targets,
    overlap,
    padded,
    pair_sizes,
    plan,
    posed,
    predictions,
    table,
    targets,
)
from reliability.call import Call, call, made
from torch import nn

import matchers
from matchers import Assignment, Hungarian, Predictions, Problem, Targets
from ragged import RaggedBatch

_CONVERSIONS = [f"{one}_to_{two}" for one, two in itertools.permutations(("xyxy", "cxcywh", "xywh"), 2)]
CALLS: dict[str, Callable[[], Call]] = {
    **joined(MATCHERS, "CALLS"),
    **{name: lambda name=name: call(getattr(matchers, name), boxes(3)) for name in _CONVERSIONS},
    **{
        name: lambda name=name: call(getattr(matchers, name), boxes(3), boxes(3))
        for name in ("iou", "iof", "giou", "diou", "ciou")
    },
    "Assignment.from_index": lambda: call(
        Assignment.from_index,
        torch.tensor([[1, -1], [-1, -2]]),
        num_targets=torch.tensor([2, 0]),
        quality=torch.ones(2, 2),
        max_num_targets=2,
        per_target=1,
    ),
    "Assignment.from_pairs": lambda: call(
        Assignment.from_pairs,
        *pair_sizes(),
        num_predictions=3,
        num_targets=torch.tensor(SIZES),
        max_num_targets=2,
        per_target=3,
    ),
    "Assignment.gather": lambda: call(assignment().gather, labels(), fill=-1),
    "Assignment.stack": lambda: call(Assignment.stack, [assignment(), assignment()]),
    "Assignment.cat": lambda: call(
        Assignment.cat, [assignment(), assignment()], sizes=[torch.tensor([3, 1, 0]), torch.tensor([0, 2, 3])]
    ),
    "Assignment.split": lambda: call(assignment().split, [1, torch.tensor([2, 0, 1])]),
    "Assignment.unstack": lambda: call(assignment().unstack),
    "Assignment.explain": lambda: call(assignment().explain, 0, costs={"class": torch.ones(3, 2, 3)}),
    "Assignment.describe": lambda: call(assignment().describe),
    "Plan.assignment": lambda: call(plan().assignment, threshold=0.5),
    "Plan.explain": lambda: call(plan().explain, 0, smallest_weight=0.1),
    "Predictions": lambda: call(
        Predictions, logits(), boxes(3, COUNT), torch.zeros(3, COUNT), box_format="xyxy", normalized=False
    ),
    "Predictions.of": lambda: call(Predictions.of, predictions()),
    "Predictions.of(list)": lambda: call(Predictions.of, [{"pred_logits": logits()[0], "pred_boxes": boxes(COUNT)}]),
    "Predictions(ragged)": lambda: call(
        Predictions, RaggedBatch(logits()[:, :2], sample_sizes=SIZES), gt(), fields={"ids": labels()}
    ),
    "Problem.of": lambda: call(Problem.of, predictions(), targets(), PRIORS, normalized=True),
    "Targets": lambda: call(
        Targets,
        **of_targets(
            weights=labels().to_dtype(torch.float32),
            ignore=flags(),
            box_format="xyxy",
            normalized=False,
            canvas_size=torch.tensor([16.0, 16.0]),
        ),
    ),
    "Targets.of": lambda: call(Targets.of, images(), box_format="xyxy", normalized=False, canvas_size=(16, 16)),
    "Targets.boxes_as": lambda: call(targets().boxes_as, "cxcywh", normalized=True),
    "Targets.check_labels": lambda: call(targets().check_labels, 4),
    "Targets.with_max_num_targets": lambda: call(targets().with_max_num_targets, 5),
    "Targets.padded_labels": lambda: call(targets().padded_labels),
    "Targets.to_dicts": lambda: call(targets().to_dicts),
    "alignment": lambda: call(matchers.alignment, torch.zeros(3), torch.ones(3) / 2, alpha=1.0, beta=6.0),
    "alignment_metric": lambda: call(matchers.alignment_metric, logits(), labels(), overlap(), alpha=1.0, beta=6.0),
    "anchors": lambda: call(
        matchers.anchors, (16, 16), [4, (8, 8)], base_sizes=[4, 8], ratios=(0.5, 1.0), scales=(1.0,), offset=0.5
    ),
    "anchors(maps)": lambda: call(matchers.anchors, (16, 16), [4], feature_sizes=[(4, 4)]),
    "area": lambda: call(matchers.area, boxes(3)),
    "batched_linear_sum_assignment": lambda: call(
        matchers.batched_linear_sum_assignment,
        torch.rand(3, 2, 4),
        torch.tensor(SIZES),
        forbidden=torch.zeros(3, 2, 4, dtype=torch.bool),
    ),
    "binary_class_cost": lambda: call(matchers.binary_class_cost, logits(), labels(), torch.zeros(3, COUNT)),
    "convert": lambda: call(matchers.convert, boxes(3), "xyxy", "cxcywh"),
    "denoising_assignment": lambda: call(matchers.denoising_assignment, meta(), targets()),
    "denoising_attention_mask": lambda: call(
        matchers.denoising_attention_mask, 2, 2, 3, negatives=False, num_targets=torch.tensor(SIZES)
    ),
    "denoising_indices": lambda: call(matchers.denoising_indices, torch.tensor(SIZES), 2, 2, negatives=True),
    "denormalize": lambda: call(matchers.denormalize, boxes(3, 2), torch.ones(3, 2)),
    "batched_cost": matcher(
        lambda **options: Hungarian(cost=matchers.batched_cost(**options)),
        function=lambda gt, predicted: torch.cdist(gt["boxes"], predicted["boxes"]),
    ),
    "oks": lambda: call(matchers.oks, keypoints(3, 2), posed(), torch.ones(3, 2), sigmas=(0.1, 0.2, 0.3)),
    **{
        name: lambda name=name: call(
            getattr(matchers, name), posed(), torch.ones(3, 2), keypoints(3, 5), sigmas=(0.1, 0.2, 0.3)
        )
        for name in ("pairwise_oks", "oks_cost")
    },
    "keypoint_l1_cost": lambda: call(matchers.keypoint_l1_cost, posed(), keypoints(3, 5)),
    "keypoint_costs": lambda: made(
        lambda **options: Hungarian(cost=matchers.keypoint_costs(**options)),
        {"oks_weight": 4.0, "l1_weight": 10.0, "sigmas": (0.1, 0.2, 0.3), "keypoints": "keypoints", "area": "area"},
        Predictions(fields={"keypoints": keypoints(3, 5)}),
        Targets(
            fields={
                "keypoints": RaggedBatch(posed(), sample_sizes=SIZES),
                "area": RaggedBatch(torch.ones(3, 2), sample_sizes=SIZES),
            }
        ),
    ),
    "box3d_l1_cost": lambda: call(
        matchers.box3d_l1_cost, torch.rand(3, 2, 4), torch.rand(3, 5, 4), code_weights=(2.0, 1.0, 0.0, 0.2)
    ),
    "detr_costs": matcher(
        lambda **options: Hungarian(cost=matchers.detr_costs(**options)),
        classes="focal",
        class_weight=2.0,
        l1_weight=5.0,
        giou_weight=2.0,
        alpha=0.25,
        gamma=2.0,
        mean_over_labels=True,
    ),
    "feature_sizes": lambda: call(matchers.feature_sizes, (16, 16), [4, (8, 8)]),
    "focal_class_cost": lambda: call(
        matchers.focal_class_cost, logits(), labels(), alpha=0.25, gamma=2.0, mean_over_labels=False
    ),
    "focal_cost": lambda: call(matchers.focal_cost, torch.zeros(3), alpha=0.25, gamma=2.0),
    "gather_labels": lambda: call(matchers.gather_labels, logits(), labels()),
    "giou_cost": lambda: call(matchers.giou_cost, gt(), boxes(3, COUNT)),
    "grid_points": lambda: call(matchers.grid_points, (16, 16), [4, 8], offset=0.5, feature_sizes=[(4, 4), (2, 2)]),
    "iou_cost": lambda: call(matchers.iou_cost, gt().tensor, boxes(3, COUNT)),
    "l1_cost": lambda: call(matchers.l1_cost, gt(), boxes(3, COUNT)),
    "level_sizes": lambda: call(matchers.level_sizes, (16, 16), [4, 8], num_per_cell=2, feature_sizes=[(4, 4), (2, 2)]),
    "match_by_key": lambda: call(
        matchers.match_by_key, RaggedBatch(torch.tensor([[1, 2], [3, 3], [5, 0]]), sample_sizes=SIZES), labels()
    ),
    "module_costs": matcher(
        lambda **options: Hungarian(cost=matchers.module_costs(**options)),
        PRIORS,
        cls_match_module=nn.CrossEntropyLoss(reduction="none"),
        loc_match_module=nn.L1Loss(reduction="none"),
        is_anchor_based=True,
    ),
    "normalize": lambda: call(matchers.normalize, boxes(3, 2), torch.ones(2)),
    "one_to_one_assignment": lambda: call(
        matchers.one_to_one_assignment,
        torch.rand(3, 2, 4),
        torch.tensor(SIZES),
        forbidden=torch.zeros(2, 4, dtype=torch.bool),
    ),
    "pairwise": lambda: call(matchers.pairwise, matchers.iou, boxes(3, 2), boxes(3, 5)),
    "points_in_boxes": lambda: call(matchers.points_in_boxes, torch.rand(3, 5, 2), gt(), margin=0.5),
    "points_near_centers": lambda: call(matchers.points_near_centers, torch.rand(3, 5, 2), gt(), torch.ones(3, 5)),
    "read_targets": lambda: call(matchers.read_targets, images(), num_classes=4, box_format="xyxy"),
    "read_targets(lists)": lambda: call(matchers.read_targets, columns(), num_classes=4, canvas_size=[16, 16]),
    "read_targets(padded)": lambda: call(matchers.read_targets, padded(), num_classes=4, normalized=False),
    "read_targets(flat)": lambda: call(matchers.read_targets, flat(), batch_size=3),
    "softlabel_class_cost": lambda: call(matchers.softlabel_class_cost, logits(), labels(), overlap()),
    "softmax_class_cost": lambda: call(matchers.softmax_class_cost, logits(), labels(), mean_over_labels=True),
    "sum_over_labels": lambda: call(matchers.sum_over_labels, logits(), torch.ones(3, 2, 4), mean=True),
    "ssd_default_boxes": lambda: call(
        matchers.ssd_default_boxes,
        [(4, 4), (2, 2)],
        (16, 16),
        sizes=[4.0, 8.0, 16.0],
        scale_range=(0.2, 0.9),
        aspect_ratios=(2.0, 3.0),
        strides=(4, 8),
        box_format="cxcywh",
        clip=True,
    ),
    "targets_from_coco": lambda: call(
        matchers.targets_from_coco,
        [[{"bbox": [1.0, 2.0, 3.0, 4.0], "category_id": 7, "iscrowd": 0}], []],
        label_of={7: 1},
        canvas_size=(16, 16),
    ),
    "targets_from_dicts": lambda: call(matchers.targets_from_dicts, images(), box_format="xyxy", canvas_size=(16, 16)),
    "targets_from_flat": lambda: call(
        matchers.targets_from_flat,
        flat(),
        batch_size=3,
        box_format="cxcywh",
        normalized=True,
        canvas_size=(16, 16),
        max_num_targets=2,
    ),
    "targets_from_lists": lambda: call(
        matchers.targets_from_lists, *columns(), weights=[torch.ones(size) for size in SIZES], ignore=[[0, 1], [], [0]]
    ),
    "targets_from_padded": lambda: call(
        matchers.targets_from_padded,
        padded() | {"labels": torch.ones(3, 2, 4)},
        multi_hot=True,
        box_format="xyxy",
    ),
    "targets_from_padded_tensor": lambda: call(matchers.targets_from_padded_tensor, table(), canvas_size=(16, 16)),
    "targets_from_ultralytics": lambda: call(
        matchers.targets_from_ultralytics,
        {"batch_idx": torch.tensor([1.0]), "cls": torch.ones(1, 1), "bboxes": torch.full((1, 4), 0.5)},
        batch_size=3,
        canvas_size=(16, 16),
        max_num_targets=2,
    ),
    "sample_assignment": lambda: call(matchers.sample_assignment, assignment(), 4, 0.5, generator=None),
    "RandomSampler": lambda: call(matchers.RandomSampler, num_samples=4, positive_fraction=0.5, generator=None),
    "union_of_matches": lambda: call(matchers.union_of_matches, [assignment(), assignment()]),
    "plot_cost": lambda: call(
        matchers.plot_cost,
        torch.ones(3, 2, 3),
        0,
        result=assignment(),
        targets=targets(),
        num_cheapest=2,
        max_columns=5,
    ),
    "plot_match": lambda: call(
        matchers.plot_match,
        assignment(),
        {"pred_boxes": boxes(3, 3)},
        targets(),
        0,
        image=torch.ones(16, 16),
        priors=None,
        prior_format="xyxy",
        class_names=["a", "b", "c"],
        smallest_weight=0.1,
    ),
}
