"""Gradient accumulation with Accelerate and Lightning: the gradient is that of all micro-batches at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tools import IMAGES, PAGE, QUIET, Head, blocks_of, collated, run_page

STEPS = 4


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
