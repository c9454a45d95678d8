"""Fit hand-written recurrent cells to series."""
