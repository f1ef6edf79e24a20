"""The packages run nothing but themselves: no evaluation, no unpickling, no other process, no network, no files."""

from __future__ import annotations

from pathlib import Path

import pytest
from source_calls import forbidden_calls, forbidden_calls_in

ROOT = Path(__file__).parent.parent.parent
FILES = [path for package in ("ragged", "matchers", "losses") for path in sorted((ROOT / package).rglob("*.py"))]
EXAMPLE = sorted((ROOT / "example").rglob("*.py"))
# They import optional packages, by names that stand in the source.
KNOWN = {
    "matchers/transport/pot.py": ("ot",),
    "matchers/solver/linear_assignment.py": ("matchers.solver.triton_kernel", "lap"),
}


@pytest.mark.parametrize("path", FILES + EXAMPLE, ids=lambda path: str(path.relative_to(ROOT)))
def test_calls_nothing_from_outside(path: Path) -> None:
    name = path.relative_to(ROOT).as_posix()
    allowed = {"importlib.import_module"} if name in KNOWN else set()
    assert [each for each in forbidden_calls_in(path) if each.partition(": ")[2] not in allowed] == []


def test_the_packages_are_there() -> None:
    assert {path.relative_to(ROOT).parts[0] for path in FILES} == {"ragged", "matchers", "losses"}
    assert len(FILES) > 60


@pytest.mark.parametrize("name", KNOWN)
def test_a_known_exception_names_its_packages(name: str) -> None:
    source = (ROOT / name).read_text()
    assert source.count("importlib.import_module(") == len(KNOWN[name])
    assert all(f'importlib.import_module("{package}")' in source for package in KNOWN[name])


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("eval('1')", "eval"),
        ("def f():\n    exec('pass')", "exec"),
        ("x = compile('1', '', 'eval')", "compile"),
        ("list(map(eval, ['1']))", "eval"),
        ("__import__('os')", "__import__"),
        ("import pickle", "pickle"),
        ("import pickle as p\np.loads(b'')", "pickle.loads"),
        ("from pickle import loads\nloads(b'')", "pickle.loads"),
        ("import marshal", "marshal"),
        ("import subprocess\nsubprocess.run(['ls'])", "subprocess.run"),
        ("from os import system\nsystem('ls')", "os.system"),
        ("import os\nos.system('ls')", "os.system"),
        ("import os as o\no.execv('a', [])", "os.execv"),
        ("import urllib.request", "urllib.request"),
        ("from urllib import request", "urllib.request"),
        ("import requests\nrequests.get('x')", "requests.get"),
        ("import socket\nsocket.socket()", "socket.socket"),
        ("import torch\ntorch.load('x')", "torch.load"),
        ("from torch import load\nload('x')", "torch.load"),
        ("import torch\ntorch.load('x', weights_only=False)", "torch.load"),
        ("import torch\ntorch.hub.load('a', 'b')", "torch.hub.load"),
        ("import torch\ntorch.hub.load('a', 'b', weights_only=True)", "torch.hub.load"),
        ("from torch import hub\nhub.load_state_dict_from_url('x')", "torch.hub"),
        ("import numpy as np\nnp.load('x', allow_pickle=True)", "numpy.load"),
        ("open('x')", "open"),
    ],
)
def test_the_walk_sees_a_planted_call(source: str, name: str) -> None:
    assert name in {each.partition(": ")[2] for each in forbidden_calls(source)}


@pytest.mark.parametrize(
    "source",
    [
        "import torch\ntorch.load('x', weights_only=True)",
        "model.eval()",
        "import torch\ntorch.compile(lambda x: x)",
        "import re\nre.compile('x')",
        "import os\nos.environ",
    ],
)
def test_the_walk_lets_others_pass(source: str) -> None:
    assert forbidden_calls(source) == []
