"""A small vision-language model for drawn films: one space for pictures and short texts, trained from nothing."""

import zlib
from functools import lru_cache

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from mammi.phantoms.target import GREY_MEAN, GREY_STD, INPUT_SIZE, ResidualBlock
from mammi.types import VlmCard

__all__ = ["BASE_TEMPLATE", "TEMPLATE", "ImageTower", "PhantomVlm", "TextTower", "create", "word_pieces"]

#: The prompt that the model was trained with, and the same without a concept (MAMMI, section 2.3).
TEMPLATE = "A chest x-ray image of a {}"
BASE_TEMPLATE = "A chest x-ray image of a"
#: Texts are cut to this many words.
MAX_WORDS = 32
#: Rows of the table of word pieces; pieces are hashed into it.
N_PIECES = 4096
WIDTH = 96
EMBEDDING_DIM = 128


@lru_cache(maxsize=65536)
def word_pieces(word: str) -> tuple[int, ...]:
    """Return the rows of a word's pieces: the whole word and its runs of three and four letters, hashed by CRC-32.

    A word never seen in training still has pieces, often shared with its relatives (fastText: Bojanowski et al.,
    TACL 2017).
    """
    marked = f"<{word}>"
    runs = {marked[i : i + n] for n in (3, 4) for i in range(len(marked) - n + 1)}
    # The whole word is listed three times, so that it outweighs the runs it shares with other words.
    pieces = ["=" + word] * 3 + sorted(runs)
    return tuple(zlib.crc32(piece.encode()) % N_PIECES for piece in pieces)


def _words(text: str) -> list[str]:
    """Return the lower-case words of ``text``, at most ``MAX_WORDS``; an empty text is one empty word."""
    cleaned = "".join(letter if letter.isalnum() else " " for letter in text.lower())
    return cleaned.split()[:MAX_WORDS] or [""]


class ImageTower(nn.Module):
    """Grey films to embeddings: another network than the target's, with mean and max pooling of each half.

    The halves are pooled apart, so that left and right can be told.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(1, 20, 3, 2, 1, bias=False),
            nn.BatchNorm2d(20),
            nn.ReLU(),
            nn.Conv2d(20, 48, 5, 2, 2, bias=False),
            nn.BatchNorm2d(48),
            nn.ReLU(),
        )
        self.body = nn.Sequential(
            ResidualBlock(48, 48),
            ResidualBlock(48, 80, 2),
            ResidualBlock(80, 80),
            ResidualBlock(80, 120, 2),
            ResidualBlock(120, 120),
        )
        self.project = nn.Sequential(nn.Linear(480, 192), nn.ReLU(), nn.Linear(192, EMBEDDING_DIM))

    def forward(self, x: Tensor) -> Tensor:
        """``(n, 1, 128, 128)`` normalised films ``-> (n, EMBEDDING_DIM)``."""
        maps = self.body(self.stem(x))
        halves = maps.chunk(2, dim=3)
        pooled = [part.mean((2, 3)) for part in halves] + [part.amax((2, 3)) for part in halves]
        out: Tensor = self.project(torch.cat(pooled, dim=1))
        return out


class TextBlock(nn.Module):
    """Self-attention among the words of a text and a small network for each word (pre-norm)."""

    def __init__(self, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(WIDTH)
        self.attend = nn.Linear(WIDTH, 3 * WIDTH)
        self.mix = nn.Linear(WIDTH, WIDTH)
        self.norm2 = nn.LayerNorm(WIDTH)
        self.widen = nn.Linear(WIDTH, 2 * WIDTH)
        self.narrow = nn.Linear(2 * WIDTH, WIDTH)

    def forward(self, x: Tensor, real: Tensor) -> Tensor:
        """``(n, words, WIDTH)`` and the mask of real words ``(n, words)`` ``-> (n, words, WIDTH)``."""
        n, words, _ = x.shape
        q, k, v = self.attend(self.norm1(x)).view(n, words, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        seen = functional.scaled_dot_product_attention(q, k, v, attn_mask=real[:, None, None, :])
        x = x + self.mix(seen.transpose(1, 2).reshape(n, words, WIDTH))
        out: Tensor = x + self.narrow(functional.gelu(self.widen(self.norm2(x))))
        return out


class TextTower(nn.Module):
    """Words to an embedding: hashed word pieces, two blocks of attention, the mean over the real words."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces = nn.EmbeddingBag(N_PIECES, WIDTH, mode="mean")
        self.positions = nn.Parameter(torch.zeros(MAX_WORDS, WIDTH))
        self.blocks = nn.ModuleList([TextBlock(), TextBlock()])
        self.norm = nn.LayerNorm(WIDTH)
        self.project = nn.Linear(WIDTH, EMBEDDING_DIM)

    def forward(self, texts: list[str]) -> Tensor:
        """``n`` strings ``-> (n, EMBEDDING_DIM)``."""
        split = [_words(text) for text in texts]
        vocabulary = {word: row for row, word in enumerate(dict.fromkeys(word for words in split for word in words))}
        bags = [word_pieces(word) for word in vocabulary]
        starts = np.cumsum([0] + [len(bag) for bag in bags[:-1]])
        table = self.pieces(
            torch.tensor([piece for bag in bags for piece in bag]).to(self.positions.device),
            torch.from_numpy(starts).to(self.positions.device),
        )
        rows = torch.zeros(len(texts), max(map(len, split)), dtype=torch.long)
        real = torch.zeros(rows.shape, dtype=torch.bool)
        for i, words in enumerate(split):
            rows[i, : len(words)] = torch.tensor([vocabulary[word] for word in words])
            real[i, : len(words)] = True
        rows, real = rows.to(table.device), real.to(table.device)
        x = table[rows] + self.positions[: rows.shape[1]]
        for block in self.blocks:
            x = block(x, real)
        weights = real[..., None].to(x.dtype)
        mean = (self.norm(x) * weights).sum(1) / weights.sum(1)
        out: Tensor = self.project(mean)
        return out


class PhantomVlm(nn.Module):
    """Both towers and the scale of their cosine; satisfies ``mammi.types.Vlm``."""

    embedding_dim = EMBEDDING_DIM
    card = VlmCard(
        name="phantom",
        title="Small vision-language model for drawn chest films",
        licence="Apache-2.0",
        training_corpora=("drawn chest films of mammi.phantoms, Cohort seed 200",),
        modality="drawn chest radiographs",
        image_size=INPUT_SIZE,
        citation="trained by scripts/train_phantoms.py",
        notes=("knows drawn films only: of no use on real ones",),
    )

    def __init__(self) -> None:
        super().__init__()
        self.image_tower = ImageTower()
        self.text_tower = TextTower()
        self.log_scale = nn.Parameter(torch.tensor(2.5))

    def preprocess(self, image: Image.Image) -> Tensor:
        """Turn a picture of any size and mode into a normalised input, float32, shape ``(1, 128, 128)``."""
        grey = image.convert("L").resize((INPUT_SIZE, INPUT_SIZE), Image.Resampling.BILINEAR)
        pixels = np.asarray(grey, dtype=np.float32) / np.float32(255)
        return torch.from_numpy((pixels - np.float32(GREY_MEAN)) / np.float32(GREY_STD))[None]

    def encode_images(self, images: Tensor) -> Tensor:
        """Embed preprocessed films: ``(n, 1, 128, 128) -> (n, 128)``, float32."""
        out: Tensor = self.image_tower(images)
        return out

    def encode_texts(self, texts: list[str]) -> Tensor:
        """Embed texts: ``n`` strings ``-> (n, 128)``, float32; case and punctuation make no difference."""
        out: Tensor = self.text_tower(texts)
        return out


def create() -> PhantomVlm:
    """Return the trained model in eval mode, on the CPU, in float32."""
    from mammi.phantoms.weights import load_weights

    vlm = PhantomVlm()
    load_weights(vlm, "vlm")
    return vlm.eval()
