"""What engines load by their entry points (pyproject.toml): attention backends of vLLM and SGLang on our ops.

Nothing here is imported by `import aiter_c`, and no module imports its engine before the engine has asked for it. How
to use them, and what was run: docs/engines.md.
"""
