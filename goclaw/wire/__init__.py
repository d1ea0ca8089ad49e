"""The words both ends of a socket share: `frames` (envelopes, codes, limits) and `params` (of every method)."""
