"""How well our kinds predict real series, beside the libraries people would use instead."""
