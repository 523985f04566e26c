"""The text side of an open_clip model: where its tower's configuration and its tokenizer are found."""

import json
from pathlib import Path
from typing import Any

from mammi.errors import VlmError
from mammi.vlms.hub import TOKENIZER_FILES, explain_load, find_folder

__all__ = ["find_tokenizer", "own_text_tower", "tokenizer_content"]


def own_text_tower(config: dict[str, Any], folder: Path | None, spec: str) -> dict[str, Any]:
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


def find_tokenizer(open_clip: Any, name: str, folder: Path | None, config: dict[str, Any], spec: str) -> Any:  # noqa: ANN401
    """Return a model's tokenizer: open_clip's own, or one from its folder, the cache or the hub.

    Raises:
        VlmError: if it is nowhere, or its files are damaged.
    """
    text = config.get("text_cfg", {})
    hub_name = text.get("hf_tokenizer_name")
    length = int(text.get("context_length", 77))
    options = dict(text.get("tokenizer_kwargs", {}))
    try:
        if not hub_name:
            return open_clip.SimpleTokenizer(context_length=length, **options)
        if folder is None or not any((folder / file).is_file() for file in TOKENIZER_FILES):
            folder = find_folder(str(hub_name), spec, needs=(TOKENIZER_FILES,), extra="open-clip")
        return open_clip.tokenizer.HFTokenizer(
            str(folder), context_length=length, tokenizer_mode=text.get("tokenizer_mode"), **options
        )
    except VlmError as error:
        raise VlmError(f"The tokenizer of {error}") from error
    except Exception as error:
        raise explain_load(spec, folder or name, error) from error


def tokenizer_content(tokenizer: Any) -> str:  # noqa: ANN401 - SimpleTokenizer or HFTokenizer
    """Return what a tokenizer does as text, for a fingerprint."""
    inner = getattr(tokenizer, "tokenizer", None)
    vocabulary = inner.get_vocab() if inner is not None else tokenizer.encoder
    return json.dumps([type(tokenizer).__name__, tokenizer.context_length, vocabulary], sort_keys=True)
