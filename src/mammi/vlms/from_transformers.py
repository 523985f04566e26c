"""CLIP, SigLIP and SigLIP 2 models in the Hugging Face format: a folder or ``organisation/name``.

SigLIP [1]_ was trained on texts of 64 tokens, padding included and unmasked, in lower case and without punctuation;
SigLIP 2 [2]_ likewise, in lower case, punctuation kept. Not every tokenizer that a checkpoint comes with does that (one
that names ``GemmaTokenizer`` keeps capitals, and SigLIP's own class is replaced here by its ``tokenizer.json``), so texts
are put in that form before they reach it, which changes nothing for one that does it itself.

Pictures go through the processors' Pillow code on every machine: transformers also has one for torchvision, takes it
where that is installed, and rounds otherwise.

References:
    .. [1] Zhai et al., ICCV 2023, arXiv 2303.15343; canonical texts: ``SiglipTokenizer`` of transformers.
    .. [2] Tschannen et al., arXiv 2502.14786; lower case: ``Siglip2Tokenizer`` of transformers.
"""

import json
import string
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
from mammi.vlms.naflex import pack, unpack

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["TransformersVlm", "load_transformers_vlm"]

_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
_CLASSES = {"clip": "CLIPModel", "siglip": "SiglipModel", "siglip2": "Siglip2Model"}
#: How texts are written for a tokenizer of SigLIP (T5's pieces) and of SigLIP 2 (Gemma's).
_PLAIN_WORDS, _LOWER = "lower case without punctuation", "lower case"
_WRITTEN = {
    "SiglipTokenizer": _PLAIN_WORDS,
    "T5Tokenizer": _PLAIN_WORDS,
    "GemmaTokenizer": _LOWER,
    "Siglip2Tokenizer": _LOWER,
}
#: The same by the number of pieces, for a folder that names a class of no model, as transformers 5 writes it.
_WRITTEN_BY_SIZE = {32_000: _PLAIN_WORDS, 256_000: _LOWER}


class TransformersVlm(nn.Module):
    """A CLIP or SigLIP model with its own image processor and tokenizer.

    Args:
        model: ``CLIPModel``, ``SiglipModel`` or ``Siglip2Model``.
        processor: its image processor.
        tokenizer: its tokenizer.
        kind: ``"clip"``, ``"siglip"`` or ``"siglip2"``.
        written: how texts are written for the tokenizer: a value of ``_WRITTEN``, or ``""`` for as they are.
    """

    def __init__(self, model: Any, processor: Any, tokenizer: Any, kind: str, written: str = "") -> None:  # noqa: ANN401
        super().__init__()
        self.model = model
        self.processor = processor
        self.tokenizer = tokenizer
        self.kind = kind
        self.written = written
        self.n_tokens = int(model.config.text_config.max_position_embeddings)

    def preprocess(self, image: "Image.Image") -> Tensor:
        """Return ``(3, h, w)`` as the model's own image processor makes it; grey is repeated to RGB.

        For a SigLIP 2 of variable size ``(n_patches + 1, 3 * patch * patch)``, from `mammi.vlms.naflex.pack`.
        """
        features = self.processor(images=image.convert("RGB"), return_tensors="pt")
        if self.kind == "siglip2":
            return pack(features["pixel_values"][0], features["spatial_shapes"][0])
        pixels: Tensor = features["pixel_values"][0]
        return pixels

    def encode_images(self, images: Tensor) -> Tensor:
        """Embed a batch of what `preprocess` makes as ``(n, d_embed)``."""
        if self.kind == "siglip2":
            pixels, mask, shapes = unpack(images)
            return _pooled(
                self.model.get_image_features(pixel_values=pixels, pixel_attention_mask=mask, spatial_shapes=shapes)
            )
        return _pooled(self.model.get_image_features(pixel_values=images))

    def encode_texts(self, texts: list[str]) -> Tensor:
        """Embed ``n`` texts as ``(n, d_embed)``.

        CLIP pads to the longest of the batch under a mask. SigLIP was trained on 64 tokens, padding included and
        unmasked: anything else gives other embeddings.
        """
        padding = "longest" if self.kind == "clip" else "max_length"
        tokens = self.tokenizer(
            [self.canonical(text) for text in texts],
            padding=padding,
            truncation=True,
            max_length=self.n_tokens,
            return_tensors="pt",
        ).to(self.model.device)
        if self.kind != "clip":
            return _pooled(self.model.get_text_features(input_ids=tokens["input_ids"]))
        return _pooled(
            self.model.get_text_features(input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"])
        )

    def canonical(self, text: str) -> str:
        """Return a text as it is written for the tokenizer; doing it twice changes nothing."""
        if self.written == _PLAIN_WORDS:
            bare = text.lower().translate(str.maketrans("", "", string.punctuation))
            return " ".join(bare.split())
        return text.lower() if self.written == _LOWER else text

    def too_long(self, text: str) -> bool:
        """Return whether a text has more tokens than the model reads."""
        # A tokenizer may have padding and cutting built in: the padding is counted out and the cutting switched off.
        ids = self.tokenizer(self.canonical(text), verbose=False, padding=False, truncation=False)["input_ids"]
        return len(ids) > self.n_tokens


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
            processor = transformers.AutoImageProcessor.from_pretrained(folder, local_files_only=True, backend="pil")
            # SigLIP's own class wants the sentencepiece package even where tokenizer.json says the same.
            whole = kind != "clip" and (folder / "tokenizer.json").is_file()
            tokenizers = transformers.PreTrainedTokenizerFast if whole else transformers.AutoTokenizer
            tokenizer = tokenizers.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:
        raise explain_load(spec, folder, error) from error
    lost = sorted(map(str, [*info.get("missing_keys", ()), *info.get("mismatched_keys", ())]))
    if lost:
        raise VlmError(
            f"{spec}: the weights in {str(folder)!r} lack {len(lost)} tensors, {', '.join(lost[:3])}: download them again"
        )
    tokenizer.padding_side = "right"  # positions count from the left in both families
    written = _written(folder, kind, int(model.config.text_config.vocab_size))
    vlm = TransformersVlm(model.eval().to(device), processor, tokenizer, kind, written)
    content = [fingerprint_module(model), processor.to_json_string(), tokenizer_content(tokenizer), kind, written]
    return Annotator(spec, vlm, card, fingerprint_value(content), device)


def _kind(folder: Path, spec: str) -> str:
    try:
        kind = str(json.loads((folder / "config.json").read_text(encoding="utf-8")).get("model_type", "unknown"))
    except (ValueError, AttributeError) as error:
        raise VlmError(f"{spec}: {str(folder / 'config.json')!r} is not JSON: download it again") from error
    if kind not in _CLASSES:
        raise VlmError(
            f"{spec} is of type {kind!r}: expected {' or '.join(_CLASSES)}; for another kind write a 'file.py:create'"
        )
    return kind


def _written(folder: Path, kind: str, n_pieces: int) -> str:
    """Return how the texts of a SigLIP are written for the tokenizer that its folder names."""
    if kind == "clip":
        return ""
    try:
        settings = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        settings = {}
    named = str(settings.get("tokenizer_class")).removesuffix("Fast")
    return _LOWER if kind == "siglip2" else _WRITTEN.get(named, _WRITTEN_BY_SIZE.get(n_pieces, ""))


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
