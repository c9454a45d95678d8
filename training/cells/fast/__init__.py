"""fast"""
from training.cells.fast.layer import final_state, run_layer
__all__ = ["final_state", "run_layer"]
