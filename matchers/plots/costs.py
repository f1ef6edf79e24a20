"""A picture of the costs of one image. Needs matplotlib; no matcher imports this module."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from matchers.assignments.assignment import Assignment, Plan
from matchers.assignments.checks import position_in
from matchers.plots.picture import (
    SMALLEST_WEIGHT,
    check_result,
    import_pyplot,
    name_of_target,
    own_position,
    strengths_of,
)
from matchers.targets.targets import Targets
from ragged.values.checks import (
    all_equal,
    check_count,
    check_has_values,
    check_is_sequence,
    check_is_tensor,
    check_positive,
    sample_name,
)
from ragged.values.ranking import smallest

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MARK = "#e8112d"
# More numbers than these are not legible.
_MOST_VALUES, _MOST_ROW_LABELS, _MOST_COLUMN_LABELS, _MANY_COLUMNS = 120, 25, 40, 15
# In points, and of a digit in units of the size of the font.
_SMALLEST_FONT, _WIDTH_OF_DIGIT, _LEAST_SHARE = 4.5, 0.64, 0.8


def plot_cost(
    costs: Tensor | Mapping[str, Tensor],
    sample: int | Sequence[int],
    *,
    result: Assignment | Plan | None = None,
    targets: Any = None,
    num_cheapest: int = 3,
    max_columns: int = 40,
    class_names: Sequence[str] | None = None,
    ax: Axes | Sequence[Axes] | None = None,
) -> list[Axes]:
    """Draw the costs of one image, targets down and predictions across, and mark the matches.

    Of more than ``max_columns`` predictions only those that matter are shown: the matched ones, and for each target the
    ``num_cheapest`` of lowest total cost. The colour scale resolves cheap pairs; much more expensive pairs share one
    colour, and non-finite costs are white.

    Args:
        costs: ``(*batch, G, P)``, or several terms by name, as a matcher's ``costs`` gives them: one panel for each,
            and one for their total.
        sample: Index of the image; one for each batch dimension of the costs if they have several.
        result: What the matcher returned. Without it, no match is marked.
        targets: Anything that ``Targets.of`` reads, to leave out filler and ignored targets. Without them, the number
            of targets is that of the result, or G.
        num_cheapest: Number of predictions to show for each target.
        max_columns: Limit of the number of columns.
        class_names: Names of the labels. With ``targets``, rows have the index and the class of their target.
        ax: Where to draw, one for each panel; by default in a new figure.

    Returns:
        The axes of each panel.

    Raises:
        ImportError: matplotlib is not installed.
        IndexError: ``sample`` does not fit the batch dimensions.
        TypeError: ``costs`` are neither a tensor nor a mapping.
        ValueError: There is no term, shapes differ, or there are not as many axes as panels.

    >>> from matplotlib.figure import Figure
    >>> match = Assignment.from_index(torch.tensor([[-1, 0]]), num_targets=torch.tensor([1]))
    >>> axes = plot_cost(torch.tensor([[[2.0, 1.0]]]), 0, result=match, ax=Figure().subplots())
    >>> len(axes[0].patches)
    1
    """
    pyplot, terms = import_pyplot(), _terms(costs)
    at = position_in(sample, next(iter(terms.values())).shape[:-2])
    check_positive(num_cheapest, "num_cheapest")
    check_count(max_columns, "max_columns")
    if result is not None:
        check_result(result)
        position_in(sample, result.num_targets.shape)
    panels = {name: term[at].detach().float().cpu() for name, term in terms.items()}
    if len(panels) > 1:
        panels.setdefault("total", torch.stack(list(panels.values())).sum(0))
    cost = panels.get("total", next(iter(panels.values())))
    rows = _rows(at, len(cost), result, targets)
    strengths = torch.zeros(cost.T.shape) if result is None else strengths_of(result, at)
    if len(strengths) != cost.shape[1]:
        raise ValueError(f"the result is for {len(strengths)} predictions, the costs are for {cost.shape[1]}")
    matched = strengths[:, rows].T >= SMALLEST_WEIGHT
    columns = _columns(cost[rows], matched, num_cheapest, max_columns)
    axes = _panels(pyplot, ax, len(panels), len(rows), len(columns))
    names = _names_of_targets(at, rows, targets, class_names)
    for panel, (name, term) in zip(axes, panels.items(), strict=True):
        _draw_cost(panel, name, term[rows][:, columns], strengths[columns][:, rows].T, num_cheapest)
        _label_cells(panel, names, columns)
    if ax is None:
        title = f"{sample_name(at)}: the cost of each pair of a target and a prediction"
        axes[0].figure.suptitle(title, fontsize=10)
    if result is not None:
        axes[0].set_title("framed: matched", fontsize=8, loc="right", color=_MARK)
    axes[-1].set_xlabel("prediction" if len(columns) == cost.shape[1] else f"prediction (some of {cost.shape[1]})")
    return axes


# --- what to draw, and how -----------------------------------------------------------------------------------------


def _rows(at: tuple[int, ...], count: int, result: Assignment | Plan | None, targets: Any) -> list[int]:
    """The targets to show."""
    known = count if result is None else int(result.num_targets[at])
    rows = list(range(known))
    if targets is not None:
        targets = Targets.of(targets)
        own = own_position(at, targets)
        if result is not None and int(targets.num_targets[own]) != known:
            raise ValueError(f"the result is for {known} targets, got {int(targets.num_targets[own])}")
        rows = targets.matchable[own].nonzero().flatten().tolist()
    if rows and rows[-1] >= count:
        raise ValueError(f"there are {rows[-1] + 1} targets, the costs are for {count}")
    return rows


def _columns(cost: Tensor, matched: Tensor, num_cheapest: int, max_columns: int) -> list[int]:
    """The predictions to show."""
    if cost.shape[1] <= max_columns:
        return list(range(cost.shape[1]))
    cheapest = smallest(cost.nan_to_num(torch.inf, torch.inf, torch.inf), num_cheapest)[1]
    return sorted({*cheapest.flatten().tolist(), *matched.any(0).nonzero().flatten().tolist()})


def _terms(costs: Any) -> dict[str, Tensor]:
    if not isinstance(costs, (Tensor, Mapping)):
        raise TypeError(f"costs must be a tensor (*batch, G, P), or several by name, got {type(costs).__name__}")
    terms = {"cost": costs} if isinstance(costs, Tensor) else dict(costs)
    for name, term in terms.items():
        check_is_tensor(term, f"the cost {name!r}")
        check_has_values(term, "a picture")
    shapes = {name: tuple(term.shape) for name, term in terms.items()}
    if not shapes or not all_equal(shapes.values()) or len(next(iter(shapes.values()))) < 2:
        raise ValueError(f"costs must be one tensor (*batch, G, P) or several of the same shape, got {shapes}")
    return terms


def _panels(pyplot: Any, ax: Axes | Sequence[Axes] | None, count: int, rows: int, columns: int) -> list[Axes]:
    if ax is None:
        size = (min(max(4, 1.5 + 0.38 * columns), 14), count * min(max(1.4, 0.7 + 0.26 * rows), 6))
        grid: Any = {"squeeze": False, "sharex": True, "figsize": size, "layout": "constrained"}
        return list(pyplot.subplots(count, 1, **grid)[1][:, 0])
    axes: list[Axes] = [ax] if hasattr(ax, "add_patch") else list(ax)  # type: ignore[list-item]
    if len(axes) != count:
        raise ValueError(f"there are {count} panels to draw, got {len(axes)} axes")
    return axes


def _draw_cost(ax: Axes, name: str, cost: Tensor, strengths: Tensor, num_cheapest: int) -> None:
    """One panel: costs (n, m) as colours, and frames around the matched cells."""
    from matplotlib.patches import Rectangle

    ax.set_title(name, fontsize=9, loc="left")
    if not cost.numel():
        what = "no predictions" if cost.shape[0] else "no targets"
        ax.text(0.5, 0.5, what, ha="center", va="center", transform=ax.transAxes)
        return
    matched = strengths >= SMALLEST_WEIGHT
    low, high, is_cut = _limits(cost, matched, num_cheapest)
    shown = cost.masked_fill(~cost.isfinite(), torch.nan).numpy()
    picture = ax.imshow(shown, cmap="viridis", vmin=low, vmax=high, aspect="auto", interpolation="nearest")
    ax.figure.colorbar(picture, ax=ax, extend="max" if is_cut else "neither", pad=0.01).ax.tick_params(labelsize=7)
    for row, column in matched.nonzero().tolist():
        style: dict[str, Any] = {"fill": False, "ec": _MARK, "lw": 0.5 + 2 * float(strengths[row, column])}
        ax.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, zorder=3, **style))
    _write_values(ax, cost, (low + high) / 2)


def _write_values(ax: Axes, cost: Tensor, middle: float) -> None:
    """The number of each cell, as large as the cells are wide; none if they were too small to read."""
    digits = 3 if cost.shape[1] <= _MANY_COLUMNS else 2
    finite = map(tuple, cost.isfinite().nonzero().tolist())
    texts = {at: _short(float(cost[at]), digits) for at in finite}
    longest = max(map(len, texts.values()), default=1)
    figure = _figure_of(ax)
    # A figure that lays itself out does so later, and leaves a panel more room than it has now.
    share = max(ax.get_position().width, _LEAST_SHARE if figure.get_layout_engine() else 0.0)
    points = 72 * share * figure.get_figwidth()
    size = min(7.0, points / cost.shape[1] / (_WIDTH_OF_DIGIT * (longest + 1)))
    if size < _SMALLEST_FONT or cost.numel() > _MOST_VALUES:
        return
    for (row, column), text in texts.items():
        color = "black" if float(cost[row, column]) > middle else "white"
        ax.text(column, row, text, ha="center", va="center", fontsize=size, color=color)


def _short(value: float, digits: int) -> str:
    """Of large numbers the digits before the point, as long as they are few."""
    return f"{value:.0f}" if 10**digits <= abs(value) < 1e5 else f"{value:.{digits}g}"


def _figure_of(ax: Axes) -> Any:
    """The whole figure, of which a subfigure is a part."""
    figure: Any = ax.figure
    while hasattr(figure, "_parent"):
        figure = figure._parent
    return figure


def _limits(cost: Tensor, matched: Tensor, num_cheapest: int) -> tuple[float, float, bool]:
    """Lowest and highest cost that have colours of their own, and whether there are higher ones."""
    finite = cost[cost.isfinite()]
    if not finite.numel():
        return 0.0, 1.0, False
    cheap = cost.nan_to_num(torch.inf, torch.inf, torch.inf).sort(-1).values[:, :num_cheapest]
    cheap, low = cheap[cheap.isfinite()], finite.min()
    # Matchers add constants like 1e5 to what shall not be chosen. They would leave one colour for all the others.
    interesting = torch.cat([cost[matched & cost.isfinite()], cheap.median().view(1) if len(cheap) else low.view(1)])
    near = finite[finite <= low + 30 * (interesting.max() - low)]
    high = near.max() if float(near.max()) > float(low) else finite.max()
    return float(low), float(high), bool(high < finite.max())


def _names_of_targets(
    at: tuple[int, ...], rows: list[int], targets: Any, class_names: Sequence[str] | None
) -> list[str]:
    if class_names is not None:
        check_is_sequence(class_names, "class_names", "names")
    if targets is None:
        return list(map(str, rows))
    targets = Targets.of(targets)
    labels = None if targets.labels is None else targets.labels.tensor[own_position(at, targets)].cpu()
    return [name_of_target(row, labels, class_names) for row in rows]


def _label_cells(ax: Axes, rows: Sequence[str], columns: Sequence[int]) -> None:
    ax.set_ylabel("target")
    for axis, numbers, most in ((ax.yaxis, rows, _MOST_ROW_LABELS), (ax.xaxis, columns, _MOST_COLUMN_LABELS)):
        places = range(0, len(numbers), -(-len(numbers) // most) or 1)
        axis.set_ticks(list(places), [str(numbers[place]) for place in places], fontsize=7)
    if len(columns) > _MANY_COLUMNS:
        ax.tick_params(axis="x", labelrotation=90)
