"""Bugs in matchers that users may write."""

from __future__ import annotations

from tests.mutation.users.of_kit import MATCHING, bugs_in

# Of each class: what is wrong, the text, what takes its place, and the property that finds it.
# fmt: off
MUTANTS = [
    *bugs_in(MATCHING, "BestOverlap", [
        ("targets beyond the tenth are left out", "        best, index = pad(table,", "        table[..., 10:, :] = -1\n        best, index = pad(table,", "target order"),
        ("the format of predictions is not read", 'boxes = convert(boxes, predictions.box_format or targets.box_format, "xyxy")', 'boxes = convert(boxes, targets.box_format, "xyxy")', "formats"),
        ("the unit of predictions is not read", "normalized = targets.normalized if predictions.normalized is None else predictions.normalized", "normalized = targets.normalized", "formats"),
        ("the canvas is taken for a square", "denormalize(boxes, targets.canvas_size.to(boxes))", "boxes * 64", "formats"),
        ("height for width", "denormalize(boxes, targets.canvas_size.to(boxes))", "denormalize(boxes, targets.canvas_size.to(boxes).flip(-1))", "formats"),
        ("true boxes in the unit that they have", 'targets.boxes_as("xyxy", normalized=False).float()', 'targets.boxes_as("xyxy").float()', "formats"),
        ("true boxes as they are", 'targets.boxes_as("xyxy", normalized=False).float()', "targets.boxes.with_padded_set_to(0).tensor.float()", "formats"),
        ("labels count from one", "labels = targets.padded_labels()", "labels = (targets.padded_labels() - 1) % predictions.logits.shape[-1]", "classes"),
        ("class 0 is no class", "torch.where(targets.matchable.unsqueeze(-1), scores, -1)", "torch.where((targets.matchable & (labels > 0)).unsqueeze(-1), scores, -1)", "classes"),
        ("ignored targets are matched", "torch.where(targets.matchable.unsqueeze(-1), scores, -1)", "torch.where(targets.mask.unsqueeze(-1), scores, -1)", "classes"),
        ("the quality of target 0", "quality = torch.where(positive, best, 0)", "quality = torch.where(positive, pad(table, (0, 0, 0, 1))[..., 0, :].clamp(min=0), 0)", "target order"),
        ("a quality of background", "quality = torch.where(positive, best, 0)\n        index = settled(torch.where(positive, index, -1), predictions, ignored_region(predictions, targets))\n        count = targets.max_num_targets\n        return Assignment.from_index(index, num_targets=targets.num_targets, max_num_targets=count, quality=quality)", "index = settled(torch.where(positive, index, -1), predictions, ignored_region(predictions, targets))\n        count = targets.max_num_targets\n        found = Assignment.from_index(index, num_targets=targets.num_targets, max_num_targets=count)\n        return Assignment(index, best.clamp(min=0), found.num_targets, found.num_invalid, count, found.max_pairs)", "result"),
        ("a threshold of the batch", "positive = best >= self.threshold", "positive = best >= best.flatten(-2).mean(-1).unsqueeze(-1).unsqueeze(-1) + 0.1", "independence"),
        ("a threshold of each other call", "positive = best >= self.threshold", "self.calls += 1\n        positive = best >= self.threshold + 0.2 * (self.calls % 2)", "repeatable"),
        ("the weight decides", "scores = (overlap +", "overlap = overlap if targets.weights is None else overlap * targets.weights.with_padded_set_to(0).tensor.unsqueeze(-1).clamp(max=1)\n        scores = (overlap +", "weights"),
        ("the last prediction is left out", "positive = best >= self.threshold", "positive = best >= self.threshold\n        positive[..., -1:] = False", "prediction order"),
        ("no half precision", "probability = predictions.logits.detach().float().nan_to_num(0, 0, 0).sigmoid()", "probability = (predictions.logits.detach() * 1e4 / 1e4).float().nan_to_num(0, 0, 0).sigmoid()", "precision"),
        ("predictions are written into", "probability = predictions.logits.detach().float().nan_to_num(0, 0, 0).sigmoid()", "probability = predictions.logits.detach().nan_to_num_(0, 0, 0).sigmoid_().float()", "result"),
        ("a gradient is kept", "predictions.logits.detach().float()", "predictions.logits.float()", "result"),
        ("background is ignored", "settled(torch.where(positive, index, -1)", "settled(torch.where(positive, index, -2)", "result"),
        ("a threshold in pixels", "positive = best >= self.threshold", "sides = (predicted_boxes(predictions, targets)[..., 2:] - predicted_boxes(predictions, targets)[..., :2]).amin(-1)\n        positive = (best >= self.threshold) & (sides > 16)", "scale"),
        ("only wide boxes", "positive = best >= self.threshold", "sides = predicted_boxes(predictions, targets)[..., 2:] - predicted_boxes(predictions, targets)[..., :2]\n        positive = (best >= self.threshold) & (sides[..., 0] > sides[..., 1])", "axes"),
        ("only the left half of the image", "positive = best >= self.threshold", "positive = (best >= self.threshold) & (predicted_boxes(predictions, targets)[..., 0] < 24)", "axes"),
        ("nothing where there are more targets than predictions", "positive = best >= self.threshold", "positive = (best >= self.threshold) & (targets.num_targets <= predictions.num_predictions).unsqueeze(-1)", "ignored target"),
        ("nothing is ignored", "settled(torch.where(positive, index, -1), predictions, ignored_region(predictions, targets))", "settled(torch.where(positive, index, -1), predictions, torch.zeros(1, dtype=torch.bool))", "region"),
        ("a region takes what has a target", "settled(torch.where(positive, index, -1), predictions, ignored_region(predictions, targets))", "settled(torch.where(positive & ~ignored_region(predictions, targets), index, -1), predictions, ignored_region(predictions, targets))", "region"),
        ("what has no target is background by chance", "settled(torch.where(positive, index, -1), predictions, ignored_region(predictions, targets))", "settled(torch.where(positive, index, -1), predictions, ignored_region(predictions, targets) & (best > 0))", "region"),
        ("filler that looks like a box is counted", "positive = best >= self.threshold", "live = (targets.boxes.tensor.isfinite() & (targets.boxes.tensor > 0)).all(-1) & ~targets.ignored\n        positive = best >= self.threshold + 0.002 * live.sum(-1, keepdim=True)", "plausible filler"),
        ("filler of predictions is background", "region & (index == -1) | filler_of(predictions)", "region & (index == -1)", "ragged predictions"),
        ("areas in half precision", "scores = (overlap +", "sides = predictions.boxes.detach()[..., 2:] - predictions.boxes.detach()[..., :2]\n        overlap = overlap * (sides.prod(-1) < math.inf).unsqueeze(-2)\n        scores = (overlap +", "large images"),
    ]),
    *bugs_in(MATCHING, "OneToOne", [
        ("filler of predictions", "real[image].nonzero().flatten()", "torch.arange(size[2])", "ragged predictions"),
        ("nothing is ignored", "settled(index.reshape(*shape, -1), predictions, ignored_region(predictions, targets))", "settled(index.reshape(*shape, -1), predictions, torch.zeros(1, dtype=torch.bool))", "region"),
        ("the first P targets only", "rows, columns = live.nonzero().flatten(), real[image].nonzero().flatten()", "rows, columns = live.nonzero().flatten()[: size[2]], real[image].nonzero().flatten()", "target order"),
        ("one too few where there are as many", "rows, columns = live.nonzero().flatten(), real[image].nonzero().flatten()", "rows, columns = live.nonzero().flatten(), real[image].nonzero().flatten()\n            rows = rows[:-1] if len(rows) == size[2] else rows", "crowd"),
        ("nothing where there are more targets", "rows, columns = live.nonzero().flatten(), real[image].nonzero().flatten()", "rows, columns = live.nonzero().flatten(), real[image].nonzero().flatten()\n            rows = rows[:0] if len(rows) > size[2] else rows", "crowd"),
        ("rows of what is left of the targets", "= rows[torch.as_tensor(found)]", "= torch.as_tensor(found)", "target order"),
        ("x for y", "return 1 - pairwise(giou, wanted, predicted)", "return (wanted.unsqueeze(-2) - predicted.unsqueeze(-3))[..., 0].abs()", "target order"),
        ("distances in pixels beside classes", "return 1 - pairwise(giou, wanted, predicted)", "chance = predictions.logits.detach().float().nan_to_num(0, 0, 0).amax(-1).unsqueeze(-2)\n        return (wanted.unsqueeze(-2) - predicted.unsqueeze(-3)).abs().sum(-1) - 9 * chance", "scale"),
    ]),
    *bugs_in(MATCHING, "Shares", [
        ("nothing is ignored", "torch.where(ignored_region(predictions, targets), 0, shares[..., -1])", "shares[..., -1]", "region"),
        ("ignored targets get a share", "torch.where(targets.matchable.unsqueeze(-2), overlap * 8, -math.inf)", "torch.where(targets.mask.unsqueeze(-2), overlap * 8, -math.inf)", "ignored target"),
        ("no background", "return Plan(weights, background", "return Plan(weights, 0 * background", "result"),
        ("shares that grow with the padding", ").softmax(-1)", ").softmax(-1) / (1 + overlap.shape[-1])", "padding"),
    ]),
    *bugs_in(MATCHING, "Inside", [
        ("nothing is ignored", "torch.where(region & (index == -1), -2, index)", "index", "region"),
        ("edges of x for y", "(y > y1) & (y < y2)", "(y > x1) & (y < x2)", "axes"),
        ("the largest target", "torch.where(inside & targets.matchable.unsqueeze(-1), area, math.inf)", "torch.where(inside & targets.matchable.unsqueeze(-1), -area * (1 + torch.arange(boxes.shape[-2]).unsqueeze(-1)), math.inf)", "target order"),
        ("a width for the area", "area = (x2 - x1) * (y2 - y1)", "area = (x2 - x1) * torch.ones_like(y2)", "target order"),
        ("points that are moved by pixels", "x, y = points[:, 0], points[:, 1]", "x, y = points[:, 0] + 2, points[:, 1]", "axes"),
        ("true boxes cut off", "boxes = true_boxes(targets)", "boxes = true_boxes(targets).clamp(0, 40)", "mirror"),
    ]),
]
# fmt: on
