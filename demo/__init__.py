"""`make demo`: the whole path on real input, by the commands a user would type."""
