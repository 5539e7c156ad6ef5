"""The cases of every op, a module or two each; attention.py and cache.py are what the attention ops share. A new module
is found by itself: it defines a `Case`."""
