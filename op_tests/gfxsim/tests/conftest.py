"""The fixtures of the simulator's own tests."""

from gfxsim.tests.machine_fixtures import arch, clean, planted, sim

__all__ = ["arch", "clean", "planted", "sim"]
