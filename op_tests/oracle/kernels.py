"""Every persistent MLA decode kernel of the wheel: what it takes, and what is wrong with it."""

from __future__ import annotations

from dataclasses import dataclass, field

from oracle import code_objects

ARCHS = ("gfx942", "gfx950")
FP8 = {"gfx942": "float8_e4m3fnuz", "gfx950": "float8_e4m3fn"}

#: Hazards: (what the simulator reports, the instruction) -> how many of them, in the call every_way of cases.py.
Hazards = dict[tuple[str, str], int]

#: Page indices are used a turn of the loop after their load, in the first turn without a wait for it.
PAGE_INDICES: Hazards = {("missing wait", "v_mul_u32_u24_dpp"): 4}
#: The same; and keys are loaded to LDS where a read is under way, as a barrier does not wait for it.
PAGE_INDICES_READS_BEHIND_BARRIER: Hazards = PAGE_INDICES | {("missing wait", "buffer_load_dword"): 12}
#: V comes from LDS into the matrix instructions of two of the loop's four parts without a wait. What a wave wrote to
#: LDS is read by another behind a barrier, in front of which nobody waited for the write.
V_FROM_LDS: Hazards = {
    ("missing wait", "v_mfma_f32_16x16x16_bf16"): 44,
    ("missing wait", "ds_read_b64"): 6,
    ("missing wait", "ds_read_b128"): 12,
}
#: The next keys are written to LDS over the probabilities, which another wave may not have read. Writes are read by
#: another wave behind a barrier, in front of which nobody waited for them.
KEYS_OVER_P: Hazards = {("LDS race", "ds_write_b32"): 16, ("missing wait", "ds_read_b128"): 16}
#: The same; a wave's part of q, loaded to LDS in lengths of 256 bytes, overlaps the next wave's; the sums of a split
#: item go where another wave has put its maxima.
KEYS_OVER_P_Q_OVERLAPS: Hazards = {
    ("LDS race", "ds_write_b32"): 17,
    ("LDS race", "buffer_load_dword"): 1,
    ("missing wait", "buffer_load_dword"): 1,
    ("missing wait", "ds_read_b128"): 16,
}
#: The scales are loaded and used without a wait. The next keys, and the transposed values, are written to LDS where
#: other waves may not have read q, keys and values; some of it where a read is under way, as a barrier does not wait
#: for it. Keys are read from LDS, without a wait in the last turn.
EVERYWHERE: Hazards = {
    ("missing wait", "v_mov_b32_e32"): 1,
    ("missing wait", "v_mul_f32_e32"): 1,
    ("missing wait", "v_mfma_f32_16x16x32_fp8_fp8"): 36,
    ("LDS race", "buffer_load_dword"): 56,
    ("missing wait", "buffer_load_dword"): 52,
    ("LDS race", "ds_write_b128"): 8,
}


@dataclass(frozen=True)
class Kernel:
    """A code object with one kernel.

    q_dtype, kv_dtype: "fp8" is the architecture's. q_lens: the longest query length that it may be launched for.
    """

    arch: str
    id: str
    name: str
    q_dtype: str
    kv_dtype: str
    heads: int
    q_lens: tuple[int, ...]
    hazards: Hazards = field(hash=False)
    whole_tiles: bool = False  # it writes its full number of rows, however many an item has
    scales_values: bool = True  # False: kv_scale is left out of the output
    counts_tokens: bool = False  # kv_begin and kv_end of an item are tokens where a page has several; up to 32 may be
    later: bool = False  # of commit code_objects.LATER: more arguments, and `tile_rows` are heads

    @property
    def dtypes(self) -> tuple[str, str]:
        """Of q and the cache."""
        q, kv = (FP8[self.arch] if dtype == "fp8" else dtype for dtype in (self.q_dtype, self.kv_dtype))
        return q, kv

    @property
    def code(self) -> bytes:
        """The code object."""
        return (code_objects.read_later if self.later else code_objects.read)(self.arch, self.name)


def _of(arch: str) -> tuple[Kernel, ...]:
    bf16, mixed, fp8 = ("bfloat16", "bfloat16"), ("bfloat16", "fp8"), ("fp8", "fp8")
    one_group, all_heads = "mla_a8w8_qh16_qseqlen{}_gqaratio16_ps{}", "mla_a8w8_qh128_m32x4_n16x2_{}_ps"
    two, four, paged = {"whole_tiles": True}, {"scales_values": False}, {"counts_tokens": True}
    make = lambda id, name, dtypes, *rest, **flags: Kernel(arch, id, name, *dtypes, *rest, **flags)  # noqa: E731
    any_q = (1, 2, 3, 4)
    out = [
        make("a16w16", "mla_a16w16_qh16_m16x4_n16x1_coex0_mask1_ps", bf16, 16, any_q, PAGE_INDICES),
        make("a16w8", "mla_a16w8_qh16_m16x4_n16x1_coex0_mask1_ps", mixed, 16, any_q, V_FROM_LDS),
        make("a8w8_q1", one_group.format(1, ""), fp8, 16, (1,), KEYS_OVER_P),
        make("a8w8_q2", one_group.format(2, ""), fp8, 16, (2,), KEYS_OVER_P_Q_OVERLAPS, **two),
        make("a8w8_q4", one_group.format(4, ""), fp8, 16, (3, 4), EVERYWHERE, **four),
        make("a8w8_h128", all_heads.format("msk0"), fp8, 128, (1, 2, 4), PAGE_INDICES_READS_BEHIND_BARRIER),
    ]
    if arch == "gfx950":
        out += [
            make("a8w8_h128_msk1", all_heads.format("msk1"), fp8, 128, (1, 2, 4), PAGE_INDICES_READS_BEHIND_BARRIER),
            make("a8w8_q2_page", one_group.format(2, "_page"), fp8, 16, (2,), KEYS_OVER_P_Q_OVERLAPS, **two, **paged),
            make("a8w8_q4_page", one_group.format(4, "_page"), fp8, 16, (3, 4), EVERYWHERE, **four, **paged),
        ]
    return tuple(out)


KERNELS = tuple(kernel for arch in ARCHS for kernel in _of(arch))

#: (architecture, name) of persistent kernels of the wheel that no list of ours can drive -> why.
NOT_DRIVEN: dict[tuple[str, str], str] = {}

#: Kernels of code_objects.LATER for 32 heads, which no wheel has. A kernel of 64 heads and one query row, or of 32 and
#: four, serves all shapes that fill fewer of its rows.
LATER = tuple(
    Kernel("gfx950", id, name, dtype, dtype, heads, q_lens, {}, later=True)
    for id, name, dtype, heads, q_lens in (
        ("a16w16_h32", "mla_a16w16_qh64_qseqlen1_gqaratio64_v3_ps", "bfloat16", 32, (1,)),
        ("a8w8_h32", "mla_a8w8_qh32_qseqlen1_gqaratio32_ps", "fp8", 32, (1,)),
        ("a16w16_h32_q4", "mla_a16w16_qh32_qseqlen4_gqaratio32_ps", "bfloat16", 32, (4,)),
        ("a8w8_h32_q4", "mla_a8w8_qh32_qseqlen4_gqaratio32_ps", "fp8", 32, (4,)),
        ("a16w16_h64", "mla_a16w16_qh64_qseqlen1_gqaratio64_v3_ps", "bfloat16", 64, (1,)),
    )
)


def _every(arch: str, *rows: tuple[str, int, int]) -> tuple[Kernel, ...]:
    """(name behind "mla_", heads, query rows)."""
    q_dtype = lambda name: "bfloat16" if "a16" in name else "fp8"  # noqa: E731
    kv_dtype = lambda name: "bfloat16" if "w16" in name else "fp8"  # noqa: E731
    return tuple(
        Kernel(
            arch, name, f"mla_{name}", q_dtype(name), kv_dtype(name), heads, (q_len,), {},
            counts_tokens=name.endswith("_page"), later=True,
        )
        for name, heads, q_len in rows
    )  # fmt: skip


_BOTH = (
    ("a16w16_qh16_m16x4_n16x1_coex0_mask1_ps", 16, 4),
    ("a16w8_qh16_m16x4_n16x1_coex0_mask1_ps", 16, 4),
    ("a8w8_qh16_qseqlen1_gqaratio16_ps", 16, 1),
    ("a8w8_qh16_qseqlen2_gqaratio16_ps", 16, 2),
    ("a8w8_qh16_qseqlen4_gqaratio16_ps", 16, 4),
)
#: The persistent decode kernels of that commit that take no more arguments than these (an LSE of final rows, context
#: parallelism), with what they were made for. Which of their hazards bite: bites.py.
LATER_PERSISTENT = (
    *_every(
        "gfx942",
        *_BOTH,
        ("a8w8_qh128_m32x4_n16x2_msk0_ps", 128, 1),
        ("a8w8_qh64_qseqlen1_gqaratio64_v3_ps", 64, 1),
        ("a8w8_qh64_qseqlen4_gqaratio16_ps", 16, 4),
        ("dec_stage1_bf16_a16w16_subQ16_mqa16_ps", 16, 4),
    ),
    *_every(
        "gfx950",
        *_BOTH,
        ("a16w16_qh16_qseqlen4_gqaratio16_ps", 16, 4),
        ("a16w16_qh32_qseqlen4_gqaratio32_ps", 32, 4),
        ("a16w16_qh32_qseqlen4_gqaratio32_msk0_ps", 32, 4),
        ("a16w16_qh64_qseqlen1_gqaratio64_v3_ps", 64, 1),
        ("a16w16_qh64_qseqlen1_gqaratio64_msk0_v3_ps", 64, 1),
        ("a8w8_qh16_qseqlen1_gqaratio16_msk0_ps", 16, 1),
        ("a8w8_qh16_qseqlen2_gqaratio16_ps_page", 16, 2),
        ("a8w8_qh16_qseqlen4_gqaratio16_ps_page", 16, 4),
        ("a8w8_qh16_qseqlen4_gqaratio16_msk0_ps", 16, 4),
        ("a8w8_qh16_qseqlen4_gqaratio16_v3_ps", 16, 4),
        ("a8w8_qh16_qseqlen4_gqaratio16_msk0_v3_ps", 16, 4),
        ("a8w8_qh32_qseqlen1_gqaratio32_ps", 32, 1),
        ("a8w8_qh32_qseqlen4_gqaratio32_ps", 32, 4),
        ("a8w8_qh32_qseqlen4_gqaratio32_msk0_ps", 32, 4),
        ("a8w8_qh32_qseqlen4_gqaratio8_ps", 8, 4),
        ("a8w8_qh32_qseqlen4_gqaratio8_msk0_ps", 8, 4),
    ),
)
