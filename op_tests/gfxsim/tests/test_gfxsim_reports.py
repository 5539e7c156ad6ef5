"""The checks of a launch: each reports the bug of its kernel in planted.hip, and not the correct twin."""

from __future__ import annotations

import numpy as np
import pytest

from gfxsim import HipError, Module, Simulator
from gfxsim.tests.machine_fixtures import DATA, current_device, expect_report, floats


def test_read_out_of_bounds(sim: Simulator, planted: Module) -> None:
    kernel, out = planted.kernel("shifted_read"), sim.malloc(256)
    data = sim.upload(np.arange(65, dtype=np.float32))
    for shift in (0, 1):
        kernel([data, out, shift], 1, 64)
        np.testing.assert_array_equal(out.read(np.float32), np.arange(64) + shift)
    expect_report(sim, "global bounds", lambda: kernel([data, out, 2], 1, 64), "(260 bytes)", "global_load_dword")
    expect_report(sim, "global bounds", lambda: kernel([data, out, -1], 1, 64), "(260 bytes)", "kernel shifted_read")


def test_write_out_of_bounds(sim: Simulator, planted: Module) -> None:
    kernel, out = planted.kernel("shifted_write"), sim.malloc(256)
    kernel([out, 0], 1, 64)
    expect_report(sim, "global bounds", lambda: kernel([out, 1], 1, 64), "(256 bytes)", "global_store_dword")
    expect_report(sim, "global bounds", lambda: kernel([out, -1], 1, 64))
    expect_report(sim, "global bounds", lambda: kernel([None, 0], 1, 64))


def test_use_after_free(sim: Simulator, planted: Module) -> None:
    kernel, out = planted.kernel("shifted_write"), sim.malloc(256)
    address = out.address
    kernel([address, 0], 1, 64)
    out.free()
    expect_report(sim, "global bounds", lambda: kernel([address, 0], 1, 64), "freed alloc", "(256 bytes)")
    near, large = sim.malloc(256), sim.malloc(1 << 20)
    end = large.address + large.size - 256
    large.free()
    expect_report(sim, "global bounds", lambda: kernel([end, 0], 1, 64), "freed alloc", "(1048576 bytes)")
    near.free()


def test_write_to_read_only(sim: Simulator, planted: Module) -> None:
    module = sim.load(DATA / sim.arch(current_device(sim)) / "clean.co")
    kernel = planted.kernel("shifted_write")
    table, _ = module.variable("table")
    expect_report(sim, "write to read-only", lambda: kernel([table, 0], 1, 64), "constants of vector_add")
    kernel([module.variable("variable")[0], 0], 1, 1)


def test_lds_out_of_bounds(sim: Simulator, planted: Module) -> None:
    kernel, out = planted.kernel("lds_read"), sim.malloc(256)
    kernel([out, 0], 1, 64)
    assert (out.read(np.float32) == 1).all()
    expect_report(sim, "LDS bounds", lambda: kernel([out, 1], 1, 64), "ds_read")


def test_lds_race(sim: Simulator, planted: Module, clean: Module) -> None:
    data, out = sim.upload(floats(256)), sim.malloc(1024)
    clean.kernel("reverse_in_lds")([data, out], 1, 256)
    racy = planted.kernel("reverse_without_barrier")
    expect_report(sim, "LDS race", lambda: racy([data, out], 1, 256), "workgroup (0,0,0)")
    sim.set_option("check_races", 0)
    racy([data, out], 1, 256)


def test_barrier_that_a_wave_does_not_reach(sim: Simulator, planted: Module) -> None:
    kernel, out = planted.kernel("early_exit"), sim.malloc(1024)
    kernel([out, 4], 1, 256)
    expect_report(
        sim, "barrier", lambda: kernel([out, 3], 1, 256), "3 of 4 waves wait", "wave 3 has ended", "s_barrier"
    )
    sim.set_option("check_barriers", 0)  # as the hardware has it: a wave that ended counts as there
    kernel([out, 3], 1, 256)


def test_barriers_at_two_places(sim: Simulator, planted: Module) -> None:
    kernel, out = planted.kernel("two_barriers"), sim.malloc(512)
    kernel([out, 1], 1, 128)  # allowed by the hardware, and in warp-specialised kernels
    sim.set_option("check_barriers", 2)
    kernel([out, 0], 1, 128)
    expect_report(sim, "barrier", lambda: kernel([out, 1], 1, 128), "different barriers")


def test_dependence_on_the_order_of_waves(sim: Simulator, planted: Module) -> None:
    sim.set_option("order_check", 3)
    kernel, out = planted.kernel("arrival"), sim.upload(np.zeros(4, np.uint32))
    count = sim.upload(np.zeros(1, np.uint32))
    kernel([count, out, 1], 1, 256)
    np.testing.assert_array_equal(out.read(np.uint32), np.arange(4))
    assert count.read(np.uint32)[0] == 4  # the reruns began from the same memory
    count.write(np.zeros(1, np.uint32))
    expect_report(sim, "order", lambda: kernel([count, out, 0], 1, 256), "kernel arrival", "(16 bytes) + 0")
    np.testing.assert_array_equal(out.read(np.uint32), np.arange(4), "the result of the first run stays")


def test_result_used_before_its_wait(sim: Simulator, planted: Module) -> None:
    data, out = sim.upload(floats(64)), sim.malloc(256)
    planted.kernel("load_with_wait")([data, out], 1, 64)
    np.testing.assert_array_equal(out.read(np.float32), floats(64) + 1)
    hasty = planted.kernel("load_without_wait")
    expect_report(sim, "missing wait", lambda: hasty([data, out], 1, 64), "v_add_f32")
    sim.set_option("check_waits", 0)
    hasty([data, out], 1, 64)


def test_launches_that_keep_going(sim: Simulator, planted: Module) -> None:
    """Missing waits and races are listed once per instruction, and the results are there; all else ends the launch."""
    data, out = sim.upload(floats(64)), sim.malloc(1024)
    sim.set_option("keep_going", 1)
    assert sim.findings() == []
    hasty = planted.kernel("load_without_wait")
    for _ in range(2):
        hasty([data, out], 4, 64)
    np.testing.assert_array_equal(out.read(np.float32)[:64], floats(64) + 1)
    used, stored = waits = sim.findings()  # of the sum, too: the load may yet write its register
    assert used.kind == stored.kind == "missing wait" and stored.offset > used.offset
    assert f"code+{used.offset:#x}: v_add_f32" in used.text and "global_store_dword" in stored.text
    planted.kernel("reverse_without_barrier")([sim.upload(floats(256)), out], 2, 256)
    races = sim.findings()[2:]
    assert sim.findings()[:2] == waits and races and {race.kind for race in races} == {"LDS race"}
    assert len({race.offset for race in races}) == len(races) and "reverse_without_barrier" in races[0].text
    assert sim.last_report() is None
    expect_report(sim, "global bounds", lambda: planted.kernel("shifted_write")([out, 1000], 1, 64))
    assert sim.findings() == [], "a reset forgets them"
    sim.set_option("keep_going", 0)
    expect_report(sim, "missing wait", lambda: hasty([data, out], 1, 64))
    assert sim.findings() == []


def test_how_long_ago_the_load_was_over(sim: Simulator, planted: Module) -> None:
    """By the clock a sum right behind its load comes too early, by as much as a wait for it would have taken."""
    data, out = sim.upload(floats(64)), sim.malloc(1024)
    hasty = planted.kernel("load_without_wait")
    sim.set_option("keep_going", 1)
    hasty([data, out], 1, 64)
    assert {finding.slack for finding in sim.findings()} == {None}, "not timed"
    sim.reset()
    sim.set_option("clock", 1)
    hasty([data, out], 1, 64)
    used, stored = sim.findings()
    assert used.slack is not None and stored.slack is not None and -1200 < used.slack < stored.slack < -600


def test_launches_keep_going_past_loads_to_lds(sim: Simulator, planted: Module) -> None:
    """A wait behind the barrier, none at all, no barrier: rows of the other wave are read too early."""
    words = 512 if sim.arch(current_device(sim)) == "gfx950" else 128
    rows = np.arange(words, dtype=np.uint32)
    data, out = sim.upload(rows), sim.malloc(4 * words)
    exchange = planted.kernel("exchange_rows")
    sim.set_option("keep_going", 1)
    for fault, kind in enumerate((None, "missing wait", "LDS race", "missing wait", "LDS race")):
        exchange([data, out, fault], 1, 128)
        kinds = {finding.kind for finding in sim.findings()}
        assert kind in kinds if kind else not kinds, (fault, kinds)
        sim.reset()


@pytest.mark.parametrize(("name", "good", "bad"), [("unwritten_register", 1, 0), ("unwritten_lds", 64, 63)])
def test_unwritten_data(sim: Simulator, planted: Module, name: str, good: int, bad: int) -> None:
    kernel, out = planted.kernel(name), sim.malloc(256)
    kernel([out, good], 1, 64)
    assert (out.read(np.float32) == (2 if name == "unwritten_register" else 1)).all()
    expect_report(sim, "uninitialized", lambda: kernel([out, bad], 1, 64))
    sim.set_option("check_uninitialized", 0)
    kernel([out, bad], 1, 64)


def test_endless_loop(sim: Simulator, planted: Module) -> None:
    sim.set_option("timeout", 100_000)
    kernel, out = planted.kernel("spin"), sim.malloc(256)
    flag = sim.upload(np.ones(1, np.uint32))
    kernel([flag, out], 1, 64)
    flag.write(np.zeros(1, np.uint32))
    expect_report(sim, "timeout", lambda: kernel([flag, out], 8, 64), "workgroup (0,0,0)", "no end after")


def test_memory_of_another_device(sim: Simulator, arch: str) -> None:
    first, second = sim.device_of(arch, 0), sim.device_of(arch, 1)
    sim.set_device(second)
    foreign = sim.malloc(256)
    own_kernel = sim.load(DATA / arch / "planted.co").kernel("shifted_write")
    own_kernel([foreign, 0], 1, 64)
    sim.set_device(first)
    kernel = sim.load(DATA / arch / "planted.co").kernel("shifted_write")
    expect_report(sim, "global bounds", lambda: kernel([foreign, 0], 1, 64))


def test_the_report_names_the_first_workgroup(sim: Simulator, clean: Module) -> None:
    """However the threads race: workgroup 5 of 64 is the first to leave the buffer."""
    sim.set_option("threads", 4)
    data = sim.malloc(4 * 256 * 5)
    for _ in range(5):
        expect_report(
            sim, "global bounds", lambda: clean.kernel("reverse_in_lds")([data, data], 64, 256), "workgroup (5,0,0)"
        )


def test_the_report_is_of_the_first_workgroup_not_of_the_fastest(sim: Simulator, planted: Module) -> None:
    sim.set_option("threads", 2)
    kernel, out = planted.kernel("slow_first"), sim.malloc(256)
    kernel([out, 20_000, 0], 2, 64)
    expect_report(sim, "global bounds", lambda: kernel([out, 20_000, 1], 2, 64), "workgroup (0,0,0)")


def test_a_failed_device_leaves_the_others_alone(sim: Simulator, planted: Module, arch: str) -> None:
    kernel, data = planted.kernel("shifted_write"), sim.malloc(256)
    with pytest.raises(HipError):
        kernel([data, 1], 1, 64)
    with pytest.raises(HipError, match="hipErrorContextIsDestroyed"):
        sim.malloc(4)
    data.free()  # what was allocated can still be freed
    sim.set_device(sim.device_of(arch, 1))
    sim.malloc(4).free()
    sim.synchronize()


def test_late_errors(sim: Simulator, planted: Module) -> None:
    sim.set_option("late_errors", 1)
    data = sim.malloc(256)
    planted.kernel("shifted_write")([data, 1], 1, 64)
    with pytest.raises(HipError, match="hipErrorLaunchFailure"):
        sim.synchronize()
    with pytest.raises(HipError, match="hipErrorContextIsDestroyed"):
        sim.synchronize()


def test_failures_need_not_stick(sim: Simulator, planted: Module) -> None:
    sim.set_option("sticky", 0)
    kernel, data = planted.kernel("shifted_write"), sim.malloc(256)
    for late in (0, 1):
        sim.set_option("late_errors", late)
        with pytest.raises(HipError, match="hipErrorLaunchFailure"):
            kernel([data, 1], 1, 64)
            sim.synchronize()
        sim.synchronize()
        kernel([data, 0], 1, 64)
