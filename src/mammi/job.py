"""One call of the main job: what it works with, and the run folder it goes on in."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mammi.capture import LayerPlan
from mammi.concepts import ConceptSet
from mammi.data import MaskSet, ProbingSet
from mammi.engine import Engine, Precisions
from mammi.errors import ImageError, RunError
from mammi.functional.fingerprint import fingerprint_value
from mammi.methods import Method
from mammi.store.files import read_json, write_json
from mammi.store.identity import refuse_changes
from mammi.store.images import new_salt
from mammi.store.run import SCHEMA, open_run
from mammi.store.shards import ActivationStore
from mammi.targets import Target
from mammi.types import Progress
from mammi.vlms import Annotator, common_corpora

__all__ = ["Job", "begin", "is_intact", "readable_films", "resume", "set_status", "unreadable_films", "vlm_note"]


@dataclass(frozen=True)
class Job:
    """Everything one call works with."""

    target: Target
    images: ProbingSet
    hashes: list[str]
    concepts: ConceptSet
    vlm: Annotator
    recipe: Method
    templates: list[str]
    plans: list[LayerPlan]
    store: ActivationStore
    batch_size: int
    engine: Engine
    progress: Progress
    masks: MaskSet | None = None
    precisions: Precisions = field(default_factory=lambda: Precisions.from_dict(None))
    trained_on: tuple[str, ...] = ()

    @property
    def shared(self) -> tuple[str, ...]:
        """Collections that both the annotator and the target were trained on."""
        return common_corpora(self.vlm.card.training_corpora, self.trained_on)

    def identity(self, method: str, options: dict[str, Any]) -> dict[str, Any]:
        """Return what the results depend on, as JSON: two calls that agree in it give the same arrays."""
        annotator = self.precisions.annotator.precision
        return {
            "schema": SCHEMA,
            "target": self.target.fingerprint,
            "images": {
                "n": len(self.images),
                "frame": self.images.frame,
                "fingerprint": fingerprint_value([self.images.ids, self.hashes]),
            },
            "layers": [plan.to_dict() for plan in self.plans],
            "concepts": {"n": len(self.concepts), "fingerprint": self.concepts.fingerprint},
            "vlm": self.vlm.fingerprint,
            "template": self.templates[0] if len(self.templates) == 1 else self.templates,
            "method": {"name": method, "options": options},
            "capture": {
                "batch_size": self.batch_size,
                "dtype": self.precisions.target.precision,
                "block": self.store.block_size,
            }
            | ({} if annotator == "float32" else {"annotator": annotator}),
        }


def set_status(folder: Path, manifest: dict[str, Any], status: str) -> dict[str, Any]:
    """Write how far a run is into its manifest; return the manifest."""
    manifest = {**manifest, "status": status}
    write_json(folder / "manifest.json", manifest)
    return manifest


def begin(job: Job, identity: dict[str, Any]) -> dict[str, Any]:
    """Write what the run is made of, before anything is computed."""
    folder, images = job.store.folder, job.images
    (folder / "private").mkdir(mode=0o700, parents=True, exist_ok=True)  # names and paths: for its owner alone
    write_json(folder / "private" / "salt.json", new_salt())
    _write_sources(job)
    # Paths of weights are names on this machine: they stay apart, and let an explanation load the same models again.
    write_json(folder / "private" / "models.json", {"target": job.target.source, "vlm": job.vlm.source})
    job.concepts.write_csv(folder / "concepts.csv")
    manifest = {
        "schema": SCHEMA,
        "status": "recording",
        "notice": "A research and audit tool, not a diagnostic device.",
        "mammi": version("mammi"),
        "torch": torch.__version__,
        "identity": identity,
        "layers": [plan.to_dict() for plan in job.plans],
        "precision": job.precisions.to_dict(),
        "target": {
            "name": Path(job.target.name).name,
            "preprocessing": job.target.preprocessing.to_dict(),
            "notes": [note.replace(job.target.name, Path(job.target.name).name) for note in job.target.notes],
            "training_corpora": list(job.trained_on),
        },
        "vlm": vlm_note(job.vlm, job.shared),
        "images": {
            "labels": list(images.label_names),
            "patients_known": images.patients_known,
            "files_without_row": len(images.without_row),
            "other_files": len(images.ignored),
        },
    }
    return set_status(folder, manifest, "recording")


def vlm_note(vlm: Annotator, shared: Sequence[str]) -> dict[str, Any]:
    """Return what a manifest says of an annotator: its card, and the collections it shares with the target."""
    name = Path(vlm.name).name
    return {
        "name": name,
        "title": vlm.card.title,
        "licence": vlm.card.licence,
        "training_corpora": list(vlm.card.training_corpora),
        "modality": vlm.card.modality,
        "citation": vlm.card.citation,
        "access": vlm.card.access,
        "scores_pairs": vlm.scores_pairs,
        "shared_corpora": list(shared),
        "notes": [note.replace(vlm.name, name) for note in (*vlm.card.notes, *vlm.notes)],
    }


def _write_sources(job: Job) -> None:
    """Keep, apart from all else, what is needed to find the films again."""
    films = [
        {"id": film, "patient": str(patient), "path": str(path.resolve()), "sha256": digest}
        for film, patient, path, digest in zip(
            job.images.ids, job.images.patients, job.images.paths, job.hashes, strict=True
        )
    ]
    write_json(job.store.folder / "private" / "films.json", films)


def resume(job: Job, identity: dict[str, Any]) -> dict[str, Any]:
    """Check that the folder belongs to these inputs; films that could not be read may have been repaired since."""
    folder = job.store.folder
    manifest: dict[str, Any] = read_json(folder / "manifest.json")
    old = manifest.get("identity", {})
    if manifest.get("status") == "recording" and old.get("images") != identity["images"]:
        known = read_json(folder / "private" / "films.json")
        unreadable = unreadable_films(job.store)
        changed = [
            row
            for row, (film, name, digest) in enumerate(zip(known, job.images.ids, job.hashes, strict=False))
            if (film["id"], film["sha256"]) != (name, digest)
        ]
        if len(known) == len(job.images) and set(changed) <= set(unreadable):
            for block in {row // job.store.block_size for row in changed}:
                job.store.discard(block)
            manifest["identity"] = {**old, "images": identity["images"]}
            _write_sources(job)
    refuse_changes(folder, manifest.get("identity", {}), identity)
    return set_status(folder, manifest, manifest["status"])


def is_intact(job: Job) -> bool:
    """Tell whether a complete run can still be read; what cannot is made ready to be computed again."""
    whole = True
    for plan in job.plans:
        try:
            whole &= job.store.read(plan.name).shape[0] == plan.n_units
        except RunError:
            job.store.array_path(plan.name).unlink(missing_ok=True)
            for block in range(job.store.n_blocks):
                job.store.discard(block)
            whole = False
    return whole and open_run(job.store.folder).is_readable()


def unreadable_films(store: ActivationStore) -> dict[int, str]:
    """Return the reason for each film that could not be read, by row."""
    records = store.done()
    return {int(row): reason for block in sorted(records) for row, reason in records[block]["unreadable"].items()}


def readable_films(job: Job, *, skip: bool) -> NDArray[np.int64]:
    """Return the rows of the films that could be read; raise with the whole list where that is asked for."""
    unreadable = unreadable_films(job.store)
    total = len(job.images)
    if unreadable and not skip:
        listed = "\n".join(f"  {job.images.ids[row]}: {reason}" for row, reason in sorted(unreadable.items()))
        raise ImageError(
            f"{len(unreadable)} of {total} films cannot be read. Repair or remove them, or skip them with "
            f"on_error='skip' (--on-error skip); the others are recorded and stay so.\n{listed}"
        )
    if len(unreadable) == total:
        raise ImageError(f"none of the {total} films can be read; the first: {unreadable[0]}")
    return np.array([row for row in range(total) if row not in unreadable], dtype=np.int64)
