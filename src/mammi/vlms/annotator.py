"""`Annotator`: a vision-language model behind one small, checked door; rows of unit length come out.

One that scores pairs itself (`mammi.types.Scorer`) gives its rows as they are, and `Annotator.score` what they mean.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from mammi.errors import InputError, MammiError, VlmError
from mammi.functional.fingerprint import fingerprint_tensors, fingerprint_value
from mammi.functional.precision import as_input, check_precision, lowered, modules_of
from mammi.types import Film, PatchVlm, Scorer, Vlm, VlmCard

__all__ = ["Annotator", "check_vlm", "one_line", "settle"]

#: Films scored at once by a model that scores pairs itself.
SCORED = 1024
#: Films whose patches are embedded at once.
MAPPED = 8


@dataclass(eq=False)
class Annotator:
    """A vision-language model, ready to embed films and texts into one space.

    Attributes:
        name: the spec that made it.
        model: what does the work; its rows need not have unit length.
        card: licence, training corpora, citation.
        fingerprint: SHA-256 of weights, image preprocessing and tokenizer, 64 hex digits.
        device: where it runs.
        d_embed: length of an embedding.
        text_batch: most texts in one batch; 1 for a model whose texts depend on their neighbours.
        notes: what was assumed or went less than well, in words; grows while it is used.
        source: the arguments of `create_vlm` that make it again, paths absolute; None if they cannot.
        maker: what takes them.
        precision: in which numbers ``model`` computes, one of `mammi.functional.precision.PRECISIONS`.
        text_model: what embeds texts, if not ``model``.
    """

    name: str
    model: Vlm
    card: VlmCard
    fingerprint: str
    device: str = "cpu"
    d_embed: int = 0
    text_batch: int = 64
    notes: list[str] = field(default_factory=list)
    source: Mapping[str, Any] | None = None
    maker: "Callable[..., Annotator] | None" = field(default=None, repr=False)
    precision: str = "float32"
    text_model: Vlm | None = field(default=None, repr=False)

    @property
    def scores_pairs(self) -> bool:
        """Whether the model scores a film and a text itself, instead of by the cosine of their rows."""
        return isinstance(self.model, Scorer)

    @property
    def templates(self) -> tuple[str, ...]:
        """The model's own prompts, with ``{}`` for the concept; empty where it names none."""
        return tuple(getattr(self.model, "templates", ()))

    def score(self, films: Tensor, texts: Tensor) -> Tensor:
        """Score films with texts, from rows that `embed_images` and `embed_texts` gave.

        Args:
            films: float32 ``(n_films, d_image)``.
            texts: float32 ``(n_texts, d_text)``.

        Returns:
            float32 ``(n_films, n_texts)`` on the CPU: the model's own scores, or cosines.

        Raises:
            VlmError: if the model's ``score`` fails, or gives something of another shape, or not finite.
        """
        model = self.model if self.text_model is None else self.text_model
        if not isinstance(model, Scorer):
            return films @ texts.T
        found = torch.empty(len(films), len(texts))
        for start in range(0, len(films), SCORED):
            part = films[start : start + SCORED]
            try:
                with torch.inference_mode():
                    scores = model.score(part.to(self.device), texts.to(self.device))
            except Exception as error:
                raise VlmError(f"score() of {self.name} failed: {one_line(error)}") from error
            if not isinstance(scores, Tensor) or scores.shape != (len(part), len(texts)):
                got = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
                raise VlmError(f"score() of {self.name} must return ({len(part)}, {len(texts)}), got {got}")
            if not bool(torch.isfinite(scores).all()):
                raise VlmError(f"score() of {self.name} gave scores that are not finite")
            found[start : start + len(part)] = scores.detach().to("cpu", torch.float32)
        return found

    def similarity_maps(self, batch: Tensor, texts: Sequence[str]) -> Tensor:
        r"""Tell where on films texts are: the cosine of every patch with every text.

        .. math:: s_{nt}(y, x) = \frac{\langle p_n(y, x),\, e_t \rangle}{\lVert p_n(y, x) \rVert}

        with the patches p and the texts e at unit length (Boecking et al., ECCV 2022, section 3.3). No smoothing.

        Args:
            batch: ``(n_images, ...)`` float32, views stacked.
            texts: as for `embed_texts`.

        Returns:
            ``(n_images, n_texts, rows, columns)`` float32 on the CPU, in [-1, 1]; 0 where a patch has no direction.

        Raises:
            InputError: as `embed_texts` does.
            VlmError: if the model embeds no patches, or fails.
        """
        if not isinstance(self.model, PatchVlm):
            raise VlmError(
                f"{self.name} does not place patches in the space of its texts, so it cannot tell where: BioViL and "
                "BioViL-T do ('biovil:...'), and any model of your own with encode_patches() and placement()"
            )
        rows = self.embed_texts(texts)
        found = []
        for start in range(0, len(batch), MAPPED):
            part = batch[start : start + MAPPED]
            try:
                with torch.inference_mode():
                    patches = self.model.encode_patches(as_input(part, self.precision, self.device))
            except Exception as error:
                raise VlmError(f"encode_patches() of {self.name} failed: {one_line(error)}") from error
            expected = f"({len(part)}, {self.d_embed}, rows, columns)"
            if not isinstance(patches, Tensor) or patches.ndim != 4 or patches.shape[:2] != (len(part), self.d_embed):
                got = tuple(patches.shape) if isinstance(patches, Tensor) else type(patches).__name__
                raise VlmError(f"encode_patches() of {self.name} must return {expected}, got {got}")
            patches = patches.detach().to("cpu", torch.float32)
            if not bool(torch.isfinite(patches).all()):
                raise VlmError(f"encode_patches() of {self.name} gave patches that are not finite")
            cosines = torch.einsum("ndyx,td->ntyx", nn.functional.normalize(patches, dim=1), rows)
            found.append(cosines.clamp(-1, 1))
        return torch.cat(found) if found else torch.zeros(0, len(rows), 0, 0)

    def at(self, precision: str) -> "Annotator":
        """Return this annotator with a copy of its model that embeds films in another precision; rows stay float32.

        Texts are embedded as before: there are few of them, and an error in one is an error in every score of that
        concept, where the errors of films average out. They alone would change as many names as all else together.

        Args:
            precision: ``"float32"``, ``"float32-channels-last"`` or ``"bfloat16"``; the present one returns ``self``.

        Raises:
            InputError: if there is no such precision, or this annotator is itself such a copy.
            VlmError: if the model cannot be copied or cast, or holds no network that could be.
        """
        wanted = check_precision(precision)
        if wanted == self.precision:
            return self
        if self.precision != "float32":
            raise InputError(f"{self.name} is a copy in {self.precision}: ask the annotator it was made from")
        if not modules_of(self.model):
            raise VlmError(f"{self.name} is no torch.nn.Module and holds none: it computes as it likes")
        try:
            return replace(self, model=lowered(self.model, wanted), precision=wanted, text_model=self.model)
        except Exception as error:
            raise VlmError(f"{self.name} cannot compute in {wanted}: {one_line(error)}") from error

    def __reduce_ex__(self, protocol: Any) -> Any:  # noqa: ANN401 - as object declares it
        """Send what makes the model again, and not the model, to another process; one without a source goes whole.

        There it is made, and must have the same fingerprint (`VlmError` if not).
        """
        if self.source is None or self.maker is None:
            return super().__reduce_ex__(protocol)
        return _again, (self.maker, self.name, self.source, self.device, self.fingerprint, self.precision)

    def view(self, film: Film) -> Tensor:
        """Return the model's own view of a film, float32 without a batch axis, on the CPU.

        The film passes through an 8-bit picture, as every published vision-language model expects.

        Raises:
            VlmError: if the model's ``preprocess`` fails or returns no finite tensor.
        """
        try:
            image = self.model.preprocess(film.to_pil())
        except Exception as error:
            raise VlmError(f"preprocess() of {self.name} failed: {one_line(error)}") from error
        if not isinstance(image, Tensor):
            raise VlmError(f"preprocess() of {self.name} must return a tensor, got {type(image).__name__}")
        return image.to(torch.float32)

    def embed_images(self, batch: Tensor) -> Tensor:
        """Embed a stacked batch of views.

        Args:
            batch: ``(n_images, ...)`` float32, views stacked.

        Returns:
            ``(n_images, d_embed)`` float32 on the CPU, rows of unit length; as they are if it scores pairs itself.

        Raises:
            VlmError: if the model fails, or an image gets no direction (a zero or non-finite row).
        """
        if len(batch) == 0:
            return torch.zeros(0, self.d_embed)
        try:
            with torch.inference_mode():
                rows = self.model.encode_images(as_input(batch, self.precision, self.device))
        except Exception as error:
            raise VlmError(
                f"encode_images() of {self.name} failed on a {tuple(batch.shape)} batch: {one_line(error)}"
            ) from error
        return self._unit_rows(rows, len(batch), "images", lambda row: f"image {row} of the batch")

    def embed_texts(self, texts: Sequence[str], batch_size: int = 64) -> Tensor:
        """Embed texts; a text's row depends on nothing but the text.

        Args:
            texts: any number of texts, none of them blank; too long ones are cut as the model was trained to
                (`notes` then says which).
            batch_size: most texts encoded at once.

        Returns:
            ``(n_texts, d_embed)`` float32 on the CPU, in the order of ``texts``; rows of unit length, or as they are if
            it scores pairs itself, of a width of their own then.

        Raises:
            InputError: if ``texts`` is one string, or holds a blank one.
            VlmError: if the model fails, or a text gets no direction (a zero or non-finite row).
        """
        if isinstance(texts, str):
            raise InputError("'texts' must be a sequence of texts, got one string: put it in a list")
        blank = next((i for i, text in enumerate(texts) if not text.strip()), None)
        if blank is not None:
            raise InputError(f"Text {blank} of {len(texts)} is blank: leave it out, a blank has no meaning to embed")
        if batch_size < 1:
            raise InputError(f"'batch_size' must be at least 1, got {batch_size}")
        if not texts:
            return torch.zeros(0, self.d_embed)
        self._note_too_long(texts)
        # Neighbours of like length waste little padding; the answer is put back in order.
        length = getattr(self.model, "text_length", len)  # in tokens, where the model tells
        lengths = [length(text) for text in texts]
        order = sorted(range(len(texts)), key=lambda i: (lengths[i], i))
        size = min(batch_size, self.text_batch)
        parts = [
            self._embed_text_batch([texts[i] for i in order[start : start + size]])
            for start in range(0, len(order), size)
        ]
        rows = torch.cat(parts)
        return rows[torch.tensor(order).argsort()]

    def _embed_text_batch(self, texts: list[str]) -> Tensor:
        try:
            with torch.inference_mode():
                rows = (self.model if self.text_model is None else self.text_model).encode_texts(texts)
        except Exception as error:
            raise VlmError(f"encode_texts() of {self.name} failed: {one_line(error)}") from error
        return self._unit_rows(rows, len(texts), "texts", lambda row: f"the text {texts[row]!r}")

    def _unit_rows(self, rows: Tensor, count: int, what: str, name_row: Callable[[int], str]) -> Tensor:
        """Check ``(count, d)`` rows; scale each to unit length, unless the model scores pairs itself."""
        if not isinstance(rows, Tensor) or rows.ndim != 2 or len(rows) != count:
            got = tuple(rows.shape) if isinstance(rows, Tensor) else type(rows).__name__
            raise VlmError(
                f"encode_{what}() of {self.name} must return ({count}, d_embed) for {count} {what}, got {got}"
            )
        own_width = what == "texts" and self.scores_pairs
        if self.d_embed and rows.shape[1] != self.d_embed and not own_width:
            raise VlmError(
                f"encode_{what}() of {self.name} gave rows of {rows.shape[1]}, expected {self.d_embed}: "
                "images and texts must share one space"
            )
        rows = rows.detach().to("cpu", torch.float32)
        lengths = torch.linalg.vector_norm(rows, dim=1)
        bad = (~torch.isfinite(lengths) | (lengths == 0)).nonzero().flatten().tolist()
        if bad:
            kind = "zero" if lengths[bad[0]] == 0 else "not finite"
            raise VlmError(
                f"{self.name} has no direction for {name_row(bad[0])}: its embedding is {kind} ({len(bad)} of {count})"
            )
        # Outside inference_mode: an ordinary tensor.
        return rows.clone() if self.scores_pairs else rows / lengths[:, None]

    def _note_too_long(self, texts: Sequence[str]) -> None:
        too_long = getattr(self.model, "too_long", None)
        if too_long is None:
            return
        cut = [text for text in texts if too_long(text)]
        if cut:
            note = f"{len(cut)} texts are longer than this model reads and were cut, for example {cut[0][:80]!r}"
            if note not in self.notes:
                self.notes.append(note)


def _again(
    maker: Callable[..., Annotator],
    name: str,
    source: Mapping[str, Any],
    device: str,
    fingerprint: str,
    precision: str,
) -> Annotator:
    """Make an annotator in another process."""
    annotator = maker(**source, device=device)
    if annotator.fingerprint != fingerprint:
        raise VlmError(
            f"{name} is another model where a worker made it again (its weights, preprocessing or tokenizer differ): "
            "give all workers the same files and the same versions of the libraries"
        )
    return annotator.at(precision)


def check_vlm(annotator: Annotator) -> None:
    """Show a new model one small film and two texts, and fill in what only that can tell.

    Sets ``d_embed``, adds what ``preprocess`` does to ``fingerprint``, and makes ``text_batch`` 1, with a note, if a
    text's row depends on the texts beside it.

    Raises:
        VlmError: if any of the three methods fails or gives something of another shape.
    """
    import numpy as np

    ramp = np.linspace(0, 1, 96 * 80, dtype=np.float32).reshape(96, 80)
    view = annotator.view(Film(ramp))
    annotator.d_embed = annotator.embed_images(view[None]).shape[1]
    short, long = "chest", "frontal chest radiograph with a small left pleural effusion"
    notes = list(annotator.notes)
    together = annotator.embed_texts([short, long])
    alone = torch.cat([annotator.embed_texts([short]), annotator.embed_texts([long])])
    annotator.notes[:] = notes  # that our own probe was cut is no news
    if annotator.scores_pairs:
        annotator.score(annotator.embed_images(view[None]), together)
    if float((together[0] - together[1]).abs().max()) < 1e-6:
        annotator.notes.append("two different texts get the same embedding: is its tokenizer whole?")
    difference = float((together - alone).abs().max())
    if difference > 1e-3:
        annotator.text_batch = 1
        annotator.notes.append(
            f"a text's embedding changes by up to {difference:.2g} with the texts beside it (padding without a mask?): "
            "texts are embedded one at a time"
        )
    annotator.fingerprint = fingerprint_value([annotator.fingerprint, fingerprint_tensors({"view": view})])


def one_line(error: BaseException) -> str:
    """Return an exception of someone else's code in one line of at most 300 characters."""
    text = " ".join(str(error).split()) or "no message"
    return text[:300] if isinstance(error, MammiError) else f"{type(error).__name__}: {text[:300]}"


def settle(model: object) -> list[nn.Module]:
    """Put a model, or the networks an object holds, in ``eval()`` mode; return them."""
    found = modules_of(model)
    for module in found:
        module.eval()
    return found
