"""The commands of `python -m aiter_c`: demo, bench, env."""
