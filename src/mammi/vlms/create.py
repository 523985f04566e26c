"""`create_vlm`: from a spec to an `Annotator`, through one registry of schemes."""

from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path

from mammi.errors import VlmError
from mammi.factory_file import is_factory_spec, split_factory_spec
from mammi.functional.fingerprint import fingerprint_value
from mammi.registry import Registry
from mammi.types import VlmCard
from mammi.vlms.annotator import Annotator, check_vlm
from mammi.vlms.biovil import load_biovil
from mammi.vlms.cards import find_card, refuse_commerce
from mammi.vlms.chexzero import load_chexzero
from mammi.vlms.conch import load_conch
from mammi.vlms.cxr_clip import load_cxr_clip
from mammi.vlms.flair import load_flair
from mammi.vlms.from_file import annotator_of, load_file_vlm
from mammi.vlms.from_open_clip import load_open_clip_vlm
from mammi.vlms.from_transformers import load_transformers_vlm
from mammi.vlms.mammo_clip import load_mammo_clip
from mammi.vlms.medclip import load_medclip
from mammi.vlms.musk import load_musk

__all__ = ["create_vlm", "list_vlms", "vlms"]

#: Loaders by scheme: ``make(rest, spec, device, card, weights) -> Annotator``, ``rest`` being what follows the colon.
vlms: Registry[Callable[[str, str, str, VlmCard, str | None], Annotator]] = Registry("VLM", "'mammi vlms'")


def list_vlms() -> list[tuple[str, str]]:
    """Return every kind of vision-language model as (name, one sentence)."""
    return [(entry.name, entry.summary) for entry in vlms]


def create_vlm(
    spec: str, *, device: str = "cpu", weights: str | Path | None = None, commercial: bool = False
) -> Annotator:
    """Load a vision-language model.

    Args:
        spec: ``"phantom"``; ``"open_clip:hf-hub:organisation/name"``, ``"open_clip:local-dir:FOLDER"``,
            ``"open_clip:ARCHITECTURE@FILE"`` or ``"open_clip:ARCHITECTURE@TAG"``;
            ``"transformers:organisation/name"`` or ``"transformers:FOLDER"`` (CLIP and SigLIP); a model of the field from
            its authors' files, such as ``"medclip:FILE"`` (`list_vlms` has them all); ``"fitted:FOLDER"``, one that
            `mammi.fitting.fit_vlm` wrote; or ``"path/file.py:NAME"``, yours.
        device: where to run, for example ``"cpu"`` or ``"cuda"``.
        weights: a checkpoint, only with ``"open_clip:ARCHITECTURE"``.
        commercial: whether it is for commercial use: a model whose licence forbids that is refused.

    Returns:
        The model in ``eval()`` mode and float32, tried on one small picture and two texts.

    Raises:
        VlmError: if it cannot be found, loaded or used, or its licence forbids what it is for; the message says what to
            do.
        UnknownNameError: if no such scheme or architecture exists.
        MissingExtraError: if the library it needs is not installed.
    """
    name, rest = ("file.py", spec) if is_factory_spec(spec) else (spec.partition(":")[0], spec.partition(":")[2])
    entry = vlms.get(name)
    if weights is not None and name != "open_clip":
        raise VlmError(f"{spec} brings its own weights: 'weights' goes with 'open_clip:ARCHITECTURE' only")
    card = find_card(spec)
    if commercial:
        refuse_commerce(card)
    annotator = entry.make(rest, spec, device, card, None if weights is None else str(weights))
    if commercial:  # a model may bring a card of its own
        refuse_commerce(annotator.card)
        if annotator.card.licence.startswith("not stated"):
            annotator.notes.append(
                "its licence is not stated: whether it may be used commercially is for you to find out"
            )
    check_vlm(annotator)
    annotator.maker = create_vlm
    annotator.source = {"spec": _absolute(spec), "weights": None if weights is None else str(Path(weights).resolve())}
    return annotator


def _absolute(spec: str) -> str:
    """Return a spec that means the same from any folder."""
    if is_factory_spec(spec):
        path, name = split_factory_spec(spec)
        return f"{path.resolve()}:{name}"
    for mark in ("open_clip:local-dir:", f"{spec.partition(':')[0]}:"):
        rest = spec.removeprefix(mark)
        if rest != spec:
            return mark + ",".join(_absolute_part(part) for part in rest.split(","))
    return spec


def _absolute_part(part: str) -> str:
    """Return one of several files, or ``SOMETHING@FILE``, with its path absolute; anything else as it is."""
    head, at, file = part.rpartition("@")
    path = Path(file).expanduser()
    return f"{head}{at}{path.resolve()}" if file and path.exists() else part


@vlms.register("phantom", "the small model of the demo, trained on drawn chest films; nothing to download")
def _phantom(rest: str, spec: str, device: str, card: VlmCard, weights: str | None) -> Annotator:
    if rest:
        raise VlmError(f"{spec!r} is not known: give 'phantom' alone")
    try:
        model = import_module("mammi.phantoms.vlm").create()
    except (ModuleNotFoundError, OSError) as error:
        raise VlmError(f"'phantom' is not part of this installation ({error}): give another model") from error
    own = getattr(model, "card", None)
    card = replace(own, name=spec) if isinstance(own, VlmCard) else card
    return annotator_of(model, spec, device, card, [fingerprint_value("phantom")])


@vlms.register("fitted", "one that 'mammi vlms fit' fitted to your own images: 'fitted:FOLDER'", extra="sentences")
def _fitted(rest: str, spec: str, device: str, card: VlmCard, weights: str | None) -> Annotator:
    model = import_module("mammi.fitting.folder").load_fitted(rest, spec)
    return annotator_of(model, spec, device, model.card, [fingerprint_value("fitted")])


@vlms.register("file.py", "your own model: 'path/file.py:NAME' returns preprocess, encode_images and encode_texts")
def _file(rest: str, spec: str, device: str, card: VlmCard, weights: str | None) -> Annotator:
    return load_file_vlm(rest, device, card)


@vlms.register(
    "open_clip",
    "an open_clip model: 'open_clip:hf-hub:organisation/name', ':local-dir:FOLDER' or ':ARCHITECTURE@FILE'",
    needs=("open_clip",),
    extra="open-clip",
)
def _open_clip(rest: str, spec: str, device: str, card: VlmCard, weights: str | None) -> Annotator:
    return load_open_clip_vlm(rest, spec, device, card, weights)


@vlms.register(
    "transformers",
    "a CLIP or SigLIP model in the Hugging Face format: 'transformers:organisation/name' or ':FOLDER'",
    needs=("transformers",),
    extra="transformers",
)
def _transformers(rest: str, spec: str, device: str, card: VlmCard, weights: str | None) -> Annotator:
    return load_transformers_vlm(rest, spec, device, card)


#: Models of the field, from the files their authors publish: loader, scheme, a sentence, what it needs, its extras.
_FIELD: tuple[tuple[Callable[[str, str, str, VlmCard], Annotator], str, str, tuple[str, ...], str], ...] = (
    (
        load_chexzero,
        "chexzero",
        "CheXzero for chest films: 'chexzero:FILE', a FOLDER of checkpoints or FILE,FILE,... (averaged)",
        ("open_clip",),
        "open-clip",
    ),
    (
        load_medclip,
        "medclip",
        "MedCLIP for chest films, Swin-T or ResNet-50: 'medclip:FILE', or 'medclip:masked@FILE' for its masked mean",
        ("transformers",),
        "transformers",
    ),
    (
        load_flair,
        "flair",
        "FLAIR for fundus photographs: 'flair:FILE', 'flair:FOLDER' or 'flair:jusiro2/FLAIR'",
        ("transformers",),
        "transformers",
    ),
    (
        load_biovil,
        "biovil",
        "BioViL or BioViL-T (chest films, with maps): 'biovil:organisation/name', ':FOLDER' or ':FILE' of the image model",
        ("transformers", "torchvision"),
        "transformers,torchvision",
    ),
    (
        load_conch,
        "conch",
        "CONCH for histology: 'conch:FILE' or 'conch:FOLDER', with its tokenizer beside it",
        ("open_clip", "timm", "transformers"),
        "open-clip,timm,transformers",
    ),
    (
        load_musk,
        "musk",
        "MUSK for histology: 'musk:FILE' or 'musk:FOLDER', with its tokenizer.json beside it",
        ("transformers", "torchvision"),
        "transformers,torchvision",
    ),
    (
        load_cxr_clip,
        "cxr-clip",
        "CXR-CLIP, chest films: 'cxr-clip:FILE', one of the authors' r50_*.tar and swint_*.tar",
        ("transformers", "torchvision"),
        "transformers,torchvision",
    ),
    (
        load_mammo_clip,
        "mammo-clip",
        "Mammo-CLIP, mammograms: 'mammo-clip:FILE' or 'mammo-clip:b5@FILE', the authors' b5-*.tar and b2-*.tar",
        ("transformers",),
        "transformers",
    ),
)


def _register(
    load: Callable[[str, str, str, VlmCard], Annotator], name: str, summary: str, needs: tuple[str, ...], extra: str
) -> None:
    @vlms.register(name, summary, needs=needs, extra=extra)
    def make(rest: str, spec: str, device: str, card: VlmCard, weights: str | None) -> Annotator:
        return load(rest, spec, device, card)


for _entry in _FIELD:
    _register(*_entry)
