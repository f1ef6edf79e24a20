"""The benchmarks run and write a complete report; what they measure is nobody's business here."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from effort import thorough

from benchmarks import __main__ as report
from benchmarks import compiled, core, criteria, growth, limit, matchers, memory, recipes, references, rivals, timing
from benchmarks.contest import Options
from benchmarks.scenes import Shape
from matchers import Assignment


def test_report_has_a_line_for_every_case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "ROUNDS", 2)
    monkeypatch.setattr(timing, "SECONDS_PER_ROUND", 0.0)
    for shapes in ("INDEXED_SHAPES", "SHAPES", "COST_SHAPES"):
        monkeypatch.setattr(core, shapes, getattr(core, shapes)[:1])
    monkeypatch.setattr(timing, "FEWEST_ROUNDS", 2)
    monkeypatch.setattr(matchers, "SIZES", ("small",))
    monkeypatch.setattr(criteria, "SIZES", ("small",))
    monkeypatch.setattr(criteria, "CASES", {name: criteria.CASES[name] for name in ("DetrCriterion", "SSDLoss")})
    for part in ("reference", "recipes", "compiled", "growth", "memory", "launches", "kit"):  # their own tests run them
        monkeypatch.delitem(report.PARTS, part)
    monkeypatch.setattr(limit, "SIZES", ("single",))
    threads = torch.get_num_threads()
    out, adapter = tmp_path / "RESULTS.md", tmp_path / "rivals.py"
    adapter.write_text(
        "def rival(name, scene):\n    return ('a stand-in', lambda: scene.points) if name == 'ATSS' else None\n"
    )
    try:
        report.main(["--threads", str(threads), "--out", str(out), "--rivals", str(adapter)])
    finally:
        torch.set_num_threads(threads)
    text = out.read_text()
    assert text.startswith("# Benchmark results")
    of_core = {"Combining samples": 6, "Combining samples, with gradient": 3, "Indexing": 1, "Arithmetic": 6}
    of_core |= {"Arithmetic, with gradient": 2, "Reductions": 8, "Selecting": 3, "Joining": 2, "Class costs": 1}
    titles = (*of_core, "Matchers", "Criteria", "The limit")
    assert [text.count(f"\n## {title}\n") for title in titles] == [1] * len(titles)
    lines = text.splitlines()
    assert (
        sum(line.startswith("| ") and "±" in line for line in lines)
        == sum(of_core.values()) + len(matchers.CASES) + 2 + 2
    )
    assert sum("a stand-in" in line for line in lines) == 1
    assert text.count("\nMade by `python -m benchmarks") == len(titles)

    report.main(["--threads", str(threads), "--out", str(out), "--only", "criteria"])
    again = out.read_text()
    before, _, since = again.partition("\n## Criteria\n")
    assert before == text.partition("\n## Criteria\n")[0]
    assert "--only criteria` on" in since and "transformers" in since

    report.main(["--threads", str(threads), "--out", str(out), "--only", "criteria", "--case", "SSDLoss"])
    last = out.read_text()
    assert "\nThe lines of SSDLoss: made by `python -m benchmarks" in last
    changed = [line for line in last.splitlines() if "±" in line and line not in again.splitlines()]
    assert all(line.startswith("| SSDLoss | small |") for line in changed) and len(changed) <= 1
    with pytest.raises(SystemExit):
        report.main(["--case", "SSDLoss"])


def test_lines_of_a_part_are_put_into_its_table() -> None:
    table = "Made by `{}`.\n\n| case | size | ms |\n|---|---|---|\n| {} | large | {} |\n"
    both = report._with_lines_of(table.format("first", "A", "1 ± 0"), table.format("second", "B", "does not compile"))
    rows = [line for line in both.splitlines() if line.startswith("|")]
    assert rows == [
        "| case | size | ms |",
        "|---|---|---|",
        "| A | large | 1 ± 0 |",
        "| B | large | does not compile |",
    ]
    assert both.endswith("\nThe lines of B: made by `second`.")
    again = report._with_lines_of(both, table.format("third", "A", "2 ± 0"))
    assert [line for line in again.splitlines() if line.startswith("| A")] == ["| A | large | 2 ± 0 |"]


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "ROUNDS", 2)
    monkeypatch.setattr(timing, "SECONDS_PER_ROUND", 0.0)
    monkeypatch.setattr(timing, "FEWEST_ROUNDS", 2)


def few(path: Path, *names: str) -> Options:
    return Options(None, torch.get_num_threads(), names, path)


def cells(text: str, name: str) -> list[list[str]]:
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()]
    return [line for line in lines if line and line[0] == name]


def test_limit_solves_what_the_criterion_solves() -> None:
    case = criteria.CASES["DetrCriterion, 6 layers"]
    scene = case.scene("small")
    costs = limit.problems(case.run(scene))
    assert [cost.shape for cost in costs] == [(len(boxes), 300) for boxes in scene.boxes] * 6
    assert set(limit.contestants(case, scene)) == {"ours", "streaming", "solving"}
    dense = criteria.CASES["SSDLoss"]
    assert set(limit.contestants(dense, dense.scene("small"))) == {"ours", "streaming"}


@pytest.mark.usefixtures("hurried")
def test_growth_draws_its_curves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = {count: Shape((count,) * 2, queries=20) for count in (2, 4)}
    curves = {"objects": growth.Curve(shapes), "images": growth.Curve({1: Shape((3,)), 2: Shape((3, 3))})}
    monkeypatch.setitem(growth.CURVES, growth.CASES["DetrCriterion"].grows, lambda: curves)
    text = growth.section(few(tmp_path, "DetrCriterion"))
    found = [line[1:4] for line in cells(text, "DetrCriterion") if len(line) == 7]
    assert found == [["objects", "2", "80"], ["objects", "4", "160"], ["images", "1", "900"], ["images", "2", "1,800"]]
    assert (tmp_path / "growth.svg").stat().st_size < 100_000


def test_skewed_images_have_the_same_objects() -> None:
    (even, *_, skewed) = growth.dense_curves()["objects in one image"].shapes.values()
    assert even.counts == (127, *[127] * 13, 126, 126) and skewed.counts == (2000, *[2] * 15)


def test_exponent_of_a_straight_line() -> None:
    points = [growth.Point("", "", n, 10 * n, timing.Timing(3.0 * n, 0.0)) for n in (1, 2, 8)]
    assert growth.exponent(points) == pytest.approx(1)


def test_references_agree_with_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(references, "SIZE", Shape((3, 0), canvas=64))
    monkeypatch.setattr(
        criteria, "CASES", criteria.CASES | {"YOLOv9Criterion": criteria.CASES["YOLOv9Criterion"].at(64)}
    )
    found = list(references._contests(few(tmp_path, *references.MATCHERS, "YOLOXCriterion", "YOLOv9Criterion")))
    assert len(found) == len(references.MATCHERS) + 2
    for name, ours, theirs, apart in found:
        ours(), theirs()
        assert apart < 1e-4, name


@pytest.mark.usefixtures("hurried")
def test_recipes_stand_beside_their_loops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipes, "SIZES", {2: recipes.SIZES[2]})
    (line,) = cells(recipes.section(few(tmp_path, "tags")), "tags")
    assert line[1] == "2" and "±" in line[2] and "±" in line[3] and float(line[5]) < 1e-5
    assert line[6] == " / ".join(map(str, recipes.statements_of("tags")))


def test_statements_are_counted_without_imports_and_docstrings(tmp_path: Path) -> None:
    path = tmp_path / "some.py"
    path.write_text(
        '"""Text."""\nimport os\n\n\ndef f(x):\n    """Text."""\n    if x:\n        return 1\n    return 2\n\n\na = f(1)\n'
    )
    assert recipes.num_statements(path) == 5
    assert recipes.num_statements(path, ["f"]) == 4


@thorough
@pytest.mark.usefixtures("hurried")
def test_compiled_counts_graphs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "BACKEND", "aot_eager")
    monkeypatch.setattr(compiled, "BATCHES", 3)
    monkeypatch.setattr(compiled, "SIZES", ("small",))
    (line,) = cells(compiled.section(few(tmp_path, "DetrCriterion")), "DetrCriterion")
    assert line[1] == "small" and "±" in line[2] and "±" in line[3] and 1 <= int(line[7]) <= 4


@pytest.mark.processes
def test_memory_of_a_case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "SIZE", "small")
    (line,) = cells(memory.section(few(tmp_path, "DetrCriterion")), "DetrCriterion")
    assert int(line[3]) == int(line[1]) + 64 and line[4] == "yes"


def test_missing_packages_are_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rivals, "_MODULES", dict.fromkeys(rivals._MODULES, "no_such_package.at_all"))
    assert rivals.packages().count("missing (ModuleNotFoundError: No module named 'no_such_package')") == 2
    assert rivals.rival("DetrCriterion", None) is None and rivals.rival("SSDLoss", None) is None


def test_rivals_agree() -> None:
    samples = [torch.randn(n, 4) for n in (3, 0, 5)]
    tensor, mask, sizes = core._assign_slices(samples)
    batch = core.combine_data(samples)
    assert torch.equal(batch.tensor, tensor)
    assert torch.equal(batch.mask, mask)
    assert torch.equal(batch.sample_sizes, sizes)
    data, indices = torch.randn(2, 9, 4), core.RaggedBatch(torch.randint(9, (2, 5)), sample_sizes=[5, 2])
    assert torch.equal(core._access(data, indices), core._gather_with_filler(data, indices))
    assert torch.equal(core._gather(data, indices.tensor), core._advanced(data, indices.tensor))


@pytest.mark.parametrize("name", matchers.CASES)
def test_matchers_find_something_in_their_scenes(name: str) -> None:
    case = matchers.CASES[name]
    assignment = case.run(case.scene("small"))()
    assert isinstance(assignment, Assignment)
    assert assignment.num_positives.sum() > 0


@pytest.mark.parametrize("name", criteria.CASES)
def test_criteria_have_gradients_in_their_scenes(name: str) -> None:
    case = criteria.CASES[name]
    scene = case.scene("small")
    case.run(scene)()
    assert all(leaf.grad is not None and leaf.grad.isfinite().all() for leaf in scene.leaves)
    assert sum(float(leaf.grad.abs().sum() > 0) for leaf in scene.leaves) >= len(scene.leaves) / 2
