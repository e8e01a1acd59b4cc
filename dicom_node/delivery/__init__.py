"""Queued results -> their destinations, until each destination has answered for each result.

In: rows of `delivery` and the files they name. Out: C-STORE, STOW-RS or files, and the rows' next state. Each
kind of destination has one module; none imports `jobs` or `results`.
"""
