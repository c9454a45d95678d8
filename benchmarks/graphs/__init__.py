"""Ways to run a window graph, side by side."""
