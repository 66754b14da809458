"""Altair charts, one function per figure kind.

Every function returns a chart with a fixed size, its own light ground and a description for readers who do not see it.
Call `use_theme` once for the book's fonts.
"""

from ecglib.plots.agreement import agreement, masses
from ecglib.plots.architecture import architecture
from ecglib.plots.beats import class_average, relevance_average
from ecglib.plots.cells import confusion_windows
from ecglib.plots.charts import confusion, mask_history, votes
from ecglib.plots.counts import clause_steps, count_cells, search_hits
from ecglib.plots.course import course
from ecglib.plots.cues import peak_raster, shares, spectra, suppliers, window_average
from ecglib.plots.distributions import distributions
from ecglib.plots.explorer import explorer
from ecglib.plots.gallery import gallery
from ecglib.plots.recipes import mask_path, rank_matrix, relevance_grid
from ecglib.plots.relevance import cam_steps, saliency
from ecglib.plots.reliability import levels, reliability
from ecglib.plots.spectrogram import spectrograms
from ecglib.plots.strips import strip, strips
from ecglib.plots.style import CLASS_COLOURS, use_theme
from ecglib.plots.tables import class_bars, intervals

__all__ = [
    "CLASS_COLOURS",
    "agreement",
    "architecture",
    "cam_steps",
    "class_average",
    "class_bars",
    "clause_steps",
    "confusion",
    "confusion_windows",
    "count_cells",
    "course",
    "distributions",
    "explorer",
    "gallery",
    "intervals",
    "levels",
    "mask_history",
    "mask_path",
    "masses",
    "peak_raster",
    "rank_matrix",
    "relevance_average",
    "relevance_grid",
    "reliability",
    "saliency",
    "search_hits",
    "shares",
    "spectra",
    "spectrograms",
    "strip",
    "strips",
    "suppliers",
    "use_theme",
    "votes",
    "window_average",
]
