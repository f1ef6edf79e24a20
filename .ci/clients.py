"""Train detectors of transformers and torchvision with their losses and with ours: ``python .ci/clients.py``, by hand.

Makes an environment with the pinned versions, runs the code of ``docs/drop-in.md`` there, and trains small random
models for 20 steps with either loss from the same weights on the same batches. Prints a table; ends with 1 where a loss
differs. ``--inside`` does so in the environment that it is called in.
"""

from __future__ import annotations

import argparse
import copy
import importlib
import re
import subprocess
import sys
import tempfile
from collections import OrderedDict
from collections.abc import Callable
from contextlib import redirect_stdout
from importlib import metadata
from io import StringIO
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PINS = ("torch==2.13.0", "torchvision==0.28.0", "transformers==5.24.0")
STEPS, CLASSES, SIDE, IMAGES = 20, 5, 96, 3
MOST = 1e-4
"""How far apart losses may be: rounding grows from step to step."""

Step = Callable[[Any, Any, Any], Any]
"""The loss of a model, of images and of targets (xyxy, pixels)."""


def run_page() -> int:
    """Run the code of the page, and compare what it prints; returns how many blocks there were."""
    names: dict[str, Any] = {"__name__": "page"}
    blocks = re.findall(r"```python(?: clients)?\n(.*?)```", (ROOT / "docs" / "drop-in.md").read_text(), re.DOTALL)
    for block in blocks:
        printed = StringIO()
        with redirect_stdout(printed):
            exec(compile(block, "docs/drop-in.md", "exec"), names)
        said = re.findall(r"^print\(.*\)  # (.*)$", block, flags=re.MULTILINE)
        if printed.getvalue().splitlines() != said:
            raise RuntimeError(f"the page says {said}, its code printed {printed.getvalue()!r}")
    return len(blocks)


def query_models() -> dict[str, tuple[Any, Step, Callable[[Any], None]]]:
    """Small detectors of transformers, how their loss is computed, and how ours is put in."""
    tf: Any = importlib.import_module("transformers")
    losses: Any = importlib.import_module("losses")
    sides = {"embedding_size": 16, "hidden_sizes": [16, 16, 32, 32], "depths": [1, 1, 1, 1], "layer_type": "basic"}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32}
    common = {"d_model": 32, "decoder_layers": 2, "num_queries": 12, "num_labels": CLASSES, **heads}
    detr = tf.DetrConfig(
        backbone_config=tf.ResNetConfig(**sides, out_features=["stage4"]), backbone=None, use_timm_backbone=False,
        use_pretrained_backbone=False, encoder_layers=1, auxiliary_loss=True, **common,
    )  # fmt: skip
    levels = ["stage2", "stage3", "stage4"]
    rt = {
        "encoder_in_channels": [16, 32, 32], "decoder_in_channels": [32] * 3, "encoder_hidden_dim": 32,
        "num_denoising": 12, **common,
    }  # fmt: skip
    models = {
        "DETR": tf.DetrForObjectDetection(detr),
        "RT-DETR": tf.RTDetrForObjectDetection(
            tf.RTDetrConfig(backbone_config=tf.RTDetrResNetConfig(**sides, out_features=levels), **rt)
        ),
        "RT-DETRv2": tf.RTDetrV2ForObjectDetection(
            tf.RTDetrV2Config(backbone_config=tf.RTDetrResNetConfig(**sides, out_features=levels), **rt)
        ),
    }

    def step(model: Any, images: Any, targets: Any) -> Any:
        labels = []
        for each in targets:
            low, high = each["boxes"][:, :2], each["boxes"][:, 2:]
            boxes = importlib.import_module("torch").cat([(low + high) / 2, high - low], 1) / SIDE
            labels.append({"class_labels": each["labels"], "boxes": boxes})
        return model(images, labels=labels).loss

    def put_in(model: Any) -> None:
        model.loss_function = losses.TransformersLoss.from_config(model.config)

    return {name: (model, step, put_in) for name, model in models.items()}


def dense_models() -> dict[str, tuple[Any, Step, Callable[[Any], None]]]:
    """The same of torchvision."""
    torch: Any = importlib.import_module("torch")
    tv: Any = importlib.import_module("torchvision.models.detection")
    ssd: Any = importlib.import_module("torchvision.models.detection.ssd")
    priors: Any = importlib.import_module("torchvision.models.detection.anchor_utils")
    losses: Any = importlib.import_module("losses")
    matchers: Any = importlib.import_module("matchers")

    class Backbone(torch.nn.Module):  # type: ignore[misc]
        def __init__(self, out_channels: Any = 32) -> None:
            super().__init__()
            self.out_channels = out_channels
            self.layers = torch.nn.ModuleList(
                torch.nn.Conv2d(before, 32, 3, stride, 1) for before, stride in ((3, 8), (32, 2), (32, 2))
            )

        def forward(self, images: Any) -> Any:
            maps = []
            for layer in self.layers:
                images = layer(images).relu()
                maps.append(images)
            return OrderedDict((str(index), each) for index, each in enumerate(maps))

    size = {"min_size": SIDE, "max_size": SIDE}
    anchors = priors.AnchorGenerator(((16, 20), (32, 40), (64, 80)), ((0.5, 1.0, 2.0),) * 3)
    points = priors.AnchorGenerator(((8,), (16,), (32,)), ((1.0,),) * 3)
    boxes = priors.DefaultBoxGenerator([[2], [2, 3], [2]], scales=[0.15, 0.35, 0.6, 0.9])
    made = {
        "RetinaNet": (
            tv.RetinaNet(Backbone(), CLASSES, anchor_generator=anchors, **size),
            losses.RetinaNetCriterion(CLASSES),
        ),
        "FCOS": (tv.FCOS(Backbone(), CLASSES, anchor_generator=points, **size), losses.FCOSCriterion(CLASSES)),
        "SSD": (
            ssd.SSD(Backbone([32, 32, 32]), boxes, (SIDE, SIDE), CLASSES),
            losses.SSDCriterion(CLASSES, bg_class_position="first", matcher=matchers.MaxIoU()),
        ),
    }

    def step(model: Any, images: Any, targets: Any) -> Any:
        return sum(model(list(images), targets).values())

    def putting_in(criterion: Any) -> Callable[[Any], None]:
        def put_in(model: Any) -> None:
            model.compute_loss = losses.TorchvisionLoss(criterion)

        return put_in

    return {name: (model, step, putting_in(criterion)) for name, (model, criterion) in made.items()}


def batch_of(step: int) -> tuple[Any, Any]:
    """Images and targets (xyxy, pixels), with an image without objects, and no two objects in a quarter of an image.

    Where targets of SSD share their best anchor, torchvision decides otherwise: see ``docs/parity.md``.
    """
    torch: Any = importlib.import_module("torch")
    generator = torch.Generator().manual_seed(step)
    targets = []
    quarters = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]) * SIDE / 2
    for count in (2, 0, 4)[:IMAGES]:
        low = quarters[:count] + torch.rand(count, 2, generator=generator) * 8
        boxes = torch.cat([low, low + 20 + 18 * torch.rand(count, 2, generator=generator)], 1)
        targets.append({"boxes": boxes, "labels": torch.randint(1, CLASSES, (count,), generator=generator)})
    return torch.rand(IMAGES, 3, SIDE, SIDE, generator=generator), targets


def train(model: Any, step: Step) -> list[float]:
    """The losses of the steps."""
    torch: Any = importlib.import_module("torch")
    torch.manual_seed(0)  # dropout and denoising queries draw
    model = model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    found = []
    for index in range(STEPS):
        loss = step(model, *batch_of(index))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        found.append(float(loss.detach()))
    return found


def inside() -> int:
    """In an environment with the packages; 0 if all losses are equal."""
    torch: Any = importlib.import_module("torch")
    torch.manual_seed(0)
    print(f"{run_page()} blocks of docs/drop-in.md print what they say")
    packages = [pin.partition("==")[0] for pin in PINS]
    print(", ".join(f"{name} {metadata.version(name)}" for name in packages))
    worst = 0.0
    print(f"{'system':12}{'first loss':>12}{'last':>10}{'ours, last':>12}{'worst difference':>18}")
    for name, (model, step, put_in) in {**query_models(), **dense_models()}.items():
        other = copy.deepcopy(model)
        put_in(other)
        theirs, ours = train(model, step), train(other, step)
        apart = max(abs(one - two) / abs(one) for one, two in zip(theirs, ours, strict=True))
        worst = max(worst, apart)
        print(f"{name:12}{theirs[0]:12.4f}{theirs[-1]:10.4f}{ours[-1]:12.4f}{apart:18.1e}")
    return int(worst > MOST)


def main() -> int:
    """Make the environment, and run this file inside."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inside", action="store_true", help="use the environment that this is called in")
    if parser.parse_args().inside:
        return inside()
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        python = str(Path(folder) / ("Scripts" if sys.platform == "win32" else "bin") / "python")
        subprocess.run([python, "-m", "pip", "install", "--quiet", *PINS, "-e", "."], cwd=ROOT, check=True)
        return subprocess.run([python, __file__, "--inside"], cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    raise SystemExit(main())
