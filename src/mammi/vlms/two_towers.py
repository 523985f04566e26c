"""A vision-language model put together from parts: an image tower, a BERT text tower, a transform."""

from typing import TYPE_CHECKING

from torch import Tensor, nn

from mammi.vlms.bert import BertTower

if TYPE_CHECKING:
    from collections.abc import Callable

    from PIL import Image

__all__ = ["TwoTowers"]


class TwoTowers(nn.Module):
    """An image tower and a text tower that share one space.

    Args:
        image: from ``(n, channels, height, width)`` to ``(n, d_embed)``.
        text: from ``n`` texts to ``(n, d_embed)``.
        transform: from an 8-bit ``L`` or ``RGB`` picture to ``(channels, height, width)``.
    """

    def __init__(self, image: nn.Module, text: BertTower, transform: "Callable[[Image.Image], Tensor]") -> None:
        super().__init__()
        self.image = image
        self.text = text
        self.transform = transform

    def preprocess(self, image: "Image.Image") -> Tensor:
        """Return ``(channels, height, width)`` as the model's own transform makes it."""
        return self.transform(image)

    def encode_images(self, images: Tensor) -> Tensor:
        """Embed ``(n, channels, height, width)`` as ``(n, d_embed)``."""
        rows: Tensor = self.image(images)
        return rows

    def encode_texts(self, texts: list[str]) -> Tensor:
        """Embed ``n`` texts as ``(n, d_embed)``."""
        rows: Tensor = self.text(texts)
        return rows

    def text_length(self, text: str) -> int:
        """Return how many tokens a text has, its start and end among them."""
        return self.text.text_length(text)

    def too_long(self, text: str) -> bool:
        """Return whether a text has more tokens than the model reads."""
        return self.text_length(text) > self.text.max_length
