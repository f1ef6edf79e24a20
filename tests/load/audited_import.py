"""Imports the packages and trains a step under an audit hook; prints what Python was asked to do, as JSON.

Run in a fresh process, so that nothing of ours is imported yet. ``--plant`` does something forbidden as well.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import numpy as np  # noqa: F401
import scipy.optimize  # noqa: F401
import torch
import torch._dynamo
import torch.utils._pytree

EVENTS: list[list[Any]] = []
# What everybody does all the time, and what changes nothing.
QUIET = {"import", "object.__getattr__", "object.__setattr__", "object.__delattr__", "sys._getframe", "os.listdir",
         "os.scandir", "id", "gc.get_referrers", "gc.get_objects", "code.__new__", "sys.addaudithook",
         "builtins.id", "sys._current_frames", "sys.settrace", "sys.setprofile"}  # fmt: skip
RECORDING = True


def hook(event: str, arguments: tuple[Any, ...]) -> None:
    if not RECORDING or event in QUIET:
        return
    frame = sys._getframe(1)
    subject: Any = None
    if event == "open":
        subject = [str(arguments[0]), str(arguments[1]), int(arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR)]
    elif event == "compile":
        subject = str(arguments[1])
    elif event == "exec":
        subject = str(arguments[0].co_filename)
    EVENTS.append([event, subject, frame.f_code.co_filename])


sys.addaudithook(hook)

import losses  # noqa: E402
import matchers  # noqa: E402
import ragged  # noqa: E402


def step() -> None:
    """Every layer once, with a gradient."""
    boxes = ragged.combine_data([torch.tensor([[8.0, 8.0, 40.0, 30.0]]), torch.zeros(0, 4)])
    targets = matchers.Targets(boxes, ragged.combine_data([[2], []]).long(), canvas_size=torch.tensor([64.0, 64.0]))
    maps = [[torch.rand(2, channels, side, side, requires_grad=True) for side in (8, 4)] for channels in (5, 4)]
    criterion = losses.RTMDetCriterion(num_classes=5, strides=(8, 16))
    losses.total(criterion(maps, targets)).backward()
    found = {"pred_logits": torch.randn(2, 9, 5), "pred_boxes": torch.rand(2, 9, 4).cumsum(-1)}
    matchers.Hungarian()(found, targets)


def plant() -> None:
    """A little of everything that is forbidden."""
    import pickle
    import subprocess

    pickle.loads(pickle.dumps(losses.Normalizer()))
    subprocess.run([sys.executable, "-c", ""], check=True)
    with open(os.devnull, "w"):
        pass
    eval("1 + 1")


step()
if "--plant" in sys.argv:
    plant()
RECORDING = False
print(json.dumps({"events": EVENTS, "root": os.path.dirname(os.path.dirname(ragged.__file__))}))
