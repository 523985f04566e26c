"""Draw the picture of drawn films in the docs: ``python scripts/draw_montage.py docs/pictures/phantoms.jpg``."""

import sys

import numpy as np
from PIL import Image

from mammi.phantoms import Cohort

ROWS, COLUMNS, SIDE = 4, 6, 190


def main() -> None:
    """Write one row of films below the other."""
    films = [film.to_pil().resize((SIDE, SIDE), Image.Resampling.LANCZOS) for film in Cohort(ROWS * COLUMNS, seed=77)]
    rows = [np.concatenate(films[start : start + COLUMNS], axis=1) for start in range(0, len(films), COLUMNS)]
    Image.fromarray(np.concatenate(rows)).save(sys.argv[1], quality=82, optimize=True)


if __name__ == "__main__":
    main()
