"""CLIP and SigLIP models in the Hugging Face format: a folder or ``organisation/name``."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from mammi.errors import VlmError
from mammi.functional.fingerprint import fingerprint_module, fingerprint_value
from mammi.registry import import_extra
from mammi.types import VlmCard
from mammi.vlms.annotator import Annotator
from mammi.vlms.checkpoint import tokenizer_content
from mammi.vlms.hub import TOKENIZER_FILES, explain_load, find_folder

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["TransformersVlm", "load_transformers_vlm"]

_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
_CLASSES = {"clip": "CLIPModel", "siglip": "SiglipModel"}


class TransformersVlm(nn.Module):
    """A CLIP or SigLIP model with its own image processor and tokenizer.

    Args:
        model: ``CLIPModel`` or ``SiglipModel``.
        processor: its image processor.
        tokenizer: its tokenizer.
        kind: ``"clip"`` or ``"siglip"``.
    """

    def __init__(self, model: Any, processor: Any, tokenizer: Any, kind: str) -> None:  # noqa: ANN401
        super().__init__()
        self.model = model
        self.processor = processor
        self.tokenizer = tokenizer
        self.kind = kind
        self.n_tokens = int(model.config.text_config.max_position_embeddings)

    def preprocess(self, image: "Image.Image") -> Tensor:
        """Return ``(3, h, w)`` as the model's own image processor makes it; grey is repeated to RGB."""
        pixels: Tensor = self.processor(images=image.convert("RGB"), return_tensors="pt")["pixel_values"][0]
        return pixels

    def encode_images(self, images: Tensor) -> Tensor:
        """Embed ``(n, 3, h, w)`` as ``(n, d_embed)``."""
        return _pooled(self.model.get_image_features(pixel_values=images))

    def encode_texts(self, texts: list[str]) -> Tensor:
        """Embed ``n`` texts as ``(n, d_embed)``.

        CLIP pads to the longest of the batch under a mask. SigLIP was trained on 64 tokens, padding included and
        unmasked: anything else gives other embeddings.
        """
        padding = "max_length" if self.kind == "siglip" else "longest"
        tokens = self.tokenizer(
            texts, padding=padding, truncation=True, max_length=self.n_tokens, return_tensors="pt"
        ).to(self.model.device)
        if self.kind == "siglip":
            return _pooled(self.model.get_text_features(input_ids=tokens["input_ids"]))
        return _pooled(
            self.model.get_text_features(input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"])
        )

    def too_long(self, text: str) -> bool:
        """Return whether a text has more tokens than the model reads."""
        return len(self.tokenizer(text, verbose=False)["input_ids"]) > self.n_tokens


def load_transformers_vlm(name: str, spec: str, device: str, card: VlmCard) -> Annotator:
    """Load a CLIP or SigLIP model from a folder or from the hub, without running code from it.

    Raises:
        VlmError: if it cannot be found, is of another kind, or its files are incomplete or damaged.
    """
    if not name:
        raise VlmError("'transformers' names no model: give 'transformers:organisation/name' or 'transformers:FOLDER'")
    transformers = import_extra("transformers", "transformers")
    needs = ("config.json", "preprocessor_config.json", TOKENIZER_FILES)
    folder = find_folder(name, spec, needs=needs, weights=_WEIGHTS, extra="transformers")
    kind = _kind(folder, spec)
    try:
        with _no_progress_bar():
            model, info = getattr(transformers, _CLASSES[kind]).from_pretrained(
                folder,
                local_files_only=True,
                output_loading_info=True,
                trust_remote_code=False,
                dtype="float32",
            )
            processor = transformers.AutoImageProcessor.from_pretrained(folder, local_files_only=True)
            tokenizer = transformers.AutoTokenizer.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False
            )
    except Exception as error:
        raise explain_load(spec, folder, error) from error
    lost = sorted(map(str, [*info.get("missing_keys", ()), *info.get("mismatched_keys", ())]))
    if lost:
        raise VlmError(
            f"{spec}: the weights in {str(folder)!r} lack {len(lost)} tensors, {', '.join(lost[:3])}: download them again"
        )
    tokenizer.padding_side = "right"  # positions count from the left in both families
    vlm = TransformersVlm(model.eval().to(device), processor, tokenizer, kind)
    content = [fingerprint_module(model), processor.to_json_string(), tokenizer_content(tokenizer), kind]
    return Annotator(spec, vlm, card, fingerprint_value(content), device)


def _kind(folder: Path, spec: str) -> str:
    try:
        kind = str(json.loads((folder / "config.json").read_text(encoding="utf-8")).get("model_type", "unknown"))
    except (ValueError, AttributeError) as error:
        raise VlmError(f"{spec}: {str(folder / 'config.json')!r} is not JSON: download it again") from error
    if kind == "siglip2":
        raise VlmError(
            f"{spec} is a SigLIP 2 of variable size (NaFlex), whose input is not one tensor: take one of fixed size"
        )
    if kind not in _CLASSES:
        raise VlmError(
            f"{spec} is of type {kind!r}: expected {' or '.join(_CLASSES)}; for another kind write a 'file.py:create'"
        )
    return kind


def _pooled(output: Any) -> Tensor:  # noqa: ANN401 - a tensor up to transformers 4, an output object from 5 on
    pooled: Tensor = output if isinstance(output, Tensor) else output.pooler_output
    return pooled


@contextmanager
def _no_progress_bar() -> Iterator[None]:
    logging = import_extra("transformers.utils.logging", "transformers")
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
