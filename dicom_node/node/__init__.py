"""The rooms joined to one running process: its start, ticks and stop, and its reports on itself.

In: a configuration. Out: a running node, its status and its conformance statement.
"""
