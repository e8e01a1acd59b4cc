"""Whatever comes over the network -> durable files and rows, and studies that are to be looked at.

In: one listening port, shared by several processes. Out: rows of instances, procedure steps and commitments.
"""
