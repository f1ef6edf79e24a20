"""Build what is published, and check it: ``python .ci/release.py``; with ``--final`` for a release.

The wheel and the sdist lie in ``dist/`` then. Needs the extra ``release``. ``--quick`` builds in this environment and
borrows its packages, instead of making an environment for the build and installing every package in a fresh one.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("ragged", "matchers", "losses")
IN_SDIST = {"CHANGELOG.md", "LICENSE", "README.md", "constraints.txt", "pyproject.toml", "conftest.py"}
IN_SDIST |= {"hatch_build.py"}
MADE = {".git", ".venv", "__pycache__", ".hypothesis", ".mypy_cache", ".pytest_cache", ".ruff_cache", "dist", "runs"}
TRY = """
import pathlib, sys, torch, losses, matchers, ragged
for package in (ragged, matchers, losses):
    assert pathlib.Path(sys.prefix) in pathlib.Path(package.__file__).parents, package.__file__
assert ragged.__version__ == sys.argv[1], ragged.__version__
batch = ragged.combine_data([[1.0, 2.0], []])
assert ragged.sum_over_targets(batch).tolist() == [3.0, 0.0]
"""


def version() -> str:
    """The version, which is written in one place."""
    (found,) = re.findall(r'^__version__ = "(.+)"$', (ROOT / "ragged" / "__init__.py").read_text(), flags=re.MULTILINE)
    return found


def check_changelog(text: str, version: str, *, final: bool) -> None:
    """Raise ``SystemExit`` unless the newest section is that of this version, or of what is not released yet."""
    sections = re.findall(r"^## (\S+)", text, flags=re.MULTILINE)
    released = [name for name in sections if name != "Unreleased"]
    if len(set(sections)) != len(sections) or not sections:
        raise SystemExit(f"CHANGELOG.md must have sections of different names, got {sections}")
    if final and sections[0] != version:
        raise SystemExit(f"CHANGELOG.md begins with {sections[0]!r}, expected '## {version}': name what is released")
    if version in released[1:]:
        raise SystemExit(f"version {version} is older than {released[0]}, the newest one of CHANGELOG.md")
    if sections[0] != "Unreleased" and released[0] != version:
        raise SystemExit(f"the version is {version}, the newest one of CHANGELOG.md {released[0]}")


def check_wheel(path: Path, version: str) -> None:
    """Raise ``SystemExit`` unless the wheel holds the packages, their types, a readable README, and nothing else."""
    wheel = zipfile.ZipFile(path)
    names = wheel.namelist()
    found = {name.partition("/")[0] for name in names}
    expected = {*PACKAGES, f"ragged_batch-{version}.dist-info"}
    missing = {f"{package}/py.typed" for package in PACKAGES} - set(names)
    if found != expected or missing:
        raise SystemExit(f"the wheel holds {sorted(found)}, expected {sorted(expected)}; missing {sorted(missing)}")
    check_readme(wheel.read(f"ragged_batch-{version}.dist-info/METADATA").decode())


def check_readme(metadata: str) -> None:
    """Raise ``SystemExit`` unless the package index can show the README: there are no files beside it."""
    text = metadata.partition("\n\n")[2]
    relative = re.findall(r"\]\((?!https?:)[^)]+\)|(?:src|srcset)=\"(?!https?:)[^\"]+\"", text)
    if relative or not text:
        raise SystemExit(f"the README of the wheel must have absolute links only, got {relative or 'no text'}")


def check_sdist(path: Path, version: str) -> None:
    """Raise ``SystemExit`` unless the sdist holds all that is needed to build and test, and nothing that is made."""
    with tarfile.open(path) as archive:
        members = {member.name for member in archive.getmembers() if member.isfile()}
    names = {name.removeprefix(f"ragged_batch-{version}/") for name in members}
    sources = (file for place in (*PACKAGES, "tests") for file in (ROOT / place).rglob("*.py"))
    missing = (IN_SDIST | {file.relative_to(ROOT).as_posix() for file in sources}) - names
    if missing:
        raise SystemExit(f"the sdist lacks {sorted(missing)[:5]}")
    made = [name for name in names if MADE & set(name.split("/"))]
    if made:
        raise SystemExit(f"the sdist holds {sorted(made)[:5]}")


def try_wheel(path: Path, version: str, *, quick: bool) -> None:
    """Install the wheel in a fresh environment, and use it from outside of this directory."""
    with tempfile.TemporaryDirectory() as place:
        venv.create(place, with_pip=not quick)
        python = str(Path(place) / ("Scripts" if sys.platform == "win32" else "bin") / "python")
        environment = None
        if quick:
            target = subprocess.check_output([python, "-c", "import site; print(site.getsitepackages()[0])"], text=True)
            zipfile.ZipFile(path).extractall(target.strip())
            environment = {"PYTHONPATH": sysconfig.get_path("purelib")}
        else:
            run(python, "-m", "pip", "install", "--quiet", "-c", str(ROOT / "constraints.txt"), str(path))
        subprocess.run([python, "-c", TRY, version], cwd=place, check=True, env=environment)


def run(*command: str) -> None:
    """Run a command, and stop if it fails."""
    print("+", *command, flush=True)
    if subprocess.run(command, cwd=ROOT).returncode:
        raise SystemExit(f"failed: {' '.join(command)}")


def main() -> None:
    """All of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--final", action="store_true", help="the changelog must name this version")
    parser.add_argument("--quick", action="store_true", help="make no environment that has to be filled")
    options = parser.parse_args()
    number = version()
    check_changelog((ROOT / "CHANGELOG.md").read_text(), number, final=options.final)
    if options.final and subprocess.check_output(["git", "status", "--porcelain"], cwd=ROOT):
        raise SystemExit("there are changes that are not committed")
    out = ROOT / "dist"
    shutil.rmtree(out, ignore_errors=True)
    run(sys.executable, "-m", "build", "--outdir", str(out), *(["--no-isolation"] if options.quick else []), ".")
    (wheel,), (sdist,) = out.glob("*.whl"), out.glob("*.tar.gz")
    check_wheel(wheel, number)
    check_sdist(sdist, number)
    run(sys.executable, "-m", "twine", "check", "--strict", str(wheel), str(sdist))
    try_wheel(wheel, number, quick=options.quick)
    print(f"{wheel.name} and {sdist.name} can be published: twine upload dist/*")


if __name__ == "__main__":
    main()
