"""``mammi explain`` as a user types it: what is printed, one page, JSON, and what is refused."""

import base64
import io
import json
import re
import shutil

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import mammi
from mammi.cli import app
from mammi.pages.words import signed
from mammi.phantoms import write_cohort
from mammi.store.tables import write_parquet

WILD = "<script>alert(1)</script> & [bold] \"mass\" 'x'"
NOTICE = "A research and audit tool, not a diagnostic device."


def run(*arguments, code=0):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "220"})
    assert result.exit_code == code, result.output
    return result


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    folder = tmp_path_factory.mktemp("job")
    write_cohort(folder / "data", 40, seed=5)
    write_cohort(folder / "other", 3, seed=77)
    film = sorted((folder / "other" / "images").iterdir())[1]
    shutil.copy(film, folder / "ward-7-Smith.png")
    mammi.annotate(
        mammi.create_target("phantom"),
        mammi.ProbingSet.open(folder / "data" / "images", folder / "data" / "labels.csv"),
        mammi.build_concepts(mammi.read_reports(folder / "data" / "reports.jsonl")),
        mammi.create_vlm("phantom"),
        layers=["head", "layer3", "layer2"],
        out=folder / "run",
    )
    return folder


@pytest.fixture(scope="module")
def page(job):
    result = run("explain", job / "ward-7-Smith.png", job / "run", "-o", job / "why.html", "--json", job / "why.json")
    return result, (job / "why.html").read_text(encoding="utf-8")


def pictures(html):
    return [base64.b64decode(text) for text in re.findall(r'src="data:image/jpeg;base64,([^"]+)"', html)]


def test_it_prints_predictions_units_and_the_sum(job, page):
    printed = page[0].stdout
    found = json.loads((job / "why.json").read_text())
    assert re.search(r"phantom, units of layer3; compared with 40 films of \d+ patients", printed)
    for row in found["predictions"]:
        said = "present" if row["called"] else "absent"
        pattern = rf"^{row['output']} +{re.escape(format(row['logit'], '+.3f'))} +\S+ +{said} +{row['percentile']:.0f}"
        assert re.search(pattern, printed, re.MULTILINE)
    for output in found["outputs"]:
        assert output["sentence"] in printed
        for unit in output["units"]:
            assert re.search(rf"layer3:{unit['unit']} .*{re.escape(format(unit['contribution'], '+.4f'))}", printed)
    assert "probability" not in printed  # the phantom gives logits
    assert "no picture of the film is on the page" in page[0].stderr
    assert "ward-7" not in printed


def test_the_page_is_one_file_that_asks_for_nothing(page):
    html = page[1]
    assert NOTICE in html
    addresses = re.findall(r'(?:src|href|action)="([^"]*)"', html)
    assert addresses
    assert all(address.startswith(("data:", "#")) for address in addresses)
    assert "http" not in re.sub(r"data:[^\"]*", "", html)
    assert "<style" not in html
    assert " style=" not in html
    assert not re.search(r"<script(?! src=\"data:text/javascript)", html)
    assert re.search(r'src="data:text/javascript;base64', html)
    assert re.search(r'href="data:text/css;base64', html)


def test_the_page_says_what_the_json_says(job, page):
    html = page[1]
    for output in json.loads((job / "why.json").read_text())["outputs"]:
        assert output["sentence"] in html.replace("&#39;", "'")
        section = html.split(f'id="output-{output["number"]}"')[1].split("</table>")[0]
        for unit in output["units"]:
            shown = signed(unit["contribution"])
            assert re.search(
                rf'<span class="id">{unit["unit"]}</span>.*?<td class="num">{re.escape(shown)}<', section, re.DOTALL
            )
        assert f"all other {output['n_others']} units" in section


def test_names_are_escaped(job, tmp_path):
    shutil.copytree(job / "run", tmp_path / "run")
    units = mammi.open_run(job / "run").units
    write_parquet(tmp_path / "run" / "units.parquet", units.assign(name=WILD, reason="<img onerror=x>"))
    printed = run("explain", job / "ward-7-Smith.png", tmp_path / "run", "-o", tmp_path / "a.html").stdout
    html = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert WILD in printed
    assert "<script>alert" not in html
    assert "<img onerror" not in html
    assert html.count("&lt;script&gt;alert(1)&lt;/script&gt; &amp; [bold] &#34;mass&#34; &#39;x&#39;") > 24


def test_no_picture_unless_asked_for(job, page):
    plain = page[1]
    film = np.asarray(Image.open(job / "ward-7-Smith.png").convert("L").resize((64, 64)), dtype=float)

    def likeness(jpeg, above=54, below=38):
        picture = Image.open(io.BytesIO(jpeg)).convert("L")  # without the words above and below
        side = picture.crop((0, above, picture.width, picture.height - below)).resize((64, 64))
        return np.corrcoef(film.ravel(), np.asarray(side, dtype=float).ravel())[0, 1]

    assert 'alt="The film explained"' not in plain
    assert "film-" not in re.sub(r"data:[^\"]*", "", plain.split("Films of the run")[0])
    assert all("<img" not in part.split("</section>")[0] for part in plain.split('aria-labelledby="similar-')[1:])
    result = run("explain", job / "ward-7-Smith.png", job / "run", "-o", job / "shown.html", "--with-images")
    assert "no picture" not in result.stderr
    shown = (job / "shown.html").read_text(encoding="utf-8")
    assert 'alt="The film explained"' in shown
    assert "treat them as you treat the films" in shown
    similar = [part.split("</section>")[0] for part in shown.split('aria-labelledby="similar-')[1:]]
    assert all(part.count('<img src="data:image/jpeg') == 6 for part in similar)
    assert likeness(pictures(shown)[0], 0, 0) > 0.99
    alike = [likeness(picture) for picture in pictures(plain)]
    assert max(alike) < 0.8 < np.median([likeness(picture) for picture in pictures(shown)[1:13]])
    for picture in pictures(shown) + pictures(plain):
        assert b"Exif" not in picture


@pytest.mark.parametrize("images", [(), ("--with-images",)])
def test_no_name_no_path_no_patient(job, images):
    run("explain", job / "ward-7-Smith.png", job / "run", "-o", job / "a.html", "--json", job / "a.json", *images)
    secrets = [str(job), "ward-7", "Smith", job.name]
    for film in json.loads((job / "run" / "private" / "films.json").read_text()):
        secrets += [film["path"], film["id"], f">{film['patient']}<"]
    for written in (job / "a.html", job / "a.json"):
        text = re.sub(r"data:[^\"]*", "", written.read_text(encoding="utf-8"))
        assert not [secret for secret in secrets if secret in text]


def test_other_outputs_and_another_layer(job):
    shown = run(
        *("explain", job / "ward-7-Smith.png", job / "run", "--layer", "layer2", "--class", "Mass"),
        *("--class", "hernia", "--top", 3, "-o", job / "deep.html"),
    ).stdout
    assert "units of layer2" in shown
    assert shown.count("The 3 units shown carry") == 2
    assert "is not accounted for; sum" in shown
    html = (job / "deep.html").read_text(encoding="utf-8")
    assert html.count(">not accounted for<") == 4  # in the sum and by concept, of two outputs
    assert "integrated gradients" in html
    assert "usually adds" not in html


def test_a_page_of_two_patients_shows_neither(job, tmp_path):
    films = mammi.ProbingSet.open(job / "data" / "images")
    two = mammi.ProbingSet(films.paths[:8], patients=["a", "b"] * 4)
    mammi.annotate(
        mammi.create_target("phantom"),
        two,
        mammi.ConceptSet.from_terms(["effusion", "mass"]),
        mammi.create_vlm("phantom"),
        layers=["layer3"],
        out=tmp_path / "run",
    )
    result = run("explain", job / "ward-7-Smith.png", tmp_path / "run", "-o", tmp_path / "a.html", "--with-images")
    assert "no labels" in result.output
    html = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert "Pictures withheld: these films are of 2 patients" in html
    similar = [part.split("</section>")[0] for part in html.split('<h3 id="similar-')[1:]]
    assert similar
    assert all("<img" not in part for part in similar)
    assert not list((tmp_path / "run" / "private").glob("thumbnails/*"))


def test_a_film_of_the_run_and_a_jpeg(job, tmp_path):
    mine = sorted((job / "data" / "images").iterdir())[3]
    assert "The run holds this very film (film-" in run("explain", mine, job / "run", "--class", "mass").stdout
    Image.open(mine).convert("L").save(tmp_path / "a.jpg", quality=95)
    assert "this very film" not in run("explain", tmp_path / "a.jpg", job / "run", "--class", "mass").stdout


def test_what_is_refused(job, tmp_path):
    film = job / "ward-7-Smith.png"
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n")
    (tmp_path / "net.py").write_text(
        "import torch\nfrom mammi.phantoms.target import create\n"
        "def make():\n    net = create()\n    net.head.weight.data[0, 0] += 1\n    return net\n"
    )
    cases = [
        ((tmp_path / "none.png", job / "run"), "there is no such file"),
        ((tmp_path / "broken.png", job / "run"), "cannot be read"),
        ((film, job), "holds no run"),
        ((film, job / "run", "--class", "masss"), "Did you mean 'mass'"),
        ((film, job / "run", "--layer", "layer9"), "Layer 'layer9' is not known"),
        ((film, job / "run", "--target", f"{tmp_path / 'net.py'}:make"), "is not the one of"),
        ((film, job / "run", "--weights", tmp_path / "w.pt"), "--weights needs --target"),
    ]
    for arguments, message in cases:
        result = run("explain", *arguments, "-o", tmp_path / "a.html", code=2)
        assert message in result.stderr.replace("\n", " ")
        assert result.stderr.count("mammi: error:") == 1
        assert not (tmp_path / "a.html").exists()
    again = run("explain", film, job / "run", "--target", "phantom", "--class", "mass").stdout
    assert "units of layer3" in again


def test_a_run_from_a_module_needs_its_network(job, tmp_path):
    shutil.copytree(job / "run", tmp_path / "run")
    (tmp_path / "run" / "private" / "models.json").write_text('{"target": null, "vlm": null}')
    film = job / "ward-7-Smith.png"
    assert "give --target and --weights" in run("explain", film, tmp_path / "run", code=2).stderr
    run("explain", film, tmp_path / "run", "--target", "phantom", "--class", "mass")


def test_real_dicom(shared_data, job, tmp_path):
    """A chest film of 16 bits, MONOCHROME1, from JPEG 2000: no tag of its header is on the page."""
    import pydicom

    path = shared_data / "dicom" / "good" / "RG1_J2KI.dcm"
    printed = run("explain", path, job / "run", "-o", tmp_path / "a.html", "--with-images").output
    html = re.sub(r"data:[^\"]*", "", (tmp_path / "a.html").read_text(encoding="utf-8"))
    header = pydicom.dcmread(path, stop_before_pixels=True)
    values = {
        str(element.value).strip() for element in header.iterall() if element.VR in ("PN", "LO", "UI", "DA", "SH")
    }
    assert len(values) > 10
    for value in values:
        assert len(value) < 6 or value not in html  # shorter ones can stand in a number or a salted id
        assert len(value) < 8 or value not in printed
    assert "RG1_J2KI" not in html
