"""Vega, Vega-Lite and Vega-Embed as one script: `make vega` makes its file anew.

Model: the script is a file of this package, for vl-convert takes seconds and 250 MB to make it.
Licence notices stand at its beginning, so that every page that holds it has them.
Invariant: the file is what the pinned vl-convert makes; a test makes it again and compares. The
script loads nothing from other addresses.
"""

from __future__ import annotations

import functools
import gzip
from pathlib import Path

FILE = Path(__file__).parents[1] / "templates" / "vega.js.gz"
NOTICES = FILE.with_name("vega_notices.txt")


@functools.cache
def vega_script() -> str:
    """The script; it sets window.vegaEmbed."""
    return gzip.decompress(FILE.read_bytes()).decode()


def made() -> str:
    """The script as the installed vl-convert makes it."""
    import vl_convert

    bundle = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    return f"/*\n{NOTICES.read_text(encoding='utf-8')}*/\n{bundle}"


if __name__ == "__main__":
    FILE.write_bytes(gzip.compress(made().encode(), mtime=0))
