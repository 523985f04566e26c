"""Films and what is known of them.

``read_film`` decodes one file (PNG, JPEG, TIFF, DICOM), ``read_film_bytes`` one in memory;
``ProbingSet`` is many of them with ids, patients and labels; ``MaskSet`` knows where on films concepts are;
``pixel_fingerprint`` and ``identical_pixels`` find the same picture under two names.
"""

from mammi.data.inspection import identical_pixels, pixel_fingerprint
from mammi.data.masks import MaskSet
from mammi.data.probing_set import ProbingSet
from mammi.data.reading import IMAGE_SUFFIXES, read_film, read_film_bytes
from mammi.data.table import normalise_label

__all__ = [
    "IMAGE_SUFFIXES",
    "MaskSet",
    "ProbingSet",
    "identical_pixels",
    "normalise_label",
    "pixel_fingerprint",
    "read_film",
    "read_film_bytes",
]
