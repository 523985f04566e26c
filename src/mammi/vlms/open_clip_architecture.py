"""Architectures that open_clip has built in, with weights by a published tag or from a file of one's own."""

from difflib import get_close_matches
from pathlib import Path
from typing import Any

from mammi.errors import UnknownNameError, VlmError
from mammi.vlms.annotator import one_line
from mammi.vlms.clip_layout import written_by
from mammi.vlms.hub import explain_load, find_folder
from mammi.vlms.open_clip_text import own_text_tower
from mammi.weights_file import read_weights

__all__ = ["WEIGHTS", "from_architecture"]

#: Names of an open_clip model's weights in a folder or on the hub, best first.
WEIGHTS = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
    "open_clip_pytorch_model.pth",
)
_QUICK, _PLAIN = "-quickgelu", "-gelu"


def from_architecture(
    open_clip: Any,  # noqa: ANN401
    name: str,
    weights: str | None,
    spec: str,
    notes: list[str],
) -> tuple[Any, Path | None, dict[str, Any]]:
    """Build an architecture of open_clip and load its weights.

    Args:
        open_clip: the library.
        name: ``ARCHITECTURE``, ``ARCHITECTURE@TAG`` or ``ARCHITECTURE@FILE``. Where open_clip has the architecture with
            QuickGELU too, a file's activation must be said: ``ARCHITECTURE-quickgelu@FILE`` or, to mean the plain one,
            ``ARCHITECTURE-gelu@FILE``.
        weights: a tag or a file, where ``name`` has none.
        spec: what the user asked for, for messages.
        notes: what is doubtful is added here.

    Returns:
        The model, the folder of its file if it is one of the user's own, and its configuration.

    Raises:
        UnknownNameError: if there is no such architecture.
        VlmError: if the weights are nowhere or damaged, or their activation is another or is not said.
    """
    asked, _, source = name.partition("@")
    source = source or weights or ""
    known = open_clip.list_models()
    plain = asked not in known and asked.endswith(_PLAIN) and f"{asked.removesuffix(_PLAIN)}{_QUICK}" in known
    architecture = asked.removesuffix(_PLAIN) if plain else asked
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
    folder: Path | None = None
    if source in tags:
        file, settings = _published(open_clip, architecture, source, config, spec)
    else:
        file = Path(source).expanduser()
        if not file.is_file():
            near = get_close_matches(source, tags, n=1, cutoff=0.6)
            guess = f" Did you mean the tag {near[0]!r}?" if near else ""
            raise VlmError(f"{spec}: there is no file {source!r}, and {architecture} has no such tag.{guess}")
        if f"{architecture}{_QUICK}" in known and not config.get("quick_gelu"):
            _check_activation(architecture, file, plain, spec, notes)
        folder = file.parent
    try:
        model = open_clip.create_model(
            architecture,
            pretrained=str(file),
            require_pretrained=True,
            weights_only=True,
            force_preprocess_cfg=settings,
            **own_text_tower(config, folder, spec),
        )
    except VlmError:
        raise
    except Exception as error:
        raise explain_load(spec, file, error) from error
    return model, folder, config


def _check_activation(architecture: str, file: Path, plain: bool, spec: str, notes: list[str]) -> None:
    """Refuse a file of which nobody said that it computes with GELU.

    The two activations have the same tensors: the wrong one loads without an error and gives other embeddings.
    open_clip's own training state is no proof: it trains weights of OpenAI on with QuickGELU under the plain name.
    """
    by_openai = written_by(read_weights(file, error=VlmError)) == "openai"
    trace = "its tensors are in the order in which OpenAI's class writes them, which has QuickGELU only"
    if plain:
        if by_openai:
            notes.append(
                f"{file.name!r} was asked for with GELU, but {trace} (an earlier class of open_clip did so too)"
            )
        return
    why = trace if by_openai else "no tensor tells which"
    raise VlmError(
        f"{spec}: {architecture} comes with GELU and with QuickGELU, and the wrong one loads but embeds wrongly; of "
        f"{file.name!r} {why}. Weights that descend from OpenAI's CLIP (CheXzero among them) need "
        f"'open_clip:{architecture}{_QUICK}@FILE', those trained from nothing by open_clip most often "
        f"'open_clip:{architecture}{_PLAIN}@FILE'"
    )


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
        names = (f"{filename.rsplit('.', 1)[0]}.safetensors", filename) if filename else WEIGHTS
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
