"""Random machine words of a given opcode: most are instructions, some are not.

Fields are random, weighted towards what means something. What LLVM 22 itself crashes on never comes: two literals, a
literal where the format has no room for one, SDWA selections above 6, other source codes that stand for nothing.
"""

from __future__ import annotations

import random
import re

LITERAL, SDWA, DPP, VGPR = 255, 249, 250, 256
LITERALS = (0x3F800000, 0xBF800000, 0x3E22F983, 0x3FF00000, 0x40100000, 0x3C00, 0xBC00, 0x3118, 0x3F80, 0x3E22)
SOURCES = (*range(0, 125), *range(126, 209), 235, 236, 237, 238, 239, *range(240, 249), 251, 252, 253)
V_READLANE, V_WRITELANE, LD_SCALE, F8F6F4 = 0x289, 0x28A, 0x2C, (0x2D, 0x2E)


class Encoder:
    def __init__(self, rng: random.Random) -> None:
        self.rng = rng

    def bits(self, count: int) -> int:
        return self.rng.getrandbits(count)

    def pick(self, *values: int) -> int:
        return self.rng.choice(values)

    def maybe(self, value: int, probability: float = 0.25) -> int:
        return value if self.rng.random() < probability else 0

    def scalar(self, literal: bool = False) -> int:
        """An 8-bit source: registers (pairs and quads often enough), constants."""
        even, quad = 2 * self.rng.randrange(51), 4 * self.rng.randrange(25)
        code = self.pick(even, quad, 106, 124, 126, 108, 112, 253, 128 + self.bits(6), 240 + self.bits(3), 248)
        code = self.pick(code, code, self.rng.choice(SOURCES))
        return LITERAL if literal and self.rng.random() < 0.1 else code

    def vgpr(self) -> int:
        return self.pick(self.bits(8), 2 * self.bits(7), 4 * self.bits(6), 4 * self.bits(5))

    def source(self, literal: bool = False) -> int:
        """A 9-bit source."""
        return self.pick(VGPR + self.vgpr(), VGPR + self.vgpr(), VGPR + self.vgpr(), self.scalar(literal))

    def literal(self) -> int:
        return self.pick(self.bits(32), self.bits(16), self.rng.randrange(-20, 70) & 0xFFFFFFFF, *LITERALS)

    # ---- one function per format ----

    def sop1(self, opcode: int) -> list[int]:
        return [0xBE800000 | self.maybe(self.bits(7), 0.8) << 16 | opcode << 8 | self.scalar(True), self.literal()]

    def sop2(self, opcode: int) -> list[int]:
        return [
            0x80000000 | opcode << 23 | self.bits(7) << 16 | self.scalar() << 8 | self.scalar(True),
            self.literal(),
        ]

    def sopk(self, opcode: int) -> list[int]:
        immediate = self.pick(self.bits(16), self.bits(5), self.bits(6) | 0xF800)
        return [0xB0000000 | opcode << 23 | self.bits(7) << 16 | immediate, self.literal()]

    def sopc(self, opcode: int) -> list[int]:
        second = self.pick(self.scalar(), self.bits(4))
        return [0xBF000000 | opcode << 16 | second << 8 | self.scalar(True), self.literal()]

    def sopp(self, opcode: int) -> list[int]:
        immediate = self.pick(self.bits(16), self.bits(4), self.bits(6), self.bits(10), 0, -self.bits(5) & 0xFFFF)
        return [0xBF800000 | opcode << 16 | immediate]

    def smem(self, opcode: int) -> list[int]:
        control = self.pick(1 << 17, 3 << 16, 1 << 14, 1 << 17 | 1 << 14, 0, self.bits(4) << 14)
        offset = self.pick(self.bits(21), self.bits(8), self.bits(32), 0)
        register = self.pick(2 * self.rng.randrange(51), 106, 124)
        data = self.pick(4 * self.bits(4), 2 * self.rng.randrange(51), self.bits(7))
        if not control & 3 << 16 and not control & 1 << 14:
            offset = register
        elif control & 1 << 14:
            offset = (offset & 0x1FFFFF) | register << 25
        return [0xC0000000 | opcode << 18 | data << 6 | self.bits(6) | control, offset]

    def sdwa(self, compare: bool, two_sources: bool) -> int:
        def selection() -> int:
            return self.pick(6, self.rng.randrange(7))

        if compare:
            middle = self.pick(0, 1 << 7 | 2 * self.rng.randrange(51), 1 << 7 | 106)
        else:
            middle = selection() | self.pick(0, 0, 1, 2) << 3 | self.maybe(1 << 5) | self.maybe(self.bits(2) << 6)
        word = self.bits(8) & 0x7F | middle << 8
        word |= (selection() | self.maybe(self.bits(3) << 3) | self.maybe(1 << 7)) << 16
        if two_sources:
            word |= (selection() | self.maybe(self.bits(3) << 3)) << 24
        return word

    def dpp(self) -> int:
        control = self.pick(
            self.bits(8), 0x100 + self.bits(6), 0x130 + self.bits(4), 0x140 + self.bits(2), 0x150 + self.bits(4)
        )
        masks = self.pick(0xFF, self.bits(8))
        bound = self.maybe(1 << 19, 0.5)
        return self.vgpr() | control << 8 | bound | self.maybe(self.bits(4) << 20) | masks << 24

    def vop12c(self, layout: str, opcode: int, name: str) -> list[int]:
        if self.rng.random() < 0.4:
            return self.vop3({"VOP1": 0x140, "VOP2": 0x100, "VOPC": 0}[layout] + opcode)
        source = self.pick(self.source(True), self.source(True), SDWA, DPP)
        extra = self.literal()
        if source == SDWA:
            extra = self.sdwa(layout == "VOPC", layout != "VOP1")
        elif source == DPP:
            extra = self.dpp()
        elif re.search(r"[fiub]16$", name) and not re.search("dot2|pk_", name):
            extra &= 0xFFFF  # what a literal for 16 bits may be
        dst, second = self.vgpr(), self.vgpr()
        if name in ("v_nop", "v_clrexcp"):
            dst = 0
        if layout == "VOP1":
            return [0x7E000000 | opcode << 9 | self.maybe(dst, 0.9) << 17 | source, extra]
        if layout == "VOP2":
            return [opcode << 25 | dst << 17 | second << 9 | source, extra]
        return [0x7C000000 | opcode << 17 | second << 9 | source, extra]

    def vop3(self, opcode: int) -> list[int]:
        scalar_result = opcode < 0x100 or opcode == V_READLANE
        dst = self.pick(2 * self.rng.randrange(51), 106, 126, self.bits(6)) if scalar_result else self.vgpr()
        middle = self.pick(
            0,
            self.maybe(self.bits(3)) | self.maybe(self.bits(4) << 3) | self.maybe(1 << 7),
            2 * self.rng.randrange(51),  # sdst
        )
        first = self.scalar if opcode == V_WRITELANE else self.source
        second = self.scalar() if opcode in (V_READLANE, V_WRITELANE) else self.source()
        second = second << 9 | self.maybe(self.source(), 0.6) << 18
        signs = self.maybe(self.bits(2) << 27) | self.maybe(self.bits(3) << 29)
        return [0xD0000000 | opcode << 16 | dst | middle << 8, first() | self.maybe(second, 0.8) | signs]

    def vop3p(self, opcode: int) -> list[int]:
        first = self.vgpr() | self.maybe(self.bits(3)) << 8 | self.maybe(self.bits(3)) << 11
        first |= self.pick(0, 1 << 14) | self.maybe(1 << 15)
        if opcode == LD_SCALE:
            first &= ~0x80FF
        second = self.source() | self.source() << 9 | self.maybe(self.source(), 0.6) << 18
        second |= self.pick(3, self.bits(2)) << 27 | self.maybe(self.bits(3)) << 29
        return [0xD3800000 | opcode << 16 | self.maybe(first, 0.95), second]

    def mfma(self, opcode: int) -> list[int]:
        def register() -> int:
            return VGPR + self.vgpr()

        accumulator = self.pick(register(), register(), 128 + self.bits(6), 240 + self.bits(3))
        if opcode in F8F6F4:
            accumulator = register()
        dst = 4 * self.bits(6)
        control = self.maybe(self.bits(3) << 8) | self.maybe(self.bits(4) << 11) | self.maybe(1 << 15)
        sources = register() | register() << 9 | accumulator << 18
        words = [
            0xD3800000 | opcode << 16 | dst | control,
            sources | self.maybe(self.bits(2) << 27) | self.maybe(self.bits(3) << 29),
        ]
        if opcode in F8F6F4 and self.rng.random() < 0.6:
            words[0] = words[0] & ~(15 << 11) | 1 << 11
            scale = self.source() | self.source() << 9 | self.bits(2) << 27
            return [0xD3800000 | LD_SCALE << 16 | self.maybe(self.bits(2) << 11) | self.maybe(1 << 14), scale, *words]
        return words

    def ds(self, opcode: int) -> list[int]:
        present = self.pick(self.bits(4), 0b1000, 0b1001, 0b0010, 0b0011, 0b0111, 0b1011, 0b1111)  # vdst to address
        registers = [(present >> i & 1) * self.vgpr() << 8 * i for i in range(4)]
        return [0xD8000000 | opcode << 17 | self.maybe(self.bits(16), 0.7) | self.maybe(1 << 25), sum(registers)]

    def flat(self, segment: int, opcode: int) -> list[int]:
        offset = self.maybe(self.bits(13 if segment else 12))
        policy = self.maybe(1 << 16, 0.4) | self.maybe(1 << 17) | self.maybe(1 << 25)
        vector = self.maybe(1 << 13, 0.5 if segment == 1 else 0.05)
        base = self.pick(127, 127, 0, 2 * self.rng.randrange(51), self.bits(7))
        if segment == 0:
            base = self.pick(0, 0, 0, base)
        data, dst = self.pick(0, self.vgpr()), self.pick(0, self.vgpr())
        return [
            0xDC000000 | opcode << 18 | segment << 14 | offset | policy | vector,
            self.pick(0, self.vgpr()) | data << 8 | base << 16 | self.maybe(1 << 23) | dst << 24,
        ]

    def mubuf(self, opcode: int) -> list[int]:
        first = self.maybe(self.bits(12)) | self.maybe(self.bits(2) << 12, 0.7) | self.maybe(self.bits(2) << 14)
        resource = self.pick(self.rng.randrange(25), self.rng.randrange(25), 27, 28, 29, 30)
        second = self.vgpr() | self.pick(0, self.vgpr()) << 8 | resource << 16 | self.maybe(1 << 23)
        return [
            0xE0000000 | opcode << 18 | first | self.maybe(1 << 16) | self.maybe(1 << 17),
            second | self.scalar() << 24,
        ]

    def encode(self, layout: str, opcode: int, name: str) -> list[int]:
        if layout in ("VOP1", "VOP2", "VOPC"):
            return self.vop12c(layout, opcode, name)
        if layout in ("FLAT", "SCRATCH", "GLOBAL"):
            return self.flat(("FLAT", "SCRATCH", "GLOBAL").index(layout), opcode)
        return getattr(self, layout.lower())(opcode)
