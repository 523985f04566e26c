"""Fit an annotator of one's own: a locked image network and a locked sentence encoder, joined by small projections.

`fit_vlm` trains and saves one; ``create_vlm("fitted:FOLDER")`` loads it.
"""

from mammi.fitting.fit import Fitted, fit_vlm
from mammi.fitting.pairs import Pairs, read_pairs

__all__ = ["Fitted", "Pairs", "fit_vlm", "read_pairs"]
