"""Places of concepts: the table, the three kinds of place, and the grid they are laid on."""

import numpy as np
import pytest
from PIL import Image

from mammi.data import MaskSet
from mammi.errors import ImageError, InputError


def write(folder, text, name="places.csv"):
    path = folder / name
    path.write_text(text)
    return path


def centres(n):
    return (np.arange(n) + 0.5) / n


def grid(masks, film="a", shape=(20, 30), side=(10, 15)):
    return masks.grid(film, shape, centres(side[0]), centres(side[1]))


def test_boxes_polygons_and_masks_say_the_same(tmp_path):
    """One rectangle, given in each way and at three sizes of the picture, is the same cells of the grid."""
    picture = np.zeros((40, 60), bool)
    picture[8:24, 12:44] = True
    (tmp_path / "masks").mkdir()
    Image.fromarray(picture).save(tmp_path / "masks" / "a.png")
    Image.fromarray(picture.astype(np.uint8)).save(tmp_path / "masks" / "ones.png")  # 1 and not 255
    Image.fromarray(np.stack([0 * picture, 200 * picture, 0 * picture], -1).astype(np.uint8)).save(tmp_path / "c.png")
    table = write(
        tmp_path,
        "Image,Concept,mask,x0,y0,x1,y1,polygon,width,height,remark\n"
        "a.png,box,,6,4,22,12,,,,in the film's own pixels\n"
        "a,scaled,,12,8,44,24,,60,40,\n"
        'a,polygon,,,,,,"6 4 22 4 22 12 6 12",,,\n'
        "a,turned,,,,,,44;24;12;24;12;8;44;8,60,40,\n"
        "a,mask,masks/a.png,,,,,,,,\n"
        "a,ones,masks/ones.png,,,,,,,,\n"
        "a,coloured,c.png,,,,,,,,\n",
    )
    masks = MaskSet.read(table)
    assert masks.concepts == ("box", "coloured", "mask", "ones", "polygon", "scaled", "turned")
    found = grid(masks)
    expected = np.zeros((10, 15), bool)
    expected[2:6, 3:11] = True
    for concept, cells in zip(masks.concepts, found, strict=True):
        np.testing.assert_array_equal(cells, expected, err_msg=concept)


@pytest.mark.parametrize("seed", range(4))
def test_polygons_equal_a_slow_even_odd_rule(tmp_path, seed):
    corners = np.random.default_rng(seed).uniform(-3, 33, size=(9, 2)).round(1)  # crosses itself, leaves the film
    table = write(tmp_path, "image,concept,polygon\na,star," + " ".join(map(str, corners.ravel())) + "\n")
    found = grid(MaskSet.read(table))[0]
    for i, y in enumerate(centres(10) * 20):
        for j, x in enumerate(centres(15) * 30):
            inside = False
            for (x0, y0), (x1, y1) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
                if (y0 > y) != (y1 > y) and x < x0 + (y - y0) / (y1 - y0) * (x1 - x0):
                    inside = not inside
            assert found[i, j] == inside


def test_edges_of_a_box_and_of_the_film(tmp_path):
    masks = MaskSet.read(write(tmp_path, "image,concept,x0,y0,x1,y1\na,box,-5,2,4,9\n"))
    at = np.array([-0.1, 0.0, 0.2, 0.8999, 0.9, 1.0])
    found = masks.grid("a", (10, 10), at, np.array([-0.1, 0.0, 0.3999, 0.4]))[0]
    expected = np.outer([False, False, True, True, False, False], [False, True, True, False])
    np.testing.assert_array_equal(found, expected)  # nothing beside the film, though the box goes on there


def test_places_of_one_concept_are_united_and_the_order_of_lines_means_nothing(tmp_path):
    lines = [
        "a,Pleural_Effusion,0,0,4,4",
        "b,mass,0,0,2,2",
        "a,pleural effusion,10,10,14,14",
        "c,,,,,",
        "c,No Finding,,,,",
    ]
    head = "image,concept,x0,y0,x1,y1\n"
    masks = MaskSet.read(write(tmp_path, head + "\n".join(lines)))
    assert masks.films == ("a", "b", "c")
    assert masks.concepts == ("mass", "pleural effusion")
    assert grid(masks)[1].sum() == 8
    assert not grid(masks)[0].any()
    assert not grid(masks, "c").any()
    moved = MaskSet.read(write(tmp_path, head + "\n".join(reversed(lines)), "moved.csv"))
    for film in masks.films:
        np.testing.assert_array_equal(grid(masks, film), grid(moved, film))
    assert repr(masks) == "MaskSet: 3 films, 2 concepts (films): mass 1, pleural effusion 1"


def test_films_are_chosen_and_concepts_renamed(tmp_path):
    text = "image,concept,x0,y0,x1,y1\na,fluid,0,0,4,4\na,effusion,10,10,14,14\na,mass,0,10,4,14\nb,mass,0,0,2,2\n"
    masks = MaskSet.read(write(tmp_path, text))
    names = {"fluid": "pleural effusion", "effusion": "pleural effusion", "mass": None}
    renamed = masks.renamed(names.get)
    assert renamed.concepts == ("pleural effusion",)
    assert renamed.films == ("a", "b")  # b was looked at all the same
    np.testing.assert_array_equal(grid(renamed)[0], grid(masks)[:2].any(axis=0))
    assert masks.only(["b", "z"]).films == ("b",)
    with pytest.raises(InputError, match="film 'a' is not among the 1 films with masks"):
        grid(masks.only(["b"]))


def test_the_fingerprint_follows_the_content(tmp_path):
    picture = np.eye(8, dtype=bool)
    Image.fromarray(picture).save(tmp_path / "a.png")
    head = "image,concept,mask,x0,y0,x1,y1,width,height\n"

    def of(text, folder=tmp_path):
        return MaskSet.read(write(folder, head + text)).fingerprint()

    (tmp_path / "moved").mkdir()
    Image.fromarray(picture).save(tmp_path / "moved" / "other name.png")
    base = of("a,mass,a.png,,,,,,\n")
    assert of("a,mass,other name.png,,,,,,\n", tmp_path / "moved") == base
    prints = {base, of("a,nodule,a.png,,,,,,\n"), of("b,mass,a.png,,,,,,\n"), of("a,mass,a.png,,,,,,\nb,,,,,,,,\n")}
    prints |= {of("a,mass,,0,0,4,4,,\n"), of("a,mass,,0,0,4,5,,\n"), of("a,mass,,0,0,4,4,9,8\n")}
    Image.fromarray(~picture).save(tmp_path / "a.png")
    prints.add(of("a,mass,a.png,,,,,,\n"))
    assert len(prints) == 8


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("film,concept\na,b\n", r"'places.csv' has no column 'image' or no column 'concept': got film, concept"),
        ("image,concept\n", "holds no rows"),
        ("image,concept,mask\n,mass,a.png\n", r"line 2: the image is blank"),
        ("image,concept,mask\na,,a.png\n", r"line 2: a mask has no concept: name it"),
        ("image,concept,mask\na,mass,\n", r"line 2: 'mass' needs one place, .*; got none"),
        ("image,concept\na,mass\n", r"line 2: 'mass' needs one place"),
        ("image,concept,mask,x0,y0,x1,y1\na,mass,a.png,1,1,2,2\n", "got mask and box"),
        ("image,concept,x0,y0,x1\na,mass,1,1,2\n", "y1 must be a number, got ''"),
        ("image,concept,x0,y0,x1,y1\na,mass,1,1,2,two\n", "y1 must be a number, got 'two'"),
        ("image,concept,x0,y0,x1,y1\na,mass,1,1,2,inf\n", "y1 must be a finite number, got 'inf'"),
        ("image,concept,x0,y0,x1,y1\na,mass,5,1,2,3\n", "the box 5, 1, 2, 3 is empty: expected x0 < x1 and y0 < y1"),
        ("image,concept,polygon\na,mass,1 2 3 4\n", "the polygon has 4 numbers"),
        ("image,concept,polygon\na,mass,1 2 3 4 5 6 7\n", "the polygon has 7 numbers"),
        ("image,concept,polygon,width\na,mass,1 2 3 4 5 9,20\n", "height must be a number, got ''"),
        ("image,concept,polygon,width,height\na,mass,1 2 3 4 5 9,20,0\n", "whole numbers above 0, got 20 and 0"),
        ("image,concept,x0,y0,x1,y1,width,height\na,mass,100,1,200,2,90,90\n", "lies outside its picture of 90 x 90"),
    ],
)
def test_a_table_that_cannot_be_understood_is_refused_by_line(tmp_path, text, match):
    with pytest.raises(InputError, match=match):
        MaskSet.read(write(tmp_path, text))


def test_masks_that_are_gone_or_of_another_shape_are_refused(tmp_path):
    table = write(tmp_path, "image,concept,mask\na,mass,gone.png\nb,mass,b.png\n")
    masks = MaskSet.read(table)
    with pytest.raises(ImageError, match=r"Mask 'gone.png' \(line 2 of the table\) cannot be read"):
        masks.fingerprint()
    with pytest.raises(ImageError, match="'gone.png' cannot be read: there is no such file"):
        grid(masks)
    Image.fromarray(np.ones((30, 20), bool)).save(tmp_path / "b.png")
    with pytest.raises(InputError, match=r"mask 'b.png' is 20 x 30 pixels \(width x height\) and its film 30 x 20"):
        grid(masks, "b")
    boxes = MaskSet.read(write(tmp_path, "image,concept,x0,y0,x1,y1,width,height\na,mass,1,1,9,9,20,30\n", "boxes.csv"))
    with pytest.raises(InputError, match="the picture of line 2 is 20 x 30 pixels"):
        grid(boxes)
