"""Altair charts, one function per figure kind.

Every function returns a chart with a fixed size, its own light ground and a description for readers who do not see it.
Call `use_theme` once for the book's fonts.
"""

from ecglib.plots.beats import class_average, relevance_average
from ecglib.plots.charts import confusion, mask_history, votes
from ecglib.plots.relevance import cam_steps, saliency
from ecglib.plots.strips import strip, strips
from ecglib.plots.style import CLASS_COLOURS, use_theme
from ecglib.plots.tables import class_bars, intervals

__all__ = [
    "CLASS_COLOURS",
    "cam_steps",
    "class_average",
    "class_bars",
    "confusion",
    "intervals",
    "mask_history",
    "relevance_average",
    "saliency",
    "strip",
    "strips",
    "use_theme",
    "votes",
]
