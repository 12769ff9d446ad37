"""Figures that anyone can make again: ``make bench``. Two things are always measured in one run."""
