"""Figures of thousands of cases: what is written lies over no case, and no group hides another."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from analysis.cohort.figures import group_colours, scatter
from analysis.cohort.statistics import correlate


@pytest.mark.parametrize("count", [3, 7])
def test_thousands_of_cases_lie_beside_the_legend_and_show_every_group(count: int) -> None:
    rng = np.random.default_rng(4)
    x, y = (np.repeat(rng.uniform(low, 100, 400), count) for low in (0, 40))
    groups = [f"group {n % count}" for n in range(len(x))]  # every group at every place
    figure = scatter(x, y, groups, ("abnormal", "DLCO"), correlate(x, y))
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    (axes,) = figure.axes
    legend = axes.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == sorted(set(groups))
    box = legend.get_window_extent()
    assert axes.get_window_extent().contains(*box.max)
    places = axes.transData.transform(np.column_stack([x, y]))
    assert not any(box.contains(*place) for place in places)
    pixels = np.asarray(canvas.buffer_rgba())[..., :3].reshape(-1, 3)
    for colour in group_colours(groups).values():
        rgb = [int(colour[n : n + 2], 16) for n in (1, 3, 5)]
        own = (pixels == rgb).all(axis=1).sum()
        assert own > 100  # the dot of the legend has 37
