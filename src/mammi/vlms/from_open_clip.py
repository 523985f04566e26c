"""open_clip models: from the hub, from a folder, or a built-in architecture with a checkpoint of one's own.

After ``open_clip:`` comes one of

* ``hf-hub:organisation/name``, from the local cache or the network;
* ``local-dir:FOLDER``, with ``open_clip_config.json``, weights and tokenizer;
* ``ARCHITECTURE@FILE``, for example ``ViT-B-32-quickgelu@chexzero.pt``;
* ``ARCHITECTURE@TAG``, a published checkpoint by its open_clip tag, for example ``ViT-B-32@laion2b_s34b_b79k``.
"""

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from mammi.errors import UnknownNameError, VlmError
from mammi.functional.fingerprint import fingerprint_module, fingerprint_value
from mammi.registry import import_extra
from mammi.types import VlmCard
from mammi.vlms.annotator import Annotator, one_line
from mammi.vlms.hub import TOKENIZER_FILES, explain_load, find_folder
from mammi.vlms.savings import can_be_cut, cut, encode_cut, takes_grey

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["OpenClipVlm", "load_open_clip_vlm"]

_CONFIG = "open_clip_config.json"
_WEIGHTS = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
    "open_clip_pytorch_model.pth",
)
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
            folder = find_folder(source, spec, needs=(_CONFIG,), weights=_WEIGHTS, extra="open-clip")
            config = _model_config(folder, spec)
            model = _from_folder(open_clip, folder, config, spec)
        else:
            model, folder, config = _from_architecture(open_clip, name, weights, spec, notes)
        tokenizer = _tokenizer(open_clip, name, folder, config, spec)
        settings = dict(model.visual.preprocess_cfg)
        transform = transforms.image_transform_v2(transforms.PreprocessCfg(**settings), is_train=False)
    vlm = OpenClipVlm(model.eval().float().to(device), transform, tokenizer, device)
    content = [
        fingerprint_module(model),
        json.dumps(settings, sort_keys=True, default=str),
        _tokenizer_content(tokenizer),
    ]
    return Annotator(spec, vlm, card, fingerprint_value(content), device, notes=notes)


def _from_folder(open_clip: Any, folder: Path, config: dict[str, Any], spec: str) -> Any:  # noqa: ANN401
    try:
        return open_clip.create_model(
            f"local-dir:{folder}", require_pretrained=True, weights_only=True, **_own_text_tower(config, folder, spec)
        )
    except VlmError:
        raise
    except Exception as error:
        raise explain_load(spec, folder, error) from error


def _from_architecture(
    open_clip: Any,  # noqa: ANN401
    name: str,
    weights: str | None,
    spec: str,
    notes: list[str],
) -> tuple[Any, Path | None, dict[str, Any]]:
    architecture, _, source = name.partition("@")
    source = source or weights or ""
    known = open_clip.list_models()
    if architecture not in known:
        raise UnknownNameError.among(
            "open_clip architecture", architecture, known, "Or give 'hf-hub:organisation/name', or a folder."
        )
    tags = open_clip.list_pretrained_tags_by_model(architecture)
    if not source:
        raise VlmError(
            f"{spec} needs weights: give 'open_clip:{architecture}@FILE', or a tag ({', '.join(tags[:5]) or 'it has none'})"
        )
    config = open_clip.get_model_config(architecture)
    settings: dict[str, Any] = {}
    if source in tags:
        file, settings = _published(open_clip, architecture, source, config, spec)
    else:
        file = Path(source).expanduser()
        if not file.is_file():
            near = get_close_matches(source, tags, n=1, cutoff=0.6)
            guess = f" Did you mean the tag {near[0]!r}?" if near else ""
            raise VlmError(f"{spec}: there is no file {source!r}, and {architecture} has no such tag.{guess}")
        twin = f"{architecture}-quickgelu"
        if twin in known and not config.get("quick_gelu"):
            # The two have the same tensors: the wrong one loads without an error and gives other embeddings.
            notes.append(
                f"{architecture} computes with GELU; weights that descend from OpenAI's CLIP (CheXzero among them) "
                f"need 'open_clip:{twin}@...', and nothing but their author can tell"
            )
    try:
        model = open_clip.create_model(
            architecture,
            pretrained=str(file),
            require_pretrained=True,
            weights_only=True,
            force_preprocess_cfg=settings,
            **_own_text_tower(config, None, spec),
        )
    except VlmError:
        raise
    except Exception as error:
        raise explain_load(spec, file, error) from error
    return model, None, config


def _published(
    open_clip: Any,  # noqa: ANN401
    architecture: str,
    tag: str,
    config: dict[str, Any],
    spec: str,
) -> tuple[Path, dict[str, Any]]:
    """Find the weights of a published tag; return the file and its preprocessing."""
    entry = open_clip.get_pretrained_cfg(architecture, tag)
    if bool(entry.get("quick_gelu")) != bool(config.get("quick_gelu")):
        other = f"{architecture}-quickgelu" if entry.get("quick_gelu") else architecture.removesuffix("-quickgelu")
        raise VlmError(
            f"{spec}: the weights {tag!r} were trained with another activation, and would load but embed wrongly: "
            f"give 'open_clip:{other}@{tag}'"
        )
    settings = {key: entry[key] for key in ("mean", "std", "interpolation", "resize_mode") if key in entry}
    if entry.get("hf_hub"):
        repository, _, filename = str(entry["hf_hub"]).rpartition("/")
        names = (f"{filename.rsplit('.', 1)[0]}.safetensors", filename) if filename else _WEIGHTS
        way_out = (
            f"download {names[-1]!r} of {repository!r} on another machine and give 'open_clip:{architecture}@FILE'"
        )
        folder = find_folder(repository, spec, needs=(), weights=names, extra="open-clip", way_out=way_out)
        return next(folder / name for name in names if (folder / name).is_file()), settings
    try:
        return Path(open_clip.download_pretrained(entry)), settings
    except Exception as error:
        raise VlmError(
            f"{spec} could not be downloaded ({one_line(error)}): download it elsewhere and give "
            f"'open_clip:{architecture}@FILE'"
        ) from error


def _own_text_tower(config: dict[str, Any], folder: Path | None, spec: str) -> dict[str, Any]:
    """Return the text settings with the tower's own configuration found by us, if it is a Hugging Face model.

    open_clip would ask the hub for it, slowly where there is no network. It is looked for in the model's folder,
    under the last part of its name, then in the cache, then on the hub.
    """
    text = dict(config.get("text_cfg", {}))
    tower = text.get("hf_model_name")
    if not tower:
        return {}
    inside = folder / str(tower).rpartition("/")[2] if folder is not None else None
    if inside is None or not inside.is_dir():
        try:
            inside = find_folder(str(tower), spec, needs=("config.json",), extra="open-clip")
        except VlmError as error:
            where = f" (or put it at {str(inside / 'config.json')!r})" if inside is not None else ""
            raise VlmError(f"The text tower of {error}{where}") from error
    return {"text_cfg": text | {"hf_model_name": str(inside), "hf_model_pretrained": False}}


def _tokenizer(open_clip: Any, name: str, folder: Path | None, config: dict[str, Any], spec: str) -> Any:  # noqa: ANN401
    text = config.get("text_cfg", {})
    hub_name = text.get("hf_tokenizer_name")
    length = int(text.get("context_length", 77))
    options = dict(text.get("tokenizer_kwargs", {}))
    try:
        if not hub_name:
            if folder is not None:
                return open_clip.SimpleTokenizer(context_length=length, **options)
            return open_clip.get_tokenizer(name.partition("@")[0])
        if folder is None or not any((folder / file).is_file() for file in TOKENIZER_FILES):
            folder = find_folder(str(hub_name), spec, needs=(TOKENIZER_FILES,), extra="open-clip")
        return open_clip.tokenizer.HFTokenizer(
            str(folder), context_length=length, tokenizer_mode=text.get("tokenizer_mode"), **options
        )
    except VlmError as error:
        raise VlmError(f"The tokenizer of {error}") from error
    except Exception as error:
        raise explain_load(spec, folder or name, error) from error


def _tokenizer_content(tokenizer: Any) -> str:  # noqa: ANN401 - SimpleTokenizer or HFTokenizer
    inner = getattr(tokenizer, "tokenizer", None)
    vocabulary = inner.get_vocab() if inner is not None else tokenizer.encoder
    return json.dumps([type(tokenizer).__name__, tokenizer.context_length, vocabulary], sort_keys=True)


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
