"""From a prediction to units, from units to concepts, and from concepts to places on the film."""
