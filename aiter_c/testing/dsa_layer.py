"""A whole layer of sparse attention (DSA): cache writes, indexer's logits, top-k, conversion to slots, plan, sparse
decode, and over ranks the merge. The steps are calls, so that a test runs them on any device and a bench times them one
by one; the result is held against fp64, over the keys that were selected.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from aiter_c import get_mla_metadata_info_v1

from .compare import Expected, check_outputs
from .device import CPU, Device
from .memory import dtype_of
from .ops.attention import attend
from .ops.cache import GROUP, LATENT, RECORD_BYTES, read_rows, to_float64
from .ops.mla_decode import MlaCase, p_dtype_of
from .ops.mqa_logits import DIM, SM90_FP8_ROUNDINGS, logits_reference
from .tolerance import LSE, OUTPUT, dot_product_bound

PAGE = 64
_FN = dtype_of("float8_e4m3fn")
_LISTS = ("work_meta_data", "work_indptr", "work_info_set", "reduce_indptr", "reduce_final_map", "reduce_partial_map")
Step = tuple[str, str, dict[str, object]]  # what it is for, the op, its arguments


@dataclass(frozen=True)
class Layer:
    """B = len(lens) requests that decode q_len tokens each; lens count them. The caches get all tokens of all requests.
    ranks: over which the pages are dealt."""

    heads: int = 128
    q_len: int = 1
    lens: tuple[int, ...] = (300, 70)
    top_k: int = 64
    index_heads: int = 64
    kv_format: str = "fp8_ds_mla"
    ranks: int = 1
    workers: int = 4
    seed: int = 0

    @property
    def rows(self) -> int:
        """T."""
        return len(self.lens) * self.q_len

    def seen(self, row: int) -> int:
        """Keys that a query row sees: those up to its own token."""
        return max(0, self.lens[row // self.q_len] - self.q_len + row % self.q_len + 1)


@dataclass
class LayerRun:
    """The tensors of a layer. The steps write both caches, logits, positions, slots, o and LSE by rank, o and lse."""

    layer: Layer
    a: dict[str, np.ndarray] = field(default_factory=dict)
    lists: dict[str, np.ndarray] = field(default_factory=dict)
    states: list[tuple[np.ndarray, np.ndarray]] = field(default_factory=list)
    o: np.ndarray | None = None
    lse: np.ndarray | None = None

    def __post_init__(self) -> None:
        layer, rng = self.layer, np.random.default_rng([self.layer.seed, self.layer.heads, *self.layer.lens])
        rows, longest = layer.rows, max((1, *layer.lens))
        counts = [-(-length // PAGE) for length in layer.lens]
        pages = 2 + sum(counts)
        table = np.full((len(layer.lens), max((1, *counts))), -1, np.int32)
        order, first = rng.permutation(pages - 1) + 1, np.cumsum([0, *counts])
        for b, (begin, end) in enumerate(pairwise(first)):
            table[b, : end - begin] = order[begin:end]
        normal = lambda *shape: rng.standard_normal(shape).astype(np.float32)  # noqa: E731
        self.a = {
            "index_q": normal(len(layer.lens), layer.q_len, layer.index_heads, DIM).astype(_FN),
            "weights": normal(rows, layer.index_heads),
            "q": normal(rows, layer.heads, 576).astype(dtype_of("bfloat16")),
            "lens": np.array(layer.lens, np.int32),
            "table": table,
            "request": np.repeat(np.arange(len(layer.lens), dtype=np.int32), layer.q_len),
            "qo_indptr": np.arange(len(layer.lens) + 1, dtype=np.int32) * layer.q_len,
            "kv_indptr": np.cumsum([0, *layer.lens]).astype(np.int32),
            "logits": np.full((rows, longest), np.nan, np.float32),
            "positions": np.full((rows, layer.top_k), 2**31 - 1, np.int32),
            "slots": np.full((rows, layer.top_k), 2**31 - 1, np.int32),
        }
        tokens = [(b, at) for b, length in enumerate(layer.lens) for at in range(length)]
        self.a["slot_mapping"] = np.array([table[b, at // PAGE] * PAGE + at % PAGE for b, at in tokens], np.int64)
        for name, width in (("index_k", DIM), ("kv_c", LATENT), ("k_pe", 64)):
            self.a[name] = normal(len(tokens), width).astype(dtype_of("bfloat16"))
        self._make_caches(pages)
        self._make_lists()

    def _make_caches(self, pages: int) -> None:
        """Index keys (128 fp8 and a scale each), latents and rope parts in records or bfloat16; all NaN."""
        self.a["index_cache"] = np.full((pages, PAGE, 1, DIM + 4), 0x7F, np.uint8)
        if self.layer.kv_format == "plain":
            self.a["cache"] = np.full((pages, PAGE, 1, 576), np.nan, dtype_of("bfloat16"))
        else:
            self.a["cache"] = np.full((pages, PAGE, RECORD_BYTES), 0xFF, np.uint8)

    def _make_lists(self) -> None:
        layer = self.layer
        info = get_mla_metadata_info_v1(
            len(layer.lens), layer.q_len, layer.heads, "bfloat16", "bfloat16", True, num_workers=layer.workers
        )
        dtypes = (np.uint64, *[np.int32] * 5)
        for name, dtype, (size, _) in zip(_LISTS, dtypes, info, strict=True):
            self.lists[name] = np.full(size, 0x7BADBADB, dtype)

    def writes(self, *, new_only: bool = False) -> list[Step]:
        """The keys of all tokens, or only of those that the requests decode."""
        a, layer = self.a, self.layer
        ends = np.cumsum([0, *layer.lens])
        new = [np.arange(max(begin, end - layer.q_len), end) for begin, end in pairwise(ends)]
        kept = np.concatenate(new) if new_only else np.arange(ends[-1])
        return [
            ("write", "indexer_k_quant_and_cache", {
                "k": a["index_k"][kept], "kv_cache": a["index_cache"],
                "slot_mapping": a["slot_mapping"][kept], "quant_block_size": DIM, "scale_fmt": "ue8m0",
                "kv_dtype": "float8_e4m3fn"}),
            ("write", "concat_and_cache_mla", {
                "kv_c": a["kv_c"][kept], "k_pe": a["k_pe"][kept], "kv_cache": a["cache"],
                "slot_mapping": a["slot_mapping"][kept],
                "kv_cache_dtype": "auto" if layer.kv_format == "plain" else layer.kv_format, "scale": None}),
        ]  # fmt: skip

    def steps(self) -> list[Step]:
        """What follows, up to the lists of one device."""
        layer, a, lists = self.layer, self.a, self.lists
        strides = {"stride0": a["logits"].shape[1], "stride1": 1}
        return [
            ("logits", "deepgemm_fp8_paged_mqa_logits", {
                "q_fp8": a["index_q"], "kv_cache": a["index_cache"], "weights": a["weights"], "out_logits": a["logits"],
                "context_lens": a["lens"], "kv_indices": a["table"], "max_model_len": a["logits"].shape[1],
                "KVBlockSize": PAGE, "clean_logits": False, "kv_dtype": "float8_e4m3fn"}),
            ("top-k", "top_k_per_row_decode", {
                "logits": a["logits"], "next_n": layer.q_len, "seqLens": a["lens"], "indices": a["positions"],
                "numRows": layer.rows, "k": layer.top_k} | strides),
            ("slots", "convert_req_index_to_global_index", {
                "req_id": a["request"], "block_table": a["table"], "token_indices": a["positions"], "BLOCK_SIZE": PAGE,
                "NUM_TOPK_TOKENS": layer.top_k, "out": a["slots"]}),
            ("plan", "get_mla_metadata_v1", {
                "seqlens_qo_indptr": a["qo_indptr"], "seqlens_kv_indptr": a["kv_indptr"], "kv_last_page_lens": None,
                "num_heads_per_head_k": layer.heads, "num_heads_k": 1, "is_causal": False,
                "work_metadata_ptrs": lists["work_meta_data"], "max_seqlen_qo": 1, "uni_seqlen_qo": layer.q_len,
                "topk": layer.top_k} | {name: lists[name] for name in _LISTS[1:]}),
        ]  # fmt: skip

    def decode(self, rank: int = 0) -> Step:
        """Over the slots of a rank's pages, by lists; o is new."""
        slots = self.a["slots"]
        if self.layer.ranks > 1:  # what the rank does not have is masked
            slots = np.where(slots // PAGE % self.layer.ranks == rank, slots, -1).astype(np.int32)
        o = np.full((self.layer.rows, self.layer.heads, 512), np.nan, self.a["q"].dtype)
        return ("decode", "mla_decode_fwd", {
            "q": self.a["q"], "kv_buffer": self.a["cache"], "o": o, "qo_indptr": self.a["qo_indptr"],
            "kv_indptr": self.a["kv_indptr"], "kv_indices": slots.reshape(-1), "kv_last_page_lens": None,
            "max_seqlen_q": 1, "page_size": PAGE, "slots": True, "return_lse": True} | self.lists)  # fmt: skip

    def run(self, device: Device = CPU) -> None:
        """All steps, one after the other."""
        for _, op, arguments in [*self.writes(), *self.steps()]:
            device.call(op, **arguments)
        for rank in range(self.layer.ranks):
            _, op, arguments = self.decode(rank)
            lse = device.call(op, **arguments)[1]
            self.states.append((arguments["o"], lse))
        self.o, self.lse = self.states[0]
        if self.layer.ranks > 1:
            o, lse = zip(*self.states, strict=True)
            self.o, self.lse = device.call("merge_states", list(o), list(lse))

    def check(self, device: Device = CPU) -> float:
        """Raises AssertionError where a step is wrong; returns how far o is from fp64 at most."""
        self._check_caches()
        pairs = (self.layer.rows, self.layer.heads)
        o, lse = np.zeros((*pairs, 512)), np.full(pairs, -np.inf)
        allowance = np.zeros_like(o)
        p_dtype = self._p_dtype(device)
        for row in range(self.layer.rows):
            slots = self._check_selection(row, device)
            keys = read_rows(self.a["cache"], self.layer.kv_format, PAGE, slots)
            result = attend(to_float64(self.a["q"][row]), keys, 576**-0.5, 1.0, p_dtype=p_dtype)
            o[row], lse[row], allowance[row] = result.o, result.lse, result.rounding
        if self.layer.ranks > 1:  # a rank's o is rounded before it is merged
            allowance += 2.0**-8 * np.max([np.abs(state[0].astype(np.float64)) for state in self.states], 0)
        expected = {"o": Expected(o, OUTPUT, exact=np.isneginf(lse), allowance=allowance), "lse": Expected(lse, LSE)}
        check_outputs({"o": self.o, "lse": self.lse}, expected, repr(self.layer))
        return float(np.abs(self.o.astype(np.float64) - o).max(initial=0))

    def _check_caches(self) -> None:
        """Every token's row is in its slot, to the rounding of the format, and the other slots are what they were."""
        a, slots = self.a, self.a["slot_mapping"]
        latents, ropes = to_float64(a["kv_c"]), to_float64(a["k_pe"])
        rows = read_rows(a["cache"], self.layer.kv_format, PAGE, slots)
        index_rows = self._index_keys(slots)
        wanted = [
            ("a latent", rows[:, :LATENT].reshape(-1, GROUP), latents.reshape(-1, GROUP)),
            ("a rope part", rows[:, LATENT:], ropes),
            ("an index key", index_rows[0].astype(np.float64) * index_rows[1][:, None], to_float64(a["index_k"])),
        ]
        for what, got, want in wanted:  # half a step of fp8, and what is too small for it
            bound = 2.0**-4 * np.abs(want) + 2.0**-9 * np.abs(want).max(1, keepdims=True)
            if not (np.abs(got - want) <= (0 if what == "a rope part" else bound)).all():
                raise AssertionError(f"{what} is not in its slot: {self.layer!r}")
        others = np.setdiff1d(np.arange(a["index_cache"].shape[0] * PAGE), slots)
        left = a["cache"].reshape(a["cache"].shape[0] * PAGE, -1)[others]
        if not np.isnan(to_float64(left) if self.layer.kv_format == "plain" else to_float64(left.view(_FN))).all():
            raise AssertionError(f"a slot of no token was written: {self.layer!r}")
        if not np.isnan(self._index_keys(others)[0].astype(np.float32)).all():
            raise AssertionError(f"an index slot of no token was written: {self.layer!r}")

    def _index_keys(self, slots: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Keys [n, 128] fp8 and scales [n] of the index cache."""
        pages = self.a["index_cache"].reshape(len(self.a["index_cache"]), -1)
        keys = pages[:, : PAGE * DIM].reshape(-1, DIM)[slots].view(_FN)
        return keys, pages[:, PAGE * DIM :].copy().view(np.float32).reshape(-1)[slots]

    def _p_dtype(self, device: Device) -> str:
        layer = self.layer
        kind = {"kv_dtype": "float8_e4m3fn"} if layer.kv_format != "plain" else {}
        rows = {"q_lens": (1,) * layer.rows, "kv_lens": (layer.top_k,) * layer.rows}
        return p_dtype_of(
            MlaCase(heads=layer.heads, kv_format=layer.kv_format, workers=layer.workers, **kind, **rows), device
        )

    def _check_selection(self, row: int, device: Device) -> np.ndarray:
        """The logits are those of fp64 but for rounding, and so are the best of them; the slots are those of the table.
        Returns the selected slots."""
        layer, a = self.layer, self.a
        seen, request = layer.seen(row), row // layer.q_len
        at = np.arange(seen)
        slots = a["table"][request, at // PAGE].astype(np.int64) * PAGE + at % PAGE
        keys, scales = self._index_keys(slots)
        index_q = a["index_q"].reshape(layer.rows, layer.index_heads, DIM)[row]
        want, sizes = logits_reference(index_q, keys, scales, a["weights"][row])
        roundings = SM90_FP8_ROUNDINGS if device.name == "cuda" else 8.0
        bound = dot_product_bound(roundings * sizes) + 2.0**-22 * np.abs(want)
        if not (np.abs(a["logits"][row, :seen] - want) <= bound).all():
            raise AssertionError(f"row {row}: logits are not those of fp64: {layer!r}")
        positions = a["positions"][row]
        count = min(layer.top_k, seen)
        chosen = positions[:count]
        valid = ((chosen >= 0) & (chosen < seen)).all() and (np.diff(chosen) > 0).all()
        if not valid or (positions[count:] != -1).any():
            raise AssertionError(f"row {row}: expected {count} positions in order and then -1: {layer!r}")
        left = np.setdiff1d(at, chosen)
        if left.size and count and (want - bound)[left].max() > (want + bound)[chosen].min():
            raise AssertionError(f"row {row}: a better key was not selected: {layer!r}")
        if not np.array_equal(a["slots"][row], np.append(slots[chosen], np.full(layer.top_k - count, -1))):
            raise AssertionError(f"row {row}: slots are not those of the table: {layer!r}")
        return slots[chosen]
