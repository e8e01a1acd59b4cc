"""The node's memory: durable files, the tables, when a row is due, and what is removed when.

In: bytes and rows. Out: the same bytes and rows, even after a power cut. It never imports a room that acts.
"""
