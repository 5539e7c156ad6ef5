"""The options of op_tests. They stand here because `pytest --device cpu` at the root takes "cpu" for a path at first,
and then looks for options in this file alone."""

from devices import add_options as pytest_addoption

__all__ = ["pytest_addoption"]
