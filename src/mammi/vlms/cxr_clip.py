"""CXR-CLIP as published (You et al., MICCAI 2023, arXiv 2310.13292): ResNet-50 or Swin-T, and Bio_ClinicalBERT.

Source: the authors' code (cxr-clip, ``cxrclip/model``, ``cxrclip/data``, ``cxrclip/evaluator.py``). What is reproduced
though it looks odd: the Swin tower gives its first token, the patch in the upper left corner, since Swin has no class
token and the code takes the first of whatever comes.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from mammi.errors import VlmError
from mammi.registry import import_extra
from mammi.types import VlmCard
from mammi.vlms.annotator import Annotator
from mammi.vlms.bert import BertTower, bert_from, bert_tokenizer, last_token
from mammi.vlms.checkpoint import find_tokenizer_folder, find_weights
from mammi.vlms.from_file import annotator_of
from mammi.vlms.resnet import resnet_from
from mammi.vlms.swin import swin_from
from mammi.vlms.two_towers import TwoTowers
from mammi.weights_file import load_weights, read_checkpoint

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["load_cxr_clip", "part_of", "projected", "setting", "text_tower"]

_TOKENIZER = "emilyalsentzer/Bio_ClinicalBERT"
_SIZE = 224
_MAX_TOKENS = 256
_NAMES = tuple(f"{tower}_{data}.tar" for tower in ("r50", "swint") for data in ("m", "mc", "mcc"))
#: Names of data sets in the training configuration that the files carry.
_CORPORA = {"mimic_cxr": "MIMIC-CXR", "chexpert": "CheXpert", "chest14": "NIH ChestX-ray14"}
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_HALF = ((0.5,) * 3, (0.5,) * 3)


def load_cxr_clip(rest: str, spec: str, device: str, card: VlmCard) -> Annotator:
    """Load CXR-CLIP from the authors' file, for example ``swint_mc.tar``; its tower is read off the tensors.

    Args:
        rest: the file, or a folder that holds it.
        spec: what the user asked for.
        device: where to run.
        card: the model's card; its corpora become those of this very file.

    Raises:
        VlmError: if the file is another model's, damaged, or has no tokenizer beside it.
    """
    path = find_weights(rest, spec, _NAMES)
    state, beside = read_checkpoint(path, error=VlmError)
    source = f"{path.name!r}"
    convolutional = any(name.startswith("image_encoder.resnet.") for name in state)
    if not convolutional and not any(name.startswith("image_encoder.image_encoder.") for name in state):
        raise VlmError(
            f"{spec}: {source} is not CXR-CLIP's: it has no tensors of 'image_encoder.resnet' or "
            "'image_encoder.image_encoder': give r50_mcc.tar, swint_mcc.tar or another of the authors' files"
        )
    text = text_tower(state, beside, path, spec)
    tower: nn.Module
    if convolutional:
        tower = resnet_from(part_of(state, "image_encoder.resnet."), source)
    else:
        tower = FirstToken(swin_from(part_of(state, "image_encoder.image_encoder."), source, image_size=_SIZE))
    image = nn.Sequential(tower, projected(state, "image_projection", source))
    vlm = TwoTowers(image, text, _transform(*(_IMAGENET if convolutional else _HALF)))
    corpora, note = _corpora(beside, path)
    annotator = annotator_of(vlm, spec, device, replace(card, training_corpora=corpora), [text.content])
    annotator.notes += [note] if note else []
    return annotator


class FirstToken(nn.Module):
    """A Swin transformer whose answer is its first token, normed: ``(n, width)``."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        """Embed ``(n, 3, 224, 224)`` as ``(n, width)``."""
        first: Tensor = self.model(pixel_values=images).last_hidden_state[:, 0]
        return first


def part_of(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors whose names start with ``prefix``, without it."""
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def projected(state: Mapping[str, Tensor], name: str, source: str) -> nn.Module:
    """Return a tower's linear projection, ``NAME.projection.{weight,bias}``.

    Raises:
        VlmError: if it is absent, or is the other head of the code (an MLP), which no published file has.
    """
    weight = state.get(f"{name}.projection.weight")
    if weight is None or weight.ndim != 2:
        raise VlmError(f"{source} holds no {name!r}, which puts its towers into one space: is it an image model alone?")
    head = nn.Linear(weight.shape[1], weight.shape[0])
    load_weights(head, part_of(state, f"{name}.projection."), f"{name!r} of {source}", error=VlmError)
    others = [key for key in state if key.startswith(f"{name}.") and not key.startswith(f"{name}.projection.")]
    if others:
        raise VlmError(f"{name!r} of {source} is more than linear ({', '.join(others[:3])}), as no published file is")
    return head.float()


def text_tower(state: Mapping[str, Tensor], beside: Mapping[str, Any], path: Path, spec: str) -> BertTower:
    """Return the text tower that CXR-CLIP and Mammo-CLIP share: Bio_ClinicalBERT, the last token, at most 256.

    Args:
        state: tensors of the whole checkpoint.
        beside: what else the file holds; its ``config`` may name the pooling.
        path: the file, beside which the vocabulary is looked for first.
        spec: what the user asked for.

    Raises:
        VlmError: if the tower is absent or pools otherwise, if tensors are left that no part takes, or if the
            vocabulary is nowhere or of another size.
    """
    source = f"{path.name!r}"
    # The temperature of the loss scales all cosines alike.
    parts = ("image_encoder.", "text_encoder.text_encoder.", "image_projection.", "text_projection.")
    unknown = [name for name in state if name != "logit_scale" and not name.startswith(parts)]
    if unknown:
        raise VlmError(
            f"{spec}: {source} holds tensors that this model has not ({', '.join(unknown[:3])}): "
            "is it the checkpoint of another model, or one trained further as a classifier?"
        )
    pooling = setting(beside, "model", "text_encoder", "pooling")
    if pooling not in (None, "eos"):
        raise VlmError(f"{spec}: {source} says that its texts are pooled by {pooling!r}, expected 'eos', as published")
    model = bert_from(part_of(state, "text_encoder.text_encoder."), source)
    tokenizer = bert_tokenizer(find_tokenizer_folder(path, _TOKENIZER, spec), spec)
    n_words = len(model.get_input_embeddings().weight)  # type: ignore[operator]
    if len(tokenizer) > n_words:
        raise VlmError(
            f"{spec}: the vocabulary found has {len(tokenizer)} words, {source} reads {n_words}: "
            f"put the vocab.txt of {_TOKENIZER!r} beside it"
        )
    return BertTower(model, tokenizer, _MAX_TOKENS, last_token, projected(state, "text_projection", source))


def setting(beside: Mapping[str, Any], *names: str) -> Any:  # noqa: ANN401 - whatever was saved
    """Return one setting of the training configuration in a file, or None."""
    found: Any = beside.get("config")
    for name in names:
        found = found.get(name) if isinstance(found, Mapping) else None
    return found


def _transform(mean: tuple[float, ...], std: tuple[float, ...]) -> "Callable[[Image.Image], Tensor]":
    """Return the published evaluation transform: short side to 224 (bilinear), the middle, mean and deviation."""
    transforms = import_extra("torchvision.transforms", "torchvision")
    steps = transforms.Compose(
        [
            transforms.Resize(_SIZE),
            transforms.CenterCrop(_SIZE),
            transforms.ToTensor(),
            transforms.Normalize(mean, std),
        ]
    )

    def transform(image: "Image.Image") -> Tensor:
        view: Tensor = steps(image.convert("RGB"))
        return view

    return transform


def _corpora(beside: Mapping[str, Any], path: Path) -> tuple[tuple[str, ...], str]:
    """Return the collections a file was trained on, and a note where that had to be guessed.

    Its training configuration says; else the published file name (m, mc, mcc); else all three are assumed, so that an
    overlap with the target's data is rather flagged than missed.
    """
    named = setting(beside, "data_train")
    if isinstance(named, Mapping) and named:
        return tuple(_CORPORA.get(str(name), str(name)) for name in named), ""
    every = tuple(_CORPORA.values())
    by_name = {"m": every[:1], "mc": every[:2], "mcc": every}
    known = by_name.get(path.stem.rpartition("_")[2]) if path.name in _NAMES else None
    if known is not None:
        return known, ""
    return every, (
        f"{path.name} says not what it was trained on: {', '.join(every)} are assumed, as of the largest of the "
        "published files; under its published name (r50_m.tar ... swint_mcc.tar) it is known"
    )
