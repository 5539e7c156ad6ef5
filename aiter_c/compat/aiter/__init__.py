"""AITER's names of MLA and of sparse attention, under AITER's paths: aiter_c.compat.aiter.mla is aiter.mla, and so on.

Parameters, order, defaults and results are AITER's, over its versions; what is not served raises UnsupportedError when
it is used.
"""

import sys

from aiter_c.compat.modules import Finder, fill

sys.meta_path.append(Finder(__name__, over=False))
fill(sys.modules[__name__], "aiter", __name__)
