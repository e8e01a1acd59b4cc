"""Headers -> stacks in the order of space -> a pair, or why not; a pair and its files -> an Analysis.

Pure decisions over plain values: no network, no database.
"""
