"""Wrong arguments for ``matchers``: what is called, which error it must raise, and what the message must say."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from cases import MATCHERS
from cases.finding import listed
from reliability.arguments import (
    COUNT,
    assignment,
    boxes,
    columns,
    flags,
    flat,
    gt,
    images,
    labels,
    logits,
    meta,
    overlap,
    padded,
    plan,
    predictions,
    table,
    targets,
)

import matchers
from matchers import Assignment, Predictions, Targets
from ragged import RaggedBatch

OBJECTS = np.array([None, "a"], dtype=object)
INDEX = torch.tensor([[1, -1], [-1, -2]])
TWO = torch.tensor([2, 0])
COST = torch.rand(3, 2, 4)


def image(**fields: Any) -> list[dict[str, Any]]:
    return [images()[0], {"boxes": torch.ones(1, 4), "labels": torch.tensor([1]), **fields}]


def without(name: str) -> list[dict[str, Any]]:
    return [images()[0], {key: value for key, value in images()[0].items() if key != name}]


# fmt: off
ROWS = [
    # --- targets
    ("tensor for boxes", lambda: Targets(boxes(3, 2), labels()), TypeError, "boxes must be a RaggedBatch, got Tensor; Targets.of reads"),
    ("a number for labels", lambda: Targets(gt(), 3), TypeError, "labels must be a RaggedBatch, got int"),
    ("integer boxes", lambda: Targets(gt().long(), labels()), TypeError, "boxes must have a floating dtype, got torch.int64"),
    ("float labels", lambda: Targets(gt(), labels().float()), TypeError, "labels must be integers, got torch.float32"),
    ("bool labels", lambda: Targets(gt(), labels().bool()), TypeError, "labels must be integers, got torch.bool"),
    ("integer weights", lambda: Targets(gt(), labels(), labels()), TypeError, "weights must be floating, got torch.int64"),
    ("integer flags", lambda: Targets(gt(), labels(), ignore=labels()), TypeError, "ignore must be boolean, got torch.int64"),
    ("labels of other sizes", lambda: Targets(gt(), RaggedBatch(labels().tensor, sample_sizes=[1, 0, 1])), ValueError, "labels and boxes: sample sizes differ, 1 and 2 for sample 0"),
    ("labels padded to more", lambda: Targets(gt(), labels().with_max_sample_size(5)), ValueError, "padded to 5 targets, boxes to 2"),
    ("flags on meta", lambda: Targets(gt(), labels(), ignore=flags().to_device("meta")), ValueError, "ignore must be on the device of boxes"),
    ("negative label", lambda: Targets(gt(), labels() - 2), ValueError, "labels must not be negative, got -1 at position 0 of sample 0"),
    ("NaN box", lambda: Targets(gt() * float("nan"), labels()), ValueError, "position 0 of sample 0 is not finite"),
    ("corners for sizes", lambda: Targets(gt() * -1, labels()), ValueError, "x2 < x1 or y2 < y1; is box_format='xyxy' right"),
    ("negative width", lambda: Targets(gt() * -1, labels(), box_format="xywh"), ValueError, "of sample 0 has a negative width or height"),
    ("pixels for fractions", lambda: Targets(gt(), labels(), normalized=True), ValueError, r"lies far from \[0, 1\]; is normalized=True right"),
    ("unknown format", lambda: Targets(gt(), labels(), box_format="yxyx"), ValueError, "box format must be one of 'xyxy', 'cxcywh', 'xywh', got 'yxyx'"),
    ("format of objects", lambda: Targets(gt(), labels(), box_format=OBJECTS), ValueError, "box format must be one of"),
    ("misspelt field", lambda: Targets(gt(), labels(), weight=None), TypeError, "weight"),
    ("canvas of three", lambda: Targets(gt(), labels(), canvas_size=(3, 4, 5)), ValueError, r"canvas_size must be height and width, shape \(2,\) .*got \(3,\)"),
    ("canvas without height", lambda: Targets(gt(), labels(), canvas_size=(0, 4)), ValueError, "canvas_size must be positive and finite"),
    ("canvas of text", lambda: Targets(gt(), labels(), canvas_size="big"), TypeError, "canvas_size must be a list of numbers, height and width, or a tensor, got str"),
    ("no canvas", lambda: Targets(gt(), labels()).boxes_as("xyxy", normalized=True), ValueError, "give the targets a canvas_size"),
    ("label of no class", lambda: targets().check_labels(2), ValueError, "label 2 at position 1 of sample 0 is out of range for 2 classes"),
    ("number of classes", lambda: targets().check_labels(2.0), TypeError, "num_classes must be an integer, got float"),
    # --- their readers
    ("targets of nothing", lambda: Targets.of(None), TypeError, "targets must be Targets, a list of dicts, .*got NoneType"),
    ("no image", lambda: Targets.of([]), ValueError, "targets need at least one image, got an empty list"),
    ("no boxes", lambda: Targets.of(without("boxes")), ValueError, r"the targets of sample 1 have no 'boxes', but \['labels'\]"),
    ("misspelt labels", lambda: Targets.of([{"boxes": torch.ones(1, 4), "label": torch.tensor([1])}]), KeyError, "nobody reads 'label' of the targets of sample 0: did you mean 'labels'"),
    ("boxes of three numbers", lambda: Targets.of(image(boxes=torch.ones(1, 3))), ValueError, r"boxes of sample 1 must have shape \(n, 4\), got \(1, 3\)"),
    ("boxes of integers", lambda: Targets.of(image(boxes=torch.ones(1, 4).long())), TypeError, "boxes of sample 1 must have a floating dtype, got torch.int64"),
    ("boxes of None", lambda: Targets.of(image(boxes=None)), ValueError, "the targets of sample 1 have no 'boxes'"),
    ("boxes of objects", lambda: Targets.of(image(boxes=OBJECTS)), TypeError, "boxes of sample 1 must hold numbers, got an array of objects"),
    ("labels of floats", lambda: Targets.of(image(labels=torch.ones(1))), TypeError, "labels of sample 1 must be integers, got torch.float32"),
    ("labels too many", lambda: Targets.of(image(labels=torch.tensor([1, 2]))), ValueError, r"sample 1 has 1 boxes, but labels of shape \(2,\)"),
    ("labels on meta", lambda: Targets.of(image(labels=torch.tensor([1], device="meta"))), ValueError, "labels of sample 1 are on meta, boxes on cpu"),
    ("label too large", lambda: Targets.of(images(), num_classes=1), ValueError, "label 1 at position 1 of sample 0 is out of range for 1 classes"),
    ("lists of unequal length", lambda: Targets.of((columns()[0], columns()[1][:2])), ValueError, "boxes are given for 3 images, labels for 2"),
    ("layout given twice", lambda: Targets.of(targets(), box_format="xyxy"), TypeError, "already know their layout, got box_format"),
    ("misspelt layout", lambda: Targets.of(images(), boxformat="xyxy"), TypeError, "boxformat"),
    ("dicts and others", lambda: matchers.targets_from_dicts([images()[0], 3]), TypeError, "the targets of sample 1 must be a dict, got int"),
    ("flat of five columns", lambda: matchers.targets_from_flat(flat()[:, 1:], batch_size=3), ValueError, r"flat targets must have shape \(N, 6\): .*got \(2, 5\)"),
    ("flat of integers", lambda: matchers.targets_from_flat(flat().long(), batch_size=3), TypeError, "flat targets must be floating, got torch.int64"),
    ("flat of more images", lambda: matchers.targets_from_flat(flat(), batch_size=2), ValueError, "row 1 names image 2, expected a whole number from 0 to 1"),
    ("flat with NaN", lambda: matchers.targets_from_flat(flat() * float("nan"), batch_size=3), ValueError, "row 0 names image nan"),
    ("flat without batch size", lambda: Targets.of(flat()), TypeError, "batch_size"),
    ("padded without labels", lambda: Targets.of({"boxes": boxes(3, 2)}), ValueError, r"padded targets need 'labels', got \['boxes'\]"),
    ("padded mask of integers", lambda: Targets.of(padded() | {"mask": labels().tensor}), ValueError, r"mask must be a boolean tensor \(3, 2\), got \(3, 2\), torch.int64"),
    ("padded weights too few", lambda: Targets.of(padded() | {"weights": torch.ones(3, 1)}), ValueError, r"padded weights must begin with the shape \(3, 2\) of labels, got \(3, 1\)"),
    ("one-hot with two ones", lambda: Targets.of(padded() | {"labels": torch.ones(3, 2, 4)}), ValueError, "one-hot labels must have a single 1; not so at position 0 of sample 0"),
    ("table of six columns", lambda: matchers.targets_from_padded_tensor(torch.zeros(1, 2, 6)), ValueError, r"\(\*batch, N, 5\): label, box; got \(1, 2, 6\)"),
    ("table of half labels", lambda: matchers.targets_from_padded_tensor(table() + 0.5), ValueError, "position 0 of sample 0 is 2.5: not a whole number"),
    # --- predictions
    ("predictions of nothing", lambda: Predictions(), ValueError, "predictions need logits or boxes, got neither"),
    ("integer logits", lambda: Predictions(logits().long()), TypeError, "logits must be a floating tensor, got torch.int64"),
    ("other numbers of predictions", lambda: Predictions(logits(), boxes(3, 5)), ValueError, r"must agree in \(\*batch, P\), got \(3, 16\) of logits .*\(3, 5\) of boxes"),
    ("predictions on two devices", lambda: Predictions(logits(), boxes(3, COUNT).to("meta")), ValueError, "predictions must be on one device, got cpu, meta"),
    ("misspelt predictions", lambda: Predictions.of({"logits": logits()}), KeyError, "nobody reads 'logits' of the dict of predictions: name it 'pred_logits'"),
    ("images that differ", lambda: Predictions.of([{"pred_boxes": boxes(2)}, {"pred_boxes": boxes(3)[..., :2]}]), ValueError, r"'pred_boxes' of sample 1 has shape \(3, 2\), that of sample 0 \(2, 4\)"),
    ("ragged boxes beside logits", lambda: Predictions(logits()[:, :2], gt()), ValueError, "boxes of the predictions are ragged, and logits are Tensor: give all of them as ragged batches"),
    ("ragged predictions of other sizes", lambda: Predictions(boxes=gt(), fields={"ids": RaggedBatch(labels().tensor, sample_sizes=[1, 0, 1])}), ValueError, "ids and boxes of the predictions: sample sizes differ, 1 and 2 for sample 0"),
    ("predictions padded to more", lambda: Predictions(boxes=gt(), fields={"ids": labels().with_max_sample_size(5)}), ValueError, "ids are padded to 5 predictions, boxes to 2"),
    ("predictions ragged along classes", lambda: Predictions(RaggedBatch(torch.rand(3, 5, 2), sample_sizes=[2, 0, 1], non_uniform_dim=2)), ValueError, r"logits of predictions must be ragged along P in \(\*batch, P, …\), got \(3, 5, 2\) with non_uniform_dim=2"),
    ("ragged predictions for points", lambda: matchers.MaxIoU()(Predictions(boxes=gt()), targets(), boxes(2)), ValueError, "MaxIoU needs as many predictions in each image, got ragged predictions"),
    ("an image of numbers", lambda: Predictions.of([{"pred_boxes": [1]}]), TypeError, "'pred_boxes' of sample 0 must be a torch.Tensor, got list"),
    # --- boxes, costs, priors
    ("box of three numbers", lambda: matchers.area(torch.ones(2, 3)), ValueError, r"boxes must have shape \(…, 4\), got \(2, 3\)"),
    ("boxes that do not broadcast", lambda: matchers.iou(boxes(3), boxes(2)), ValueError, r"boxes \(3, 4\) and boxes \(2, 4\) must have shapes that broadcast"),
    ("boxes on two devices", lambda: matchers.giou(boxes(3), boxes(3).to("meta")), ValueError, r"the second boxes must be on the device of the first \(cpu\), got meta"),
    ("convert to nothing", lambda: matchers.convert(boxes(3), "xyxy", "corners"), ValueError, "got 'corners'"),
    ("pairwise of no measure", lambda: matchers.pairwise("iou", boxes(3), boxes(3)), TypeError, "measure must be a function, got str"),
    ("pairwise of one box", lambda: matchers.pairwise(matchers.iou, boxes(3)[0], boxes(3)), ValueError, r"first must have shape \(\*batch, N, 4\), got \(4,\)"),
    ("normalize by a pair", lambda: matchers.normalize(boxes(3), (5, 5)), ValueError, "canvas_size must be a tensor .*got tuple"),
    ("normalize other images", lambda: matchers.normalize(boxes(3, 2), torch.ones(2, 2)), ValueError, r"\(3,\) and that of canvas_size, \(2,\) must have shapes that broadcast"),
    ("labels of no class", lambda: matchers.focal_class_cost(logits(), labels() + 3), ValueError, "labels must lie in 0 … 3, got 4"),
    ("cost of float labels", lambda: matchers.softmax_class_cost(logits(), labels().float()), TypeError, "labels must be integers, got torch.float32"),
    ("cost of other images", lambda: matchers.gather_labels(logits()[:2], labels()), ValueError, r"the same \*batch, got \(2, 16, 4\) and \(3, 2\)"),
    ("cost of integer logits", lambda: matchers.focal_cost(torch.ones(3).long()), TypeError, "logits must have a floating dtype, got torch.int64"),
    ("alpha of text", lambda: matchers.focal_cost(torch.ones(3), alpha="a"), TypeError, "alpha must be a number, got str"),
    ("negative gamma", lambda: matchers.focal_cost(torch.ones(3), gamma=-1), ValueError, "gamma must not be negative, got -1"),
    ("overlap of other pairs", lambda: matchers.alignment_metric(logits(), labels(), overlap().mT), ValueError, r"overlap must have shape \(\*batch, G, P\) = \(3, 2, 16\), got \(3, 16, 2\)"),
    ("objectness of other shape", lambda: matchers.binary_class_cost(logits(), labels(), torch.zeros(3, 5)), ValueError, r"objectness must have shape \(\*batch, P\) = \(3, 16\), got \(3, 5\)"),
    ("distance of None", lambda: matchers.l1_cost(gt(), None), TypeError, "boxes must be a torch.Tensor, got NoneType"),
    ("points of three numbers", lambda: matchers.points_in_boxes(torch.ones(3, 5, 3), gt()), ValueError, r"points must have shape \(\*batch, P, 2\), got \(3, 5, 3\)"),
    ("radius of a number", lambda: matchers.points_near_centers(torch.ones(3, 5, 2), gt(), 2.0), TypeError, "radius must be a torch.Tensor, got float"),
    ("image size of floats", lambda: matchers.grid_points((16.0, 16), [4]), TypeError, "image_size must be an integer, got float"),
    ("stride 0", lambda: matchers.grid_points((16, 16), [0]), ValueError, "strides must be positive, got 0"),
    ("one stride", lambda: matchers.grid_points((16, 16), 4), TypeError, "strides must be a list of integers or pairs of them, got int"),
    ("levels without maps", lambda: matchers.anchors((16, 16), [4, 8], feature_sizes=[(4, 4)]), ValueError, "feature_sizes must have one entry for each of the 2 levels, got 1"),
    ("negative ratio", lambda: matchers.anchors((16, 16), [4], ratios=[-1.0]), ValueError, "ratios must be positive, got -1.0"),
    ("sizes too few", lambda: matchers.ssd_default_boxes([(4, 4)], (16, 16), sizes=[4.0]), ValueError, "sizes must have 2 entries, one more than there are levels, got 1"),
    # --- matchers and their results
    *listed(MATCHERS, "BAD_INPUTS"),
    ("negative weight of a cost", lambda: matchers.detr_costs(l1_weight=-1.0), ValueError, "l1_weight must not be negative, got -1.0"),
    ("unknown class cost", lambda: matchers.detr_costs(classes="focus"), ValueError, "classes must be 'focal' or 'softmax', got 'focus'"),
    ("index of floats", lambda: Assignment.from_index(INDEX.float(), num_targets=TWO), TypeError, "target_index must be an int64 tensor, got torch.float32"),
    ("index of no target", lambda: Assignment.from_index(INDEX + 1, num_targets=TWO), ValueError, "got 2 for prediction 0 of sample 0, which has 2 targets"),
    ("number of targets as a list", lambda: Assignment.from_index(INDEX, num_targets=[2, 0]), TypeError, "num_targets must be a torch.Tensor, got list"),
    ("quality of other shape", lambda: Assignment.from_index(INDEX, num_targets=TWO, quality=torch.ones(2)), ValueError, r"quality must have shape \(2, 2\), got \(2,\)"),
    ("pairs of other images", lambda: Assignment.from_pairs(*assignment().pairs(), num_predictions=3, num_targets=TWO), ValueError, r"num_targets must have the batch shape of the indices, \(3,\), got \(2,\)"),
    ("values of a tensor", lambda: assignment().gather(labels().tensor), TypeError, "values must be a RaggedBatch, got Tensor"),
    ("cat of none", lambda: Assignment.cat([]), ValueError, "one part at least, got none"),
    ("cat of a tensor", lambda: Assignment.cat([INDEX]), TypeError, "expected an Assignment, or a sequence of them, got Tensor"),
    ("cat of other targets", lambda: Assignment.cat([assignment(), Assignment.from_index(INDEX, num_targets=TWO)]), ValueError, r"number 1 has \(2,\) and 2"),
    ("cat of other numbers", lambda: Assignment.cat([Assignment.from_index(INDEX, num_targets=each, max_num_targets=2) for each in (TWO, TWO + torch.tensor([0, 1]))]), ValueError, "first has 0 targets in sample 1, number 1 has 1"),
    ("cat with one size", lambda: Assignment.cat([assignment(), assignment()], sizes=[None]), ValueError, "one entry for each of 2 assignments, got 1"),
    ("cat with too many", lambda: Assignment.cat([assignment()], sizes=[torch.tensor([9, 0, 0])]), ValueError, "between 0 and 3, .*got 9 for sample 0"),
    ("split of other numbers", lambda: assignment().split([1, 1]), ValueError, r"must add up to the 3 predictions of the assignment, got \[1, 1\]"),
    ("split of too many", lambda: assignment().split([2, torch.tensor([2, 0, 0])]), ValueError, r"3 predictions at most, got \[2, 2\] for sample 0"),
    ("split of floats", lambda: assignment().split([torch.ones(3)]), TypeError, "sizes must be integers, got torch.float32"),
    ("keys of floats", lambda: matchers.match_by_key(labels(), labels().float()), TypeError, "query_ids must be integers .*got torch.float32"),
    ("keys of a list", lambda: matchers.match_by_key([1], labels()), TypeError, "target_ids must be integers .*got list"),
    ("keys of other images", lambda: matchers.match_by_key(labels(), torch.ones(2, 3).long()), ValueError, r"batch shape \(2,\) of query_ids must end with the batch shape \(3,\) of target_ids"),
    ("keys that are doubled", lambda: matchers.match_by_key(torch.tensor([[3, 1, 3]]), torch.tensor([[3]])), ValueError, "different ids, got 3 for both 0 and 2 of sample 0"),
    ("given of a tensor", lambda: matchers.Hungarian()(predictions(), targets(), given=INDEX), TypeError, "given must be an Assignment, got Tensor"),
    ("given of other predictions", lambda: matchers.Hungarian()(predictions(), targets(), given=assignment()), ValueError, r"predictions of shape \(3, 3\), but the predictions have \(3, 16\)"),
    ("free of floats", lambda: matchers.Hungarian()(predictions(), targets(), free=torch.ones(3, 16)), TypeError, "free must be a boolean mask of the predictions, got torch.float32"),
    ("stack of none", lambda: Assignment.stack([]), ValueError, "one layer at least, got none"),
    ("explain no image", lambda: assignment().explain(7), IndexError, "the index of a sample must be .*got 7"),
    ("explain other costs", lambda: assignment().explain(0, costs={"iou": torch.ones(3, 3, 2)}), ValueError, r"the cost 'iou' must have shape .*\(3, 2, 3\), got \(3, 3, 2\)"),
    ("threshold of text", lambda: plan().assignment(threshold="half"), TypeError, "threshold must be a number, got str"),
    ("cost of two dimensions", lambda: matchers.batched_linear_sum_assignment(COST[0]), ValueError, r"shape \(\*batch, G, P\), got \(2, 4\)"),
    ("more targets than rows", lambda: matchers.batched_linear_sum_assignment(COST, torch.tensor([2, 3, 0])), ValueError, "between 0 and 2, got 3 for sample 1"),
    ("unknown solver", lambda: matchers.batched_linear_sum_assignment(COST, solver="gpu"), ValueError, "solver must be one of 'auto', 'scipy', 'triton', 'lapx', got 'gpu'"),
    ("forbidden of floats", lambda: matchers.batched_linear_sum_assignment(COST, forbidden=COST), TypeError, "forbidden must be a boolean tensor"),
    ("more targets than slots", lambda: matchers.denoising_indices(torch.tensor([3, 1]), 1, 2), ValueError, "sample 0 has 3 targets, but there are slots for 2 only"),
    ("queries without groups", lambda: matchers.denoising_assignment({"dn_num_split": [4, 5]}, targets()), ValueError, "dn_meta needs 'dn_num_group'"),
    ("queries of other images", lambda: matchers.denoising_assignment(meta() | {"dn_positive_idx": [torch.tensor([0])]}, targets()), ValueError, r"batch shape \(1,\), targets have \(3,\)"),
    ("union of layers that differ", lambda: matchers.union_of_matches([assignment(), Assignment.from_index(INDEX, num_targets=TWO)]), ValueError, "must have the same shape"),
    ("samples of an index", lambda: matchers.sample_assignment(INDEX, 4), TypeError, "assignment must be an Assignment, got Tensor"),
    ("no samples", lambda: matchers.sample_assignment(assignment(), 0), ValueError, "num_samples must be at least 1, got 0"),
    ("a share of positives above 1", lambda: matchers.RandomSampler(num_samples=4, positive_fraction=2), ValueError, r"positive_fraction must lie in \[0, 1\], got 2"),
    ("a seed for a generator", lambda: matchers.RandomSampler(num_samples=4, generator=0), TypeError, "generator must be a torch.Generator, got int"),
    ("picture of no result", lambda: matchers.plot_match(None, predictions(), targets(), 0), TypeError, "result must be an Assignment or a Plan, got NoneType"),
]
