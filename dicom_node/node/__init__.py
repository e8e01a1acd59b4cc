"""The rooms joined to one process that lives: start, tick, stop; what it says of itself.

In: a configuration. Out: a running node, its status and its conformance statement.
"""
