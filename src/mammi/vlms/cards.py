"""What is known of published vision-language models: licence, training corpora, where they are described.

A card is looked up by spec. A model without one is used all the same, and every unknown says ``"not stated"``.
"""

from dataclasses import replace

from mammi.types import VlmCard

__all__ = ["KNOWN", "find_card"]

_RESEARCH = "research use; not a diagnostic device"

#: Cards by spec; a ``*`` at the end stands for any ending.
KNOWN: dict[str, VlmCard] = {
    card.name: card
    for card in (
        VlmCard(
            "open_clip:hf-hub:microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224",
            "BiomedCLIP",
            "MIT",
            ("PMC-15M (figures of PubMed Central articles)",),
            "biomedical figures of every kind",
            224,
            "Zhang et al., NEJM AI 2025, arXiv 2303.00915",
            (_RESEARCH,),
        ),
        VlmCard(
            "transformers:google/medsiglip-448",
            "MedSigLIP",
            "Health AI Developer Foundations terms (accept them on the model's page)",
            ("MIMIC-CXR", "further medical collections named on the model's page"),
            "chest films, skin, eye, histology, CT and MR slices",
            448,
            "Sellergren et al., MedGemma Technical Report, arXiv 2507.05201",
            (_RESEARCH,),
        ),
        VlmCard(
            "transformers:StanfordAIMI/XraySigLIP__*",
            "XraySigLIP",
            "CC BY-NC 4.0",
            ("CheXpert Plus", "MIMIC-CXR", "further chest film collections named on the model's page"),
            "chest films",
            0,
            "Chen et al., CheXagent, arXiv 2401.12208",
            ("not for commercial use",),
        ),
        VlmCard(
            "transformers:StanfordAIMI/XrayCLIP__*",
            "XrayCLIP",
            "CC BY-NC 4.0",
            ("CheXpert Plus", "MIMIC-CXR", "further chest film collections named on the model's page"),
            "chest films",
            0,
            "Chen et al., CheXagent, arXiv 2401.12208",
            ("not for commercial use",),
        ),
        VlmCard(
            "transformers:flaviagiammarino/pubmed-clip-vit-base-patch32",
            "PubMedCLIP",
            "MIT",
            ("ROCO",),
            "radiology figures",
            224,
            "Eslami et al., EACL Findings 2023, arXiv 2112.13906",
        ),
        VlmCard(
            "transformers:vinid/plip",
            "PLIP",
            "not stated",
            ("OpenPath (pathology posts)",),
            "histology",
            224,
            "Huang et al., Nature Medicine 2023",
        ),
        VlmCard(
            "transformers:openai/clip-vit-*",
            "CLIP",
            "MIT (code; none stated for the weights)",
            ("WebImageText, not published",),
            "photographs; no medical images on purpose",
            224,
            "Radford et al., ICML 2021, arXiv 2103.00020",
            ("not made for medical images",),
        ),
    )
}


def find_card(spec: str) -> VlmCard:
    """Return the card of ``spec``, under its own name; an empty one if the model is not known.

    >>> find_card("transformers:vinid/plip").title, find_card("mine.py:create").licence
    ('PLIP', 'not stated')
    """
    for name, card in KNOWN.items():
        if spec == name or (name.endswith("*") and spec.startswith(name[:-1])):
            return replace(card, name=spec)
    return VlmCard(spec)
