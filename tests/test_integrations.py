"""Lightning and Accelerate, the real packages: they move and collate our types, and train with them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from losses import RTMDetCriterion, total
from matchers import Assignment, Targets
from ragged import RaggedBatch, combine_data, sum_over_targets

WHY = "needs the extra 'integrations'"
PAGE = Path(__file__).parent.parent / "docs" / "integrations.md"
META = torch.device("meta")


def run_page(upto: str) -> dict[str, Any]:
    """The names that the code of the page leaves behind, up to the end of a section."""
    text, found, _ = re.split(rf"(?<=\n## {upto}\n)(.*?)(?=\n## )", PAGE.read_text(), maxsplit=1, flags=re.DOTALL)
    names: dict[str, Any] = {}
    for block in blocks_of(text + found):
        exec(compile(block, str(PAGE), "exec"), names)
    return names


def blocks_of(text: str) -> list[str]:
    """All code of a text, what needs the tools included."""
    return re.findall(r"```python(?: integrations)?\n(.*?)```", text, flags=re.DOTALL)


def everything() -> dict[str, Any]:
    boxes = combine_data([torch.rand(2, 2, dtype=torch.float32).repeat(1, 2), torch.rand(0, 4)])
    labels = combine_data([[1, 2], []], other_with_same_sample_sizes=boxes).long()
    keypoints = combine_data(
        [torch.full((2, 3, 3), 1001.0, dtype=torch.float32), torch.zeros(0, 3, 3)], other_with_same_sample_sizes=boxes
    )
    assignment = Assignment.from_index(torch.tensor([[0, -1], [-1, -1]]), num_targets=boxes.sample_sizes)
    return {
        "image": torch.zeros(2, 3),
        "boxes": boxes,
        "targets": [
            Targets(
                boxes,
                labels,
                fields={"keypoints": keypoints},
                canvas_size=torch.tensor([4.0, 4.0], dtype=torch.float32),
            )
        ],
        "matches": (assignment, assignment.plan()),
        "name": "two images",
    }


def check_moved(moved: dict[str, Any]) -> None:
    assert list(moved) == list(everything()) and moved["name"] == "two images"
    assert isinstance(moved["boxes"], RaggedBatch) and moved["boxes"].mask.device == META
    (targets,), (assignment, plan) = moved["targets"], moved["matches"]
    assert isinstance(targets, Targets) and targets.canvas_size.device == targets.labels.device == META
    assert isinstance(assignment, Assignment) and assignment.target_index.device == plan.weights.device == META


@pytest.fixture
def lightning() -> Any:
    return pytest.importorskip("pytorch_lightning", reason=WHY)


@pytest.fixture
def fabric() -> Any:
    return pytest.importorskip("lightning_fabric", reason=WHY)


@pytest.fixture
def accelerate() -> Iterator[Any]:
    """The package, which knows nothing of other tests: it keeps one precision for a process."""
    package = pytest.importorskip("accelerate", reason=WHY)
    package.state.AcceleratorState._reset_state()
    yield package
    package.state.AcceleratorState._reset_state()


@pytest.mark.filterwarnings("ignore")
def test_lightning_trains(lightning: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = run_page("Lightning")
    assert names["trainer"].global_step == 2
    assert names["trainer"].callback_metrics["loss"].isfinite()


def test_lightning_moves_what_holds_tensors(lightning: Any) -> None:
    check_moved(lightning.LightningModule().transfer_batch_to_device(everything(), META, 0))


def test_lightning_finds_the_batch_size(lightning: Any) -> None:
    from pytorch_lightning.utilities.data import extract_batch_size

    assert extract_batch_size({"boxes": everything()["boxes"]}) == 2


# What the batch becomes; mixed precision converts nothing here, but Fabric converts what a model is called with.
PRECISIONS = {
    "32-true": torch.float32,
    "16-true": torch.float16,
    "bf16-true": torch.bfloat16,
    "64-true": torch.float64,
    "bf16-mixed": torch.float32,
}
every_precision = pytest.mark.parametrize(("precision", "dtype"), PRECISIONS.items())
QUIET = {"accelerator": "cpu", "logger": False, "enable_checkpointing": False, "enable_progress_bar": False}


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
    check_moved(apply_to_collection(batch, torch.Tensor, lambda part: part.to(META)))
    with pytest.raises(ValueError, match="frozen dataclass"):
        apply_to_collection(batch, torch.Tensor, torch.flatten)


@pytest.mark.filterwarnings("ignore")
def test_accelerate_trains(lightning: Any, accelerate: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = run_page("Accelerate")
    assert isinstance(names["batch"]["boxes"], RaggedBatch) and names["batch"]["boxes"].sample_sizes.tolist() == [1, 3]
    assert all(parameter.isfinite().all() for parameter in names["model"].parameters())


def test_accelerate_moves_what_holds_tensors(accelerate: Any) -> None:
    check_moved(accelerate.utils.send_to_device(everything(), META, non_blocking=True))


# --- gradient accumulation ---------------------------------------------------------------------------------------------

STEPS = 4


class Head(torch.nn.Module):
    """A detector whose gradients say what its loss was divided by."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Conv2d(3, 3 + 4, kernel_size=8, stride=8)
        self.criterion = RTMDetCriterion(num_classes=3, strides=(8,))

    def maps(self, images: torch.Tensor) -> list[list[torch.Tensor]]:
        scores, distances = self.layer(images).split([3, 4], dim=1)
        return [[scores], [distances.exp()]]

    def forward(self, batch: dict[str, Any], of_all: dict[str, torch.Tensor] | None = None) -> torch.Tensor:
        return total(self.criterion(self.maps(batch["images"]), batch["truth"], global_count=of_all))

    @torch.no_grad()
    def counts(self, batches: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        found = []
        for batch in batches:
            maps = self.maps(batch["images"])
            found.append(self.criterion.counts(maps, batch["truth"], self.criterion.assign(maps, batch["truth"])))
        return {name: torch.stack([each[name] for each in found]).sum(0) for name in found[0]}


def image(n: int, seed: int) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand(n, 2, generator=generator) * 24
    boxes = torch.cat([corners, corners + 24 + torch.rand(n, 2, generator=generator) * 16], dim=-1)
    return {"images": torch.rand(3, 64, 64, generator=generator), "boxes": boxes, "labels": torch.arange(n) % 3}


def collated(samples: list[dict[str, Any]]) -> dict[str, Any]:
    truth = [{"boxes": sample["boxes"], "labels": sample["labels"]} for sample in samples]
    return {"images": torch.stack([sample["images"] for sample in samples]), "truth": truth}


IMAGES = [image(n, seed) for seed, n in enumerate((3, 0, 1, 2, 1, 5, 0, 1))]


def accumulated_and_whole() -> tuple[Head, torch.utils.data.DataLoader[Any], dict[str, torch.Tensor], torch.Tensor]:
    """A head, micro-batches of its step, their counts, and the gradient of the loss of all images at once."""
    torch.manual_seed(0)
    head = Head()
    loader: torch.utils.data.DataLoader[Any] = torch.utils.data.DataLoader(IMAGES, batch_size=2, collate_fn=collated)  # type: ignore[arg-type]
    head(collated(IMAGES)).backward()
    whole = head.layer.weight.grad.clone()
    head.zero_grad()
    return head, loader, head.counts(list(loader)), whole


@pytest.mark.parametrize("factor", [STEPS, 1])
def test_accelerate_accumulates_the_gradient_of_the_whole(accelerate: Any, factor: int) -> None:
    head, loader, of_all, whole = accumulated_and_whole()
    accelerator = accelerate.Accelerator(cpu=True, gradient_accumulation_steps=STEPS)
    model, loader = accelerator.prepare(head, loader)
    syncs = []
    for batch in loader:
        with accelerator.accumulate(model):
            accelerator.backward(factor * model(batch, of_all))
            syncs.append(accelerator.sync_gradients)
    assert syncs == [False] * (STEPS - 1) + [True]
    torch.testing.assert_close(head.layer.weight.grad, whole * (factor / STEPS), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("factor", [STEPS, 1])
@pytest.mark.filterwarnings("ignore")
def test_lightning_accumulates_the_gradient_of_the_whole(
    lightning: Any, factor: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    head, loader, of_all, whole = accumulated_and_whole()
    before = head.layer.weight.detach().clone()

    class Model(lightning.LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.head = head

        def training_step(self, batch: dict[str, Any], index: int) -> torch.Tensor:
            return factor * self.head(batch, of_all)

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=1.0)

    monkeypatch.chdir(tmp_path)
    trainer = lightning.Trainer(max_epochs=1, accumulate_grad_batches=STEPS, **QUIET)
    trainer.fit(Model(), loader)
    assert trainer.global_step == 1
    moved = before - head.layer.weight.detach()
    torch.testing.assert_close(moved, whole * (factor / STEPS), rtol=1e-4, atol=1e-6)


@pytest.mark.filterwarnings("ignore")
def test_the_page_accumulates_the_gradient_of_the_whole(
    lightning: Any, accelerate: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its code, step by step, moves the weights as one step of all images does."""
    monkeypatch.chdir(tmp_path)
    names = run_page("Gradient accumulation")
    section = PAGE.read_text().partition("\n## Gradient accumulation\n")[2].partition("\n## ")[0]
    (with_accelerate,) = (block for block in blocks_of(section) if "accelerator.no_sync" in block)
    torch.manual_seed(0)
    model = torch.nn.Conv2d(3, 3 + 4, kernel_size=8, stride=8)
    torch.manual_seed(0)
    exec(compile(with_accelerate, str(PAGE), "exec"), names)
    check_moved_by_whole(names, model, names["model"])

    detector = names["Accumulating"]()
    model.load_state_dict(detector.head.state_dict())
    names["trainer"] = lightning.Trainer(max_epochs=1, **QUIET)
    names["trainer"].fit(detector, names["steps"])
    check_moved_by_whole(names, model, detector.head)


def check_moved_by_whole(names: dict[str, Any], before: torch.nn.Module, after: torch.nn.Module) -> None:
    whole = names["collate"](names["dataset"], stack=["image"])
    before.zero_grad()
    names["loss_of"](before, names["criterion"], whole, None).backward()
    for old, new in zip(before.parameters(), after.parameters(), strict=True):
        assert old.grad is not None and old.grad.any()
        torch.testing.assert_close(old - new, 1e-3 * old.grad, rtol=1e-3, atol=1e-8)
