"""BioViL and BioViL-T of Microsoft: chest films and sentences in one space of 128, patch by patch.

Boecking et al., "Making the Most of Text Semantics to Improve Biomedical Vision-Language Processing", ECCV 2022; Bannur
et al., "Learning to Exploit Temporal Structure for Biomedical Vision-Language Processing", CVPR 2023. Architecture,
names of tensors and preprocessing after microsoft/hi-ml, hi-ml-multimodal. Both are told apart by their tensors.

A film's row is the mean of its projected patches, and so each patch lies in the space of the texts
(`BioVil.encode_patches`). BioViL-T can compare a film with an earlier one of the same patient. Here there never is one:
what its transformer would say of the change is then a vector it learned for "no previous film", and the transformer,
whose tensors are read and checked, is left out.
"""

import json
from collections import OrderedDict
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from mammi.errors import VlmError
from mammi.registry import import_extra
from mammi.types import VlmCard
from mammi.vlms.annotator import Annotator
from mammi.vlms.bert import BertTower, bert_from, bert_tokenizer
from mammi.vlms.checkpoint import find_tokenizer_folder, find_weights
from mammi.vlms.from_file import annotator_of
from mammi.vlms.hub import TOKENIZER_FILES, find_folder
from mammi.vlms.two_towers import TwoTowers
from mammi.weights_file import load_weights, read_weights

__all__ = ["BioVil", "load_biovil"]

_IMAGE = ("biovil_image_resnet50_proj_size_128.pt", "biovil_t_image_model_proj_size_128.pt")
_TEXT = ("model.safetensors", "pytorch_model.bin")
_REPOSITORY = {False: "microsoft/BiomedVLP-CXR-BERT-specialized", True: "microsoft/BiomedVLP-BioViL-T"}
#: Pixels of the short side after resizing, and of the square that is cut out of the middle: plain, and with time.
_RESIZED, _CROP = 512, {False: 480, True: 448}
#: Of CXR-BERT's masked language model, which no embedding passes through.
_LANGUAGE_HEAD = (
    *("cls.predictions.bias", "cls.predictions.decoder.weight", "cls.predictions.decoder.bias"),
    *("cls.predictions.transform.dense.weight", "cls.predictions.transform.dense.bias"),
    *("cls.predictions.transform.LayerNorm.weight", "cls.predictions.transform.LayerNorm.bias"),
)
#: Sine and cosine waves of the transformer for two films, in files written before it stopped saving them.
_WAVES = "encoder.vit_pooler.pos_embed"


class _Patches(nn.Module):
    """From ``(n, 3, side, side)`` to patches in the joint space, ``(n, d_embed, side / 32, side / 32)``."""

    def __init__(self, trunk: nn.Module, reduce: nn.Module | None, missing: Tensor | None, project: nn.Module) -> None:
        super().__init__()
        self.trunk = trunk
        self.reduce = reduce
        self.missing = None if missing is None else nn.Parameter(missing, requires_grad=False)
        self.project = project

    def forward(self, images: Tensor) -> Tensor:
        patches: Tensor = self.trunk(images)
        if self.reduce is not None and self.missing is not None:
            patches = self.reduce(patches)
            no_previous = self.missing.expand(len(patches), -1, *patches.shape[2:])
            patches = torch.cat([patches, no_previous], dim=1)
        projected: Tensor = self.project(patches)
        return projected


def _view(image: Image.Image, side: int) -> Tensor:
    """Return ``(3, side, side)`` in [0, 1], without mean and deviation.

    The picture's own range is first stretched to 0 ... 255 and cut to whole numbers, in the published order of
    operations: ``v / 255 * 255`` falls short of v for some v, which so become v - 1. One of a single level, which the
    published code divides by zero for, is black.
    """
    v2 = import_extra("torchvision.transforms.v2.functional", "torchvision")
    levels = np.asarray(image).astype(np.float64)
    levels -= levels.min()
    levels /= levels.max() or 1.0
    levels *= 255
    grey = Image.fromarray(levels.astype(np.uint8)).convert("L")
    grey = v2.center_crop(v2.resize(grey, [_RESIZED]), [side, side])
    return torch.from_numpy(np.array(grey, dtype=np.float32) / 255).expand(3, -1, -1).contiguous()


class BioVil(TwoTowers):
    """BioViL or BioViL-T.

    Args:
        patches: from ``(n, 3, side, side)`` to ``(n, d_embed, rows, columns)``.
        text: CXR-BERT.
        side: pixels of the square input.
    """

    #: Five layers of stride 2, padded on either side: patch i looks around pixel 32 i, and its share's middle is 15.5 on.
    patch_offset = (-15.5, -15.5)

    def __init__(self, patches: nn.Module, text: BertTower, side: int) -> None:
        super().__init__(patches, text, partial(_view, side=side))
        self.side = side

    def placement(self, height: int, width: int) -> tuple[int, int, int, int]:
        """Return the height and width of a film on the input, and its top row and left column there, in pixels."""
        short = min(height, width)
        size = int(_RESIZED * height / short), int(_RESIZED * width / short)
        top, left = (-round((length - self.side) / 2) for length in size)
        return *size, top, left

    def encode_patches(self, images: Tensor) -> Tensor:
        """Embed each patch of ``(n, 3, side, side)``: ``(n, d_embed, rows, columns)``."""
        patches: Tensor = self.image(images)
        return patches

    def encode_images(self, images: Tensor) -> Tensor:
        """Embed ``(n, 3, side, side)`` as ``(n, d_embed)``: the mean of the patches."""
        return self.encode_patches(images).mean(dim=(2, 3))

    def encode_texts(self, texts: list[str]) -> Tensor:
        """Embed ``n`` texts as ``(n, d_embed)``; marks at a text's end are taken off first, as published."""
        return super().encode_texts([text.rstrip("!?.") for text in texts])


def load_biovil(rest: str, spec: str, device: str, card: VlmCard) -> Annotator:
    """Load BioViL or BioViL-T.

    Args:
        rest: the image model, with CXR-BERT beside it; a folder with both; or ``organisation/name`` on the hub.
        spec: what the user asked for.
        device: where to run.
        card: what is known of it.

    Raises:
        VlmError: if a file is missing, damaged, or of another model.
    """
    image = find_weights(rest, spec, _IMAGE)
    patches, with_time = _patches(read_weights(image, error=VlmError), f"{spec}: {image.name!r}")
    on_hub = not Path(rest).expanduser().exists()
    repository = rest if on_hub else _REPOSITORY[with_time]
    tower, notes = _text(_text_weights(image, repository, spec), repository, spec, with_time)
    side = _CROP[with_time]
    annotator = annotator_of(BioVil(patches, tower, side), spec, device, card, [tower.content, f"biovil {side}"])
    annotator.notes += notes
    return annotator


def _patches(state: dict[str, Tensor], source: str) -> tuple[nn.Module, bool]:
    """Build the image model of the size its tensors have; return it, and whether it is BioViL-T's."""
    stem, last = state.get("encoder.encoder.conv1.weight"), state.get("projector.model.3.weight")
    block, first = state.get("encoder.encoder.layer1.0.conv3.weight"), state.get("projector.model.0.weight")
    head = state.get("encoder.encoder.fc.weight")
    if stem is None or block is None or first is None or last is None or head is None:
        raise VlmError(
            f"{source} holds no image model of BioViL ('encoder.encoder.*', a ResNet-50, and 'projector.model.*'): give "
            f"{_IMAGE[0]!r} or {_IMAGE[1]!r} as Microsoft publishes them"
        )
    resnet = import_extra("torchvision.models.resnet", "torchvision")
    depths = [_count(state, f"encoder.encoder.layer{stage}.") for stage in (1, 2, 3, 4)]
    trunk = resnet.ResNet(resnet.Bottleneck, depths, num_classes=len(head), width_per_group=block.shape[1])
    with_time = "encoder.backbone_to_vit.weight" in state
    encoder = nn.Module()
    encoder.encoder = trunk
    reduce = missing = None
    if with_time:
        width = len(state["encoder.backbone_to_vit.weight"])
        reduce = encoder.backbone_to_vit = nn.Conv2d(trunk.fc.in_features, width, 1, bias=False)
        missing = encoder.missing_previous_emb = nn.Parameter(torch.zeros(1, width, 1, 1))
        encoder.vit_pooler = _comparison(width, _count(state, "encoder.vit_pooler.blocks."))
    project = nn.Sequential(
        nn.Conv2d(first.shape[1], len(first), 1, bias=False),
        nn.BatchNorm2d(len(first)),
        nn.ReLU(),
        nn.Conv2d(len(first), len(last), 1),
    )
    whole = nn.ModuleDict({"encoder": encoder, "projector": nn.ModuleDict({"model": project})})
    load_weights(whole, {name: v for name, v in state.items() if name != _WAVES}, source, error=VlmError)
    # The last two are the pooling and the ImageNet classes, which the published forward does not pass through.
    stages = nn.Sequential(*list(trunk.children())[:-2])
    return _Patches(stages, reduce, None if missing is None else missing.detach(), project).float().eval(), with_time


def _count(state: dict[str, Tensor], prefix: str) -> int:
    """Return how many blocks are numbered behind a prefix."""
    found = {name.removeprefix(prefix).partition(".")[0] for name in state if name.startswith(prefix)}
    return len(found)


def _comparison(width: int, depth: int) -> nn.Module:
    """Return the tensors of the transformer that compares two films, so that they can be checked; it is never run."""

    def block() -> nn.Module:
        linear = {name: nn.Linear(width, width, bias=False) for name in ("proj_q", "proj_k", "proj_v")}
        attention = nn.ModuleDict(linear | {"proj": nn.Linear(width, width)})
        dense = nn.ModuleDict({name: nn.Linear(width, width) for name in ("fc1", "fc2")})
        norms = {name: nn.LayerNorm(width) for name in ("norm1", "norm2")}
        return nn.ModuleDict(norms | {"attn": attention, "mlp": dense})

    pooler = nn.ModuleDict({"blocks": nn.ModuleList(block() for _ in range(depth)), "norm_post": nn.LayerNorm(width)})
    pooler.type_embed = nn.Parameter(torch.zeros(2, 1, width))
    return pooler


def _text_weights(image: Path, repository: str, spec: str) -> Path:
    """Find CXR-BERT: beside the image model, in a folder there that is called as its repository, or on the hub."""
    for folder in (image.parent, image.parent / repository.rpartition("/")[2]):
        for name in _TEXT:
            if (folder / name).is_file():
                return folder / name
    try:
        folder = find_folder(repository, spec, needs=(TOKENIZER_FILES,), weights=_TEXT, extra="transformers")
    except VlmError as error:
        raise VlmError(
            f"The text model of {error}; or put {_TEXT[1]!r} and 'vocab.txt' of {repository!r} beside {image.name!r}"
        ) from error
    return next(folder / name for name in _TEXT if (folder / name).is_file())


def _text(weights: Path, repository: str, spec: str, with_time: bool) -> tuple[BertTower, list[str]]:
    """Build CXR-BERT with its projection; return it, and what speaks against it in words."""
    source = f"{spec}: {weights.name!r}"
    state = read_weights(weights, error=VlmError)
    hidden = state.get("cls_projection_head.dense_to_hidden.weight")
    if hidden is None:
        raise VlmError(
            f"{source} holds no CXR-BERT with a projection ('cls_projection_head.*'): give the text model of {repository!r}"
        )
    bert = {name.removeprefix("bert."): value for name, value in state.items() if name.startswith("bert.")}
    rest = {name: v for name, v in state.items() if not name.startswith("bert.") and name not in _LANGUAGE_HEAD}
    model = bert_from(bert, source)
    head = nn.Sequential(
        OrderedDict(
            dense_to_hidden=nn.Linear(hidden.shape[1], hidden.shape[0]),
            transform_act_fn=nn.GELU(),
            LayerNorm=nn.LayerNorm(hidden.shape[0], eps=1e-12),
            dense_to_output=nn.Linear(hidden.shape[0], hidden.shape[0]),
        )
    )
    load_weights(nn.ModuleDict({"cls_projection_head": head}), rest, source, error=VlmError)
    tokenizer = bert_tokenizer(find_tokenizer_folder(weights, repository, spec), spec)
    n_words = len(bert["embeddings.word_embeddings.weight"])
    if len(tokenizer) != n_words:
        raise VlmError(
            f"{spec}: the tokenizer has {len(tokenizer):,} words and {weights.name!r} embeds {n_words:,}: it is another "
            f"model's; take 'vocab.txt' of {repository!r}"
        )
    length = len(bert["embeddings.position_embeddings.weight"])
    tower = BertTower(model, tokenizer, length, _first_token, head.float().eval())
    return tower, _check_partner(weights, with_time, spec)


def _first_token(hidden: tuple[Tensor, ...], _mask: Tensor) -> Tensor:
    return hidden[-1][:, 0]


def _check_partner(weights: Path, with_time: bool, spec: str) -> list[str]:
    """Compare the text model's own name with the image model: the two models have the same tensors, not the same space."""
    try:
        config = json.loads((weights.parent / "config.json").read_text(encoding="utf-8"))
        name = str(config.get("_name_or_path", "")) if isinstance(config, dict) else ""
    except (OSError, ValueError):
        name = ""
    if "BioViL-T" in name and not with_time:
        raise VlmError(
            f"{spec}: the image model is BioViL's and the text model beside it BioViL-T's ({name!r}), which do not share a "
            f"space: take the text model of {_REPOSITORY[False]!r}"
        )
    if not with_time or "BioViL-T" in name:
        return []
    return ["nothing beside the text model says that it is BioViL-T's own; that of BioViL would load, but not match"]
