"""Messages received over the network -> durable files and rows, and studies that must be looked at.

In: one listening port, shared by several processes. Out: rows of instances, procedure steps and commitments.
"""
