"""Colours of the two themes, and the few shapes that all pictures are made of.

Pictures are drawn in units of one cell; y points down, as rows do. Nothing is behind them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle

# Inches; a page is about 740 pixels wide, at 96 pixels an inch.
WIDTH = 7.6
# The same numbers give the same file: no date, no random names.
matplotlib.rcParams.update(
    {"svg.hashsalt": "ragged-batch", "svg.fonttype": "path", "hatch.linewidth": 0.6}
)


@dataclass(frozen=True)
class Theme:
    """Colours of one kind of page."""

    name: str
    paper: str
    ink: str
    muted: str
    line: str
    panel: str
    hues: tuple[str, ...]

    def tint(self, color: str, strength: float = 0.2) -> tuple[float, ...]:
        """A colour thinned with that of the page."""
        pairs = zip(to_rgb(color), to_rgb(self.paper), strict=True)
        return tuple(round(strength * one + (1 - strength) * other, 3) for one, other in pairs)


# Told apart by people who do not see red and green as different, too.
LIGHT = Theme(
    "light",
    paper="#ffffff",
    ink="#1b1f24",
    muted="#5c6570",
    line="#b4bcc6",
    panel="#f3f5f8",
    hues=("#0067b0", "#c24e00", "#00805e", "#a8437f"),
)
DARK = Theme(
    "dark",
    paper="#131416",
    ink="#e6e9ed",
    muted="#9aa4b0",
    line="#5a636e",
    panel="#1e2226",
    hues=("#62b0f4", "#f2924a", "#3fc79d", "#e58cc0"),
)
THEMES = (LIGHT, DARK)


@dataclass(frozen=True)
class Canvas:
    """A figure without axes."""

    figure: Figure
    ax: Axes
    theme: Theme

    @classmethod
    def of(cls, theme: Theme, columns: float, rows: float) -> Canvas:
        """A page's width of ``columns`` cells, and as many rows as are asked for."""
        figure = Figure(figsize=(WIDTH, WIDTH * rows / columns))
        figure.patch.set_alpha(0)
        ax = figure.add_axes((0, 0, 1, 1))
        ax.set_xlim(0, columns)
        ax.set_ylim(rows, 0)
        ax.set_axis_off()
        return cls(figure, ax, theme)

    def text(
        self,
        x: float,
        y: float,
        text: str,
        *,
        color: str | None = None,
        size: float = 9.5,
        **style: Any,
    ) -> None:
        """Words, centred at a point unless told otherwise."""
        look: dict[str, Any] = {
            "ha": "center",
            "va": "center",
            "color": color or self.theme.ink,
            "fontsize": size,
        } | style
        self.ax.text(x, y, text, **look)

    def title(self, x: float, y: float, text: str, note: str = "") -> None:
        """A heading at the left of what it heads, and its shape or the like below."""
        self.text(x, y, text, ha="left", weight="bold", size=10)
        if note:
            self.text(x, y + 0.42, note, ha="left", color=self.theme.muted, size=8.5)

    def code(self, x: float, y: float, text: str, **style: Any) -> None:
        """Words in a fixed pitch."""
        look: dict[str, Any] = {"family": "monospace", "size": 9} | style
        self.text(x, y, text, **look)

    def cell(
        self,
        x: float,
        y: float,
        text: str = "",
        *,
        hue: str | None = None,
        size: float = 9.5,
        **box: Any,
    ) -> None:
        """A valid cell with its upper left corner at a point, of the colour of its sample."""
        color = hue or self.theme.muted
        self.box(
            x,
            y,
            1,
            1,
            edge=color,
            fill=self.theme.tint(color, box.pop("strength", 0.22)),
            **box,
        )
        self.text(x + 0.5, y + 0.5, text, size=size)

    def filler(self, x: float, y: float, size: float = 1.0) -> None:
        """A cell that holds anything."""
        edge = self.theme.tint(self.theme.line, 0.75)
        side = size - 0.12
        self.ax.add_patch(
            Rectangle(
                (x + 0.06, y + 0.06),
                side,
                side,
                facecolor="none",
                edgecolor=edge,
                hatch="////",
                linewidth=0.8,
            )
        )

    def box(
        self,
        x: float,
        y: float,
        width: float,
        height: float,
        *,
        edge: Any = None,
        fill: Any = None,
        **box: Any,
    ) -> None:
        """A rounded rectangle, a little smaller than its place."""
        gap, radius = box.pop("gap", 0.06), box.pop("radius", 0.12)
        style: dict[str, Any] = {"linewidth": 1.1, "zorder": 2} | box
        self.ax.add_patch(
            FancyBboxPatch(
                (x + gap + radius, y + gap + radius),
                width - 2 * (gap + radius),
                height - 2 * (gap + radius),
                boxstyle=f"round,pad={radius}",
                facecolor=self.theme.panel if fill is None else fill,
                edgecolor=edge or self.theme.line,
                **style,
            )
        )

    def arrow(
        self,
        start: tuple[float, float],
        end: tuple[float, float],
        *,
        color: str | None = None,
        bend: float = 0.0,
        **style: Any,
    ) -> None:
        """From one point to another."""
        look: dict[str, Any] = {
            "linewidth": 1.3,
            "shrinkA": 0,
            "shrinkB": 0,
            "mutation_scale": 11,
            "zorder": 3,
        } | style
        self.ax.add_patch(
            FancyArrowPatch(
                start,
                end,
                arrowstyle="-|>",
                connectionstyle=f"arc3,rad={bend}",
                color=color or self.theme.muted,
                **look,
            )
        )


def save(canvas: Canvas, path: Path) -> None:
    """As SVG, without a date, and with no more digits than can be seen."""
    canvas.figure.savefig(path, format="svg", metadata={"Date": None}, transparent=True)
    path.write_text(re.sub(r"(\.\d{3})\d+", r"\1", path.read_text()))
