"""Calls watched one by one, for the log and for traces. Where neither is asked for, nothing of this is in their way."""
