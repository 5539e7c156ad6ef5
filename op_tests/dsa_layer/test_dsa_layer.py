"""A whole layer of sparse attention on every device: cache writes, indexer's logits, top-k, conversion, plan,
sparse decode by lists, merge; against fp64 over the keys that were selected, and every step on its own."""

from __future__ import annotations

import numpy as np
import pytest

from aiter_c.testing import CPU, Device
from aiter_c.testing.dsa_layer import Layer, LayerRun

#: DeepSeek-V3.2's: 64 index heads of 128, 2,048 keys of 656-byte records.
FULL = [
    Layer(heads=heads, q_len=q, lens=(5000, 2048, 700, q), top_k=2048, workers=8)
    for heads, q in ((128, 1), (64, 2), (16, 1), (8, 2))
]
#: Small ones: every head count, q-lens, lists that are longer and shorter than top-k, ranks, 16-bit caches.
SMALL = [
    *(Layer(heads=h, q_len=q, lens=(200, 70, q), top_k=64, index_heads=16) for h in (128, 64, 16, 8) for q in (1, 2)),
    Layer(heads=12, q_len=3, lens=(200, 2, 64), top_k=63, index_heads=32, kv_format="plain"),
    Layer(heads=16, lens=(200, 70, 1), top_k=65, index_heads=64, workers=7),
    Layer(heads=8, q_len=2, lens=(200, 129), top_k=64, index_heads=8, ranks=3),
    Layer(heads=64, lens=(200, 40), top_k=64, index_heads=8, ranks=2, kv_format="plain"),
]


@pytest.mark.parametrize("layer", SMALL, ids=repr)
def test_a_layer(layer: Layer, device: Device) -> None:
    run = LayerRun(layer)
    run.run(device)
    run.check(device)


@pytest.mark.parametrize("layer", FULL, ids=repr)
def test_a_layer_of_full_size(layer: Layer, device: Device) -> None:
    if device.simulated:
        pytest.skip("it would take minutes")
    run = LayerRun(layer)
    run.run(device)
    run.check(device)


#: One byte that the writers left: of a token's latent, rope part or index key, and of slots that no token has.
CACHE_FAULTS = {
    "latent": ("cache", 300),
    "rope": ("cache", 655),
    "index": ("index_cache", 17),
    "spare": ("cache", 300),
    "index-spare": ("index_cache", 17),
}


@pytest.mark.parametrize("what", [*CACHE_FAULTS, "logits", "positions", "slots", "o", "better", "lse"])
def test_the_check_sees_every_step(what: str) -> None:
    """One wrong number in what a step left."""
    run = LayerRun(SMALL[3])
    run.run(CPU)
    run.check()
    row = 1
    if what in CACHE_FAULTS:
        name, byte = CACHE_FAULTS[what]
        page, at = divmod(int(run.a["slot_mapping"][3]), 64)
        page = 0 if "spare" in what else page
        run.a[name].reshape(len(run.a[name]), -1)[page, at * (656 if name == "cache" else 128) + byte] ^= 0x40
    elif what == "better":  # as good a list, but for one key
        seen = run.layer.seen(row)
        others = np.setdiff1d(np.arange(seen), run.a["positions"][row])
        worst = others[np.argmin(run.a["logits"][row, others])]
        run.a["positions"][row] = np.sort(np.append(run.a["positions"][row][1:], worst))
    elif what in ("o", "lse"):
        array = run.o if what == "o" else run.lse
        array[row, 2] *= np.asarray(1.1, array.dtype)
    else:
        run.a[what][row, 5] += 1
    with pytest.raises(AssertionError):
        run.check()
