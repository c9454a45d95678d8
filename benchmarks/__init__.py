"""Measurements, side by side with peers, each with its results in results/."""
