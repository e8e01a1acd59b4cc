"""Values of a cohort -> figures: scatter with regression line and confidence band, box plots by group."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from .statistics import Correlation, regression_band

#: Okabe and Ito's colours, told apart by colour-blind readers.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
NO_GROUP = "#999999"
#: Points from which on they are small and the legend stands above them.
MANY = 1000
#: Groups in a line of that legend, and the share of the height that a line takes.
IN_A_LINE, LINE_SHARE = 3, 0.09


def group_colours(groups: Collection[str]) -> dict[str, str]:
    """Return a colour for each group, the same in every figure of a cohort; grey for "", no group.

    Examples
    --------
    >>> group_colours(["b", "", "a"])
    {'a': '#0072B2', 'b': '#D55E00', '': '#999999'}
    """
    names = sorted(set(groups) - {""})
    found = {name: COLOURS[n % len(COLOURS)] for n, name in enumerate(names)}
    return {**found, "": NO_GROUP} if "" in groups else found


@dataclass(frozen=True)
class Style:
    """Hold the sizes of a scatter plot: words (points), dots (points²), and which case is ringed, if any."""

    words: float = 10.0
    dot: float = 26.0
    mark: int | None = None


def scatter(
    x: ArrayLike, y: ArrayLike, groups: list[str], labels: tuple[str, str], found: Correlation
) -> Figure:
    """Draw the study's Figure 1 D: every case, the least-squares line and the 95 % band of its mean.

    Parameters
    ----------
    x, y : (n,) float
        Cases that lack a value are not drawn.
    groups : list of str
        Group of each case, "" for none.
    labels : (str, str)
        Labels of the axes.
    found : Correlation
        Of these values.
    """
    figure = Figure(figsize=(6.4, 5.2), layout="constrained")
    draw_scatter(figure.subplots(), (x, y), groups, labels, found)
    return figure


def draw_scatter(
    axes: Axes,
    values: tuple[ArrayLike, ArrayLike],
    groups: list[str],
    labels: tuple[str, str],
    found: Correlation,
    style: Style | None = None,
) -> None:
    """Draw what `scatter` draws into axes; ``values`` are x and y of it."""
    style = style or Style()
    a, b = (np.asarray(one, dtype=np.float64) for one in values)
    colours = group_colours(groups)
    dot = style.dot if a.size < MANY else style.dot / 5
    for name, colour in colours.items():
        axes.scatter([], [], s=style.dot, color=colour, label=name or "no group")
    mixed = np.random.default_rng(0).permutation(a.size)  # no group lies over all others
    axes.scatter(a[mixed], b[mixed], s=dot, color=[colours[groups[n]] for n in mixed], zorder=3)
    both = np.isfinite(a) & np.isfinite(b)
    at = np.linspace(a[both].min(), a[both].max(), 100)
    line, low, high = regression_band(a, b, at)
    axes.plot(at, line, color="#222222", zorder=3.5)
    axes.fill_between(at, low, high, color="#999999", alpha=0.3, linewidth=0, zorder=1)
    if style.mark is not None:
        n = style.mark
        axes.scatter(
            a[n], b[n], s=5 * style.dot, facecolor="none", edgecolor="#000000", linewidth=1.2, zorder=4
        )
    if len(colours) > 1:
        _legend(axes, len(colours), a.size, style.words - 1)
    axes.set_title(
        f"r² = {found.r2.value:.2f} (95 % CI {found.r2.low:.2f}–{found.r2.high:.2f}), "
        f"{p_text(found.p)}, n = {found.n}",
        fontsize=style.words,
    )
    axes.set_xlabel(labels[0], fontsize=style.words)
    axes.set_ylabel(labels[1], fontsize=style.words)
    axes.tick_params(labelsize=style.words - 1)
    axes.spines[["top", "right"]].set_visible(False)


def _legend(axes: Axes, groups: int, points: int, words: float) -> None:
    """Name the groups: at the best place among the points, or above them where they are too many to have one."""
    if points < MANY:
        axes.legend(fontsize=words, frameon=False, loc="best")
        return
    low, high = axes.get_ylim()
    lines = -(-groups // IN_A_LINE)
    axes.set_ylim(low, high + LINE_SHARE * lines * (high - low))
    axes.legend(fontsize=words, frameon=False, loc="upper center", ncols=min(groups, IN_A_LINE))


def boxes(values: Mapping[str, Mapping[str, ArrayLike]], unit: str) -> Figure:
    """Draw box plots: a panel for each measure, a box for each group, a point for every case.

    Parameters
    ----------
    values : mapping of measure's words to mapping of group to (n,) float
        Groups by name.
    unit : str
    """
    figure = Figure(figsize=(3.1 * len(values), 4.2), layout="constrained")
    panels = figure.subplots(1, len(values), squeeze=False)[0]
    rng = np.random.default_rng(0)  # seed of the points' sideways scatter
    for axes, (words, groups) in zip(panels, values.items(), strict=True):
        data = [np.asarray(v, dtype=np.float64) for v in groups.values()]
        data = [v[np.isfinite(v)] for v in data]
        axes.boxplot(data, widths=0.6, showfliers=False, medianprops={"color": "#222222"})
        for n, (one, colour) in enumerate(zip(data, group_colours(groups).values(), strict=True)):
            axes.scatter(n + 1 + rng.uniform(-0.15, 0.15, one.size), one, s=12, color=colour)
        axes.set_xticks(range(1, len(data) + 1), list(groups), rotation=30, ha="right", fontsize=8)
        axes.set_title(words, fontsize=10)
        axes.set_ylabel(unit)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def p_text(p: float) -> str:
    """Return a p value as journals write it.

    Examples
    --------
    >>> p_text(0.0002), p_text(0.0312)
    ('p < 0.001', 'p = 0.031')
    """
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"
