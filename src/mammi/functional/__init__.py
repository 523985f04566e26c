"""Arrays in, arrays out: one idea a file, the paper cited, the shapes stated; no I/O, no models, no logging."""
