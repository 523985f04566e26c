"""`FittedVlm`: projections of a locked image network and a locked sentence encoder into one space."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from mammi.fitting.backbone import Backbone, record_features
from mammi.fitting.sentences import Sentences
from mammi.types import Film, VlmCard

__all__ = ["FittedVlm", "Projection", "Projections"]


class Projection(nn.Module):
    """A linear map, or a small network of one hidden layer, always in float32.

    Args:
        width: length of a row that goes in.
        d_embed: length of a row that comes out.
        hidden: units of the hidden layer, followed by GELU; 0 for a linear map.
        bias: whether the first layer adds a constant.
    """

    def __init__(self, width: int, d_embed: int, hidden: int = 0, *, bias: bool = True) -> None:
        super().__init__()
        sizes = [(width, hidden), (hidden, d_embed)] if hidden else [(width, d_embed)]
        self.layers = nn.ModuleList(nn.Linear(*size, bias=bias or i > 0) for i, size in enumerate(sizes))

    def forward(self, x: Tensor) -> Tensor:
        """``(n, width)`` to ``(n, d_embed)``."""
        layers: Any = self.layers
        for i, layer in enumerate(layers):
            bias = None if layer.bias is None else layer.bias.float()
            x = functional.linear(functional.gelu(x) if i else x, layer.weight.float(), bias)
        return x

    def absorb(self, mean: Tensor, std: Tensor) -> None:
        """Take the standardisation ``(x - mean) / std`` of what goes in into the first layer."""
        first: Any = self.layers[0]
        with torch.no_grad():
            first.weight.div_(std)
            first.bias.sub_(first.weight @ mean)


class Projections(nn.Module):
    """Several pairs of projections; a row is their unit rows side by side, so that cosines are averaged over pairs.

    Args:
        n_features: length of a film's features.
        n_sentence: length of a sentence's embedding.
        d_embed: length of a row of one pair.
        members: number of pairs.
        hidden: see `Projection`.
    """

    def __init__(self, n_features: int, n_sentence: int, d_embed: int, members: int, hidden: int = 0) -> None:
        super().__init__()
        self.shape = {
            "n_features": n_features,
            "n_sentence": n_sentence,
            "d_embed": d_embed,
            "members": members,
            "hidden": hidden,
        }
        self.images = nn.ModuleList(Projection(n_features, d_embed, hidden) for _ in range(members))
        self.texts = nn.ModuleList(Projection(n_sentence, d_embed, bias=False) for _ in range(members))

    @staticmethod
    def side_by_side(parts: nn.ModuleList, x: Tensor) -> Tensor:
        """``(n, width)`` to unit rows ``(n, members * d_embed)``."""
        rows = torch.cat([functional.normalize(part(x), dim=1) for part in parts], dim=1)
        unit: Tensor = rows / len(parts) ** 0.5
        return unit


class FittedVlm(nn.Module):
    """A fitted annotator; satisfies `mammi.types.Vlm`.

    Args:
        backbone: the image network.
        sentences: the sentence encoder.
        projections: of both.
        card: what it says of itself.
        templates: how it is asked unless the user says otherwise: as it was taught.
    """

    def __init__(
        self,
        backbone: Backbone,
        sentences: Sentences,
        projections: Projections,
        card: VlmCard,
        templates: Sequence[str] = ("{}",),
    ) -> None:
        super().__init__()
        self.templates = tuple(templates)
        self.network = backbone.target.model
        self.preprocessing = backbone.target.preprocessing
        self.plans = backbone.plans
        self.sentences = sentences.model
        self.projections = projections
        self.card = card
        self.requires_grad_(False)
        self.eval()

    def preprocess(self, image: Image.Image) -> Tensor:
        """Return the backbone's own view of an 8-bit ``L`` or ``RGB`` picture, ``(channels, height, width)``."""
        return view_of(self.preprocessing, image)

    def encode_images(self, images: Tensor) -> Tensor:
        """Embed ``(n, channels, height, width)`` as unit rows ``(n, d_embed)``."""
        features = record_features(self.network, self.plans, images)
        device = next(self.projections.parameters()).device
        return self.projections.side_by_side(self.projections.images, features.to(device))

    def encode_texts(self, texts: list[str]) -> Tensor:
        """Embed ``n`` texts as unit rows ``(n, d_embed)``."""
        rows = Sentences(self.sentences).encode(texts)
        device = next(self.projections.parameters()).device
        return self.projections.side_by_side(self.projections.texts, rows.to(device))

    def too_long(self, text: str) -> bool:
        """Return whether the sentence encoder cuts a text."""
        limit: int | None = self.sentences.get_max_seq_length()
        return limit is not None and self.text_length(text) > limit

    def text_length(self, text: str) -> int:
        """Return how many tokens a text has, its start and end among them."""
        return len(self.sentences.tokenizer(text, verbose=False)["input_ids"])


def view_of(preprocessing: object, image: Image.Image) -> Tensor:
    """Return the view that a target's preprocessing makes of an 8-bit picture."""
    levels = np.asarray(image if image.mode in ("L", "RGB") else image.convert("RGB"), dtype=np.uint8)
    film = Film(levels.astype(np.float32) / np.float32(255), levels=levels)
    view: Tensor = preprocessing.apply(film)  # type: ignore[attr-defined]
    return view
