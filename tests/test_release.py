"""What a release checks before it builds, that the version stands in one place, and that CONTRIBUTING.md is right."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType
from zipfile import ZipFile

import pytest
from torch.torch_version import TorchVersion
from versions import EXCEPTIONS

import ragged

ROOT = Path(__file__).parent.parent


def _script(name: str) -> ModuleType:
    return _load(name, ROOT / ".ci" / f"{name}.py")


def _load(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def release() -> ModuleType:
    return _script("release")


def test_the_version_stands_in_one_place(release: ModuleType) -> None:
    assert release.version() == ragged.__version__
    text = (ROOT / "pyproject.toml").read_text()
    assert 'dynamic = ["version", "readme"]' in text and 'path = "ragged/__init__.py"' in text
    assert f'"{ragged.__version__}"' not in text


def test_the_changelog_fits_the_version(release: ModuleType) -> None:
    release.check_changelog((ROOT / "CHANGELOG.md").read_text(), ragged.__version__, final=False)
    release.check_changelog("# Changelog\n\n## 0.2.0 (2026-11-30)\n\n## 0.1.0\n", "0.2.0", final=True)


@pytest.mark.parametrize(
    ("sections", "version", "final", "words"),
    [
        ("## Unreleased\n## 0.1.0\n", "0.1.0", True, "begins with 'Unreleased', expected '## 0.1.0'"),
        ("## 0.2.0\n## 0.1.0\n", "0.1.0", False, "0.1.0 is older than 0.2.0"),
        ("## 0.1.0\n", "0.2.0", False, "the version is 0.2.0, the newest one of CHANGELOG.md 0.1.0"),
        ("## 0.1.0\n## 0.1.0\n", "0.1.0", False, "sections of different names"),
        ("nothing\n", "0.1.0", False, "sections of different names"),
    ],
)
def test_a_changelog_that_does_not_fit(
    release: ModuleType, sections: str, version: str, final: bool, words: str
) -> None:
    with pytest.raises(SystemExit, match=words):
        release.check_changelog(sections, version, final=final)


def test_a_wheel_with_other_files(release: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "some.whl"
    inside = [*(f"{package}/py.typed" for package in release.PACKAGES), "ragged_batch-1.0.dist-info/METADATA"]
    for names, words in ((inside, ""), ([*inside, "tests/test.py"], "tests"), (inside[1:], "missing")):
        with ZipFile(path, "w") as archive:
            for name in names:
                archive.writestr(name, "Name: some\n\nwords\n" if name.endswith("METADATA") else "")
        if not words:
            release.check_wheel(path, "1.0")
            continue
        with pytest.raises(SystemExit, match=words):
            release.check_wheel(path, "1.0")


def test_the_readme_of_a_package_index_has_no_relative_links(
    release: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    hatch = ModuleType("hatchling.metadata.plugin.interface")
    hatch.MetadataHookInterface = object  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, hatch.__name__, hatch)
    hook = _load("hatch_build", ROOT / "hatch_build.py")
    text = (ROOT / "README.md").read_text()
    with pytest.raises(SystemExit, match=r"absolute links only, got .*docs/_static/pictures/padding-dark.svg"):
        release.check_readme(f"Name: some\n\n{text}")
    for repository in (None, "https://example.org/some/project"):
        release.check_readme(f"Name: some\n\n{hook.for_index(text, repository)}")
    words = "See [the page](docs/a.md#part) and [b](https://b.org)."
    assert hook.for_index(words) == "See the page (`docs/a.md`) and [b](https://b.org)."
    there = hook.for_index(words, "https://example.org/x/")
    assert there.startswith("See [the page](https://example.org/x/blob/main/docs/a.md#part)")


def test_contributing_names_files_that_exist() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    paths = re.findall(
        r"(?:`|python |\()((?:\.ci|docs|losses|matchers|ragged|tests|benchmarks|example)/[\w./-]*)", text
    )
    assert len(paths) >= 25
    assert [path for path in paths if not (ROOT / path).exists()] == []
    for name in re.findall(r"`(\w+)` of `(tests/[\w/.]+)`", text):
        assert re.search(rf"^{name[0]}\b", (ROOT / name[1]).read_text(), flags=re.MULTILINE), name
    (extra,) = re.findall(r'-e "\.\[(\w+)\]"', text)
    assert f"\n{extra} = [" in (ROOT / "pyproject.toml").read_text()


def test_hooks_run_tests_that_exist() -> None:
    config = (ROOT / ".pre-commit-config.yaml").read_text()
    paths = re.findall(r"tests/[\w/]+\.py", config)
    assert paths and all((ROOT / path).exists() for path in paths)
    assert "repo: local" in config and "http" not in config  # what they run is pinned in constraints.txt


def test_the_same_versions_are_named_everywhere() -> None:
    script = _script("versions")
    pythons, torches = script.supported()
    assert f'requires-python = ">={pythons[0]}"' in (ROOT / "pyproject.toml").read_text()
    assert torches[1] == script.NEWEST
    for page in ("README.md", "docs/index.md"):
        text = (ROOT / page).read_text()
        assert f"torch {torches[0]} or newer" in text and f"Python {pythons[0]} or newer" in text, page
    assert f"Python {pythons[0]} to {pythons[1]}, torch {torches[0]} to 2." in (ROOT / "README.md").read_text()
    assert [path for path in script.TESTS if not (ROOT / path).exists()] == []


def test_exceptions_of_older_versions_are_in_the_documentation() -> None:
    _, (oldest, _) = _script("versions").supported()
    rows = re.findall(r"^\| (\S.*?) \| (2\.\d+) \|", (ROOT / "docs" / "compile.md").read_text(), flags=re.MULTILINE)
    assert {name.replace("`", ""): version for name, version in rows} == {
        name: version for name, (version, _) in EXCEPTIONS.items()
    }
    assert all(TorchVersion(version) > oldest for version, _ in EXCEPTIONS.values())
