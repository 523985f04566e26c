"""open_clip models: from the hub, from a folder, or a built-in architecture with a checkpoint of one's own.

After ``open_clip:`` comes one of

* ``hf-hub:organisation/name``, from the local cache or the network;
* ``local-dir:FOLDER``, with ``open_clip_config.json``, weights and tokenizer;
* ``ARCHITECTURE@FILE``, for example ``ViT-B-32-quickgelu@my.pt``; the plain ViT-B-32 is ``ViT-B-32-gelu`` here;
* ``ARCHITECTURE@TAG``, a published checkpoint by its open_clip tag, for example ``ViT-B-32@laion2b_s34b_b79k``.
"""

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from mammi.errors import VlmError
from mammi.functional.fingerprint import fingerprint_module, fingerprint_value
from mammi.registry import import_extra
from mammi.types import VlmCard
from mammi.vlms.annotator import Annotator, one_line
from mammi.vlms.hub import explain_load, find_folder
from mammi.vlms.open_clip_architecture import WEIGHTS, from_architecture
from mammi.vlms.open_clip_text import find_tokenizer, own_text_tower, tokenizer_content
from mammi.vlms.savings import can_be_cut, cut, encode_cut, takes_grey

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["OpenClipVlm", "load_open_clip_vlm"]

_CONFIG = "open_clip_config.json"
#: Texts of unequal length, to try a text tower with.
_TRIAL = ["chest", "frontal chest radiograph with a small left pleural effusion"]


class OpenClipVlm(nn.Module):
    """An open_clip model with its transform and tokenizer.

    Args:
        model: as ``open_clip.create_model`` returns it.
        transform: from an RGB picture to a tensor.
        tokenizer: from texts to ``(n, context_length)`` token ids.
        device: where the model is.
    """

    def __init__(
        self,
        model: Any,  # noqa: ANN401 - CLIP, CustomTextCLIP or CoCa
        transform: "Callable[[Image.Image], Tensor]",
        tokenizer: Any,  # noqa: ANN401 - SimpleTokenizer or HFTokenizer
        device: str,
    ) -> None:
        super().__init__()
        self.model = model
        self.transform = transform
        self.tokenizer = tokenizer
        self.device = device
        self.takes_grey = takes_grey(transform)
        inner = getattr(tokenizer, "tokenizer", None)
        self.padding: int | None = 0 if inner is None else inner.pad_token_id
        self.spare = 0 if inner is None else 1  # open_clip's own tokenizer pads with what ends nothing
        self.cuts_texts = can_be_cut(model, tokenizer(_TRIAL).to(device), self.padding, self.spare)

    def preprocess(self, image: "Image.Image") -> Tensor:
        """Return ``(3, h, w)`` as the model's own transform makes it; grey is repeated to RGB, after resizing if it may."""
        return self.transform(image if image.mode == "L" and self.takes_grey else image.convert("RGB"))

    def encode_images(self, images: Tensor) -> Tensor:
        """Embed ``(n, 3, h, w)`` as ``(n, d_embed)``."""
        rows: Tensor = self.model.encode_image(images)
        return rows

    def encode_texts(self, texts: list[str]) -> Tensor:
        """Embed ``n`` texts as ``(n, d_embed)``; padded to the longest of them where the tower allows it."""
        tokens = self.tokenizer(texts)
        if self.cuts_texts and self.padding is not None:
            return encode_cut(self.model, cut(tokens, self.padding, self.spare).to(self.device))
        rows: Tensor = self.model.encode_text(tokens.to(self.device))
        return rows

    def text_length(self, text: str) -> int:
        """Return how many tokens a text has, its start and end among them."""
        inner = getattr(self.tokenizer, "tokenizer", None)
        if inner is not None:
            return len(inner(text, verbose=False)["input_ids"])
        return len(self.tokenizer.encode(text)) + 2

    def too_long(self, text: str) -> bool:
        """Return whether a text has more tokens than the model reads."""
        return self.text_length(text) > int(self.tokenizer.context_length)


def load_open_clip_vlm(name: str, spec: str, device: str, card: VlmCard, weights: str | None = None) -> Annotator:
    """Load an open_clip model; see the module's docstring for what ``name`` can be.

    Raises:
        VlmError: if it cannot be found, or its files are incomplete, damaged, or made for another activation.
        UnknownNameError: if no such architecture exists.
    """
    open_clip = import_extra("open_clip", "open-clip")
    transforms = import_extra("open_clip.transform", "open-clip")
    notes: list[str] = []
    folder: Path | None
    with _quiet_root_logger():
        if name.startswith(("hf-hub:", "local-dir:")) or Path(name).expanduser().is_dir():
            if weights is not None:
                raise VlmError(
                    f"{spec} brings its own weights: leave out {weights!r}, or give 'open_clip:ARCHITECTURE@FILE'"
                )
            source = name.removeprefix("hf-hub:").removeprefix("local-dir:")
            folder = find_folder(source, spec, needs=(_CONFIG,), weights=WEIGHTS, extra="open-clip")
            config = _model_config(folder, spec)
            model = _from_folder(open_clip, folder, config, spec)
        else:
            model, folder, config = from_architecture(open_clip, name, weights, spec, notes)
        tokenizer = find_tokenizer(open_clip, name, folder, config, spec)
        settings = dict(model.visual.preprocess_cfg)
        transform = transforms.image_transform_v2(transforms.PreprocessCfg(**settings), is_train=False)
    vlm = OpenClipVlm(model.eval().float().to(device), transform, tokenizer, device)
    content = [
        fingerprint_module(model),
        json.dumps(settings, sort_keys=True, default=str),
        tokenizer_content(tokenizer),
    ]
    return Annotator(spec, vlm, card, fingerprint_value(content), device, notes=notes)


def _from_folder(open_clip: Any, folder: Path, config: dict[str, Any], spec: str) -> Any:  # noqa: ANN401
    try:
        return open_clip.create_model(
            f"local-dir:{folder}", require_pretrained=True, weights_only=True, **own_text_tower(config, folder, spec)
        )
    except VlmError:
        raise
    except Exception as error:
        raise explain_load(spec, folder, error) from error


def _model_config(folder: Path, spec: str) -> dict[str, Any]:
    try:
        config = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))["model_cfg"]
    except (ValueError, KeyError, TypeError) as error:
        raise VlmError(
            f"{spec}: {str(folder / _CONFIG)!r} is not an open_clip configuration ({one_line(error)})"
        ) from error
    if not isinstance(config, dict):
        raise VlmError(f"{spec}: 'model_cfg' in {str(folder / _CONFIG)!r} is not a mapping")
    return config


@contextmanager
def _quiet_root_logger() -> Iterator[None]:
    """Keep open_clip, which logs through the root logger, from installing a handler there and talking."""
    root, silent = logging.getLogger(), logging.NullHandler()
    level = root.level
    root.addHandler(silent)
    root.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        root.removeHandler(silent)
        root.setLevel(level)
