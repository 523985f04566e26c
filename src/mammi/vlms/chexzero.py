r"""CheXzero: OpenAI's CLIP trained on MIMIC-CXR, one checkpoint or an ensemble, scored by "X" against "no X" [1]_.

After ``chexzero:`` comes a checkpoint as published (for example ``best_64_5e-05_original_22000_0.864.pt``), a folder of
them, or several with commas between: these are averaged.

A film's score for a text is

.. math:: s = \frac{1}{m} \sum_{k=1}^{m} \frac{\exp(\cos^+_k)}{\exp(\cos^+_k) + \exp(\cos^-_k)}

over the :math:`m` checkpoints, :math:`\cos^+_k` with the text and :math:`\cos^-_k` with ``"no "`` before it, both
without the logit scale, so that scores lie close to 0.5: their order counts, not their size.

References:
    .. [1] Tiu et al., Nature Biomedical Engineering 6, 1399-1406, 2022; https://github.com/rajpurkarlab/CheXzero:
        ``zero_shot.py`` (transform, prompts, score), ``data_process.py`` (resizing and padding), ``model.py``.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from mammi.errors import VlmError
from mammi.functional.fingerprint import fingerprint_module
from mammi.registry import import_extra
from mammi.types import VlmCard
from mammi.vlms.annotator import Annotator
from mammi.vlms.checkpoint import find_weights
from mammi.vlms.clip_layout import config_of, describe, written_by
from mammi.vlms.from_file import annotator_of
from mammi.vlms.from_open_clip import OpenClipVlm
from mammi.vlms.open_clip_text import tokenizer_content
from mammi.weights_file import load_weights, read_weights

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["CheXzero", "chexzero_transform", "load_chexzero"]

#: open_clip's configuration of what CheXzero is; ``ViT-B-32`` has the same tensors and another activation.
ARCHITECTURE = "ViT-B-32-quickgelu"
_PATCH = 32
_CANVAS = 320
_MEAN, _STD = 101.48761, 83.43944
_SUFFIXES = (".pt", ".pth", ".bin", ".safetensors")
#: Numbers that OpenAI's own files hold beside the tensors.
_NUMBERS = ("input_resolution", "context_length", "vocab_size")


class CheXzero(nn.Module):
    """One or more CheXzero checkpoints as a `mammi.types.Scorer`.

    Args:
        members: each checkpoint's model, all of one size.
        image_size: pixels along a side of their input.
    """

    #: What texts are put into before they are embedded; the negative is added here.
    templates = ("{}",)

    def __init__(self, members: list[OpenClipVlm], image_size: int) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.image_size = image_size

    def preprocess(self, image: "Image.Image") -> Tensor:
        """Return ``(3, image_size, image_size)`` float32, as `chexzero_transform` makes it."""
        return chexzero_transform(image, self.image_size)

    def encode_images(self, images: Tensor) -> Tensor:
        """Embed ``(n, 3, h, w)`` as ``(n, n_members * d_embed)``: each member's rows of unit length, side by side."""
        return torch.cat([nn.functional.normalize(own.encode_images(images), dim=1) for own in self._own()], dim=1)

    def encode_texts(self, texts: list[str]) -> Tensor:
        """Embed ``n`` texts as ``(n, n_members * d_embed)``: each member's row of "X" less that of "no X", both of unit length."""
        parts = []
        for own in self._own():
            rows = nn.functional.normalize(own.encode_texts([*texts, *map(_negative, texts)]), dim=1)
            parts.append(rows[: len(texts)] - rows[len(texts) :])
        return torch.cat(parts, dim=1)

    def score(self, images: Tensor, texts: Tensor) -> Tensor:
        """Return ``(n_images, n_texts)``: the mean over members of the share of "X" against "no X", in (0, 1).

        Args:
            images: ``(n_images, n_members * d_embed)`` from `encode_images`.
            texts: ``(n_texts, n_members * d_embed)`` from `encode_texts`.
        """
        n = len(self.members)
        pairs = zip(images.chunk(n, dim=1), texts.chunk(n, dim=1), strict=True)
        # exp(a) / (exp(a) + exp(b)) is the logistic function of a - b, and cosines with unit rows are linear in them.
        shares = [torch.sigmoid(films @ names.T) for films, names in pairs]
        return torch.stack(shares).mean(dim=0)

    def text_length(self, text: str) -> int:
        """Return how many tokens a text has after "no", its start and end among them."""
        return self._own()[0].text_length(_negative(text))

    def too_long(self, text: str) -> bool:
        """Return whether a text has more tokens after "no" than the model reads."""
        return self._own()[0].too_long(_negative(text))

    def _own(self) -> list[OpenClipVlm]:
        return [own for own in self.members if isinstance(own, OpenClipVlm)]


def _negative(text: str) -> str:
    return f"no {text}"


def chexzero_transform(image: "Image.Image", image_size: int = 224) -> Tensor:
    """Make of a picture what CheXzero was trained on.

    The longer side becomes 320 (Lanczos, the shorter one rounded down), the picture goes to the middle of a black
    square, its grey levels 0 to 255 less 101.48761 over 83.43944, and only then is it made smaller, as numbers, by
    bicubic interpolation **without antialiasing**: the torchvision of that time had none for tensors.

    Args:
        image: 8-bit ``L`` or ``RGB``, of any size.
        image_size: pixels along a side of the result; at 320 nothing is interpolated.

    Returns:
        ``(3, image_size, image_size)`` float32, three equal channels.
    """
    from PIL import Image

    ratio = _CANVAS / max(image.size)
    width, height = (max(1, int(side * ratio)) for side in image.size)
    small = image.resize((width, height), Image.Resampling.LANCZOS).convert("L")
    canvas = Image.new("L", (_CANVAS, _CANVAS))
    canvas.paste(small, ((_CANVAS - width) // 2, (_CANVAS - height) // 2))
    levels = (torch.from_numpy(np.array(canvas, dtype=np.float32)) - _MEAN) / _STD
    if image_size != _CANVAS:
        levels = nn.functional.interpolate(
            levels[None, None], (image_size, image_size), mode="bicubic", align_corners=False, antialias=False
        )[0, 0]
    return levels.repeat(3, 1, 1)


def load_chexzero(name: str, spec: str, device: str, card: VlmCard) -> Annotator:
    """Load CheXzero; see the module's docstring for what ``name`` can be.

    Every tensor must fit open_clip's class with QuickGELU, whatever ``ViT-B-32`` would take: the plain configuration,
    which has the same tensors and embeds wrongly, cannot be asked for.

    Raises:
        VlmError: if a file is absent, damaged or holds code; if it is another model, which the message names; if
            open_clip's class wrote it, which CheXzero does not use; or if one checkpoint is given twice.
    """
    open_clip = import_extra("open_clip", "open-clip")
    notes: list[str] = []
    models: list[Any] = []
    sizes: list[dict[str, Any]] = []
    seen: dict[str, Path] = {}
    known = {name: open_clip.get_model_config(name) for name in open_clip.list_models()}
    for path in _files(name, spec):
        state = {key: value for key, value in read_weights(path, error=VlmError).items() if key not in _NUMBERS}
        sizes.append(_checked_config(state, known, path, spec, notes))
        model = open_clip.CLIP(**sizes[-1], quick_gelu=True)
        notes += load_weights(model, state, repr(path.name), error=VlmError)
        models.append(model.float().eval().to(device))
        twin = seen.setdefault(fingerprint_module(model), path)
        if twin is not path:
            raise VlmError(f"{spec}: {path.name!r} and {twin.name!r} are one checkpoint: give each once")
        if sizes[-1] != sizes[0]:
            raise VlmError(
                f"{spec}: {path.name!r} is of another size than the first checkpoint: give those of one model"
            )
    image_size = int(sizes[0]["vision_cfg"]["image_size"])
    tokenizer = open_clip.SimpleTokenizer(context_length=sizes[0]["text_cfg"]["context_length"])
    members = [
        OpenClipVlm(model, lambda image: chexzero_transform(image, image_size), tokenizer, device) for model in models
    ]
    annotator = annotator_of(CheXzero(members, image_size), spec, device, card, [tokenizer_content(tokenizer)])
    annotator.notes += list(dict.fromkeys(notes))
    return annotator


def _files(name: str, spec: str) -> list[Path]:
    """Return the checkpoints that a user means, in order."""
    path = Path(name).expanduser()
    if name and path.is_dir():
        found = sorted(file for file in path.iterdir() if file.suffix in _SUFFIXES and file.is_file())
        if not found:
            raise VlmError(f"{spec}: the folder {name!r} holds no checkpoint ({', '.join(_SUFFIXES)})")
        return found
    parts = [name] if path.is_file() else [part.strip() for part in name.split(",")]
    return [find_weights(part, spec, ()) for part in parts]


def _checked_config(
    state: dict[str, Tensor], known: dict[str, dict[str, Any]], path: Path, spec: str, notes: list[str]
) -> dict[str, Any]:
    """Return the settings that the tensors tell.

    Raises:
        VlmError: if they are of another model.
    """
    state = {key.removeprefix("module."): value for key, value in state.items()}
    config = config_of(state)
    expected = "expected CheXzero, a ViT-B-32 in OpenAI's layout"
    if config is None:
        raise VlmError(f"{spec}: {path.name!r} is {describe(state, known)}; {expected}")
    published = {key: known[ARCHITECTURE][key] for key in config}
    if config != published:
        what = describe(state, known)
        if not what.startswith("a vision transformer"):
            raise VlmError(f"{spec}: {path.name!r} is {what}; {expected}")
        notes.append(f"{path.name!r} is {what}, not of the size of the published CheXzero")
    if config["vision_cfg"]["patch_size"] != _PATCH and config["vision_cfg"]["image_size"] != _CANVAS:
        raise VlmError(f"{spec}: {path.name!r} is {describe(state, known)}; {expected}")
    code = written_by(state)
    if code == "open_clip":
        raise VlmError(
            f"{spec}: {path.name!r} was written by open_clip's class, not by CheXzero's, and may compute with GELU: give "
            f"CheXzero as published, or 'open_clip:{ARCHITECTURE}@FILE' if you know that it was trained with QuickGELU"
        )
    if not code:
        notes.append(
            f"the tensors of {path.name!r} are not in the order in which CheXzero's class writes them, so that nothing "
            "tells them from those of a ViT-B-32 with GELU"
        )
    return config
