"""Results that are queued -> their destinations, until each has said what became of them.

In: rows of `delivery` and the files they name. Out: C-STORE, STOW-RS or files, and the rows' next state. One file a
kind of destination; never imports `jobs` or `results`.
"""
