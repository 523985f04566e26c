import numpy as np
import pytest

from mammi.data.table import normalise_label, read_table
from mammi.errors import InputError


@pytest.fixture
def table(tmp_path):
    def write(text, encoding="utf-8", **options):
        path = tmp_path / "films.csv"
        path.write_bytes(text.encode(encoding))
        return read_table(path, **options)

    return write


def test_joined_labels_are_sorted_normalised_and_no_finding_is_none_of_them(table):
    got = table(
        "Image Index,Finding Labels,Patient ID\na.png,Mass|Pleural_Thickening,1\nb.png,No Finding,1\nc.png,,2\nd.png,mass,2\n"
    )
    assert got.ids == ["a", "b", "c", "d"]
    assert got.patients == ["1", "1", "2", "2"]
    assert got.label_names == ("mass", "pleural thickening")
    assert got.labels.dtype == np.float32
    assert got.labels.tolist() == [[1, 1], [0, 0], [0, 0], [1, 0]]
    assert got.metadata.shape == (4, 0)


def test_joined_labels_do_not_depend_on_the_order_of_rows_or_of_hashing(table):
    names = ["mass", "nodule", "edema", "hernia", "fibrosis", "effusion", "emphysema", "pneumonia"]
    assert table("id,labels\na," + "|".join(names) + "\n").label_names == tuple(sorted(names))


def test_label_columns_are_found_by_their_values(table):
    got = table(
        "id,path,patient,view,age,sex,fold,boxes,Effusion,Lung_Opacity,No Finding\n"
        "a,x/a.png,p1,PA,1,0,1,0,1,0.0,0\n"
        "b,x/b.png,p1,AP,0,1,0,3,,-1,1\n"
        "c,x/c.png,p2,PA,1,1,1,0,0,1.0,1\n"
    )
    assert got.label_names == ("effusion", "lung opacity")
    np.testing.assert_array_equal(got.labels, [[1, 0], [np.nan, np.nan], [0, 1]])
    assert got.paths == ["x/a.png", "x/b.png", "x/c.png"]
    assert list(got.metadata) == ["view", "age", "sex", "fold", "boxes", "no finding"]
    assert got.metadata["boxes"].tolist() == [0, 3, 0]


def test_label_columns_can_be_named(table):
    text = "id,a,b,No Finding\nx,1,0,1\ny,0,1,0\n"
    assert table(text, label_columns=["B", "No Finding"]).label_names == ("b", "no finding")
    assert table(text, label_columns=[]).label_names == ()
    assert list(table(text, label_columns=["b"]).metadata) == ["a", "no finding"]
    with pytest.raises(InputError, match="has no column 'c' to take as a label: got id, a, b"):
        table(text, label_columns=["c"])


def test_well_known_columns_get_their_short_names(table):
    got = table("image,View Position,Patient Gender,Patient Age,Code\nx,PA,M,58,007\ny,,F,,008\n")
    assert got.metadata["view"].tolist() == ["PA", ""]
    assert got.metadata["sex"].tolist() == ["M", "F"]
    assert got.metadata["age"].tolist()[0] == 58
    assert np.isnan(got.metadata["age"].tolist()[1])
    assert got.metadata["code"].tolist() == ["007", "008"]


@pytest.mark.parametrize(("separator", "encoding"), [(";", "utf-8"), ("\t", "utf-8-sig"), (",", "utf-8-sig")])
def test_separators_byte_order_mark_blank_lines_and_empty_columns(table, separator, encoding):
    text = ",ID,Labels,\n0,a,Mass,\n\n1,b,,\n".replace(",", separator)
    got = table(text, encoding)
    assert (got.ids, got.label_names, got.lines) == (["a", "b"], ("mass",), [2, 4])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no rows"),
        ("id,labels\n", "holds no rows"),
        ("name,labels\nx,Mass\n", "no column for the image: got name, labels; expected one of id, image"),
        ("id,labels\na,Mass\nb\n", "line 3: got 1 fields, the header has 2"),
        ("id,labels\na,Mass,Nodule\n", "line 2: got 3 fields, the header has 2"),
        ("id,labels,LABELS\na,Mass,x\n", "column 'labels' twice"),
        ("id,labels\na,Mass\nb,\na.png,\n", "1 image ids occur more than once, first 'a' in lines 2, 4"),
        ("id,labels\na,Mass\n,\n ,x\n", "line 4: the image id is blank"),
        ("id,lung_mass,lung mass\na,1,0\n", "label 'lung mass' in two columns"),
        (
            "id,e\n" + "".join(f"i{i},{i % 2}\n" for i in range(20)) + "z,yes\n",
            "line 22: label 'e' is 'yes', expected 1, 0, -1",
        ),
    ],
)
def test_mistakes_are_named_with_their_place(table, text, message):
    with pytest.raises(InputError, match=message) as caught:
        table(text)
    assert "\n" not in str(caught.value)


def test_a_wrong_value_in_a_named_label_column(table):
    with pytest.raises(InputError, match=r"line 3: label 'Mass' is '2', expected 1, 0, -1 \(unknown\) or blank"):
        table("id,Mass\na,1\nb,2\n", label_columns=["Mass"])


def test_files_that_are_no_table(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        read_table(tmp_path / "no.csv")
    (tmp_path / "latin.csv").write_bytes("id,labels\na,Erguß\n".encode("latin-1"))
    with pytest.raises(InputError, match="not text in UTF-8"):
        read_table(tmp_path / "latin.csv")
    with pytest.raises(InputError, match="cannot be read as CSV"):
        read_table(tmp_path)


def test_labels_are_normalised():
    assert normalise_label("  Pleural__Thickening ") == "pleural thickening"


def test_the_real_table(shared_data):
    got = read_table(shared_data / "nih" / "labels.csv")
    assert (len(got.lines), len(got.label_names)) == (1088, 14)
    assert "pleural thickening" in got.label_names
    positives = dict(zip(got.label_names, got.labels.sum(axis=0).astype(int).tolist(), strict=True))
    assert (positives["hernia"], positives["pneumonia"]) == (13, 337)
    assert int((got.labels.sum(axis=1) == 0).sum()) == 410
    assert not np.isnan(got.labels).any()
    assert len(set(got.patients)) == 865
    assert set(got.metadata["view"]) == {"AP", "PA"}
