"""From a prediction to units, to concepts, and to places on the film."""
