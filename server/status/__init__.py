"""The status page: what a person sees at the metrics port's `/`."""
