"""What is noted of films while they are recorded: nothing that names a patient, nothing that ends the run."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from torch import nn

from mammi.capture import plan_layers
from mammi.engine import LocalEngine, record_blocks
from mammi.store.shards import ActivationStore
from mammi.targets import create_target
from mammi.types import Film, no_progress


class Films(SimpleNamespace):
    def __len__(self):
        return len(self.paths)


def test_warnings_quote_no_header_and_a_strip_is_left_out(tmp_path):
    torch.manual_seed(0)
    target = create_target(
        nn.Sequential(nn.Conv2d(1, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()), size=16, channels=1
    )
    square = np.linspace(0, 1, 400, dtype=np.float32).reshape(20, 20)
    films = [
        Film(square, warnings=("Invalid value for VR PN: 'DOE^JANE', \"A-4711\" in Doe_Jane.dcm",)),
        Film(np.zeros((1, 900), np.float32)),
    ]
    images = Films(film=lambda row: films[row], paths=[Path("Doe_Jane.dcm"), Path("strip.png")])
    store = ActivationStore(tmp_path, 2, 2)
    plans = plan_layers(target, ["0"])
    record_blocks(target, plans, images, store, batch_size=2, engine=LocalEngine(1), progress=no_progress)
    (record,) = store.done().values()
    assert record["warnings"] == {"0": ["Invalid value for VR PN: '…', '…' in the file"]}
    assert "a strip and no film" in record["unreadable"]["1"]
