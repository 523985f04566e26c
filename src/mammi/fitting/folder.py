"""The folder of a fitted annotator: safetensors and JSON, which can be moved and passed on.

::

    FOLDER/
      fitted.json               card, what makes backbone and sentence encoder again, settings, what was measured
      projections.safetensors   the trained maps
      backbone.safetensors      a copy of the backbone's weights
      sentences/                a copy of the sentence encoder, where it is not a package
      private/backbone.json     where the user's code of the backbone is on this machine; not to be passed on
"""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from safetensors.torch import save

from mammi.errors import InputError, VlmError
from mammi.fitting.backbone import Backbone, restore_backbone, write_backbone
from mammi.fitting.model import FittedVlm, Projections
from mammi.fitting.sentences import PACKAGE, Sentences, copy_sentences, load_sentences
from mammi.types import VlmCard
from mammi.weights_file import load_weights, read_weights

__all__ = ["load_fitted", "write_fitted"]

SCHEMA = 1
NAME, PROJECTIONS = "fitted.json", "projections.safetensors"


def write_fitted(
    out: Path, model: FittedVlm, backbone: Backbone, sentences: Sentences, measured: dict[str, Any]
) -> None:
    """Write the folder; ``fitted.json`` last, so that a folder without it is no annotator.

    Raises:
        VlmError: if the backbone or the encoder cannot be saved.
    """
    out.mkdir(parents=True, exist_ok=True)
    made, private = write_backbone(backbone, out)
    encoder = copy_sentences(sentences, out)
    state = {name: value.detach().cpu().contiguous() for name, value in model.projections.state_dict().items()}
    (out / PROJECTIONS).write_bytes(save(state))
    if private:
        (out / "private").mkdir(mode=0o700, exist_ok=True)
        (out / "private" / "backbone.json").write_text(json.dumps(private, indent=2), encoding="utf-8")
    card = {key: value for key, value in asdict(model.card).items() if key != "name"}
    written = {
        "schema": SCHEMA,
        "notice": "A research and audit tool, not a diagnostic device.",
        "card": card,
        "backbone": made,
        "sentences": encoder | {"fingerprint": sentences.fingerprint()},
        "projections": model.projections.shape,
        "templates": list(model.templates),
        "measured": measured,
    }
    (out / NAME).write_text(json.dumps(written, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def load_fitted(folder: str | Path, spec: str) -> FittedVlm:
    """Load a fitted annotator.

    Args:
        folder: what `write_fitted` wrote, wherever it is now.
        spec: what it was asked for by, for its card.

    Raises:
        VlmError: if the folder is none, is incomplete, or makes another backbone or sentence encoder than the one it
            was fitted with.
    """
    folder = Path(folder).expanduser()
    written = _read(folder / NAME, folder)
    private_file = folder / "private" / "backbone.json"
    private = _read(private_file, folder) if private_file.is_file() else {}
    try:
        if written["schema"] != SCHEMA:
            raise VlmError(
                f"{str(folder)!r} has schema {written['schema']}, this version reads {SCHEMA}: fit again, or use "
                "the version of mammi that wrote it"
            )
        backbone = restore_backbone(folder, written["backbone"], private)
        sentences = _sentences(folder, written["sentences"])
        projections = Projections(**written["projections"])
        templates = tuple(map(str, written["templates"]))
        values: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in written["card"].items()}
        card = VlmCard(name=spec, **values)
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise VlmError(f"{str(folder / NAME)!r} cannot be used: {error}") from error
        raise VlmError(f"{str(folder / NAME)!r} is damaged ({type(error).__name__}: {error}): fit again") from error
    load_weights(projections, read_weights(folder / PROJECTIONS, error=VlmError), PROJECTIONS, error=VlmError)
    if projections.shape["n_features"] != backbone.n_features:
        raise VlmError(
            f"{PROJECTIONS} in {str(folder)!r} does not fit the layers of its backbone: copy the folder again"
        )
    return FittedVlm(backbone, sentences, projections, replace(card, name=spec), templates)


def _sentences(folder: Path, made: dict[str, str]) -> Sentences:
    if made.get("package") not in (None, PACKAGE):
        raise VlmError(f"{str(folder)!r} names a sentence encoder that is not known, {made['package']!r}")
    sentences = load_sentences(None if "package" in made else folder / "sentences")
    if sentences.fingerprint() != made["fingerprint"]:
        raise VlmError(
            f"the sentence encoder of {str(folder)!r} is another than the one it was fitted with: install the versions "
            "of the libraries it was fitted with, or fit again"
        )
    return sentences


def _read(path: Path, folder: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise VlmError(
            f"{str(folder)!r} is no fitted annotator (no {path.name}): 'mammi vlms fit' writes one"
        ) from error
    except (OSError, ValueError) as error:
        raise VlmError(f"{str(path)!r} cannot be read ({error}): copy the folder again") from error
    if not isinstance(value, dict):
        raise VlmError(f"{str(path)!r} holds no JSON object: copy the folder again")
    return value
