# Sourced by scripts/build_docs and scripts/run_notebooks, at the root: $python is that of a virtual environment with
# docs/requirements.txt, $DOCS_VENV (made where it is missing), else a temporary one. It imports aiter_c from this checkout.
if [ -z "${DOCS_VENV:-}" ]; then
    DOCS_VENV=$(mktemp -d)
    trap 'rm -rf "$DOCS_VENV"' EXIT
fi
python=$DOCS_VENV/bin/python
if ! [ -x "$python" ]; then
    python3 -m venv "$DOCS_VENV"
    "$python" -m pip install -q --no-compile --disable-pip-version-check -r docs/requirements.txt
fi
export PYTHONPATH=$PWD
"$python" -c 'import aiter_c'
