"""The site: scripts/build_docs. Pages are Markdown (MyST), notebooks are shown with the outputs that they have."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from docstrings import to_rst

import aiter_c

project, author, copyright = "aiter_c", "the authors of aiter_c", "the authors of aiter_c"
release = version = aiter_c.__version__

extensions = ["myst_nb", "sphinx.ext.autodoc"]
exclude_patterns = ["requirements.txt", "_build"]
html_theme = "furo"
html_title = f"aiter_c {version}"
smartquotes = False
html_copy_source = html_show_sourcelink = False

nb_execution_mode = "off"  # scripts/run_notebooks does it
myst_heading_anchors = 3

autodoc_mock_imports = ["torch"]
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
python_maximum_signature_line_length = 100
add_module_names = False


def setup(app) -> None:
    app.connect("autodoc-process-docstring", lambda *event: event[-1].__setitem__(slice(None), to_rst(event[-1])))
