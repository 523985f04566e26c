"""Train the embedded target and vision-language model from nothing, and print how good they are on unseen films.

    python scripts/train_phantoms.py target vlm --out src/mammi/phantoms/weights

Drawing 14,000 films takes about six minutes of one CPU core; then the target takes about ten and the
vision-language model about ten (with bfloat16 in hardware; three times that without). Films are drawn once and
kept in ``--cache`` when that is given.
"""

import argparse
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from mammi.phantoms.catalogue import OUTPUTS, SYNONYMS
from mammi.phantoms.cohort import Cohort
from mammi.phantoms.lessons import Truth, sample_lessons
from mammi.phantoms.target import GREY_MEAN, GREY_STD, INPUT_SIZE, PhantomTarget
from mammi.phantoms.vlm import BASE_TEMPLATE, TEMPLATE, PhantomVlm
from mammi.phantoms.weights import load_packed, pack_weights

BATCH = 64
SEEDS = {"target": 100, "vlm": 200, "unseen": 300}
EPOCHS = 9


@dataclass(frozen=True)
class Phase:
    """One phase of the target's training: passes, rate, smoothing of labels, and what it costs to be too sure."""

    epochs: int
    rate: float
    smooth: float
    too_sure: Callable[[Tensor, Tensor], Tensor]


#: The target learns, then settles: labels are smoothed more and answers beyond what is sure enough cost extra, which
#: draws all clear cases together, so that an output has many films near its maximum rather than one or two. First any
#: answer, then only right ones: a wrong answer is kept down by its own loss.
PHASES = (
    Phase(8, 4e-3, 0.01, lambda logits, truth: logits.new_zeros(())),
    Phase(3, 1.2e-3, 0.06, lambda logits, truth: 0.3 * functional.relu(logits.abs() - 3).square().mean()),
    Phase(4, 1.2e-3, 0.04, lambda logits, truth: 2 * functional.relu(logits * (2 * truth - 1) - 2.5).square().mean()),
)


def draw_films(seed: int, count: int, cache: Path | None) -> NDArray[np.uint8]:
    """Return the films of a cohort at the models' input size, uint8, shape ``(count, 128, 128)``."""
    kept = cache / f"{seed}_{count}.npy" if cache else None
    if kept and kept.exists():
        return np.load(kept)
    cohort = Cohort(count, seed=seed)
    films = np.zeros((count, INPUT_SIZE, INPUT_SIZE), np.uint8)
    for index in range(count):
        picture = cohort.film(index).to_pil()
        films[index] = np.asarray(picture.resize((INPUT_SIZE, INPUT_SIZE), Image.Resampling.BILINEAR))
        if index % 1000 == 999:
            print(f"drew {index + 1} of {count} films", flush=True)
    if kept:
        kept.parent.mkdir(parents=True, exist_ok=True)
        np.save(kept, films)
    return films


def as_input(films: NDArray[np.uint8], device: str, rng: np.random.Generator | None = None) -> Tensor:
    """Normalise films; with ``rng`` also shift them by up to five pixels and vary exposure, contrast and noise."""
    x = torch.from_numpy(films).to(device).float().div(255)[:, None]
    if rng is not None:
        n = len(films)
        gain = torch.from_numpy(rng.uniform(0.85, 1.15, (n, 1, 1, 1)).astype(np.float32)).to(device)
        lift = torch.from_numpy(rng.uniform(-0.06, 0.06, (n, 1, 1, 1)).astype(np.float32)).to(device)
        x = (x - 0.45) * gain + 0.45 + lift
        padded = functional.pad(x, (5, 5, 5, 5), mode="replicate")
        moves = rng.integers(0, 11, (n, 2))
        x = torch.stack(
            [padded[i, :, dy : dy + INPUT_SIZE, dx : dx + INPUT_SIZE] for i, (dy, dx) in enumerate(moves.tolist())]
        ).clamp(0, 1)
    x = (x - GREY_MEAN) / GREY_STD
    return x.contiguous(memory_format=torch.channels_last)


def auc(scores: NDArray[np.float32], truth: NDArray[np.bool_]) -> float:
    """Return the area under the ROC curve, ties counted half."""
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    positive = int(truth.sum())
    return float((ranks[truth].sum() - positive * (positive + 1) / 2) / (positive * (len(truth) - positive)))


def optimiser(
    net: nn.Module, steps: int, rate: float
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.OneCycleLR]:
    """Return AdamW with a one-cycle schedule; no decay on vectors."""
    wide = [p for p in net.parameters() if p.ndim > 1]
    thin = [p for p in net.parameters() if p.ndim <= 1]
    groups = [{"params": wide, "weight_decay": 0.02}, {"params": thin, "weight_decay": 0.0}]
    chosen = torch.optim.AdamW(groups, lr=rate)
    return chosen, torch.optim.lr_scheduler.OneCycleLR(chosen, max_lr=rate, total_steps=steps, pct_start=0.15)


def batches(rng: np.random.Generator, count: int, size: int) -> list[NDArray[np.int64]]:
    """Return the rows of one pass in random order, in batches of ``size``; the last few rows are left out."""
    return np.array_split(rng.permutation(count)[: count // size * size], count // size)


def train_target(args: argparse.Namespace, device: str) -> PhantomTarget:
    """Train the network under study with one binary cross-entropy per label, phase by phase."""
    seed = SEEDS["target"]
    films = draw_films(seed, args.films, args.cache)
    cohort = Cohort(args.films, seed=seed)
    truth = Truth([cohort.plan(i) for i in range(args.films)]).present.astype(np.float32)
    torch.manual_seed(seed)
    net = PhantomTarget()
    for number, phase in enumerate(PHASES):
        rng = np.random.default_rng([seed, number] if number else seed)
        net = net.to(device, memory_format=torch.channels_last).train()
        optimizer, schedule = optimiser(net, phase.epochs * (args.films // BATCH), phase.rate)
        began = time.time()
        for epoch in range(phase.epochs):
            losses = []
            for rows in batches(rng, args.films, BATCH):
                with torch.autocast(device, torch.bfloat16):
                    logits = net(as_input(films[rows], device, rng)).float()
                wanted = torch.from_numpy(truth[rows]).to(device)
                smoothed = wanted * (1 - 2 * phase.smooth) + phase.smooth
                loss = functional.binary_cross_entropy_with_logits(logits, smoothed) + phase.too_sure(logits, wanted)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                schedule.step()
                losses.append(loss.item())
            print(
                f"target {number + 1}.{epoch + 1}/{phase.epochs}: loss {np.mean(losses):.4f}, "
                f"{time.time() - began:.0f} s",
                flush=True,
            )
        # The next phase starts from what is kept: half precision.
        path = args.out / "target.safetensors"
        path.write_bytes(pack_weights(net))
        net = PhantomTarget()
        load_packed(net, path)
    return net.eval()


def train_vlm(args: argparse.Namespace, device: str) -> PhantomVlm:
    """Train both towers: every text of a step is compared with every film (many positives: a sigmoid per pair).

    The loss is that of SigLIP (Zhai et al., ICCV 2023) with each text's true and false films balanced and the targets
    of ``mammi.phantoms.lessons``, so that the name of what a film shows beats words that fit every film. A linear head
    on the pictures' embeddings learns the labels and their sides too and is thrown away: it finds what few texts of a
    step speak of.
    """
    seed = SEEDS["vlm"]
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    films = draw_films(seed, args.films, args.cache)
    cohort = Cohort(args.films, seed=seed)
    truth = Truth([cohort.plan(i) for i in range(args.films)])
    labels = np.concatenate([truth.present, *truth.sides.values()], axis=1).astype(np.float32)
    net = PhantomVlm().to(device).train()
    net.image_tower.to(memory_format=torch.channels_last)
    head = nn.Linear(net.embedding_dim, labels.shape[1]).to(device)
    epochs = EPOCHS
    optimizer, schedule = optimiser(nn.ModuleList([net, head]), epochs * (args.films // BATCH), 3e-3)
    began = time.time()
    for epoch in range(epochs):
        losses = []
        for rows in batches(rng, args.films, BATCH):
            lessons = sample_lessons(rng, truth, rows, args.texts)
            with torch.autocast(device, torch.bfloat16):
                seen = net.encode_images(as_input(films[rows], device, rng)).float()
            said = net.encode_texts(lessons.texts)
            cosines = functional.normalize(seen, dim=1) @ functional.normalize(said, dim=1).T
            loss = functional.binary_cross_entropy_with_logits(
                cosines * net.log_scale.clamp(max=3.4).exp(),
                torch.from_numpy(lessons.targets).to(device),
                weight=torch.from_numpy(lessons.weights).to(device),
            )
            wanted = torch.from_numpy(labels[rows]).to(device)
            loss = loss + functional.binary_cross_entropy_with_logits(head(seen), wanted)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
        scale = float(net.log_scale.detach().exp())
        print(
            f"vlm {epoch + 1}/{epochs}: loss {np.mean(losses):.4f}, scale {scale:.1f}, {time.time() - began:.0f} s",
            flush=True,
        )
    return net.eval()


@torch.no_grad()
def evaluate(args: argparse.Namespace) -> None:
    """Print AUC per label of the kept weights on films of a cohort neither model has seen."""
    films = draw_films(SEEDS["unseen"], args.unseen, args.cache)
    cohort = Cohort(args.unseen, seed=SEEDS["unseen"])
    truth = Truth([cohort.plan(i) for i in range(args.unseen)]).present
    net, model = PhantomTarget(), PhantomVlm()
    load_packed(net.eval(), args.out / "target.safetensors")
    load_packed(model.eval(), args.out / "vlm.safetensors")
    parts = np.array_split(films, max(1, len(films) // 64))
    logits = torch.cat([net(as_input(part, "cpu")) for part in parts]).numpy()
    seen = functional.normalize(torch.cat([model.encode_images(as_input(part, "cpu")) for part in parts]), dim=1)
    said = model.encode_texts([TEMPLATE.format(SYNONYMS[name][0]) for name in OUTPUTS] + [BASE_TEMPLATE])
    cosines = (seen @ functional.normalize(said, dim=1).T).numpy()
    adaptive = cosines[:, :-1] - cosines[:, -1:]
    print(f"{'':20}{'films':>7}{'target':>9}{'zero-shot':>11}")
    table = np.array(
        [
            (truth[:, k].sum(), auc(logits[:, k], truth[:, k]), auc(adaptive[:, k], truth[:, k]))
            for k in range(len(OUTPUTS))
        ]
    )
    for name, (count, one, two) in zip(OUTPUTS, table, strict=True):
        print(f"{name:20}{count:7.0f}{one:9.3f}{two:11.3f}")
    print(f"{'mean':20}{'':7}{table[:, 1].mean():9.3f}{table[:, 2].mean():11.3f}")


def main() -> None:
    """Train what is asked for, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "models", nargs="+", choices=["target", "vlm", "evaluate"], help="what to train, or only evaluate"
    )
    parser.add_argument("--films", type=int, default=14000, help="films each model is trained on")
    parser.add_argument("--unseen", type=int, default=1200, help="films for the table")
    parser.add_argument("--texts", type=int, default=128, help="texts per step of the vision-language model")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--cache", type=Path, default=None, help="folder that keeps the drawn films")
    parser.add_argument("--out", type=Path, default=Path("src/mammi/phantoms/weights"), help="folder for the weights")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    args.out.mkdir(parents=True, exist_ok=True)
    if "target" in args.models:
        train_target(args, device)
    if "vlm" in args.models:
        (args.out / "vlm.safetensors").write_bytes(pack_weights(train_vlm(args, device)))
    if all((args.out / f"{name}.safetensors").exists() for name in ("target", "vlm")):
        evaluate(args)


if __name__ == "__main__":
    main()
