"""What Python is asked to do while the packages are imported and a step is trained, as an audit hook sees it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.processes

ROOT = Path(__file__).parent.parent.parent
OURS = tuple(f"{ROOT / package}{os.sep}" for package in ("ragged", "matchers", "losses"))
LIBRARIES = tuple(
    f"{Path(sysconfig.get_path(name)).resolve()}{os.sep}" for name in ("stdlib", "platstdlib", "purelib", "platlib")
)
MODULE_FILES = (".py", ".pyc", ".so", ".pyd")
IMPORTLIB = "<frozen importlib"
# They make methods of dataclasses and named tuples, and read annotations, that stand in the source as text.
READERS = ("dataclasses.py", "typing.py", "collections/__init__.py", "torch/_library/infer_schema.py")


def audited(*arguments: str) -> list[list[Any]]:
    script = Path(__file__).parent / "audited_import.py"
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-B", str(script), *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert Path(found["root"]) == ROOT
    return found["events"]


def is_module_file(path: str) -> bool:
    """Of our packages, of Python, or of a library."""
    return path.endswith(MODULE_FILES) and path.startswith((*OURS, *LIBRARIES))


def is_reader(caller: str) -> bool:
    """Of Python or of torch."""
    return caller.startswith(LIBRARIES) and Path(caller).as_posix().endswith(tuple(f"/{name}" for name in READERS))


def is_allowed(event: str, subject: Any, caller: str) -> bool:
    if event == "open":
        path, mode, writing = subject
        return not writing and mode in ("r", "rb", "None") and is_module_file(path)
    if event in ("compile", "exec"):
        return is_module_file(subject) or (subject == "<string>" and is_reader(caller))
    return event == "marshal.loads" and caller.startswith(IMPORTLIB)


@pytest.fixture(scope="module")
def events() -> list[list[Any]]:
    return audited()


def test_nothing_but_module_files_is_read_and_run(events: list[list[Any]]) -> None:
    assert [each for each in events if not is_allowed(*each)] == []


def test_the_hook_sees_the_import(events: list[list[Any]]) -> None:
    run = {subject for event, subject, _ in events if event == "exec"}
    for package in ("ragged", "matchers", "losses"):
        assert str(ROOT / package / "__init__.py") in run


def test_the_hook_sees_what_is_forbidden() -> None:
    found = {event for event, *rest in audited("--plant") if not is_allowed(event, *rest)}
    assert {"pickle.find_class", "subprocess.Popen", "open", "exec"} <= found
