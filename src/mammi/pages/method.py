"""How the run was made, from what, and where its limits are: for people, and as a fragment of a model card."""

from collections.abc import Mapping
from shlex import quote
from typing import Any

from mammi.pages.site import NOTICE, Page
from mammi.pages.view import RunView
from mammi.pages.words import plural

__all__ = ["how_to_read", "limits", "method_page", "model_card"]

#: Of the model card's form.
CARD_SCHEMA = 1
INTENDED_USE = "Development and audit of a network. Not for diagnosis, nor for any decision about a patient."


def method_page(view: RunView) -> Page:
    """Return the page on method and provenance; its data hold the model card."""
    return Page("Method and provenance", "method.html", ("method",), {"card": model_card(view)})


def model_card(view: RunView) -> dict[str, Any]:
    """Return what a model card needs of a run: what was examined with what, how to read it, its limits, how to repeat it.

    Versions and content hashes name everything that the results depend on; no path, file name or patient.
    """
    manifest = view.run.manifest
    identity, counts = manifest["identity"], manifest["counts"]
    method = identity["method"]
    return {
        "card_schema": CARD_SCHEMA,
        "notice": NOTICE,
        "intended_use": INTENDED_USE,
        "model": {
            "name": manifest["target"]["name"],
            "sha256": identity["target"],
            "preprocessing": manifest["target"]["preprocessing"],
            "notes": manifest["target"]["notes"],
            "layers": identity["layers"],
        },
        "annotator": {
            **{
                name: manifest["vlm"].get(name) for name in ("name", "title", "licence", "training_corpora", "modality")
            },
            "citation": manifest["vlm"].get("citation"),
            "notes": manifest["vlm"]["notes"],
            "sha256": identity["vlm"],
        },
        "concept_set": {"concepts": identity["concepts"]["n"], "sha256": identity["concepts"]["fingerprint"]},
        "probing_set": {
            "films": counts["films"],
            "left_out_as_unreadable": counts["unreadable"],
            "patients": counts["patients"],
            "labels": manifest["images"]["labels"],
            "sha256": identity["images"]["fingerprint"],
        },
        "masks_sha256": identity.get("masks"),
        "method": {
            "name": method["name"],
            "options": method["options"],
            "template": identity["template"],
            "seed": method["options"].get("seed"),
            "how_to_read": how_to_read(identity),
        },
        "results": {"units": counts["units"], "with_a_concept": counts["named"]},
        "code": {"mammi": manifest["mammi"], "torch": manifest["torch"], "run_format": manifest["schema"]},
        "capture": identity["capture"],
        "limits": limits(view),
        "how_to_repeat": _how_to_repeat(identity),
    }


def how_to_read(identity: Mapping[str, Any]) -> str:
    """Say in words what the scores of a run are.

    Args:
        identity: that of the run's manifest.
    """
    templates = identity["template"] if isinstance(identity["template"], list) else [identity["template"]]
    asked = " and ".join("“" + text.replace("{}", "…") + "”" for text in templates)
    method = identity["method"]
    if method["name"] == "mammi":
        return (
            f"Mean over the unit's example films of the cosine with {asked}, less the cosine with the bare template. "
            f"Concepts above {method['options']['concept_threshold']} of the best score are kept. A score is no "
            "probability, and the method gives no error rate: a name is a lead to check against the films."
        )
    if method["name"] == "calibrated":
        options = method["options"]
        bar = f"{options['min_effect']:g}" + (" and that of an untrained copy of the network" * options["control"])
        return (
            f"Concepts were put to the annotator as {asked}. A unit has a concept if it is above chance (false discovery "
            f"rate {options['false_discovery_rate']:g} over its layer), if its effect on patients that did not choose it "
            f"is above {bar}, and if other draws of patients keep it. Effect: how many standard deviations more of the "
            "concept the films show when they are weighed by the unit; below 0 where the unit fires when the concept is "
            f"absent. Score: correlation of the unit with the concept, less {options['hub_strength']:g} of what half of "
            "the layer has in common."
        )
    return f"Concepts were put to the annotator as {asked}; what a score means is said on the page of the method."


def limits(view: RunView) -> list[str]:
    """Return what a reader must know before believing a name, the run's own limits included."""
    identity, counts = view.run.manifest["identity"], view.run.manifest["counts"]
    said = [
        "A name is a lead to check against the films, not a finding about the network or a patient.",
        f"Only the {identity['concepts']['n']:,} concepts asked for can be named, and only those that the annotator sees.",
        "An annotator trained on the network's own films, or built like it, is circular evidence.",
        f"Names rest on {plural(counts['films'], 'film')}"
        + (f" of {plural(counts['patients'], 'patient')}" if counts["patients"] else " of unknown patients")
        + "; other films may give other names.",
        "An effect is no cause: a unit that fires where a tube lies may follow the tube, or the illness that tubes are for.",
        "Two-dimensional films only; the last bits of an activation may depend on batch size and hardware.",
    ]
    chosen = view.run.manifest.get("precision", {})
    lowered = [
        f"the {model} in {chosen[model]['precision']}" for model in chosen if chosen[model]["precision"] != "float32"
    ]
    if lowered:
        why = "; ".join(f"{model}: {chosen[model]['why']}" for model in chosen)
        said.append(f"Not all was computed in float32, but {' and '.join(lowered)} ({why}).")
    if identity["method"]["name"] != "calibrated":
        said.insert(1, "The method names nearly every unit, sure or not, and states no error rate.")
    if not view.label_names:
        said.append("The films have no labels, so that no name could be compared with them.")
    return said


def _how_to_repeat(identity: Mapping[str, Any]) -> str:
    method = identity["method"]
    templates = identity["template"] if isinstance(identity["template"], list) else [identity["template"]]
    capture = identity["capture"]
    both = {capture.get("dtype", "float32"), capture.get("annotator", "float32")}
    precision = both.pop() if len(both) == 1 else "auto"
    words = [
        "mammi annotate --target NETWORK --weights WEIGHTS",
        f"--layers {','.join(layer['name'] for layer in identity['layers'])}",
        "--images FILMS --concepts concepts.csv --vlm ANNOTATOR",
        *(f"--template {quote(text)}" for text in templates),
        f"--method {method['name']}",
        *(f"-O {quote(f'{name}={value}')}" for name, value in method["options"].items()),
        f"--batch-size {capture['batch_size']} --precision {precision} --out RUN",
    ]
    return " ".join(words)
