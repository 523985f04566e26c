"""A small job with a second annotator that sees other things in the same films."""

import pytest

import mammi
from small_job import TERMS, VLM, call, write_parts

#: More than one chunk of 64 films.
N_FILMS = 70
TEMPLATES = ["a film that is {}", "{}"]
#: Looks at the upper half alone, calls contrast by another weight, and speaks a little differently in a bare word.
OTHER = VLM.replace("m = 3 * (images.mean((1, 2, 3)) - 0.5)", "m = 3 * (images[:, :, :8].mean((1, 2, 3)) - 0.45)")
OTHER = OTHER.replace("6 * images.std((1, 2, 3)) - 0.5", "9 * images.std((1, 2, 3)) - 0.3")
OTHER = OTHER.replace(
    "= 1\n        return rows", "= 1\n            row[4] += 0.4 * (len(text.split()) == 1)\n        return rows"
)


@pytest.fixture(autouse=True, scope="package")
def few_deals():
    """Enough for tables; how many there are is tested where they are made."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mammi.opinions.comparing.SHUFFLES", 5)
        patch.setattr("mammi.opinions.comparing.RESAMPLES", 20)
        yield


@pytest.fixture(scope="package")
def parts(tmp_path_factory):
    """Films, a network, two annotators, and a concept set in which "shiny" is another name of "bright"."""
    folder = write_parts(tmp_path_factory.mktemp("opinions"), N_FILMS)
    (folder / "other.py").write_text(OTHER)
    synonyms = {"bright": "shiny"}
    rows = [f"{term},{synonyms.get(term, '')}" for term in [*TERMS, "shiny"]]
    (folder / "concepts.csv").write_text("\n".join(["term,synonyms", *rows]) + "\n")
    for name in ("vlm.py", "other.py"):
        text = (folder / name).read_text()
        text = text.replace('"textured"]', '"textured", "nothing", "shiny"]').replace(
            "zeros(len(texts), 6)", "zeros(len(texts), 7)"
        )
        text = text.replace("torch.full_like(m, 0.05)], 1)", "torch.full_like(m, 0.05), 1.02 * m], 1)")
        (folder / name).write_text(text)
    return folder


@pytest.fixture(scope="package")
def naming(parts):
    return mammi.create_vlm(f"{parts / 'vlm.py'}:create")


@pytest.fixture(scope="package")
def other(parts):
    return mammi.create_vlm(f"{parts / 'other.py'}:create")


@pytest.fixture(scope="package")
def make(parts):
    """Annotate as `small_job.call` does, with the concepts of these parts."""

    def annotate(out, **changes):
        given = {
            "concepts": mammi.ConceptSet.read(parts / "concepts.csv"),
            "template": TEMPLATES,
            "precision": "float32",
        }
        return call(parts, out, **(given | changes))

    return annotate


@pytest.fixture(scope="package")
def run(make, other, tmp_path_factory):
    """A run of two annotators and two wordings."""
    return make(tmp_path_factory.mktemp("run") / "run", second_opinions=[other])
