"""Figures that anyone can make again: ``make bench``. Two things are always measured in one run."""

import os

# Transformers would tell each of its processes that torchvision is not there.
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
