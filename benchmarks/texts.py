"""Texts of an open_clip model encoded as open_clip does, cut to the longest of a batch, and shortest first: how much quicker.

Random weights of the true architectures; every concept of drawn reports in a few templates. The three ways take turns.

    python benchmarks/texts.py [ARCHITECTURE ...]
"""

import logging
import os
import sys
import time
from statistics import median

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import open_clip
import torch

import mammi
from mammi.phantoms import Cohort, write_report
from mammi.vlms.from_open_clip import OpenClipVlm

TEMPLATES = ("A chest x-ray image of a {}", "{}", "There is {} on this radiograph", "Findings suggesting {}")
#: Rounds; each encodes two chunks, one of shorter and one of longer texts.
ROUNDS = 3
#: Texts per batch.
CHUNK = 64


def texts() -> list[str]:
    """Return every concept of 600 drawn reports in every template."""
    cohort = Cohort(600, 0)
    written = [write_report(cohort.plan(row)) for row in range(len(cohort))]
    concepts = mammi.build_concepts([f"{report.findings} {report.impression}" for report in written])
    return [template.replace("{}", term) for term in concepts.terms for template in TEMPLATES]


def measure(architecture: str, asked: list[str]) -> list[float]:
    """Return texts per second: as open_clip pads them, cut, and cut in chunks of like length."""
    model = open_clip.create_model(architecture).eval()
    transform = open_clip.image_transform(224, is_train=False)
    vlm = OpenClipVlm(model, transform, open_clip.get_tokenizer(architecture), "cpu")
    in_order = [asked[start : start + CHUNK] for start in range(0, len(asked), CHUNK)]
    ordered = sorted(asked, key=vlm.text_length)
    by_length = [ordered[start : start + CHUNK] for start in range(0, len(ordered), CHUNK)]
    n = len(asked) // CHUNK  # whole chunks
    seconds: list[list[float]] = [[], [], []]
    with torch.inference_mode():
        for turn in range(ROUNDS):
            chosen = (turn * n // (2 * ROUNDS), n - 1 - turn * n // (2 * ROUNDS))
            for way, (chunks, cuts) in enumerate(((in_order, False), (in_order, True), (by_length, True))):
                vlm.cuts_texts = cuts
                began = time.perf_counter()
                for number in chosen:
                    vlm.encode_texts(chunks[number])
                seconds[way].append((time.perf_counter() - began) / (2 * CHUNK))
    return [1 / median(spent) for spent in seconds]


def main() -> None:
    """Print the table."""
    logging.disable(logging.WARNING)  # that weights are random is meant
    asked = texts()
    print(f"{len(asked)} texts, {torch.get_num_threads()} threads\n")
    print("| architecture | padded to 77, texts a second | cut to the batch | and shortest first | times as quick |")
    print("|---|---|---|---|---|")
    for architecture in sys.argv[1:] or ["ViT-B-32", "ViT-B-16"]:
        speed = measure(architecture, asked)
        print(
            f"| {architecture} | {' | '.join(f'{each:.0f}' for each in speed)} | {speed[2] / speed[0]:.1f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
