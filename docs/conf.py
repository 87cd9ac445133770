"""How these pages are built.

pip install -e ".[docs]" && sphinx-build -W docs build/docs
"""

import tomllib
from pathlib import Path

with (Path(__file__).parents[1] / "pyproject.toml").open("rb") as file:
    _project = tomllib.load(file)["project"]

project = _project["name"]
release = version = _project["version"]
copyright = "2026, the lmcore maintainers"

extensions = ["myst_parser"]
html_theme = "furo"
html_title = f"{project} {release}"

# Equations as $…$ too, and anchors of headings (prefect.md#settings).
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
nitpicky = True
