"""The network under study: made from a spec, given its weights, its view of a film, and its list of layers.

``create_target("torchvision:densenet121", weights="mine.pt")`` is the door; `list_layers` says what can be annotated.
"""

from mammi.targets.layers import LayerInfo, Layout, Pooling, default_pooling, layout_of, list_layers, unit_axis
from mammi.targets.preprocessing import PilPreprocessing, Preprocessing, TargetPreprocessing
from mammi.targets.randomised import copied, randomised
from mammi.targets.target import Target, create_target, list_targets
from mammi.weights_file import load_weights, read_weights

__all__ = [
    "LayerInfo",
    "Layout",
    "PilPreprocessing",
    "Pooling",
    "Preprocessing",
    "Target",
    "TargetPreprocessing",
    "copied",
    "create_target",
    "default_pooling",
    "layout_of",
    "list_layers",
    "list_targets",
    "load_weights",
    "randomised",
    "read_weights",
    "unit_axis",
]
