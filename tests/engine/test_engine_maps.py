"""Two passes over films with masks, against one pass by hand; masks follow the film onto the network's input."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from mammi.capture import plan_layers, plan_maps
from mammi.data import MaskSet, ProbingSet
from mammi.engine import measure_areas
from mammi.errors import ImageError, InputError
from mammi.functional.dissection import iou, upsample
from mammi.targets import create_target
from mammi.types import no_progress


class Net(nn.Module):
    """Brightness at two scales beside random filters."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.fine = nn.AvgPool2d(4)
        self.conv = nn.Conv2d(1, 5, 8, stride=8)
        self.norm = nn.BatchNorm2d(5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.conv(x)).mean((2, 3)) + self.fine(x).mean((2, 3))


def films_and_masks(folder, n_films=7):
    """Films of many shapes, each with a bright rectangle and the table that says where it is."""
    rng = np.random.default_rng(0)
    (folder / "films").mkdir()
    lines = ["image,concept,x0,y0,x1,y1"]
    for film in range(n_films):
        height, width = rng.integers(90, 200, size=2)
        picture = rng.integers(0, 60, size=(height, width)).astype(np.uint8)
        y0, x0 = int(height * 0.4), int(width * 0.3)
        y1, x1 = y0 + height // 5, x0 + width // 4
        picture[y0:y1, x0:x1] = rng.integers(150, 256, size=(y1 - y0, x1 - x0))  # a plateau would have no top 1 %
        Image.fromarray(picture).save(folder / "films" / f"f{film}.png")
        lines += [f"f{film},bright,{x0},{y0},{x1},{y1}", f"f{film},left,0,0,{width / 2},{height}"]
    (folder / "places.csv").write_text("\n".join(lines))
    return ProbingSet.open(folder / "films"), MaskSet.read(folder / "places.csv")


def measure(target, layers, images, masks, rows=None, batch_size=3):
    plans = plan_maps(target, plan_layers(target, layers))
    rows = range(len(images)) if rows is None else rows
    return measure_areas(target, plans, images, rows, masks, batch_size=batch_size, workers=2, progress=no_progress)


@pytest.mark.parametrize("resize", ["squash", "crop", "pad"])
def test_counts_equal_one_pass_by_hand(tmp_path, resize):
    images, masks = films_and_masks(tmp_path)
    target = create_target(Net(), channels=1, size=(64, 96), mean=0.4, std=0.3, resize=resize)
    rows = [0, 2, 3, 5, 6]
    found = measure(target, ["norm", "fine"], images, masks, rows)
    views = torch.stack([target.view(images.film(row)) for row in rows])
    with torch.no_grad():
        maps = {"norm": target.model.norm(target.model.conv(views)), "fine": target.model.fine(views)}
    grids = []
    for row in rows:
        height, width = images.film(row).pixels.shape
        place = target.preprocessing.placement(height, width)
        cells = np.zeros((2, 56, 56), bool)
        y0, x0 = int(height * 0.4), int(width * 0.3)
        for i in range(56):
            for j in range(56):
                y = ((i + 0.5) * 64 / 56 - place.top) / place.height * height
                x = ((j + 0.5) * 96 / 56 - place.left) / place.width * width
                cells[0, i, j] = y0 <= y < y0 + height // 5 and x0 <= x < x0 + width // 4
                cells[1, i, j] = 0 <= y < height and 0 <= x < width / 2
        grids.append(cells)
    masked = np.array(grids)
    for name, values in maps.items():
        pixels = upsample(values, (56, 56)).numpy()
        for unit in range(values.shape[1]):
            on = pixels[:, unit] > np.quantile(pixels[:, unit], 0.99)
            assert found[name].units[unit] == on.sum()
            for concept in range(2):
                assert found[name].both[unit, concept] == (on & masked[:, concept]).sum()
        assert found[name].concepts.tolist() == masked.sum(axis=(0, 2, 3)).tolist()


@pytest.mark.parametrize("resize", ["squash", "crop", "pad"])
def test_a_unit_that_sees_brightness_lies_on_the_bright_mask(tmp_path, resize):
    images, masks = films_and_masks(tmp_path)
    target = create_target(Net(), channels=1, size=224, mean=0.4, std=0.3, resize=resize)
    areas = measure(target, ["fine"], images, masks)["fine"]
    assert areas.both[0, 0] > 0.95 * areas.units[0]  # where it is strongest is inside


def test_batches_change_nothing(tmp_path):
    images, masks = films_and_masks(tmp_path)
    target = create_target(Net(), channels=1, size=64, mean=0.4, std=0.3)
    first, *others = (measure(target, ["norm"], images, masks, batch_size=n)["norm"] for n in (7, 2, 1))
    for other in others:
        torch.testing.assert_close(iou(other), iou(first), atol=2e-3, rtol=0)  # last bits of a convolution


def test_no_film_and_a_film_that_is_gone_are_refused(tmp_path):
    images, masks = films_and_masks(tmp_path)
    target = create_target(Net(), channels=1, size=64, mean=0.4, std=0.3)
    with pytest.raises(InputError, match="no film with masks is among the films that can be read"):
        measure(target, ["norm"], images, masks, [])
    images.paths[3].unlink()
    with pytest.raises(ImageError, match="'f3.png' cannot be read"):
        measure(target, ["norm"], images, masks)
    assert not any(m._forward_hooks for m in target.model.modules())
