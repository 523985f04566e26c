"""The run folder: the contract between computing and looking, readable without this package.

::

    RUN/
      manifest.json                      what was computed from what: names, content hashes, settings, versions, counts
      images.parquet                     one row per film: row, salted id, salted patient, status, labels
      units.parquet                      one row per unit: layer, unit, examples, range, name, reason
      examples.parquet                   layer, unit, rank, image (row of images.parquet), activation
      annotations.parquet                layer, unit, rank, concept, score
      index.sqlite                       the same annotations with full-text search, for the explorer
      activations/LAYER/by_unit.npy      float32 (n_units, n_films), memory-mapped
      activations/LAYER/shard-000000.npy float32 (films of the block, n_units), kept until the run is complete
      embeddings/                        one .npy per block of encoded films, one for the texts
      private/                           paths, names and the salt: never leaves the machine, never shown by default
      private/blocks/000000.json         written last of a block: its films are done in every layer
"""

from mammi.store.run import Run, open_run

__all__ = ["Run", "open_run"]
