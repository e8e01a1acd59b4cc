"""What is remembered: durable files, the tables, and when a row is due; what is removed, and when.

In: bytes and rows. Out: the same after a power cut. Never imports a room that acts.
"""
