"""The run folder: the contract between computing and looking, readable without this package.

::

    RUN/
      manifest.json                      what was computed from what: names, content hashes, settings, versions, counts
      images.parquet                     one row per film: salted id, salted patient, warnings, row of the probing set
      labels.parquet                     one row per film, one column per label; only if labels were given
      units.parquet                      one row per unit: layer, unit, name or formula, examples, range, reason
      examples.parquet                   layer, unit, rank, film (row of images.parquet), activation
      annotations.parquet                layer, unit, rank, concept, score, and how sure the method is of it
      index.sqlite                       the same annotations with full-text search, for the explorer
      activations/LAYER/by_unit.npy      float32 (n_units, n_films), memory-mapped
      activations/LAYER/shard-000000.npy float32 (films of the block, n_units), kept until the run is complete
      embeddings/                        one .npy per block of encoded films or texts
      opinions/                          second opinions, see mammi.store.opinions
      control/activations/LAYER/         the same of an untrained copy of the network, for methods that compare with one
      private/                           paths, names and the salt: never leaves the machine, never shown by default
      private/blocks/000000.json         written last of a block: its films are done in every layer
      private/control/blocks/            the same of the untrained copy
"""

from mammi.store.run import Run, open_run

__all__ = ["Run", "open_run"]
