"""Training of projections: pairs of small maps, each stopped early on patients that it has not seen."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, normalize

from mammi.errors import InputError
from mammi.fitting.lessons import Lessons
from mammi.fitting.model import Projections
from mammi.functional.auroc import auroc
from mammi.functional.contrastive import contrastive_loss
from mammi.types import Progress, no_progress

__all__ = ["Trained", "Training", "macro_auroc", "train"]

#: Films of one step at most.
STEP = 1024
#: Steps between two looks at the validation films, and looks without gain after which training ends.
LOOK, PATIENCE = 10, 10


@dataclass(frozen=True)
class Training:
    """How projections are trained.

    Attributes:
        d_embed: length of a row of one pair of projections.
        members: pairs, each with its own fifth (for 5) of the patients for validation.
        hidden: units of a hidden layer of the image projection; 0 for a linear map.
        dropout: share of a film's features that is set to 0 at each step.
        rate: learning rate of AdamW (Loshchilov and Hutter, ICLR 2019, arXiv 1711.05101).
        decay: its weight decay.
        steps: most steps of one pair.
        seed: of everything drawn.
    """

    d_embed: int = 64
    members: int = 5
    hidden: int = 0
    dropout: float = 0.7
    rate: float = 3e-4
    decay: float = 1.0
    steps: int = 600
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot be trained."""
        if self.members < 2 or self.d_embed < 1 or self.hidden < 0 or self.steps < LOOK:
            raise InputError(
                f"need 2 members or more, a d_embed of 1 or more and {LOOK} steps or more, got {self.members}, "
                f"{self.d_embed} and {self.steps}"
            )
        if not 0 <= self.dropout < 1:
            raise InputError(f"'dropout' must be in [0, 1), got {self.dropout}")


@dataclass(frozen=True)
class Trained:
    """What came of it.

    Attributes:
        projections: in ``eval()`` mode, standardisation taken in.
        validation: the best macro AUROC of each pair on its validation films.
        steps: the step of each at which it was reached.
    """

    projections: Projections
    validation: list[float]
    steps: list[int]


def train(
    features: Tensor,
    sentences: Tensor,
    lessons: Lessons,
    patients: Tensor,
    settings: Training,
    progress: Progress = no_progress,
) -> Trained:
    """Train the projections of locked encoders (Zhai et al., LiT, CVPR 2022, arXiv 2111.07991; here both are locked).

    The patients are dealt out to as many parts as there are pairs of projections. Each pair is trained on the films of
    all other parts by `contrastive_loss`, and keeps the weights with the best macro AUROC on its own part.

    Args:
        features: float32 ``(n_films, n_features)``, what the locked image network gives.
        sentences: float32 ``(n_texts, n_sentence)``, rows of ``lessons.texts``.
        lessons: what is true of which film.
        patients: int64 ``(n_films,)``: films with the same number are of one patient.
        settings: how.
        progress: told of every pair.

    Returns:
        The projections; the same for the same inputs on the same machine.

    Raises:
        InputError: if there are fewer patients than parts, or nothing to be learned.
    """
    number = torch.unique(patients, return_inverse=True)[1]
    n_patients = int(number.max()) + 1 if len(number) else 0
    if n_patients < 2 * settings.members:
        raise InputError(
            f"{n_patients} patients are too few to learn from and to validate on in {settings.members} parts: "
            f"need at least {2 * settings.members}"
        )
    generator = torch.Generator().manual_seed(settings.seed)
    part = (torch.randperm(n_patients, generator=generator) % settings.members)[number]
    mean, std = features.mean(dim=0), features.std(dim=0)
    # A feature that hardly varies would be blown up to noise.
    std = std.clamp(min=max(float(std.median()) * 1e-3, 1e-12))
    rows = (features - mean) / std
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        both = Projections(features.shape[1], sentences.shape[1], settings.d_embed, settings.members, settings.hidden)
        scores, steps = [], []
        for member in range(settings.members):
            pair = nn.ModuleList([both.images[member], both.texts[member]])
            held = part == member
            best, step = _train_pair(pair, rows, sentences, lessons, held, settings, generator)
            scores.append(best)
            steps.append(step)
            progress("fitting projections", member + 1, settings.members)
    for image in both.images:
        image.absorb(mean, std)  # type: ignore[operator]
    return Trained(both.eval(), scores, steps)


def macro_auroc(images: Tensor, texts: Tensor, truth: Tensor) -> float:
    """Return the mean AUROC over the texts that are true of some films and not of others; NaN if there is none.

    Args:
        images: ``(n_films, d_embed)``, unit rows.
        texts: ``(n_texts, d_embed)``, unit rows.
        truth: ``(n_films, n_texts)``: 1, 0 or NaN.
    """
    return float(auroc(images @ texts.T, truth).diagonal().nanmean())


def _train_pair(
    pair: nn.ModuleList,
    rows: Tensor,
    sentences: Tensor,
    lessons: Lessons,
    held: Tensor,
    settings: Training,
    generator: torch.Generator,
) -> tuple[float, int]:
    """Train one pair in place; return its best macro AUROC on the films held out, and the step."""
    image, text = pair
    films, judged = (~held).nonzero().flatten(), held.nonzero().flatten()
    exam = lessons.exam(judged)
    truth = lessons.truth(judged, exam)
    log_scale = nn.Parameter(torch.tensor(10.0).log())
    groups: list[dict[str, Any]] = [{"params": pair.parameters()}, {"params": [log_scale], "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=settings.rate, weight_decay=settings.decay)
    best, best_step, kept = -1.0, 0, {name: value.clone() for name, value in pair.state_dict().items()}
    for step in range(1, settings.steps + 1):
        shown = films[torch.randperm(len(films), generator=generator)[:STEP]]
        asked = lessons.draw(shown, generator)
        unit = normalize(image(dropout(rows[shown], settings.dropout)), dim=1)
        scores = unit @ normalize(text(sentences[asked]), dim=1).T
        loss = contrastive_loss(scores * log_scale.exp().clamp(max=100), lessons.truth(shown, asked))
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        if step % LOOK == 0:
            with torch.no_grad():
                seen = (normalize(image(rows[judged]), dim=1), normalize(text(sentences[exam]), dim=1))
                score = macro_auroc(*seen, truth)
            if math.isnan(score):
                raise InputError(
                    "a part of the patients shows none of the findings, or all of them: give more films, or fewer parts"
                )
            if score > best:
                best, best_step = score, step
                kept = {name: value.clone() for name, value in pair.state_dict().items()}
            elif step - best_step >= LOOK * PATIENCE:
                break
    pair.load_state_dict(kept)
    return best, best_step
