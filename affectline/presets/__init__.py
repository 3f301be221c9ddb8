"""Data sets, their splits, and the papers' tables as experiments of params.yaml."""
