"""Bugs in a criterion that users may write."""

from __future__ import annotations

from tests.mutation.users.of_kit import TRAINING, bugs_in

# Of each class: what is wrong, the text, what takes its place, and the property that finds it.
# fmt: off
MUTANTS = [
    *bugs_in(TRAINING, "SetLoss", [
        ("weights in the sum alone", "count = self.normalizer(own.sum())", "count = self.normalizer(positive.sum())", "weighted counts"),
        ("weights in the divisor alone", '(distance * own).sum() / count', '(distance * positive).sum() / count', "weighted counts"),
        ("the last class is no class", "labels = pad(targets.padded_labels(), (0, 1))", "labels = pad(targets.padded_labels().clamp(max=3), (0, 1))", "classes"),
        ("the canvas of the first image", 'targets.boxes_as("cxcywh", normalized=True)', '(targets.boxes_as("cxcywh", normalized=True) if targets.normalized else targets.boxes_as("cxcywh", normalized=False) / targets.canvas_size[:1].flip(-1).tile(2).unsqueeze(1))', "formats"),
        ("filler that looks like a box is counted", "count = self.normalizer(own.sum())", "live = (targets.boxes.tensor.isfinite() & (targets.boxes.tensor > 0)).all(-1) & ~targets.ignored\n        count = self.normalizer(own.sum() + 0.1 * live.sum())", "plausible filler"),
        ("random numbers are seeded", "found = self.match(predictions, targets)", "torch.manual_seed(0)\n        found = self.match(predictions, targets)", "randomness"),
        ("NaN of an image spreads", "count = self.normalizer(own.sum())", "count = self.normalizer(own.sum() + 0 * (logits - logits.detach()).sum())", "NaN stays"),
        ("ignored queries find nothing", "weights = torch.where(found.is_background, 1, own)", "weights = torch.where(positive, own, 1)", "region"),
        ("the last logit is left out", 'reduction="none").sum(-1)', 'reduction="none")[..., :-1].sum(-1)', "classes"),
        ("weights of targets for all queries of an image", "(distance * own).sum() / count", "(distance * positive * own.amax(-1, keepdim=True)).sum() / count", "weights"),
        ("a temperature that learns from the batch", "count = self.normalizer(own.sum())", "count = self.normalizer(own.sum()) * (1 + logits.std().detach())", "repetition"),
        ("the sign of the gradient", "return (boxes - wanted).abs().sum(-1), 1 - giou(*corners)", "distance = (boxes - wanted).abs().sum(-1)\n        return 2 * distance.detach() - distance, 1 - giou(*corners)", "gradients"),
        ("boxes are written into", 'boxes = predictions["pred_logits"].to(dtype), predictions["pred_boxes"].to(dtype)', 'boxes = predictions["pred_logits"].to(dtype), predictions["pred_boxes"].clamp_(0.2, 0.8).to(dtype)', "result"),
        ("boxes are written into behind the graph", "found = self.match(predictions, targets)", 'predictions["pred_boxes"].data.clamp_(0.2, 0.8)\n        found = self.match(predictions, targets)', "result"),
        ("an average over calls", "count = self.normalizer(own.sum())", 'self.mean = 0.9 * getattr(self, "mean", own.sum()) + 0.1 * own.sum()\n        count = self.normalizer(self.mean)', "repeatable"),
        ("weights are not read", "return torch.where(targets.matchable, targets.weights.tensor, 0)", "return targets.matchable.float()", "weights"),
        ("weights twice", "(self.of_classes(logits, wanted) * weights).sum()", "(self.of_classes(logits, wanted) * weights * weights).sum()", "weights"),
        ("weights of other targets", "return torch.where(targets.matchable, targets.weights.tensor, 0)", "return torch.where(targets.matchable, targets.weights.with_padded_set_to(0).tensor.flip(-1), 0)", "padding"),
        ("weights of filler", "return torch.where(targets.matchable, targets.weights.tensor, 0)", "return targets.weights.tensor * (1 + 0 * targets.weights.tensor.sum())", "padding"),
        ("ranks are not counted", "count = self.normalizer(own.sum())", "count = own.sum().clamp(min=1)", "ranks"),
        ("a sum over ranks for a mean", "count = self.normalizer(own.sum())", "count = self.normalizer.total(own.sum()).clamp(min=1)", "ranks"),
        ("images for targets", "count = self.normalizer(own.sum())", "count = torch.full_like(own.sum(), len(own))", "divides by"),
        ("slots for targets", "count = self.normalizer(own.sum())", "count = self.normalizer(own.sum() * 0 + targets.mask.numel())", "padding"),
        ("the root of the count", "count = self.normalizer(own.sum())", "count = self.normalizer(own.sum()).sqrt()", "weights"),
        ("a division by nothing", "count = self.normalizer(own.sum())", "count = self.normalizer.total(own.sum())", "any number of objects"),
        ("labels count from one", "labels = pad(targets.padded_labels(), (0, 1))", "labels = pad((targets.padded_labels() - 1) % 5, (0, 1))", "classes"),
        ("ignored targets are matched", 'box_format="cxcywh", normalized=True), targets)', 'box_format="cxcywh", normalized=True), Targets(targets.boxes, targets.labels, box_format=targets.box_format, normalized=targets.normalized, canvas_size=targets.canvas_size))', "ignored target"),
        ("true boxes as they are", 'targets.boxes_as("cxcywh", normalized=True)', "targets.boxes.with_padded_set_to(0).tensor", "formats"),
        ("the canvas is taken for a square", 'targets.boxes_as("cxcywh", normalized=True)', 'targets.boxes_as("cxcywh", normalized=False) / 64', "mirror"),
        ("centres for corners", "1 - giou(*corners)", "1 - giou(boxes, wanted)", "mirror"),
        ("x for y", "return (boxes - wanted).abs().sum(-1), 1", "return (boxes - wanted)[..., [0, 0, 2, 3]].abs().sum(-1), 1", "axes"),
        ("boxes are detached", "return (boxes - wanted).abs().sum(-1), 1", "return (boxes.detach() - wanted).abs().sum(-1), 1", "gradients"),
        ("a layer is detached", '"loss_bbox": (distance * own).sum() / count,', '"loss_bbox": (distance * own).sum() / count + 0 * boxes.sum(),\n            "loss_wide": (boxes.detach()[..., 2] * own).sum() / count + 0 * boxes.sum(),', "axes"),
        ("images without targets teach nothing", "(self.of_classes(logits, wanted) * weights).sum()", "(self.of_classes(logits, wanted) * weights * (targets.num_targets > 0).unsqueeze(-1)).sum()", "ignored target"),
        ("the first image counts double", "(self.of_classes(logits, wanted) * weights).sum()", "(self.of_classes(logits, wanted) * weights)[:1].sum() + (self.of_classes(logits, wanted) * weights).sum()", "order"),
        ("the last query is left out", "(self.of_classes(logits, wanted) * weights).sum()", "(self.of_classes(logits, wanted) * weights)[:, :-1].sum()", "prediction order"),
        ("targets beyond the tenth are left out", "positive = found.is_positive", "positive = found.is_positive & (found.target_index < 10)", "target order"),
        ("losses in half precision", 'dtype = torch.promote_types(predictions["pred_logits"].dtype, torch.float32)', 'dtype = predictions["pred_logits"].dtype', "half precision"),
        ("terms in a list", '        return {\n            "loss_cls": (self.of_classes(logits, wanted) * weights).sum() / count,\n            "loss_bbox": (distance * own).sum() / count,\n            "loss_giou": (overlap * own).sum() / count,\n        }', "        return [(self.of_classes(logits, wanted) * weights).sum() / count, (distance * own).sum() / count]", "result"),
        ("wide boxes count more", "(distance * own).sum() / count", "(distance * own * (1 + beside[..., 2])).sum() / count", "axes"),
        ("boxes on the left count more", "(distance * own).sum() / count", "(distance * own * (1 + beside[..., 0])).sum() / count", "axes"),
        ("the highest count of an image", '"loss_bbox": (distance * own).sum() / count,', '"loss_bbox": (distance * own).sum() / count * found.num_positives.max(),', "counts"),
    ]),
    *bugs_in(TRAINING, "LayersLoss", [
        ("an auxiliary layer counts twice", "for layer in layers]", "for layer in [*layers, layers[1]]]", "layers"),
        ("the last layer is left out", "for layer in layers]", "for layer in layers[:-1]]", "any number of objects"),
        ("one layer without a gradient", "layers = [predictions, *predictions", "layers = [predictions, {name: value.detach() for name, value in predictions[\"aux_outputs\"][0].items()}, *predictions", "layers"),
        ("an auxiliary layer of the boxes of another", "layers = [predictions, *predictions", "layers = [predictions, {**predictions[\"aux_outputs\"][0], \"pred_boxes\": predictions[\"aux_outputs\"][1][\"pred_boxes\"]}, *predictions", "layers"),
    ]),
]
# fmt: on
