"""Sphinx configuration; ``generate.py`` writes the reference pages first."""

import saliency_losses

project = "saliency_losses"
author = copyright = "The saliency_losses authors"
release = version = saliency_losses.__version__

extensions = ["sphinx.ext.autodoc", "sphinx.ext.mathjax", "sphinx.ext.napoleon", "myst_parser"]
html_theme = "furo"
html_title = "saliency_losses"
exclude_patterns = ["_build"]
nitpick_ignore_regex = [("py:.*", r"(torch|collections)\..*")]  # links to other projects need a network

autodoc_typehints = "none"
autodoc_member_order = "bysource"
add_module_names = False
napoleon_google_docstring = True
napoleon_use_ivar = True
