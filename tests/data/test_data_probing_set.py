import os
import threading
import time
from hashlib import sha256

import numpy as np
import pandas as pd
import pytest
from film_crafting import dicom, encode, film, save_dicom

from mammi.data import ProbingSet, identical_pixels, pixel_fingerprint
from mammi.data.files import list_images, stem_ids
from mammi.errors import ImageError, InputError
from mammi.types import Film, ImageSource


def write(root, *names):
    for i, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode(film(8, 9, i), "PNG"))


# ---- folders


def test_a_folder_is_listed_in_order_and_the_rest_counted(tmp_path):
    write(tmp_path, "b/2.png", "a.PNG", "b/10.JPEG", "c.tif", "b/1.2.840.113", ".hidden.png", ".cache/x.png")
    (tmp_path / "notes.txt").write_text("x")
    save_dicom(dicom(film(4, 4)), tmp_path / "b" / "1.2.840.114")
    films = ProbingSet.open(tmp_path)
    assert isinstance(films, ImageSource)
    assert [path.relative_to(tmp_path).as_posix() for path in films.paths] == [
        "a.PNG",
        "b/1.2.840.114",
        "b/10.JPEG",
        "b/2.png",
        "c.tif",
    ]
    assert films.ids == ["a", "1.2.840.114", "10", "2", "c"]
    assert {path.name for path in films.ignored} == {"notes.txt", ".hidden.png", "1.2.840.113"}
    assert (films.patients_known, films.patients.tolist()) == (False, films.ids)
    assert films.labels.shape == (5, 0)
    assert repr(films) == "ProbingSet: 5 films of unknown patients\n  left out: 3 other files"
    np.testing.assert_array_equal(np.round(films.film(0).pixels * 255), film(8, 9, 1))


def test_equal_stems_are_told_apart_by_their_folders(tmp_path):
    write(tmp_path, "p1/view.png", "p2/view.png")
    assert ProbingSet.open(tmp_path).ids == ["p1/view", "p2/view"]
    write(tmp_path, "p1/view.jpg")
    with pytest.raises(InputError, match=r"1 image ids occur more than once: 'p1/view'; rename"):
        ProbingSet.open(tmp_path)
    assert stem_ids(("a/1.2.3", "a/1.2.4")) == ["1.2.3", "1.2.4"]


def test_links_that_lead_back_do_not_hang(tmp_path):
    write(tmp_path, "sub/a.png")
    (tmp_path / "sub" / "up").symlink_to(tmp_path, target_is_directory=True)
    assert list_images(tmp_path).images == ("sub/a.png",)


def test_folders_without_images(tmp_path):
    with pytest.raises(ImageError, match="holds no image among 0 files"):
        ProbingSet.open(tmp_path)
    with pytest.raises(ImageError, match="does not exist: give a folder"):
        ProbingSet.open(tmp_path / "no")
    (tmp_path / "a.txt").touch()
    with pytest.raises(ImageError, match="is a file: give a folder"):
        ProbingSet.open(tmp_path / "a.txt")
    with pytest.raises(ImageError, match="holds no image among 1 files"):
        ProbingSet.open(tmp_path)


# ---- tables


def test_a_table_gives_order_labels_and_patients(tmp_path):
    write(tmp_path, "images/x.png", "images/y.png", "images/z.png", "images/other.png")
    table = tmp_path / "films.csv"
    table.write_text("id,path,patient,view,Mass,Effusion\nZ,images/z.png,p2,PA,1,\nX,x.png,p1,AP,0,1\ny,,p1,AP,-1,0\n")
    films = ProbingSet.open(tmp_path / "images", table)
    assert films.ids == ["Z", "X", "y"]
    assert [path.name for path in films.paths] == ["z.png", "x.png", "y.png"]
    assert (films.patients.tolist(), films.patients_known) == (["p2", "p1", "p1"], True)
    np.testing.assert_array_equal(films.labels, [[1, np.nan], [0, 1], [np.nan, 0]])
    assert [path.name for path in films.without_row] == ["other.png"]
    assert repr(films) == (
        "ProbingSet: 3 films of 2 patients\n"
        "  2 labels (positives): mass 1, effusion 1\n"
        "  views: AP 2, PA 1\n"
        "  left out: 1 files without a row"
    )


def test_a_table_alone_counts_paths_from_its_own_folder(tmp_path):
    write(tmp_path, "images/x.png", "images/y.png")
    (tmp_path / "films.csv").write_text("id,path,Mass\n1,images/y.png,1\n2,images/x.png,0\n")
    films = ProbingSet.open(tmp_path / "films.csv")
    assert [path.name for path in films.paths] == ["y.png", "x.png"]
    assert films.ignored == ()


def test_ids_alone_find_files_anywhere_below(tmp_path):
    write(tmp_path, "images_001/images/a.png", "images_002/images/b.png", "images_002/images/c.png")
    (tmp_path / "t.csv").write_text("Image Index,Finding Labels\nb.png,Mass\na.png,\n")
    films = ProbingSet.open(tmp_path, tmp_path / "t.csv")
    assert [path.relative_to(tmp_path).as_posix() for path in films.paths] == [
        "images_002/images/b.png",
        "images_001/images/a.png",
    ]
    assert (len(films.without_row), films.ignored) == (1, ())
    write(tmp_path, "images_001/images/b.png")
    with pytest.raises(InputError, match="line 2: image 'b' fits 2 files"):
        ProbingSet.open(tmp_path, tmp_path / "t.csv")


def test_leading_folders_of_a_path_may_be_missing(tmp_path):
    write(tmp_path, "p1/view.png", "p2/view.png")
    (tmp_path / "t.csv").write_text(f"Path,Mass\nSet-v1/train/p2/view.png,1\n{tmp_path / 'p1' / 'view.png'},0\n")
    films = ProbingSet.open(tmp_path, tmp_path / "t.csv")
    assert [path.parent.name for path in films.paths] == ["p2", "p1"]
    assert films.ids == ["p2/view", "p1/view"]


def test_a_path_is_never_swapped_for_a_namesake_elsewhere(tmp_path):
    write(tmp_path, "valid/1.png")
    (tmp_path / "t.csv").write_text("id,path,Mass\n1,train/1.png,1\n")
    with pytest.raises(ImageError, match=r"1 of 1 rows of table 't\.csv' have no image"):
        ProbingSet.open(tmp_path, tmp_path / "t.csv")


def test_rows_without_a_file_are_an_error_that_counts_them(tmp_path):
    write(tmp_path, "images/i0.png")
    (tmp_path / "t.csv").write_text("id,Mass\n" + "".join(f"i{i},1\n" for i in range(8)))
    with pytest.raises(ImageError, match=r"7 of 8 rows .*line 3 \('i1'\), line 4 .*line 7 \('i5'\), \.\.\.; correct"):
        ProbingSet.open(tmp_path / "images", tmp_path / "t.csv")
    films = ProbingSet.from_table(tmp_path / "t.csv", tmp_path / "images", skip_missing=True)
    assert (len(films), films.n_missing, films.labels.tolist()) == (1, 7, [[1]])
    assert "7 rows without a file" in repr(films)


def test_two_rows_for_one_file(tmp_path):
    write(tmp_path, "a.png")
    (tmp_path / "t.csv").write_text("id,path\nx,a.png\ny,./a.png\n")
    with pytest.raises(InputError, match=r"lines 2 and 3 mean the same file 'a\.png'"):
        ProbingSet.open(tmp_path, tmp_path / "t.csv")


def test_a_patient_that_is_blank_makes_patients_unknown(tmp_path):
    write(tmp_path, "a.png", "b.png")
    (tmp_path / "t.csv").write_text("id,patient\na,p\nb,\n")
    films = ProbingSet.open(tmp_path, tmp_path / "t.csv")
    assert (films.patients.tolist(), films.patients_known) == (["p", "b"], False)


def test_a_big_table_takes_seconds(tmp_path):
    n_images = 20_000
    for i in range(n_images):
        os.close(os.open(tmp_path / f"{i:08}_000.png", os.O_CREAT | os.O_WRONLY))
    rows = "".join(f"{i:08}_000.png,{('Mass', 'No Finding')[i % 2]},{i // 4},58,M,PA\n" for i in range(n_images))
    (tmp_path / "t.csv").write_text(
        "Image Index,Finding Labels,Patient ID,Patient Age,Patient Gender,View Position\n" + rows
    )
    start = time.process_time()
    films = ProbingSet.open(tmp_path, tmp_path / "t.csv")
    assert (len(films), films.labels.sum()) == (n_images, n_images / 2)
    assert time.process_time() - start < 5  # 0.6 s here; a call to the disk a film would take longer


# ---- DICOM


def test_a_dicom_tree_tells_patient_view_sex_and_age(tmp_path):
    elements = [
        {"PatientID": "7", "ViewPosition": "PA", "PatientSex": "F", "PatientAge": "058Y"},
        {"PatientID": "7", "ViewPosition": "AP", "PatientSex": "F", "PatientAge": "006M"},
    ]
    for i, each in enumerate(elements):
        save_dicom(dicom(film(6, 7, i), **each), tmp_path / f"{i}.dcm")
    report = dicom(film(6, 7))
    for name in ("PixelData", "Rows", "Columns"):
        del report[name]
    save_dicom(report, tmp_path / "report.dcm")
    films = ProbingSet.open(tmp_path)
    assert (films.ids, films.patients.tolist(), films.patients_known) == (["0", "1"], ["7", "7"], True)
    assert films.metadata["view"].tolist() == ["PA", "AP"]
    assert films.metadata["age"].tolist() == [58, 0.5]
    assert [path.name for path in films.ignored] == ["report.dcm"]
    assert films.film(1).pixels.shape == (6, 7)
    (tmp_path / "damaged.dcm").write_bytes(bytes(128) + b"DICM" + b"\xff" * 50)
    (tmp_path / "text.dcm").write_text("no DICOM")
    films = ProbingSet.from_dicom(tmp_path)
    assert (films.ids, films.patients_known) == (["0", "1", "damaged", "text"], False)
    assert films.patients.tolist() == ["7", "7", "damaged", "text"]
    with pytest.raises(ImageError, match=r"'damaged\.dcm' cannot be read"):
        films.film(2)


def test_a_dicom_tree_without_pictures(tmp_path):
    report = dicom(film(6, 7))
    for name in ("PixelData", "Rows", "Columns"):
        del report[name]
    save_dicom(report, tmp_path / "report.dcm")
    with pytest.raises(ImageError, match="holds 1 DICOM objects"):
        ProbingSet.open(tmp_path)


def test_the_frame_reaches_every_film(tmp_path):
    frames = np.stack([film(6, 7, 0), film(6, 7, 1)])
    save_dicom(dicom(frames, NumberOfFrames=2), tmp_path / "two.dcm")
    np.testing.assert_allclose(ProbingSet.open(tmp_path, frame=1).film(0).pixels, frames[1] / 255, atol=1e-6)
    with pytest.raises(ImageError, match="it holds 2 frames"):
        ProbingSet.open(tmp_path).film(0)


# ---- the set itself


@pytest.fixture
def films(tmp_path):
    write(tmp_path, "a.png", "b.png", "c.png", "d.png")
    table = "id,patient,view,Mass\na,p,PA,1\nb,,AP,0\nc,p,PA,\nd,q,PA,1\n"
    (tmp_path / "t.csv").write_text(table)
    return ProbingSet.open(tmp_path, tmp_path / "t.csv")


def test_subset_takes_everything_along(films):
    whole = films.fingerprints()
    part = films.subset([3, 1])
    assert (part.ids, part.patients.tolist(), part.patients_known) == (["d", "b"], ["q", "b"], False)
    assert part.labels.tolist() == [[1], [0]]
    assert part.metadata["view"].tolist() == ["PA", "AP"]
    assert list(part.metadata.index) == [0, 1]
    assert part.fingerprints() == [whole[3], whole[1]]
    assert films.subset(np.array([True, False, True, True])).ids == ["a", "c", "d"]
    assert films.subset([0, 3]).patients_known
    np.testing.assert_array_equal(films.subset([2, 1, 0]).labels, [[np.nan], [0], [1]])


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "chooses no film"),
        ([4], "must lie in 0 to 3, got 4 to 4"),
        ([-1], "must lie in 0 to 3"),
        ([1, 1], "occur more than once: 'b'"),
        ([0.5], "row numbers or a mask, got float64"),
        ([[0, 1]], "one axis"),
        (np.array([True]), r"must be \(4,\), got \(1,\)"),
    ],
)
def test_subset_refuses_wrong_rows(films, rows, message):
    with pytest.raises(InputError, match=message):
        films.subset(rows)


def test_film_refuses_wrong_rows(films):
    for row in (4, -1):
        with pytest.raises(InputError, match=f"film {row} does not exist: there are 4"):
            films.film(row)


def test_fingerprints_are_of_the_bytes_in_order_and_read_once(films):
    told = []
    got = films.fingerprints(lambda step, done, total: told.append((step, done, total)))
    assert got == [sha256(path.read_bytes()).hexdigest() for path in films.paths]
    assert told == [("fingerprint films", i, 4) for i in (1, 2, 3, 4)]
    films.paths[0].unlink()
    assert films.fingerprints() == got
    with pytest.raises(ImageError, match=r"'a\.png' cannot be read: .*moved or deleted"):
        ProbingSet(films.paths).fingerprints()


def test_construction_decodes_nothing(tmp_path):
    (tmp_path / "broken.png").write_bytes(b"nothing")
    films = ProbingSet.open(tmp_path)
    with pytest.raises(ImageError, match="cannot be read"):
        films.film(0)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"ids": ["a"]}, "'ids' must have one entry a film, got 1 for 2"),
        ({"ids": ["a", "a"]}, "1 image ids occur more than once: 'a'"),
        ({"patients": ["p"]}, "'patients' must have one entry a film, got 1 for 2"),
        ({"labels": np.zeros((2, 1))}, r"'labels' must be \(n_images, n_labels\) = \(2, 0\), got \(2, 1\)"),
        ({"label_names": ["a"], "labels": np.full((2, 1), 0.5)}, "must be 1, 0 or NaN"),
        ({"label_names": ["a", "a"], "labels": np.zeros((2, 2))}, "'label_names' must be unique"),
        ({"metadata": pd.DataFrame({"view": ["PA"]})}, "'metadata' must have one entry"),
    ],
)
def test_parts_that_do_not_fit(tmp_path, parts, message):
    with pytest.raises(InputError, match=message):
        ProbingSet([tmp_path / "x.png", tmp_path / "y.png"], **parts)


def test_the_set_survives_a_process_boundary(films):
    import copy

    again = copy.deepcopy(films)
    assert (again.ids, again.labels.tobytes()) == (films.ids, films.labels.tobytes())


def test_films_from_threads(films):
    got = {}
    threads = [threading.Thread(target=lambda i=i: got.update({i: films.film(i % 4)})) for i in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i in range(16):
        np.testing.assert_array_equal(np.round(got[i].pixels * 255), film(8, 9, i % 4))


# ---- identical pictures


def test_identical_pictures_are_found_across_formats(tmp_path):
    picture = film(8, 9)
    for name, kind in (("a.png", "PNG"), ("b.tif", "TIFF"), ("c.png", "PNG")):
        (tmp_path / name).write_bytes(encode(picture if name != "c.png" else picture[::-1], kind))
    save_dicom(dicom(picture), tmp_path / "d.dcm")
    films = ProbingSet.from_folder(tmp_path)
    assert identical_pixels([pixel_fingerprint(films.film(i)) for i in range(4)]) == [[0, 1, 3]]
    assert pixel_fingerprint(Film(np.zeros((2, 3), np.float32))) != pixel_fingerprint(
        Film(np.zeros((3, 2), np.float32))
    )


def test_the_real_films(shared_data):
    films = ProbingSet.open(shared_data / "nih" / "images", shared_data / "nih" / "labels.csv")
    assert repr(films).startswith("ProbingSet: 1088 films of 865 patients\n  14 labels (positives): atelectasis ")
    rows = [films.ids.index(name) for name in ("00000001_000", "00002658_001", "00002658_002")]
    few = films.subset(rows)
    assert identical_pixels([pixel_fingerprint(few.film(i)) for i in range(3)]) == [[1, 2]]
    assert few.fingerprints() == [sha256(path.read_bytes()).hexdigest() for path in few.paths]
    assert few.film(0).pixels.shape == (320, 320)
