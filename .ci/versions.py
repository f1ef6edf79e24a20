"""Test with the oldest and the newest versions of Python and torch: ``python .ci/versions.py``, before a release.

For each pair, makes an environment, installs the package there and runs the tests that versions matter to; then prints
a table. Takes the interpreters ``python3.x`` on PATH. Where pip finds torch built for CUDA only, an environment takes
5 GB and more: each is removed after its tests, unless ``--folder`` says where to keep them.
"""

from __future__ import annotations

import argparse
import itertools
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TESTS = (
    "tests/ragged",
    "tests/losses/test_criterion_contracts.py",
    "tests/losses/test_detection.py",
    "tests/losses/test_detr.py",
    "tests/losses/test_yolox.py",
    "tests/matchers/test_hungarian.py",
    "tests/matchers/test_simota.py",
)
NEWEST = "newest"
SHOW = "import numpy, torch; print(torch.__version__, numpy.__version__)"


def supported() -> tuple[list[str], list[str]]:
    """The oldest and newest versions of Python, and those of torch, that ``pyproject.toml`` names."""
    text = (ROOT / "pyproject.toml").read_text()
    pythons = re.findall(r'"Programming Language :: Python :: (3\.\d+)"', text)
    (torch,) = re.findall(r'"torch>=([\d.]+)"', text)
    return [pythons[0], pythons[-1]], [torch, NEWEST]


def install(folder: Path, python: str, torch: str) -> str:
    """Make an environment, or take the one that is there; returns its interpreter."""
    inside = str(folder / ("Scripts" if sys.platform == "win32" else "bin") / "python")
    if not folder.exists():
        interpreter = shutil.which(f"python{python}")
        if interpreter is None:
            raise RuntimeError(f"python{python} is not on PATH")
        subprocess.run([interpreter, "-m", "venv", str(folder)], check=True)
    needs = [
        "torch" if torch == NEWEST else f"torch=={torch}",
        "-e",
        ".[testing]",
        "pytest>=8",
        "pytest-xdist>=3.5",
    ]
    subprocess.run([inside, "-m", "pip", "install", "--quiet", *needs], cwd=ROOT, check=True)
    return inside


def run(python: str, workers: str) -> tuple[bool, str]:
    """Run the tests in one environment; returns whether they passed, and pytest's last line."""
    options = ["-n", workers, "-q", "-p", "no:cacheprovider", "--no-header"]
    done = subprocess.run([python, "-m", "pytest", *options, *TESTS], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        print(done.stdout)
    return done.returncode == 0, done.stdout.strip().rpartition("\n")[2]


def main() -> None:
    """All pairs."""
    pythons, torches = supported()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", nargs="+", default=pythons, help=f"default: {' '.join(pythons)}")
    parser.add_argument("--torch", nargs="+", default=torches, help=f"default: {' '.join(torches)}")
    parser.add_argument("--folder", type=Path, help="keep the environments here, and use those that are there")
    parser.add_argument("--workers", default="auto", help="processes for the tests, as for pytest -n")
    options = parser.parse_args()
    table, passed = [], True
    for python, torch in itertools.product(options.python, options.torch):
        with tempfile.TemporaryDirectory() as temporary:
            folder = (options.folder or Path(temporary)).resolve() / f"python{python}-torch{torch}"
            try:
                inside = install(folder, python, torch)
                found = subprocess.check_output([inside, "-c", SHOW], text=True).split()
                ok, said = run(inside, options.workers)
            except (RuntimeError, subprocess.CalledProcessError) as error:
                ok, found, said = False, [torch, "-"], str(error)
        passed = passed and ok
        table.append(f"{python:8}{found[0]:16}{found[1]:10}{'passed' if ok else 'FAILED':8}{said}")
        print(table[-1], flush=True)
    print(f"\n{'Python':8}{'torch':16}{'numpy':10}", *table, sep="\n")
    raise SystemExit(not passed)


if __name__ == "__main__":
    main()
