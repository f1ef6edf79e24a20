"""Every precision of Lightning, Fabric and Accelerate: what is converted, what is not, and the loss of a detector."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tools import IMAGES, QUIET, Head, collated, everything

from losses import RTMDetCriterion, total
from matchers import Targets
from ragged import RaggedBatch, sum_over_targets

# What the batch becomes; mixed precision converts nothing here, but Fabric converts what a model is called with.
PRECISIONS = {
    "32-true": torch.float32,
    "16-true": torch.float16,
    "bf16-true": torch.bfloat16,
    "64-true": torch.float64,
    "bf16-mixed": torch.float32,
}
every_precision = pytest.mark.parametrize(("precision", "dtype"), PRECISIONS.items())


def check_converted(batch: dict[str, Any], dtype: torch.dtype) -> None:
    """Floating data has the dtype; whole numbers, masks and what is no tensor stayed as they were."""
    before, (targets,), (assignment, plan) = everything(), batch["targets"], batch["matches"]
    assert list(batch) == list(before) and batch["name"] == "two images"
    floating = (batch["image"], batch["boxes"], assignment.quality, plan.weights)
    assert {part.dtype for part in floating} == {dtype}
    exact = dtype if dtype == torch.float64 else torch.float32  # ground truth is not rounded
    assert (targets.boxes.dtype, targets.fields["keypoints"].dtype) == (exact, exact)
    assert targets.canvas_size.dtype in (torch.float32, exact)
    assert targets.fields["keypoints"].tensor.double().equal(before["targets"][0].fields["keypoints"].tensor.double())
    assert targets.labels.dtype == assignment.target_index.dtype == batch["boxes"].sample_sizes.dtype == torch.int64
    assert batch["boxes"].mask.equal(before["boxes"].mask) and targets.labels.equal(before["targets"][0].labels)
    assert (targets.box_format, assignment.max_num_targets) == ("xyxy", before["matches"][0].max_num_targets)


@every_precision
@pytest.mark.filterwarnings("ignore")
def test_lightning_converts_what_holds_tensors(
    lightning: Any, precision: str, dtype: torch.dtype, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Model(lightning.LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(4, 1)

        def training_step(self, batch: dict[str, Any], index: int) -> torch.Tensor:
            check_converted(batch, dtype)
            return sum_over_targets(
                batch["targets"][0].boxes.to_dtype(dtype).apply(self.layer) + batch["boxes"].apply(self.layer)
            ).sum()

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    monkeypatch.chdir(tmp_path)
    trainer = lightning.Trainer(precision=precision, max_steps=1, **QUIET)
    model = Model()
    trainer.fit(model, torch.utils.data.DataLoader([0], collate_fn=lambda _: everything()))
    assert trainer.global_step == 1
    assert model.layer.weight.dtype == dtype and model.layer.weight.isfinite().all()


CALLED_WITH = PRECISIONS | {"bf16-mixed": torch.bfloat16}


@pytest.mark.parametrize(("precision", "dtype"), CALLED_WITH.items())
@pytest.mark.filterwarnings("ignore")
def test_fabric_converts_what_holds_tensors(fabric: Any, precision: str, dtype: torch.dtype) -> None:
    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(4, 1)

        def forward(self, batch: dict[str, Any]) -> RaggedBatch:
            check_converted(batch, dtype)
            result: RaggedBatch = batch["boxes"].apply(self.layer)
            return result

    result = fabric.Fabric(accelerator="cpu", precision=precision).setup(Model())(everything())
    assert isinstance(result, RaggedBatch) and result.sample_sizes.tolist() == [2, 0]
    assert result.dtype == torch.get_default_dtype()  # what it is called with comes back in


def check_loss(loss: torch.Tensor, maps: list[list[torch.Tensor]], criterion: RTMDetCriterion) -> None:
    """It is that of the same maps in float32, and of ground truth that nobody has converted."""
    exact = [
        [each.detach() if each.dtype == torch.float64 else each.detach().float() for each in part] for part in maps
    ]
    expected = total(criterion(exact, collated(IMAGES)["truth"]))
    assert loss.dtype == expected.dtype and loss.isfinite() and loss > 0
    torch.testing.assert_close(loss.detach(), expected, rtol=1e-6, atol=0)


def read(samples: list[dict[str, Any]]) -> dict[str, Any]:
    batch = collated(samples)
    return {"images": batch["images"], "truth": Targets.of(batch["truth"])}


def detection_loader() -> torch.utils.data.DataLoader[Any]:
    return torch.utils.data.DataLoader(IMAGES, batch_size=len(IMAGES), collate_fn=read)  # type: ignore[arg-type]


@every_precision
@pytest.mark.filterwarnings("ignore")
def test_lightning_trains_a_detector_in_every_precision(
    lightning: Any, precision: str, dtype: torch.dtype, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Model(lightning.LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.head = Head()

        def training_step(self, batch: dict[str, Any], index: int) -> torch.Tensor:
            maps = self.head.maps(batch["images"])
            loss = total(self.head.criterion(maps, batch["truth"]))
            check_loss(loss, maps, self.head.criterion)
            return loss

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=1e-3)

    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    model = Model()
    before = model.head.layer.weight.detach().double().clone()
    lightning.Trainer(precision=precision, max_steps=1, **QUIET).fit(model, detection_loader())
    assert model.head.layer.weight.dtype == dtype
    assert model.head.layer.weight.isfinite().all() and not model.head.layer.weight.double().equal(before)


@every_precision
@pytest.mark.filterwarnings("ignore")
def test_fabric_trains_a_detector_in_every_precision(fabric: Any, precision: str, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    head = Head()
    tools = fabric.Fabric(accelerator="cpu", precision=precision)
    layer, optimizer = tools.setup(head.layer, torch.optim.SGD(head.layer.parameters(), lr=1e-3))
    before = head.layer.weight.detach().clone()
    for batch in tools.setup_dataloaders(detection_loader()):
        scores, distances = layer(batch["images"]).split([3, 4], dim=1)
        maps = [[scores], [distances.exp()]]
        loss = total(head.criterion(maps, batch["truth"]))
        check_loss(loss, maps, head.criterion)
        tools.backward(loss)
        optimizer.step()
    assert head.layer.weight.dtype == dtype
    assert head.layer.weight.isfinite().all() and not head.layer.weight.equal(before)


@pytest.mark.parametrize(("precision", "dtype"), CALLED_WITH.items())
@pytest.mark.filterwarnings("ignore")
def test_fabric_calls_a_model_with_its_targets(fabric: Any, precision: str, dtype: torch.dtype) -> None:
    """As detectors of torchvision are called: the loss is computed inside."""
    torch.manual_seed(0)

    class Model(Head):
        def forward(self, images: torch.Tensor, truth: Targets) -> torch.Tensor:  # type: ignore[override]
            assert images.dtype == dtype and truth.boxes.dtype in (torch.float32, torch.float64)
            maps = self.maps(images)
            loss = total(self.criterion(maps, truth))
            check_loss(loss, maps, self.criterion)
            return loss

    model, batch = Model(), read(IMAGES)
    tools = fabric.Fabric(accelerator="cpu", precision=precision)
    tools.backward(tools.setup(model)(batch["images"], batch["truth"]))
    assert model.layer.weight.grad.isfinite().all() and model.layer.weight.grad.any()


@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_accelerate_trains_a_detector_in_every_precision_of_the_cpu(accelerate: Any, precision: str) -> None:
    torch.manual_seed(0)
    head = Head()
    tools = accelerate.Accelerator(cpu=True, mixed_precision=precision)
    layer, optimizer, loader = tools.prepare(
        head.layer, torch.optim.SGD(head.layer.parameters(), lr=1e-3), detection_loader()
    )
    for batch in loader:
        scores, distances = layer(batch["images"]).split([3, 4], dim=1)
        maps = [[scores], [distances.exp()]]
        with tools.autocast():
            loss = total(head.criterion(maps, batch["truth"]))
        check_loss(loss, maps, head.criterion)
        tools.backward(loss)
        optimizer.step()
    assert head.layer.weight.dtype == torch.float32 and head.layer.weight.grad.any()


def test_collections_are_converted_and_stay_what_they_were(lightning: Any) -> None:
    from lightning_utilities.core.apply_func import apply_to_collection

    batch = everything()
    check_converted(
        apply_to_collection(batch, torch.Tensor, lambda part: part.half() if part.is_floating_point() else part),
        torch.float16,
    )
    check_converted(batch, torch.float32)
    moved = apply_to_collection(batch, torch.Tensor, lambda part: part.to("meta"))
    assert moved["boxes"].mask.is_meta and moved["targets"][0].labels.device.type == "meta"
    with pytest.raises(ValueError, match="frozen dataclass"):
        apply_to_collection(batch, torch.Tensor, torch.flatten)
