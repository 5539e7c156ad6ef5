"""Other packages' modules, as far as this process has imported them: this package imports none on its own.

sys.modules may hold more than finished modules: one that another thread is in the middle of importing, an empty folder
of that name, a stub. An object's own type says whose it is, and then its module is there.
"""

import sys


def home_of(kind, type_name):
    """The module of the type "torch.Tensor" where `kind` is that type or inherits from it, else None."""
    module, _, name = type_name.rpartition(".")
    if any(base.__name__ == name and base.__module__ == module for base in kind.__mro__):
        return sys.modules.get(module)
    return None


def is_installed(name):
    """Whether importing `name` would find code: not an empty folder of that name, nor a stub without a spec."""
    import importlib.util

    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return False
    return spec is not None and spec.origin is not None
