"""Exact counts: what each synapse, layer and network does in one run."""
