"""Hooks: many layers in one pass, reduced to one number per unit inside the hook, removed whatever happens."""

from mammi.capture.maps import MapPlan, plan_maps
from mammi.capture.plan import LayerPlan, output_layers, plan_layers
from mammi.capture.recorder import Recorder

__all__ = ["LayerPlan", "MapPlan", "Recorder", "output_layers", "plan_layers", "plan_maps"]
